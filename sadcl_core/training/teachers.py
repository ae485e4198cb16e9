"""The trained models whose logits the loss `distillation` lets a network learn: of all classes, or of groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sadcl_core.config.schema import RunConfig
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.errors import UsageError
from sadcl_core.inference.load import read_card_of_setting
from sadcl_core.runs.card import ModelCard
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.run_directory import find_model

SETTING = "loss.distillation.teachers"


def check_teachers(config: RunConfig, classes: Sequence[str]) -> None:
    """Refuse teachers that no stage learns from, and a distillation that lacks some.

    Raises:
        DataError: there is no such model, or it is damaged.
        UsageError: no teachers are named, no stage learns from them, or they lack classes.
    """
    teachers = config.loss.distillation.teachers
    learning = [name for name in config.used_stages if "distillation" in config.stages[name].weights]
    if learning and not teachers:
        raise UsageError(f"Stage {learning[0]}: the loss distillation has no teachers. Name trained runs: --set {SETTING}=[RUN].")
    if teachers and not learning:
        names = config.used_stages or list(config.stages)
        raise UsageError(
            f"{SETTING} names models, and no stage learns from them. Add --set stages.{names[0]}.losses.distillation=1."
        )
    teacher_cards(teachers, classes)


def teacher_cards(teachers: Sequence[str], classes: Sequence[str]) -> list[ModelCard]:
    """Return the cards of teachers that together have all of K classes.

    Raises:
        DataError: there is no such model, or it is damaged.
        UsageError: a teacher has none of the classes, or a class has no teacher; see also `read_card_of_setting`.
    """
    cards = []
    for teacher in teachers:
        cards.append(read_card_of_setting(SETTING, teacher))
        if not set(classes).intersection(cards[-1].classes):
            raise UsageError(f"{SETTING}: {teacher} has none of the {len(classes):,} classes of the data. Leave it out.")
    missing = [name for name in classes if not any(name in card.classes for card in cards)]
    if cards and missing:
        raise UsageError(
            f"{SETTING}: no teacher has the class {missing[0]!r} (missing: {len(missing):,} of {len(classes):,}). Add a run "
            "that was trained on it."
        )
    return cards


class Teachers:
    """Trained models in evaluation mode that score the images of a student.

    Each sees them as they were augmented for the student, at its own size and with its own normalisation. Classes are joined by
    name; of a class that several teachers have, the logit is the mean, whose gradient is that of the mean over the teachers.

    Attributes:
        probabilities: whether all of them score labels with probabilities.
    """

    def __init__(
        self, teachers: Sequence[str], classes: Sequence[str], preprocessing: Preprocessing, device: torch.device
    ) -> None:
        """Load runs or model files that together have the K classes of a student, whose preprocessing this is.

        Raises:
            SadclError: as `teacher_cards`.
        """
        cards = teacher_cards(teachers, classes)
        self.device = device
        self.probabilities = not any(card.trained.get("scores") for card in cards)
        self.student = preprocessing
        self.preprocessing = [card.preprocessing for card in cards]
        self.classifiers = [
            load_model(find_model(Path(teacher))[0]).classifier.requires_grad_(False).to(device).eval() for teacher in teachers
        ]
        shared = [[k for k, name in enumerate(classes) if name in card.classes] for card in cards]
        self.ours = [torch.tensor(places, device=device) for places in shared]
        self.theirs = [
            torch.tensor([card.classes.index(classes[k]) for k in places], device=device)
            for card, places in zip(cards, shared, strict=True)
        ]
        self.counts = torch.bincount(torch.cat(self.ours), minlength=len(classes))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return mean logits (B, K), float32, for images (B, 3, S, S) that are normalised for the student."""
        total = torch.zeros(len(images), len(self.counts), device=self.device)
        rows = zip(self.classifiers, self.preprocessing, self.ours, self.theirs, strict=True)
        for classifier, preprocessing, ours, theirs in rows:
            logits = classifier(self.student.convert(images, preprocessing)).logits.float()
            total.index_add_(1, ours, logits[:, theirs])
        return total / self.counts
