"""One stage of training, from its first step to its last epoch."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sadcl_core.config.schema import RunConfig
from sadcl_core.data.loader import ImageLoader
from sadcl_core.errors import DivergedError, NotFiniteError, SadclError, UsageError
from sadcl_core.inference.score import score
from sadcl_core.losses import class_weights
from sadcl_core.metrics import average_precisions
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.runs.state import Place, StateCard
from sadcl_core.runtime.seeds import seed_of
from sadcl_core.training.context import Training
from sadcl_core.training.epoch import peak_rate, train_epoch
from sadcl_core.training.listeners.events import EpochDone, Note, PrototypesBuilt, StageStarted
from sadcl_core.training.optimizer import make_optimizer, one_cycle, set_trainable
from sadcl_core.training.parallel import full_state_dict, make_ema, make_ready, shard, share_batchnorm, wrap
from sadcl_core.training.prototypes import build_prototypes
from sadcl_core.training.saving import (
    StageState,
    best_of_stage,
    keep_best,
    refuse_broken_weights,
    restore,
    save_stage,
    share_statistics,
)
from sadcl_core.training.terms import TERMS, TrainingStep

MAPS = ("mAP_interpolated", "mAP_non_interpolated")
Stored = tuple[StateCard, Mapping[str, Tensor]]


def run_stage(training: Training, name: str, *, number: int, of: int, stored: Stored | None = None) -> None:
    """Train one stage; leaves the classifier with the best EMA weights of the stage.

    Args:
        training: what the stages share.
        name: of the stage in the configuration.
        number: of the stage, from 1.
        of: how many stages are trained.
        stored: state to go on from, when the stage was interrupted.

    Raises:
        DivergedError: a loss term is not finite; the last state that was saved is a good one.
        SadclError: see `train`.
        KeyboardInterrupt: the state has been saved, unless it was to be at once.
    """
    stage = training.config.stages[name]
    seed = seed_of(training.config.seed, number)
    seed_everything(seed)  # a stage does not depend on how many random numbers came before it
    loader = training.train_loader(stage, seed=seed)
    evaluation = training.plain_loader(training.eval_split)
    state = start_stage(training, name, number=number, loader=loader, seed=seed, stored=stored)
    training.listen(StageStarted(name, number, of, stage.epochs, len(loader), stage.weights, done=state.steps_done))
    try:
        save_stage(training, state)  # also of a run that goes on: its settings may be others now
        while not _over(training, state):
            _epoch(training, state, loader, evaluation)
    except (SadclError, KeyboardInterrupt) as error:
        _keep(training, state, error)
        training.interrupts.check()  # where all processes of a job are asked to end, a reader that did so is not the reason
        raise
    training.classifier = whole_network(training, state.classifier)
    training.classifier.load_state_dict(best_of_stage(training, state))
    training.holds = (name, state.place.best_epoch)


def _over(training: Training, state: StageState) -> bool:
    """Whether the stage has had its epochs, or has not become better for too many."""
    place = state.place
    if place.gave_up(training.config.optim.patience):
        training.listen(Note(f"stage {place.stage} ends early: no better mAP since epoch {place.best_epoch}"))
        return True
    return place.epoch > training.config.stages[place.stage].epochs


def _epoch(training: Training, state: StageState, loader: ImageLoader, evaluation: ImageLoader) -> None:
    """What is left of an epoch, its evaluation, and what is written then."""
    place, epoch = state.place, state.place.epoch
    means = train_epoch(training, state, loader)
    share_statistics(training, state)
    refuse_broken_weights(state)
    metrics = held_out(training, whole_network(training, state.ema.module), evaluation)
    training.interrupts.check_together()
    current = metrics["mAP_interpolated"]
    better = place.best_map is None or not current <= place.best_map
    best = not current <= training.best_map
    row: dict[str, float | int | str] = {
        **dict.fromkeys(result_columns(training.config), ""),
        "stage": place.stage,
        "epoch": epoch,
        "seconds": round(place.seconds, 2),
        "images_per_second": round(len(training.train_split) / max(place.seconds, 1e-9), 1),
        "lr": peak_rate(state),
        **means,
        **metrics,
    }
    with training.interrupts.waiting():
        training.save(state.ema.module, best=best, stage=place.stage, epoch=epoch, metrics=metrics)
        if best:
            training.best_map, training.best_epoch, training.best_metrics = current, (place.stage, epoch), metrics
            training.run.write_status(best=training.best)
        if better:
            keep_best(training, state)
        training.run.append_result(row)
        state.place = Place(
            stage=place.stage,
            epoch=epoch + 1,
            best_map=current if better else place.best_map,
            best_epoch=epoch if better else place.best_epoch,
        )
        save_stage(training, state)
    training.listen(EpochDone(row, better))


def _keep(training: Training, state: StageState, error: BaseException) -> None:
    """Save what was learned up to an interruption, if all of it is good and all processes are there to do so."""
    alone = training.accelerator.num_processes == 1
    if training.interrupts.at_once or isinstance(error, DivergedError) or not state.whole:
        return
    if isinstance(error, KeyboardInterrupt) or alone:
        place = state.place
        try:
            save_stage(training, state)
            training.save(state.ema.module, best=not training.best_epoch[1], stage=place.stage, epoch=place.epoch, metrics={})
        except SadclError as worse:
            training.listen(Note(f"{worse} The state saved before is kept.", warning=True))


def seed_everything(seed: int) -> None:
    """Seed every generator that training draws from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def start_stage(
    training: Training, name: str, *, number: int, loader: ImageLoader, seed: int, stored: Stored | None = None
) -> StageState:
    """Prototypes and bank if the stage uses them, a fresh optimiser, schedule and EMA, or all of them from a state.

    The EMA of a later stage starts from a trained model and needs no warm-up.
    """
    classifier, config = training.classifier, training.config
    stage, optim, steps = config.stages[name], config.optim, len(loader)
    used = [TERMS[term] for term in stage.weights]
    with_bank = "sample_to_sample" in stage.weights and config.loss.sample_to_sample.bank_slots > 0
    if stored is None and (with_bank or any(term.prototypes for term in used)):
        start_prototypes(training)
    bank = make_bank(training) if with_bank else None
    set_trainable(
        classifier,
        backbone=stage.backbone_lr_scale > 0,
        projection=any(term.projection for term in used),
        prototypes=any(term.prototypes for term in used),
    )
    share_batchnorm(classifier, frozen=config.model.freeze_batchnorm)
    ema = make_ema(classifier, decay=optim.ema_decay, warmup=optim.ema_warmup and number == 1, shard=config.compute.shard)
    if config.compute.shard:
        shard(classifier)
        shard(ema.module)
    optimizer = make_optimizer(classifier, stage, optim)
    module = TrainingStep(
        classifier, terms=stage.weights, options=config.loss, bank=bank, class_weights=weights_of_classes(training)
    )
    model, wrapped = wrap(training.accelerator, module, optimizer, config=config)
    state = StageState(
        seed=seed,
        steps=steps,
        workers=loader.num_workers,
        place=Place(stage=name, epoch=1) if stored is None else stored[0].place,
        model=model,
        classifier=classifier,
        optimizer=wrapped,
        ema=ema,
        bank=bank,
    )
    if stored is not None:
        refuse_other_steps(stored[0], steps=steps)
        restore(training, state, *stored)
    state.schedule = one_cycle(optimizer, steps=stage.epochs * steps, warmup=optim.warmup, done=state.steps_done)
    return state


def refuse_other_steps(card: StateCard, *, steps: int) -> None:
    """Raise a UsageError when an epoch is cut into other steps than it was, so that the place in it would be another."""
    if card.steps != steps:
        raise UsageError(
            f"An epoch has {steps} steps now and had {card.steps} of {card.processes} processes: a last batch too small for all "
            f"of them is left out. Go on with {card.processes}."
        )


def weights_of_classes(training: Training) -> tuple[Tensor, Tensor] | None:
    """Weights of active and of inactive labels (K,), as the configuration asks for, on the device."""
    kind, split = training.config.loss.asymmetric.class_weights, training.train_split
    if kind == "none":
        return None
    active, unknown = (torch.from_numpy(counts) for counts in (split.class_counts(), split.unknown_counts()))
    weights = class_weights(kind, active, len(split) - active - unknown)
    return None if weights is None else (weights[0].to(training.device), weights[1].to(training.device))


def start_prototypes(training: Training) -> None:
    """Build the prototypes under the model as it is; the best model file gets them too, if it holds the same weights."""
    classifier = training.classifier
    prototypes, coverage = build_prototypes(
        classifier,
        training.plain_loader(training.train_split),
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


def make_bank(training: Training) -> MemoryBank:
    """A memory bank that starts from the prototypes."""
    slots, prototypes = training.config.loss.sample_to_sample.bank_slots, training.classifier.prototypes
    bank = MemoryBank(slots=slots, num_classes=len(prototypes), width=prototypes.shape[1]).to(training.device)
    bank.start_from(prototypes.detach())
    return bank


def whole_network(training: Training, classifier: Classifier) -> Classifier:
    """The network itself, or where it is in shards a whole copy."""
    config, card = training.config, training.card
    if not config.compute.shard:
        return classifier
    copy = Classifier(config.model, num_classes=len(card.classes), img_size=config.data.img_size).to(training.device)
    copy.load_state_dict(full_state_dict(classifier))
    make_ready(copy, config)
    return copy


def held_out(training: Training, classifier: Classifier, loader: ImageLoader) -> dict[str, float]:
    """Both mAPs of a model on the held-out split, in percent."""
    try:
        scored = score(
            classifier,
            loader,
            card=training.card,
            device=training.device,
            precision=training.precision,
            progress=lambda done, total: training.interrupts.check(),
        )
    except NotFiniteError:
        raise DivergedError("The model gives NaN for held-out images. Lower the learning rate with --lr.") from None
    precisions = average_precisions(scored.scores, scored.targets)
    values = (100 * precisions.interpolated, 100 * precisions.non_interpolated)
    return {name: round(float(value[~np.isnan(value)].mean()), 4) for name, value in zip(MAPS, values, strict=True)}


def result_columns(config: RunConfig) -> list[str]:
    """Columns of results.csv; a loss term that no stage uses has none."""
    terms = dict.fromkeys(name for stage in config.stages.values() for name in stage.weights)
    return ["stage", "epoch", "seconds", "images_per_second", "lr", "loss", *terms, *MAPS]
