"""One stage of training, from its first step to its last epoch."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from sadcl_core.checkpoint import ModelCard, save_model
from sadcl_core.config import OptimSection, RunConfig, StageSection
from sadcl_core.data.dataset import Batch, make_loader
from sadcl_core.data.manifest import Split
from sadcl_core.data.transforms import augmentation
from sadcl_core.device import autocast
from sadcl_core.errors import DivergedError
from sadcl_core.inference.evaluation import evaluate
from sadcl_core.inference.scoring import score
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.run_directory import RunDirectory
from sadcl_core.training.events import EpochDone, Listener, Note, PrototypesBuilt, StageStarted, StepDone
from sadcl_core.training.interrupts import Interrupts
from sadcl_core.training.prototypes import build_prototypes
from sadcl_core.training.step import TERMS, LossInputs, loss_terms, weighted_sum

MOMENTUM = 0.9  # of SGD
MAPS = ("mAP_interpolated", "mAP_non_interpolated")
METRICS_EVERY = 10  # steps between two lines of metrics.jsonl


@dataclass
class Training:
    """What all stages of a run share.

    Attributes:
        best_map: highest EMA mAP (interpolated, percent) so far; -inf before the first epoch.
        best_epoch: stage and epoch it was reached in.
        best_metrics: all that was measured there.
        holds: stage and epoch whose EMA weights the classifier holds between two stages.
    """

    config: RunConfig
    classifier: Classifier
    card: ModelCard
    train_split: Split
    eval_split: Split
    run: RunDirectory
    device: torch.device
    precision: str
    listen: Listener
    interrupts: Interrupts
    best_map: float = -math.inf
    best_epoch: tuple[str, int] = ("", 0)
    best_metrics: dict[str, float] = field(default_factory=dict)
    holds: tuple[str, int] = ("", 0)

    def loader(self, split: Split, *, augment: str | None, seed: int | None = None, views: int = 1) -> DataLoader[Batch]:
        """Batches of a split, with the evaluation transform when `augment` is None."""
        data = self.config.data
        transform = self.card.preprocessing.resize if augment is None else augmentation(augment, data.img_size)
        return make_loader(split, transform, batch_size=data.batch_size, workers=data.workers, shuffle_seed=seed, views=views)

    def save(self, classifier: Classifier, *, best: bool, stage: str, epoch: int, metrics: dict[str, float]) -> None:
        """Write last.safetensors, and best.safetensors as well when it is the best."""
        trained = {**self.card.trained, "stage": stage, "epoch": epoch, **metrics}
        card = self.card.model_copy(update={"trained": trained, "has_prototypes": bool(classifier.prototypes.any())})
        save_model(self.run.last, classifier, card)
        if best:
            save_model(self.run.best, classifier, card)


@dataclass
class StageState:
    """What changes with every step of a stage, beside the classifier itself."""

    optimizer: Optimizer
    schedule: OneCycleLR
    scaler: torch.amp.GradScaler
    ema: ModelEmaV3
    bank: MemoryBank | None


def run_stage(training: Training, name: str, *, number: int, of: int) -> None:
    """Train one stage; leaves the classifier with the best EMA weights of the stage.

    Raises:
        DivergedError: a loss term is not finite.
    """
    stage, patience = training.config.stages[name], training.config.optim.patience
    seed = training.config.seed + 1000 * number
    seed_everything(seed)  # a stage does not depend on how many random numbers came before it
    train_loader = training.loader(training.train_split, augment=stage.augment, seed=seed, views=stage.views)
    eval_loader = training.loader(training.eval_split, augment=None)
    state = start_stage(training, stage, steps=stage.epochs * len(train_loader), first=number == 1)
    training.listen(StageStarted(name, number, of, stage.epochs, len(train_loader), stage.weights))

    stage_best, stage_best_epoch, best_weights = -math.inf, 0, training.classifier.state_dict()
    epoch = 0
    try:
        for epoch in range(1, stage.epochs + 1):
            start = time.perf_counter()
            means = train_epoch(training, state, train_loader, stage=name, epoch=epoch)
            seconds = time.perf_counter() - start
            metrics = held_out(training, state.ema.module, eval_loader)
            current = metrics["mAP_interpolated"]
            better = not current <= stage_best
            best = not current <= training.best_map
            training.save(state.ema.module, best=best, stage=name, epoch=epoch, metrics=metrics)
            row: dict[str, float | int | str] = {
                **dict.fromkeys(result_columns(training.config), ""),
                "stage": name,
                "epoch": epoch,
                "seconds": round(seconds, 2),
                "images_per_second": round(len(training.train_split) / seconds, 1),
                "lr": peak_rate(state),
                **means,
                **metrics,
            }
            training.run.append_result(row)
            training.listen(EpochDone(row, better))
            if best:
                training.best_map, training.best_epoch, training.best_metrics = current, (name, epoch), metrics
            if better:
                stage_best, stage_best_epoch = current, epoch
                best_weights = {key: value.clone() for key, value in state.ema.module.state_dict().items()}
            elif epoch - stage_best_epoch >= patience:
                training.listen(Note(f"stage {name} ends early: no better mAP since epoch {stage_best_epoch}"))
                break
    except KeyboardInterrupt:
        training.save(state.ema.module, best=not training.run.best.is_file(), stage=name, epoch=epoch, metrics={})
        raise
    training.classifier.load_state_dict(best_weights)
    training.holds = (name, stage_best_epoch)


def seed_everything(seed: int) -> None:
    """Seed every generator that training draws from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def start_stage(training: Training, stage: StageSection, *, steps: int, first: bool) -> StageState:
    """Prototypes and bank if the stage uses them, and a fresh optimiser, schedule and EMA.

    The EMA of a later stage starts from a trained model and needs no warm-up.
    """
    classifier, optim = training.classifier, training.config.optim
    contrastive = any(TERMS[name].contrastive for name in stage.weights)
    with_bank = "sample_to_sample" in stage.weights and training.config.loss.sample_to_sample.bank_slots > 0
    if with_bank or "prototype_to_sample" in stage.weights:
        start_prototypes(training)
    bank = start_bank(training) if with_bank else None
    set_trainable(classifier, backbone=stage.backbone_lr_scale > 0, contrastive=contrastive)
    optimizer = make_optimizer(classifier, stage, optim)
    return StageState(
        optimizer=optimizer,
        schedule=one_cycle(optimizer, steps=steps, warmup=optim.warmup),
        scaler=torch.amp.GradScaler(training.device.type, enabled=training.precision == "fp16"),
        ema=ModelEmaV3(classifier, decay=optim.ema_decay, use_warmup=optim.ema_warmup and first),
        bank=bank,
    )


def start_prototypes(training: Training) -> None:
    """Build the prototypes under the model as it is; the best model file gets them too, if it holds the same weights."""
    classifier = training.classifier
    prototypes, coverage = build_prototypes(
        classifier,
        training.loader(training.train_split, augment=None),
        classes=training.card.classes,
        min_score=training.config.loss.prototype_to_sample.prototype_min_score,
        preprocessing=training.card.preprocessing,
        device=training.device,
        precision=training.precision,
        progress=lambda done, total: training.interrupts.check(),
    )
    with torch.no_grad():
        classifier.prototypes.copy_(prototypes)
    training.run.write_coverage([vars(entry) for entry in coverage])
    training.listen(PrototypesBuilt(coverage))
    if training.best_epoch == training.holds != ("", 0):
        stage, epoch = training.holds
        training.save(classifier, best=True, stage=stage, epoch=epoch, metrics=training.best_metrics)


def start_bank(training: Training) -> MemoryBank:
    """A memory bank that starts from the prototypes."""
    slots, prototypes = training.config.loss.sample_to_sample.bank_slots, training.classifier.prototypes
    bank = MemoryBank(slots=slots, num_classes=len(prototypes), width=prototypes.shape[1]).to(training.device)
    bank.start_from(prototypes.detach())
    return bank


def train_epoch(training: Training, state: StageState, loader: DataLoader[Batch], *, stage: str, epoch: int) -> dict[str, float]:
    """One pass over the training images; returns the mean of the loss and of each term."""
    classifier, config = training.classifier, training.config
    weights = config.stages[stage].weights
    sums: defaultdict[str, float] = defaultdict(float)
    classifier.train()
    for step, (images, targets, _) in enumerate(loader, start=1):
        count = len(images)
        if images.ndim == 5:  # (B, V, 3, S, S): the views of an image become images of their own
            images, targets = images.flatten(0, 1), targets.repeat_interleave(images.shape[1], dim=0)
        images = training.card.preprocessing.normalise(images.to(training.device, non_blocking=True))  # (B, 3, S, S)
        targets = targets.to(training.device, non_blocking=True)  # (B, K)
        with autocast(training.device, training.precision):
            output = classifier(images)
            terms = loss_terms(LossInputs(classifier, output, targets, state.bank, config.loss), weights)
        loss = weighted_sum(terms, weights)
        update(classifier, loss, state, clip_grad_norm=config.optim.clip_grad_norm)
        state.ema.update(classifier, step=(epoch - 1) * len(loader) + step)
        if state.bank is not None:
            scores = output.logits.detach().float().sigmoid()
            min_score = config.loss.sample_to_sample.bank_min_score
            state.bank.remember(output.label_features, targets, scores, min_score=min_score)
        values = {"loss": loss.item(), **{key: term.item() for key, term in terms.items()}}
        for key, value in values.items():
            sums[key] += value
        lr = peak_rate(state)
        if step % METRICS_EVERY == 0 or step == len(loader):
            training.run.append_metrics({"stage": stage, "epoch": epoch, "step": step, "lr": lr, **values})
        training.listen(StepDone(epoch, step, count, values, lr))
        training.interrupts.check()
    return {key: value / len(loader) for key, value in sums.items()}


def peak_rate(state: StageState) -> float:
    """The highest learning rate in use, which is the stage's own."""
    return max(float(rate) for rate in state.schedule.get_last_lr())


def update(classifier: Classifier, loss: Tensor, state: StageState, *, clip_grad_norm: float) -> None:
    """One step of the optimiser and of its schedule."""
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    if clip_grad_norm:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), clip_grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()


def held_out(training: Training, classifier: Classifier, loader: DataLoader[Batch]) -> dict[str, float]:
    """Both mAPs of a model on the held-out split, in percent."""
    scored = score(
        classifier,
        loader,
        card=training.card,
        device=training.device,
        precision=training.precision,
        progress=lambda done, total: training.interrupts.check(),
    )
    try:
        result = evaluate(scored, training.card.classes)
    except ValueError as error:
        raise DivergedError(f"The weights are no longer finite numbers ({error}). Lower the learning rate with --lr.") from None
    values = (result.map_interpolated, result.map_non_interpolated)
    return {name: round(value, 4) for name, value in zip(MAPS, values, strict=True)}


def result_columns(config: RunConfig) -> list[str]:
    """Columns of results.csv; a loss term that no stage uses has none."""
    terms = dict.fromkeys(name for stage in config.stages.values() for name in stage.weights)
    return ["stage", "epoch", "seconds", "images_per_second", "lr", "loss", *terms, *MAPS]


def set_trainable(classifier: Classifier, *, backbone: bool, contrastive: bool) -> None:
    """What the stage does not train gets no gradient."""
    classifier.backbone.freeze(whole=not backbone)
    classifier.projection.requires_grad_(contrastive)
    classifier.prototypes.requires_grad_(contrastive)


def make_optimizer(classifier: Classifier, stage: StageSection, optim: OptimSection) -> Optimizer:
    """Backbone and head at their own rates; biases, norms and other vectors are not decayed."""
    groups: dict[tuple[float, bool], list[Tensor]] = defaultdict(list)
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            groups[stage.lr * lr_scale(classifier, stage, name), parameter.ndim >= 2].append(parameter)
    settings = [
        {"params": parameters, "lr": lr, "weight_decay": optim.weight_decay if decayed else 0.0}
        for (lr, decayed), parameters in groups.items()
    ]
    return AdamW(settings) if stage.optimizer == "adamw" else SGD(settings, momentum=MOMENTUM)


def lr_scale(classifier: Classifier, stage: StageSection, name: str) -> float:
    """The learning rate of a parameter, as a multiple of the stage's."""
    part, _, inner = name.partition(".")
    if part == "backbone":
        return stage.backbone_lr_scale
    if part == "head":
        return stage.classifier_lr_scale if inner in classifier.head.CLASSIFIER else stage.head_lr_scale
    return 1.0


def one_cycle(optimizer: Optimizer, *, steps: int, warmup: float) -> OneCycleLR:
    """One cycle over all steps of a stage; the rise takes two steps at least, which the scheduler needs."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    total = max(steps, 3)
    cycles = isinstance(optimizer, AdamW)  # its betas move against the rate, as published
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total, pct_start=max(warmup, 2 / total), cycle_momentum=cycles)
