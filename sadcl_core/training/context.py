"""What the stages of a run share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator

from sadcl_core.config.schema import RunConfig, StageSection
from sadcl_core.data.loader import ImageLoader, make_loader
from sadcl_core.data.split import Split
from sadcl_core.data.statistics import repeat_factors
from sadcl_core.data.transforms import augmentation
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.checkpoint import ModelCard, save_model
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.interrupts import Interrupts
from sadcl_core.training.listeners.events import Listener
from sadcl_core.training.parallel import full_state_dict


@dataclass
class Training:
    """What all stages of a run share.

    Attributes:
        fingerprint: of the data.
        precision: fp32, bf16 or fp16.
        accumulate: parts that a batch is cut into; grows when memory runs out.
        best_map: highest EMA mAP (interpolated, percent) so far; -inf before the first epoch.
        best_epoch: stage and epoch it was reached in.
        best_metrics: all that was measured there.
        holds: stage and epoch whose EMA weights the classifier holds between two stages.
        told: whether it was said how long the run will take.
    """

    config: RunConfig
    sources: dict[str, str]
    classifier: Classifier
    card: ModelCard
    train_split: Split
    eval_split: Split
    fingerprint: str
    run: RunDirectory
    accelerator: Accelerator
    precision: str
    listen: Listener
    interrupts: Interrupts
    accumulate: int
    best_map: float = -math.inf
    best_epoch: tuple[str, int] = ("", 0)
    best_metrics: dict[str, float] = field(default_factory=dict)
    holds: tuple[str, int] = ("", 0)
    told: bool = False

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def best(self) -> dict[str, float | int | str] | None:
        """What was reached so far, for run.json."""
        stage, epoch = self.best_epoch
        return {"mAP_interpolated": self.best_map, "stage": stage, "epoch": epoch} if epoch else None

    def train_loader(self, stage: StageSection, *, seed: int) -> ImageLoader:
        """Batches of the training split, shuffled and transformed as a stage wants them."""
        data = self.config.data
        return make_loader(
            self.train_split,
            augmentation(stage.augment, data.img_size),
            batch_size=data.batch_size,
            workers=data.workers,
            shuffle_seed=seed,
            views=stage.views,
            weights=repeat_factors(self.train_split) if data.sampler == "repeat-factor" else None,
        )

    def plain_loader(self, split: Split) -> ImageLoader:
        """Batches of a split in order, with the evaluation transform."""
        data = self.config.data
        return make_loader(split, self.card.preprocessing.resize, batch_size=data.batch_size, workers=data.workers)

    def save(self, classifier: Classifier, *, best: bool, stage: str, epoch: int, metrics: dict[str, float]) -> None:
        """Write last.safetensors, and best.safetensors as well when it is the best."""
        weights = full_state_dict(classifier)
        if not self.run.writes:
            return
        trained = {**self.card.trained, "stage": stage, "epoch": epoch, **metrics}
        card = self.card.model_copy(update={"trained": trained, "has_prototypes": bool(weights["prototypes"].any())})
        for path in (self.run.last, self.run.best) if best else (self.run.last,):
            save_model(path, weights, card)
