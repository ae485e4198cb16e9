"""The training recipe: a run, its stages, their epochs, the steps of an epoch, from top to bottom. The state is the object."""

from __future__ import annotations

import random
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sadcl_core.config.layers import flatten
from sadcl_core.config.schema import RunConfig, StageSection
from sadcl_core.data.dataset import Batch
from sadcl_core.data.loader import BatchLoader, make_loader
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.splicing import Splices
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import Inputs
from sadcl_core.errors import DataError, DivergedError, MachineError, NotFiniteError, SadclError, UsageError
from sadcl_core.inference.feature_cache import FeatureCache
from sadcl_core.inference.forward import prepare_inputs
from sadcl_core.inference.score import Scores, score
from sadcl_core.losses import class_weights
from sadcl_core.metrics import average_precisions, two_sided_precisions
from sadcl_core.metrics.calibration import choose_thresholds, fit_probabilities, parse_objective
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.heads.pooled import PooledHead
from sadcl_core.model.logistic_regression import fit_logistic_regression
from sadcl_core.model.lora import beside_adapters, merge_adapters
from sadcl_core.model.memory_bank import BatchBank, MemoryBank
from sadcl_core.runs.card import LINEAR
from sadcl_core.runs.checkpoint import load_model, save_model, write_tensors
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.runs.state import BestEpoch, RunProgress, StateCard, read_tensors, save_state
from sadcl_core.runtime.distributed import all_gather, average_buffers, barrier, broadcast, get_rank, get_world_size
from sadcl_core.runtime.progress import Progress
from sadcl_core.runtime.seeds import seed_of
from sadcl_core.training.batches import flatten_views, mix_batch, splice_batch, split_batch, training_loader, with_pseudo_labels
from sadcl_core.training.class_prior import class_prior
from sadcl_core.training.features import linear_views
from sadcl_core.training.interrupts import Interrupts
from sadcl_core.training.listeners.events import (
    EpochDone,
    EpochsPlanned,
    LinearFitted,
    Listener,
    MemoryRanOut,
    PassProgress,
    Problem,
    PrototypesBuilt,
    ScoresCalibrated,
    StageStarted,
    StageTakenOver,
    StepDone,
    StoppedEarly,
    StopRequested,
)
from sadcl_core.training.memory import ran_out_of_memory, release_failed_pass
from sadcl_core.training.optimizer import apply_drop, make_optimizer, make_schedule, set_trainable
from sadcl_core.training.parallel import full_state_dict, make_ema, make_ready, shard, share_batchnorm, start_accelerate, wrap
from sadcl_core.training.prototypes import build_prototypes
from sadcl_core.training.setup import gives_probabilities, make_card
from sadcl_core.training.state_tensors import load_state_tensors, state_tensors
from sadcl_core.training.teachers import Teachers
from sadcl_core.training.terms import TERMS, TrainingStep, refuse_not_finite, totals, weighted_sum
from sadcl_core.training.time_budget import LONGER, free_stages, within_budget

MAPS = ("mAP_interpolated", "mAP_non_interpolated")
NETWORK_MAP = "mAP_interpolated_network"  # beside that of the EMA
TIMED_STEPS = 10  # by which the time of a step is known, reading included
SCORES = "no probabilities"  # of a model whose losses order labels or weigh them
LEAST = 10  # held-out images to calibrate on
SAVED = 4  # times writing the state, that an epoch takes to check, copy and write its models and to draw the curves
METRICS_EVERY = 10  # steps between two lines of metrics.jsonl
COMPILER = ("torch._dynamo", "torch._inductor")  # modules of what torch.compile raises

StoredState = tuple[StateCard, Mapping[str, Tensor]]


class TrainingRecipe:
    """One run: `run` trains its stages, `train_stage` one of them, `train_epoch` and `train_step` what is in it.

    Attributes:
        config: complete; see `sadcl_core.training.setup.complete_config`.
        classifier: the network; between two stages with the best weights of the one before.
        eval_split: images to choose the best epoch by.
        interrupts: signals that wait for the end of a step.
        micro_batches: that a batch is computed in (gradient accumulation); doubled when memory runs out.
        best: best epoch of the run so far.
        holds: stage and epoch whose best weights the classifier has when a stage begins.
        started: when the time of the run began, as time.perf_counter counts.
        features: maps of a frozen backbone, which batches have in the place of images; None: the backbone reads images.
        seed: of everything random in the stage.
        steps: of an epoch.
        model: `training_step`, wrapped for several processes.
        consistent: False while weights, optimiser and EMA are between two steps.
    """

    seed: int
    progress: RunProgress
    loader: BatchLoader[Batch]
    eval_loader: BatchLoader[Batch]
    steps: int
    training_step: TrainingStep
    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    ema: ModelEmaV3
    bank: MemoryBank | None
    consistent: bool

    def __init__(
        self,
        config: RunConfig,
        sources: Mapping[str, str],
        classifier: Classifier,
        manifest: Manifest,
        run: RunDirectory,
        *,
        device: torch.device,
        precision: str,
        listen: Listener,
        features: FeatureCache | None = None,
        started: float | None = None,
    ) -> None:
        """Move the network to the device; nothing is trained or written."""
        self.config, self.sources = config, dict(sources)
        self.run_directory, self.listen = run, listen
        self.accelerator = start_accelerate(device, precision)
        self.device: torch.device = self.accelerator.device
        self.precision = precision
        self.classifier = classifier.to(self.device)
        self.card = make_card(config, classifier, manifest)
        self.train_split = manifest.split(config.data.train_split)
        self.eval_split = manifest.split(config.data.eval_split)
        self.fingerprint = manifest.fingerprint()
        self.interrupts = Interrupts(on_signal=lambda: listen(StopRequested()))
        self.micro_batches = config.compute.accumulate
        self.best = BestEpoch()
        self.holds = ("", 0)
        self.features = features
        self.started = time.perf_counter() if started is None else started

    # ---------------------------------------------------------------------------------------------------------------- the run

    def run(self, *, first_stage: int = 1, stored: StoredState | None = None) -> None:
        """Train the stages that have epochs and a loss, from the first one (counted from 1) on, and from its stored state if any.

        Raises:
            DivergedError: a loss, a weight or a score is not finite; the state saved before is kept.
            SadclError: see `sadcl_core.training.train.train`.
            KeyboardInterrupt: the state has been saved, unless a second Ctrl-C came.
        """
        if first_stage == 1 and stored is None:
            if self.config.optim.solve_linear:
                self.fit_linear()
            if self.config.optim.time_budget:
                self.plan_epochs()
        names = self.config.used_stages
        for number, name in enumerate(names, start=1):
            if number > first_stage:
                self.accelerator.free_memory()  # what the stage before was trained with
            if number >= first_stage:
                self.train_stage(name, number=number, stages=len(names), stored=stored if number == first_stage else None)
        stage = self.config.stages.get(self.best.stage)
        if stage is not None and any(not TERMS[name].probabilities for name in stage.weights):
            self.calibrate()

    def calibrate(self) -> None:
        """Make probabilities of the scores of the best model, and thresholds for F1, on the held-out images if there are enough.

        A loss whose scores are no probabilities leaves 0.5 without a meaning.
        """
        best = load_model(self.run_directory.best)
        self.classifier.load_state_dict(beside_adapters(best.classifier.state_dict(), self.classifier.state_dict()))
        scored = self.score(self.classifier)
        if len(scored.scores) < LEAST or not (scored.targets == 1).any():
            return
        objective, data = parse_objective("f1"), self.config.data
        probabilities = fit_probabilities(scored.scores, scored.targets)
        thresholds = choose_thresholds(scored.scores, scored.targets, objective, probabilities=probabilities)
        calibration = {
            "temperatures": tuple(probabilities.temperatures.tolist()),
            "biases": tuple(probabilities.biases.tolist()),
            "thresholds": tuple(thresholds.values.tolist()),
            "calibrated": {
                "objective": str(objective),
                "images": len(scored.scores),
                "dataset": data.dataset,
                "split": data.eval_split,
                "img_size": data.img_size,
                "data_fingerprint": read_status(self.run_directory.path).get("data_fingerprint"),
            },
        }
        if self.run_directory.writes:
            with self.interrupts.waiting():
                save_model(self.run_directory.best, best.classifier.state_dict(), best.card.model_copy(update=calibration))
        self.listen(ScoresCalibrated(data.eval_split, len(scored.scores)))

    def take_over(self, first: RunDirectory) -> None:
        """Start where a run of the first stage ended: with its best weights, its best epoch and its rows.

        Raises:
            DataError: its files are missing or damaged.
        """
        model = load_model(first.best)
        self.classifier.load_state_dict(beside_adapters(model.classifier.state_dict(), self.classifier.state_dict()))
        trained = model.card.trained
        self.best = BestEpoch(
            stage=trained["stage"],
            epoch=trained["epoch"],
            weights=trained.get("weights", "EMA"),
            metrics={name: trained[name] for name in MAPS},
        )
        self.holds = (self.best.stage, self.best.epoch)
        for row in first.read_results():
            self.run_directory.append_result({name: row.get(name, "") for name in self.result_columns()})
        self.save_model(self.classifier, self.best, best=True)
        self.listen(StageTakenOver(self.best.stage, first, self.best.map))

    # ------------------------------------------------------------------------------------------------- before the first stage

    def fit_linear(self) -> None:
        """Fit the linear layer on the pooled features of the training images by logistic regression, and evaluate it."""
        start = time.perf_counter()
        linear = self.classifier.linear
        assert linear is not None, "refused by check_stages"
        features, targets = self.pooled_features(linear)
        fit = fit_logistic_regression(
            features, targets, seed=self.config.seed, progress=self.passing("cross-validating the linear layer")
        )
        linear.assign(fit)
        self.eval_loader = self.plain_loader(self.eval_split)
        metrics = self.evaluate(self.classifier)
        seconds = time.perf_counter() - start
        self.best = BestEpoch(stage=LINEAR, epoch=1, weights="network", metrics=metrics)
        self.holds = (LINEAR, 1)
        row = {"stage": LINEAR, "epoch": 1, "seconds": round(seconds, 2), **metrics}
        with self.interrupts.waiting():
            self.save_model(self.classifier, self.best, best=True)
            self.run_directory.append_result({**dict.fromkeys(self.result_columns(), ""), **row})
            self.run_directory.write_status(best=self.best_status())
        self.listen(LinearFitted(fit.strength, fit.losses, self.best.map, seconds))

    @torch.inference_mode()
    def pooled_features(self, linear: PooledHead) -> tuple[Tensor, Tensor]:
        """Return pooled features (N, V, D) of views of the training images, and targets (N, K), on the CPU."""
        self.classifier.eval()
        data, views = self.config.data, linear_views(self.config)
        progress, done, total = self.passing("pooling features"), 0, len(views) * len(self.train_split)
        result = torch.empty(len(self.train_split), len(views), linear.width)
        for number, view in enumerate(views):
            loader: BatchLoader[Batch] = self.plain_loader(self.train_split)
            if self.features is not None:
                loader = self.features.loader(self.train_split, batch_size=data.batch_size, views=(view,))
            pooled, places = [], []
            for images, _, indices in loader:
                with self.accelerator.autocast():
                    maps = prepare_inputs(images, self.card.preprocessing, self.device)
                    backbone = self.classifier.backbone
                    deep = backbone.trained_part(maps) if isinstance(maps, tuple) else backbone(maps)
                    pooled.append(linear.pool(deep[-1]).float())
                places.append(indices)
                done += len(indices) * get_world_size()
                progress(min(done, total), total)
            result[all_gather(torch.cat(places).to(self.device)).cpu(), number] = all_gather(torch.cat(pooled)).cpu()
        return result, torch.from_numpy(self.train_split.all_targets())

    def plan_epochs(self) -> None:
        """Choose the epochs of the stages by the time that is left, from steps that are taken and then forgotten."""
        free = free_stages(self.config, self.sources)
        if not free:
            return
        step_seconds, saving_seconds = self.time_steps(self.config.used_stages[0])
        left = self.config.optim.time_budget - (time.perf_counter() - self.started)
        planned = within_budget(
            self.config,
            self.sources,
            float(broadcast(left)),
            step_seconds=float(broadcast(step_seconds)),
            epoch_seconds=float(broadcast(saving_seconds)),
            steps=self.steps,
            train_images=len(self.train_split),
            eval_images=len(self.eval_split),
        )
        names, stages = self.config.used_stages, self.config.stages
        most = {name: stages[name].epochs * (LONGER if name in free else 1) for name in names}
        self.listen(EpochsPlanned({name: planned.stages[name].epochs for name in names}, most, left, step_seconds))
        before, now = (flatten(config.model_dump()) for config in (self.config, planned))
        self.sources |= {key: "time budget" for key in now if now[key] != before[key]}
        self.config = planned
        self.run_directory.write_config(planned.model_dump(), self.sources)

    def time_steps(self, name: str) -> tuple[float, float]:
        """Return the seconds of a step of a stage, and of saving after an epoch; leave the weights as they were."""
        weights = {key: tensor.clone() for key, tensor in self.classifier.state_dict().items()}
        self.start_stage(name, number=1, stored=None)
        self.classifier.train()
        ends = [time.perf_counter()]
        most = min(TIMED_STEPS, self.config.stages[name].epochs * self.steps)
        epochs = (batch for epoch in range(1, most + 1) for batch in self.loader.epoch(epoch))
        for step, batch in enumerate(islice(epochs, most), start=1):
            self.train_step(batch, step)
            ends.append(time.perf_counter())
            self.interrupts.check_together()
        first = min(1, len(ends) - 2)  # the first step is slower, where there are others
        start = time.perf_counter()
        tensors = state_tensors(self.classifier, self.ema.module, self.plain_optimizer, self.bank)
        if self.run_directory.writes:
            timed = self.run_directory.state.with_name("timed.safetensors")
            write_tensors(timed, tensors)
            timed.unlink()
        saving = SAVED * (time.perf_counter() - start)
        self.accelerator.free_memory()
        self.classifier.load_state_dict(weights)
        return (ends[-1] - ends[first]) / (len(ends) - 1 - first), saving

    # -------------------------------------------------------------------------------------------------------------- the stage

    def train_stage(self, name: str, *, number: int, stages: int, stored: StoredState | None) -> None:
        """Train one stage; leaves the classifier with the best weights of the stage."""
        self.start_stage(name, number=number, stored=stored)
        stage = self.config.stages[name]
        self.listen(StageStarted(name, number, stages, stage.epochs, self.steps, stage.weights, done=self.steps_done))
        try:
            self.save_state()  # also of a run that goes on: its settings may have changed
            while not self.stage_is_over():
                losses = self.train_epoch()
                self.finish_epoch(losses)
        except (SadclError, KeyboardInterrupt) as error:
            self.save_after(error)
            self.interrupts.check()  # a signal to all processes of a job also ends readers, which is not the reason
            raise
        self.classifier = self.unsharded(self.classifier)
        barrier()  # until the first process has written the file
        self.classifier.load_state_dict(read_tensors(self.best_of_stage_path(self.progress.best_epoch)))
        self.holds = (name, self.progress.best_epoch)

    def start_stage(self, name: str, *, number: int, stored: StoredState | None) -> None:
        """Make loaders, prototypes and bank if the stage uses them, a new optimiser, schedule and EMA; or restore them.

        A stage depends on the weights it starts from and on its seed, not on the random numbers drawn before it. The EMA of a
        later stage starts from a trained model and needs no warm-up.
        """
        config, stage = self.config, self.config.stages[name]
        self.seed = seed_of(config.seed, number)
        seed_everything(self.seed)
        self.loader = training_loader(
            config, self.train_split, stage, seed=self.seed, workers=config.data.workers, features=self.features
        )
        self.steps = len(self.loader)
        self.eval_loader = self.plain_loader(self.eval_split)
        self.progress = RunProgress(stage=name) if stored is None else stored[0].progress
        self.consistent = True
        terms = [TERMS[term] for term in stage.weights]
        slots = config.bank_slots(stage)
        read = number > 1 and self.classifier.head.READS_PROTOTYPES
        if stored is None and (slots or read or any(term.prototypes for term in terms)):
            self.start_prototypes()
        self.bank = self.make_bank(slots) if slots else None
        set_trainable(
            self.classifier,
            backbone=stage.backbone_lr_scale > 0,
            projection=any(term.projection for term in terms),
            prototypes=any(term.prototypes for term in terms),
        )
        share_batchnorm(self.classifier, frozen=config.model.freeze_batchnorm)
        self.ema = make_ema(self.classifier, config, warmup=config.optim.ema_warmup and number == 1)
        if config.compute.shard:
            shard(self.classifier)
            shard(self.ema.module)
        optimizer = make_optimizer(self.classifier, stage, config.optim)
        self.training_step = step = TrainingStep(
            self.classifier,
            terms=stage.weights,
            options=config.loss_of(stage),
            bank=self.bank,
            class_weights=self.class_weights(),
            prior=self.prior if "selective" in stage.weights else None,
            known_share=stage.known_share,
        )
        self.model, self.optimizer = wrap(self.accelerator, step, optimizer, config=config)
        if stored is not None:
            self.restore(stored, optimizer)
        steps = stage.epochs * self.steps
        self.schedule = make_schedule(
            optimizer, config.optim, steps=steps, done=self.steps_done, drops=lambda: len(self.progress.drops)
        )

    def stage_is_over(self) -> bool:
        """Return True if the stage has had its epochs, or has not become better for too many."""
        if self.progress.ran_out_of_patience(self.config.optim.patience):
            self.listen(StoppedEarly(self.progress.stage, self.progress.best_epoch))
            return True
        return self.progress.epoch > self.stage.epochs

    def start_prototypes(self) -> None:
        """Build the prototypes from the model as it is; the best model file gets them too if it holds the same weights."""
        prototypes, coverage = build_prototypes(
            self.classifier,
            self.plain_loader(self.train_split),
            classes=self.card.classes,
            min_score=self.config.loss.prototype_to_sample.prototype_min_score,
            preprocessing=self.card.preprocessing,
            device=self.device,
            precision=self.precision,
            progress=self.passing("building prototypes"),
        )
        with torch.no_grad():
            self.classifier.prototypes.copy_(prototypes)
        self.run_directory.write_coverage([vars(entry) for entry in coverage])
        self.listen(PrototypesBuilt(coverage))
        if (self.best.stage, self.best.epoch) == self.holds != ("", 0):
            self.save_model(self.classifier, self.best, best=True)

    def make_bank(self, slots: int) -> MemoryBank:
        """Make a memory bank that starts from the prototypes."""
        prototypes = self.classifier.prototypes
        kind = BatchBank if self.config.loss.sample_to_sample.bank == "batch" else MemoryBank
        bank = kind(slots=slots, num_classes=len(prototypes), width=prototypes.shape[1]).to(self.device)
        bank.start_from(prototypes.detach())
        return bank

    def class_weights(self) -> tuple[Tensor, Tensor] | None:
        """Return weights of active and of inactive labels (K,) on the device, as the configuration asks for; None: all are 1."""
        split = self.train_split
        active, inactive = (torch.from_numpy(counts) for counts in (split.class_counts(), split.inactive_counts()))
        weights = class_weights(self.config.loss.asymmetric.class_weights, active, inactive)
        return None if weights is None else (weights[0].to(self.device), weights[1].to(self.device))

    @cached_property
    def prior(self) -> Tensor:
        """(K,) the share of the images in which each class is active, on the device; a first model has to score all of them."""
        return class_prior(
            self.train_split,
            self.config.loss.selective.prior_model,
            self.config.data,
            device=self.device,
            precision=self.precision,
            progress=self.passing("scoring with the first model"),
        ).to(self.device)

    @cached_property
    def teachers(self) -> Teachers:
        """The models whose logits a stage learns, on the device."""
        return Teachers(self.config.loss.distillation.teachers, self.card.classes, self.card.preprocessing, self.device)

    # -------------------------------------------------------------------------------------------------------------- the epoch

    def train_epoch(self) -> dict[str, float]:
        """Take the steps that are left of an epoch; returns the means of the loss and of each term over all of its steps."""
        progress, every = self.progress, self.config.save_every
        if any(TERMS[name].by_epoch for name in self.training_step.terms):  # a compiled step is compiled again for each number
            self.training_step.epoch = progress.epoch
        self.classifier.train()
        since = time.perf_counter()
        for step, batch in enumerate(self.loader.epoch(progress.epoch, skip=progress.step), start=progress.step + 1):
            losses = self.train_step(batch, step)
            progress.step = step
            for name, value in losses.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.seconds, since = progress.seconds + time.perf_counter() - since, time.perf_counter()
            if step % METRICS_EVERY == 0 or step == self.steps:
                line = {"stage": progress.stage, "epoch": progress.epoch, "step": step, "lr": self.lr, **losses}
                self.run_directory.append_metrics(line)
            self.listen(StepDone(progress.epoch, step, len(batch[1]) * get_world_size(), losses, self.lr))
            self.interrupts.check_together()
            if every and step % every == 0 and step < self.steps:
                with self.interrupts.waiting():
                    self.save_state()
        return {name: value / max(progress.step, 1) for name, value in progress.sums.items()}

    def finish_epoch(self, losses: Mapping[str, float]) -> None:
        """Evaluate the EMA, and the network itself if asked, write what an epoch brings, and move on to the next."""
        progress, epoch = self.progress, self.progress.epoch
        self.share_statistics()
        self.refuse_broken(full_state_dict(self.ema.module))
        if epoch % self.config.optim.evaluate_every and epoch < self.stage.epochs:
            with self.interrupts.waiting():
                self.progress = progress.model_copy(update={"epoch": epoch + 1, "step": 0, "sums": {}, "seconds": 0.0})
                self.save_state()
            return
        kept, metrics = self.ema.module, self.evaluate(self.unsharded(self.ema.module))
        evaluated = dict(metrics)
        if self.config.optim.evaluate == "both":
            own = self.evaluate(self.unsharded(self.classifier))
            evaluated[NETWORK_MAP] = own[MAPS[0]]
            if own[MAPS[0]] > metrics[MAPS[0]]:
                kept, metrics = self.classifier, own
        self.interrupts.check_together()
        current = metrics["mAP_interpolated"]
        last = self.config.optim.select == "last"
        highest = progress.best_map is None or not current <= progress.best_map
        best_of_stage = last or highest
        best_of_run = last or not current <= self.best.map
        row: dict[str, float | int | str] = {
            **dict.fromkeys(self.result_columns(), ""),
            "stage": progress.stage,
            "epoch": epoch,
            "seconds": round(progress.seconds, 2),
            "images_per_second": round(len(self.train_split) / max(progress.seconds, 1e-9), 1),
            "lr": self.lr,
            **losses,
            **evaluated,
        }
        with self.interrupts.waiting():
            weights = "EMA" if kept is self.ema.module else "network"
            done = BestEpoch(stage=progress.stage, epoch=epoch, weights=weights, metrics=metrics)
            self.save_model(kept, done, best=best_of_run)
            if best_of_run:
                self.best = done
                self.run_directory.write_status(best=self.best_status())
            if best_of_stage:
                tensors = full_state_dict(kept)
                if self.run_directory.writes:
                    write_tensors(self.best_of_stage_path(epoch), tensors)
            self.run_directory.append_result(row)
            self.progress = RunProgress(
                stage=progress.stage,
                epoch=epoch + 1,
                best_map=current if highest else progress.best_map,
                best_epoch=epoch if best_of_stage else progress.best_epoch,
                highest_epoch=epoch if highest else progress.highest_epoch,
                drops=progress.drops,
            )
            self.drop_rate(epoch)
            self.save_state()
        self.listen(EpochDone(row, highest))

    def drop_rate(self, epoch: int) -> None:
        """Make the rate smaller where the schedule is `plateau` and the last epochs brought no better mAP."""
        optim, progress = self.config.optim, self.progress
        if optim.schedule == "plateau" and epoch - max(progress.highest_epoch, *progress.drops, 0) >= optim.schedule_patience:
            self.progress = progress.model_copy(update={"drops": (*progress.drops, epoch)})
            apply_drop(self.schedule)

    def evaluate(self, classifier: Classifier) -> dict[str, float]:
        """Return both mAPs of a model on the held-out split, in percent.

        Raises:
            DivergedError: the model gives NaN.
        """
        try:
            scored = self.score(classifier)
        except NotFiniteError:
            raise DivergedError("The model gives NaN for held-out images. Lower the learning rate with --lr.") from None
        precisions = two_sided_precisions(scored.scores, scored.targets)
        if np.isnan(precisions.interpolated).all():  # of a few images that all show the same; `run_training` said so
            precisions = average_precisions(scored.scores, scored.targets)
        values = (100 * precisions.interpolated, 100 * precisions.non_interpolated)
        return {name: round(float(value[~np.isnan(value)].mean()), 4) for name, value in zip(MAPS, values, strict=True)}

    def score(self, classifier: Classifier) -> Scores:
        """Score the held-out images."""
        return score(
            classifier,
            self.eval_loader,
            card=self.card,
            device=self.device,
            precision=self.precision,
            progress=self.passing("scoring held-out images"),
        )

    def passing(self, what: str) -> Progress:
        """Return what a pass over images reports to: listeners hear of it, and a signal ends it."""

        def report(done: int, total: int) -> None:
            self.interrupts.check()
            self.listen(PassProgress(what, done, total))

        return report

    # --------------------------------------------------------------------------------------------------------------- the step

    def train_step(self, batch: Batch, step: int) -> dict[str, float]:
        """Take one step, again with smaller micro-batches when memory runs out; returns the loss and its terms."""
        while True:
            try:
                return self.try_step(batch, step)
            except Exception as error:
                if type(error).__module__.startswith(COMPILER):
                    reason = str(error).strip().splitlines()[0][:200]
                    raise MachineError(f"torch.compile does not work here ({reason}). Leave --compile out.") from None
                if not ran_out_of_memory(error):
                    raise
                reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            self.use_smaller_micro_batches(reason, images=len(batch[1]))  # out here, where the error holds no tensor any more

    def try_step(self, batch: Batch, step: int) -> dict[str, float]:
        """Losses and gradients of a batch, one step of optimiser, schedule and EMA, and what the bank is to remember."""
        images, targets = self.prepare_batch(batch, step)
        split = split_batch(images, targets, parts=self.micro_batches, batch_size=len(batch[1]))
        parts = [self.splice(*part, step, number) for number, part in enumerate(split, start=1)]
        learned: list[Tensor] = []  # targets of the micro-batches that their terms are means over
        for number, (_, some_targets, _) in enumerate(parts if len(parts) > 1 else (), start=1):
            self.seed_step(step, number)
            learned.append(self.training_step.reveal(some_targets)[1])
        batch_totals = totals(learned) if learned else {}
        values: defaultdict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        features: list[Tensor] = []
        places: list[Tensor] = []
        first = 0  # image of the micro-batch
        self.optimizer.zero_grad()
        for number, (some_images, some_targets, splices) in enumerate(parts, start=1):
            self.seed_step(step, number)
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    teacher_logits = self.teacher_logits(some_images)
                    terms, some_features, some_places = self.model(some_images, some_targets, first, splices, teacher_logits)
                if batch_totals:  # each term is a mean over a micro-batch, and is to be one over the batch
                    shares = totals([learned[number - 1]])
                    terms = {
                        name: term * shares[TERMS[name].over] / batch_totals[TERMS[name].over] for name, term in terms.items()
                    }
                loss = weighted_sum(terms, self.stage.weights)
                self.accelerator.backward(loss)
            for name, value in {"loss": loss, **terms}.items():
                values[name] += value.detach()
            features.append(some_features)
            places.append(some_places)
            first += len(some_targets)
        losses = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
        refuse_not_finite(losses, where=f"stage {self.progress.stage}, epoch {self.progress.epoch}, step {step}")
        self.update_weights(step)
        if self.bank is not None:
            self.bank.write(torch.cat(features), torch.cat(places))
        return losses

    def seed_step(self, step: int, number: int) -> None:
        """Seed what is drawn in a micro-batch, counted from 1."""
        torch.manual_seed(seed_of(self.seed, self.progress.epoch, step, get_rank(), number))

    def prepare_batch(self, batch: Batch, step: int) -> tuple[Inputs, Tensor]:
        """Return images (B * V, 3, S, S) normalised, or maps, and targets (B * V, K) on the device, mixed as the stage asks."""
        images, targets = flatten_views(*batch[:2])
        images = prepare_inputs(images, self.card.preprocessing, self.device)
        targets = self.pseudo_labelled(images, targets.to(self.device, non_blocking=True))
        if isinstance(images, tuple):
            return images, targets
        return mix_batch(images, targets, self.stage, seed=self.seed, epoch=self.progress.epoch, step=step)

    def splice(self, images: Inputs, targets: Tensor, step: int, part: int) -> tuple[Inputs, Tensor, Splices | None]:
        """Return a micro-batch with spliced images behind it, if the stage asks for them, and where their cells are from."""
        if self.stage.mix == "none" or isinstance(images, tuple):
            return images, targets, None
        black = self.card.preprocessing.normalise(torch.zeros(1, 3, 1, 1))[0]
        return splice_batch(images, targets, seed=self.seed, epoch=self.progress.epoch, step=step, part=part, black=black)

    def teacher_logits(self, images: Inputs) -> Tensor | None:
        """Return the logits (B, K) of the teachers for a micro-batch, where the stage learns from them."""
        if "distillation" not in self.stage.weights:
            return None
        assert isinstance(images, Tensor), "refused by check_stages"
        return self.teachers(images)

    @torch.no_grad()
    def pseudo_labelled(self, images: Inputs, targets: Tensor) -> Tensor:
        """Return targets (B * V, K) in which the EMA says what unknown labels are, where the run asks for it and it is sure."""
        optim = self.config.optim
        if not optim.pseudo_labels or self.progress.epoch < optim.pseudo_from_epoch:
            return targets
        parts = split_batch(images, targets, parts=self.micro_batches, batch_size=len(targets))
        with self.accelerator.autocast():
            scores = torch.cat([self.ema.module.eval()(some).logits.float().sigmoid() for some, _ in parts])
        return with_pseudo_labels(targets, scores, optim.pseudo_labels)

    def update_weights(self, step: int) -> None:
        """Take one step of the optimiser, of its schedule and of the EMA."""
        max_norm = self.config.optim.clip_grad_norm
        self.consistent = False  # until all of them have taken it
        if max_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # fp16 may skip the very first step
            self.schedule.step()
        self.ema.update(self.classifier, step=(self.progress.epoch - 1) * self.steps + step)
        self.consistent = True

    def use_smaller_micro_batches(self, reason: str, *, images: int) -> None:
        """Compute batches in twice as many micro-batches from now on.

        Raises:
            MachineError: a micro-batch is one image already, or other processes wait for this one.
        """
        advice = "Use a smaller --img-size, a smaller --backbone, --precision bf16, or --set compute.gradient_checkpointing=true."
        if not self.consistent or self.accelerator.num_processes > 1:
            raise MachineError(
                f"Memory ran out on {self.device} ({reason}). Compute batches in smaller micro-batches: --accumulate "
                f"{2 * self.micro_batches}. {advice}"
            )
        if self.micro_batches >= images:
            raise MachineError(f"Memory ran out on {self.device} with one image at a time ({reason}). {advice}")
        self.micro_batches *= 2
        self.optimizer.zero_grad()
        release_failed_pass()
        clear_device_cache(garbage_collection=True)
        self.listen(MemoryRanOut(str(self.device), self.micro_batches))

    # --------------------------------------------------------------------------------------------------- what stays on the disk

    def save_model(self, classifier: Classifier, epoch: BestEpoch, *, best: bool) -> None:
        """Write last.safetensors, and best.safetensors as well if it is the best, with what was measured in an epoch."""
        weights = merge_adapters(full_state_dict(classifier))
        if self.run_directory.writes:
            trained = {**self.card.trained, **epoch.model_dump(exclude={"metrics"}), **epoch.metrics}
            if epoch.stage != LINEAR and not self.gives_probabilities(self.config.stages[epoch.stage]):
                trained["scores"] = SCORES
            card = self.card.model_copy(update={"trained": trained, "has_prototypes": bool(weights["prototypes"].any())})
            for path in (self.run_directory.last, self.run_directory.best) if best else (self.run_directory.last,):
                save_model(path, weights, card)

    def save_state(self) -> None:
        """Write the state of the run as it is between two steps.

        Raises:
            DivergedError: weights are not finite; what was saved before stays.
            SadclError: it cannot be written; what was saved before stays.
        """
        self.share_statistics()
        tensors = state_tensors(self.classifier, self.ema.module, self.plain_optimizer, self.bank)
        self.refuse_broken(tensors)
        if not self.run_directory.writes:
            return
        scaler = self.accelerator.scaler
        card = StateCard(
            config=self.config,
            sources=self.sources,
            data_fingerprint=self.fingerprint,
            steps=self.steps,
            progress=self.progress,
            best=self.best,
            holds=self.holds,
            scaler={} if scaler is None else scaler.state_dict(),
            micro_batches=self.micro_batches,
            processes=get_world_size(),
            workers=self.loader.num_workers,
            sizes=self.run_directory.sizes(),
        )
        save_state(self.run_directory.state, card, tensors)
        best = self.best_of_stage_path(self.progress.best_epoch)
        for path in best.parent.glob("best-*.safetensors"):
            if path != best:
                path.unlink(missing_ok=True)

    def restore(self, stored: StoredState, optimizer: Optimizer) -> None:
        """Take network, EMA, optimiser and bank, and what the stages share, from a state.

        Raises:
            UsageError: an epoch has other steps than it had, so that the progress in it would be another.
            DataError: the tensors are not those of this run.
        """
        card, tensors = stored
        if card.steps != self.steps:
            raise UsageError(
                f"An epoch has {self.steps} steps now and had {card.steps} of {card.processes} processes: a last batch too small "
                f"for all of them is left out. Go on with {card.processes}."
            )
        try:
            load_state_tensors(tensors, self.classifier, self.ema.module, optimizer, self.bank)
        except (RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"{self.run_directory.state} does not fit its run: {str(error).splitlines()[0]}") from None
        if card.scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(card.scaler)
        if self.progress.best_epoch:
            read_tensors(self.best_of_stage_path(self.progress.best_epoch))  # now, and not when the stage is over
        self.holds, self.best = card.holds, card.best

    def save_after(self, error: BaseException) -> None:
        """Save what was learned up to an interruption, if all of it is good and all processes are there to do so."""
        alone = self.accelerator.num_processes == 1
        if self.interrupts.at_once or isinstance(error, DivergedError) or not self.consistent:
            return
        if isinstance(error, KeyboardInterrupt) or alone:
            try:
                self.save_state()
                now = BestEpoch(stage=self.progress.stage, epoch=self.progress.epoch)
                self.save_model(self.ema.module, now, best=not self.best.epoch)
            except SadclError as failure:
                self.listen(Problem(f"{failure} The state saved before is kept."))

    def share_statistics(self) -> None:
        """Let all processes hold the same BatchNorm statistics; where the backbone's are frozen, those of the head."""
        for classifier in (self.classifier, self.ema.module):
            average_buffers(classifier.head if self.config.model.freeze_batchnorm else classifier)

    def refuse_broken(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise a DivergedError if a tensor is not finite, in all processes, which hold the same."""
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise DivergedError(
                    f"{name} is not finite after step {self.progress.step} of epoch {self.progress.epoch} in stage "
                    f"{self.progress.stage}. The state saved before is kept. Lower the learning rate with --lr, or clip "
                    "gradients with --clip-grad 1."
                )

    # -------------------------------------------------------------------------------------------------------- small questions

    @property
    def stage(self) -> StageSection:
        """Settings of the stage."""
        return self.config.stages[self.progress.stage]

    @property
    def steps_done(self) -> int:
        """Steps of the stage that are done."""
        return (self.progress.epoch - 1) * self.steps + self.progress.step

    @property
    def lr(self) -> float:
        """The highest learning rate in use, which is the stage's own."""
        return max(float(rate) for rate in self.schedule.get_last_lr())

    @property
    def plain_optimizer(self) -> Optimizer:
        """The optimiser that accelerate has wrapped."""
        optimizer: Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return optimizer

    def gives_probabilities(self, stage: StageSection) -> bool:
        """Return True if a stage makes scores probabilities: by its losses, and by its teachers where it has some."""
        teachers = self.teachers if "distillation" in stage.weights else None
        return gives_probabilities(self.config, stage) and (teachers is None or teachers.probabilities)

    def best_status(self) -> dict[str, float | int | str] | None:
        """Return the best epoch for run.json; None before the first."""
        best = self.best
        return {"mAP_interpolated": best.map, **best.model_dump(exclude={"metrics"})} if best.epoch else None

    def result_columns(self) -> list[str]:
        """Return the columns of results.csv; a term that no stage uses has none."""
        terms = dict.fromkeys(name for stage in self.config.stages.values() for name in stage.weights)
        network = [NETWORK_MAP] if self.config.optim.evaluate == "both" else []
        return ["stage", "epoch", "seconds", "images_per_second", "lr", "loss", *terms, *MAPS, *network]

    def best_of_stage_path(self, epoch: int) -> Path:
        """Return where the best weights of the stage are."""
        return self.run_directory.state.with_name(f"best-{self.progress.stage}-{epoch}.safetensors")

    def plain_loader(self, split: Split) -> BatchLoader[Batch]:
        """Return batches of a split in order, with the evaluation transform."""
        data = self.config.data
        if self.features is not None:
            return self.features.loader(split, batch_size=data.batch_size)
        return make_loader(split, self.card.preprocessing.resize, batch_size=data.batch_size, workers=data.workers)

    def unsharded(self, classifier: Classifier) -> Classifier:
        """Return the network itself, or a whole copy if it lies in shards."""
        if not self.config.compute.shard:
            return classifier
        config = self.config
        copy = Classifier(config.model, num_classes=len(self.card.classes), img_size=config.data.img_size).to(self.device)
        copy.load_state_dict(full_state_dict(classifier))
        make_ready(copy, config)
        return copy


def seed_everything(seed: int) -> None:
    """Seed every generator that training draws from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
