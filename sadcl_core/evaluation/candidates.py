"""What can be evaluated: a model on the images of a split, or scores out of a file beside their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.data.loader import make_loader
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.evaluation.localise import Localisation, LocalisationObserver, cannot_be_localised
from sadcl_core.evaluation.scores_file import match_labels, match_paths, read_scores
from sadcl_core.evaluation.similarity import SimilarityObserver
from sadcl_core.inference.load import Model
from sadcl_core.inference.score import Observer, Scores, score
from sadcl_core.runtime.progress import Progress

TUNED_HERE = (
    "The model was calibrated on these very images: numbers at its own thresholds, and the calibration error, are too good here"
)
DIFFICULT = {"ignore": "ignored", "negative": "negative", "positive": "positive"}


@dataclass(frozen=True)
class Candidate:
    """N images with the scores that somebody gave them.

    Attributes:
        name: for people and file names.
        scores: and targets, (N, K) each; those that thresholds of the model are for.
        classes: K names.
        images: N names, or None where they have none.
        about: dataset, split, model and so on, as in the JSON of an evaluation.
        own_thresholds: K, or none.
        as_trained: (N, K) scores as they were before the model was calibrated; None where it is not.
        opened: the model, when one was run.
        split: where the images are, when that is known.
        localisation: of the attention, where there are boxes.
        similarity: (N, K) of label features to prototypes, where it was asked for and there are any.
    """

    name: str
    scores: Scores
    classes: tuple[str, ...]
    images: Sequence[str] | None
    about: dict[str, Any]
    own_thresholds: tuple[float, ...] = ()
    as_trained: npt.NDArray[np.floating] | None = None
    opened: Model | None = None
    split: Split | None = None
    localisation: Localisation | None = None
    similarity: npt.NDArray[np.float16] | None = None

    @property
    def names(self) -> Sequence[str]:
        """N names of images: their numbers, from 0, where they have none."""
        return [str(number) for number in range(len(self.scores.scores))] if self.images is None else self.images

    def same_as(self, other: Candidate) -> Candidate:
        """This one with its classes and images in the order of another.

        Raises:
            DataError: it has other classes, other images or other labels.
        """
        if set(self.classes) != set(other.classes):
            strange = sorted(set(self.classes) ^ set(other.classes))[0]
            raise DataError(f"{self.name} and {other.name} do not share all classes, such as {strange!r}. Compare two that do.")
        scores, targets = self.scores.scores, self.scores.targets
        rows = self._rows_of(other)
        if rows is not None:
            scores, targets = scores[rows], targets[rows]
        order = [self.classes.index(name) for name in other.classes]
        if order != list(range(len(order))):  # else nothing is copied
            scores, targets = scores[:, order], targets[:, order]
        if targets.shape != other.scores.targets.shape or not np.array_equal(targets, other.scores.targets):
            raise DataError(
                f"{self.name} and {other.name} were not scored on the same images with the same labels. "
                "Give both the same --data and --split."
            )
        return Candidate(self.name, Scores(scores, targets, self.scores.seconds), other.classes, other.images, self.about)

    def _rows_of(self, other: Candidate) -> npt.NDArray[np.int64] | None:
        """Where the images of another are among these; None where they are in the same order, or one of both names none.

        They are known by their paths, or by the ends of these, as both may come from different machines.
        """
        if self.images is None or other.images is None:
            return None
        own, wanted = list(self.images), list(other.images)
        if own == wanted:
            return None
        rows, _ = match_paths(own, wanted, Path(self.name), other.name) if len(own) == len(wanted) else (None, "")
        if rows is None:
            raise DataError(
                f"{self.name} and {other.name} were not scored on the same images: {len(own):,}, such as {own[0]}, and "
                f"{len(wanted):,}, such as {wanted[0]}. Give both the same --data and --split."
            )
        return rows


def score_split(
    opened: Model,
    split: Split,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    similarity: bool = False,
    progress: Progress | None = None,
) -> Candidate:
    """Score the images of a split with a model; `limit` keeps the first ones only.

    Where images have boxes, the attention is compared with them in the same pass; with `similarity`, and a model that has
    prototypes, the label features with those.
    """
    card = opened.card
    places = None if cannot_be_localised(split) else LocalisationObserver(split)
    count = len(split) if limit is None else min(limit, len(split))
    near = SimilarityObserver(opened.classifier, count) if similarity and card.has_prototypes else None
    observers: list[Observer] = [observer for observer in (places, near) if observer is not None]
    scored = score(
        opened.classifier,
        make_loader(split, card.preprocessing.resize, batch_size=batch_size, workers=workers, limit=limit),
        card=card.as_trained,
        device=opened.device,
        precision=opened.precision,
        observers=observers,
        progress=progress,
    )
    return Candidate(
        name=str(opened.path),
        scores=replace(scored, scores=card.calibrated_scores(scored.scores)),
        classes=card.classes,
        images=split if count == len(split) else [split[number] for number in range(count)],
        about=_about(opened, split, limit),
        own_thresholds=card.thresholds,
        as_trained=scored.scores if card.temperatures else None,
        opened=opened,
        split=split,
        localisation=None if places is None else places.result(),
        similarity=None if near is None else near.result(),
    )


def read_candidate(
    scores: Path,
    labels: str | None = None,
    *,
    logits: bool = False,
    split: str | None = None,
    beside: Candidate | None = None,
) -> tuple[Candidate, str, tuple[str, ...]]:
    """Scores of any tool out of a file, and what is true from any label file; see `sadcl_core.evaluation.scores_file`.

    Where neither `labels` nor the file say it, the images of a candidate `beside` do.

    Returns:
        The candidate, a sentence on what was taken, and sentences on what of it may be wrong.
    """
    file = read_scores(scores, logits=logits)
    known = None if beside is None or beside.split is None else beside.split
    if labels is None and file.targets is None and known is not None and known.manifest.folder is not None:
        labels, split = str(known.manifest.folder), known.name
    matched = match_labels(file, labels, split=split)
    about = {"scores": str(scores), "labels": labels or str(scores), "dataset": Path(labels or scores).stem}
    about |= {} if matched.split is None else _difficult(matched.split)
    taken = Scores(matched.scores, matched.targets, 0.0)
    candidate = Candidate(scores.stem, taken, matched.classes, matched.images, about, split=matched.split)
    return candidate, matched.description, matched.warnings


def tuned_here(candidate: Candidate) -> bool:
    """Whether the model's own thresholds were chosen on these very images."""
    calibrated = candidate.about.get("calibrated", {})
    keys = ("data_fingerprint", "split")
    return bool(calibrated) and all(calibrated.get(key) == candidate.about.get(key) for key in keys)


def _about(opened: Model, split: Split, limit: int | None) -> dict[str, Any]:
    card, description = opened.card, split.manifest.description
    about: dict[str, Any] = {
        "dataset": description.name,
        "split": split.name,
        "img_size": card.img_size,
        "train_size": card.trained.get("img_size", card.img_size),
        "model": str(opened.path),
        "limit": limit,
        "data_fingerprint": split.manifest.fingerprint(),
    }
    about |= _difficult(split)
    if card.calibrated:
        about["calibrated"] = card.calibrated
    return about


def _difficult(split: Split) -> dict[str, str]:
    """What became of VOC's difficult objects."""
    description = split.manifest.description
    if description.source.get("format") != "voc":
        return {}
    return {"difficult": DIFFICULT.get(description.options.get("difficult", "ignore"), "ignored")}


def file_name(candidate: Candidate, thresholds: str, folder: Path) -> str:
    """A name that says what was evaluated, so that another model, size, threshold or number of images does not overwrite it.

    The run's name is left out inside the run.
    """
    about = candidate.about
    if candidate.opened is None:
        return "-".join(part for part in (candidate.name, "eval", thresholds) if part)
    model, run = candidate.opened.path.absolute(), candidate.opened.run
    parts = [about["dataset"], about["split"], str(about["img_size"])]
    if about.get("calibrated"):
        parts.append("calibrated")
    if run is None:
        parts.insert(0, model.parent.name)
    elif not folder.absolute().is_relative_to(run.path.absolute()):
        parts.insert(0, run.path.absolute().name)
    if model.stem != "best":
        parts.append(model.stem)
    if thresholds:
        parts.append(thresholds)
    if about["limit"] is not None:
        parts.append(f"first-{about['limit']}")
    return "-".join(parts)
