"""The thing that is evaluated: the scores of a model on the images of a split, or scores from a file, beside their labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from sadcl_core.data.formats.source import Reading
from sadcl_core.data.prepare.checks import NO_INACTIVE, require_inactive
from sadcl_core.data.prepare.reading_options import ReadingOptions
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.evaluation.scores_file import Matched, ScoresFile, is_scores_file, match_labels, match_paths, read_scores
from sadcl_core.inference.load import ModelFile, find_card, load
from sadcl_core.inference.onnx_model import OnnxModel
from sadcl_core.inference.predictor import Predictor
from sadcl_core.metrics.localisation import Localisation
from sadcl_core.runs.card import ModelCard, is_checkpoint, refuse_known
from sadcl_core.runtime.device import check_device_and_precision
from sadcl_core.runtime.files import safe_name
from sadcl_core.runtime.progress import StagedProgress, stage
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from sadcl_core.inference.split import OpenedSplit

Fact: TypeAlias = "Predictor[Any] | tuple[Predictor[Any], OpenedSplit] | Matched"
Listener = Callable[[Fact], None]  # called with what is opened on the way: a model, its images, or a file of scores
DIFFICULT = {"ignore": "ignored", "negative": "negative", "positive": "positive"}


class ScoringOptions(TypedDict, total=False):
    """Options of opening and scoring a model or a file of scores; each as the argument of `sadcl_core.evaluate` of this name."""

    data: str | Path | None
    split: str | None
    labels: str | Path | None
    label_options: Mapping[str, Any] | None
    logits: bool
    by_order: bool
    batch_size: int
    limit: int | None
    device: str
    precision: str
    workers: int | None
    listen: Listener | None


@dataclass(frozen=True)
class ScoredSplit:
    """N images with their scores and labels.

    Attributes:
        name: for people and file names.
        scores: (N, K) in 0..1, for which the thresholds of the model are meant.
        targets: (N, K) int8 with 1, 0 or -1 for unknown.
        classes: K names.
        images: N names, or None where they have none.
        about: dataset, split, model and so on, as in the JSON of an evaluation.
        seconds: that the scoring took, reading images included; 0 for scores from a file.
        own_thresholds: K, or none.
        as_trained: (N, K) scores as they were before the model was calibrated; None where it is not.
        model: the model, when one was run.
        split: where the images are, when that is known.
        localisation: of the attention, where there are boxes.
        similarity: (N, K) cosines of label features and prototypes, where they were measured.
    """

    name: str
    scores: npt.NDArray[np.floating[Any]]
    targets: npt.NDArray[np.int8]
    classes: tuple[str, ...]
    images: Sequence[str] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    own_thresholds: tuple[float, ...] = ()
    as_trained: npt.NDArray[np.floating[Any]] | None = None
    model: Predictor[Any] | None = None
    split: Split | None = None
    localisation: Localisation | None = None
    similarity: npt.NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> Sequence[str]:
        """Return N names of images: their numbers, from 0, where they have none."""
        return [str(number) for number in range(len(self))] if self.images is None else self.images

    @property
    def tuned_here(self) -> bool:
        """Return True if the model's own thresholds were chosen on these very images."""
        calibrated = self.about.get("calibrated", {})
        return bool(calibrated) and all(calibrated.get(key) == self.about.get(key) for key in ("data_fingerprint", "split"))

    def same_as(self, other: ScoredSplit) -> ScoredSplit:
        """Return this with its classes and images in the order of another.

        Raises:
            DataError: it has other classes, other images or other labels.
        """
        if set(self.classes) != set(other.classes):
            odd = sorted(set(self.classes) ^ set(other.classes))[0]
            raise DataError(f"{self.name} and {other.name} do not share all classes, such as {odd!r}. Compare two that do.")
        scores, targets = self.scores, self.targets
        rows = self._rows_of(other)
        if rows is not None:
            scores, targets = scores[rows], targets[rows]
        order = [self.classes.index(name) for name in other.classes]
        if order != list(range(len(order))):  # else nothing is copied
            scores, targets = scores[:, order], targets[:, order]
        if targets.shape != other.targets.shape or not np.array_equal(targets, other.targets):
            raise DataError(
                f"{self.name} and {other.name} were not scored on the same images with the same labels. "
                "Give both the same --data and --split."
            )
        return replace(self, scores=scores, targets=targets, classes=other.classes, images=other.images)

    def _rows_of(self, other: ScoredSplit) -> npt.NDArray[np.int64] | None:
        """Return where the images of another are among these; None where they are in the same order, or one of both has no names.

        Paths or the ends of paths decide, as both may come from different machines.
        """
        if self.images is None or other.images is None:
            return None
        own, others = list(self.images), list(other.images)
        if own == others:
            return None
        rows, _ = match_paths(own, others, Path(self.name), other.name) if len(own) == len(others) else (None, "")
        if rows is None:
            raise DataError(
                f"{self.name} and {other.name} were not scored on the same images: {len(own):,}, such as {own[0]}, and "
                f"{len(others):,}, such as {others[0]}. Give both the same --data and --split."
            )
        return rows

    def file_name(self, thresholds: str, folder: Path) -> str:
        """Return a name that no other model, size, threshold or number of images has; inside a run it does not repeat the run."""
        about = self.about
        if self.model is None:
            return safe_name("-".join(part for part in (self.name, "eval", thresholds) if part))
        path, run = self.model.path.absolute(), self.model.run
        parts = [about["dataset"], about["split"], str(about["img_size"])]
        forms = {"tta": "{}", "resize": "centre-of-{}", "known_share": "known-{:g}"}
        parts += [form.format(about[key]) for key, form in forms.items() if about.get(key)]
        if about.get("calibrated"):
            parts.append("calibrated")
        if run is None:
            parts.insert(0, path.parent.name)
        elif not folder.absolute().is_relative_to(run.path.absolute()):
            parts.insert(0, run.path.absolute().name)
        if path.stem != "best":
            parts.append(path.stem)
        if thresholds:
            parts.append(thresholds)
        if about["limit"] is not None:
            parts.append(f"first-{about['limit']}")
        return safe_name("-".join(parts))


def score_or_read(
    run_or_scores: str | Path | None,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    labels: str | Path | None = None,
    label_options: Mapping[str, Any] | None = None,
    logits: bool = False,
    by_order: bool = False,
    img_size: int | None = None,
    tta: str = "none",
    resize: int = 0,
    batch_size: int = 32,
    limit: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    uncalibrated: bool = False,
    similarity: bool = False,
    known_share: float = 0.0,
    final: bool = False,
    beside: ScoredSplit | None = None,
    check_card: Callable[[Path, ModelCard], None] | None = None,
    check_split: Callable[[ModelFile, Split], None] | None = None,
    listen: Listener | None = None,
    progress: StagedProgress | None = None,
) -> ScoredSplit:
    """Score the images of a split with a model, or read a file of scores and labels, which imports no torch.

    The arguments are those of `sadcl_core.evaluate`, and these: with `similarity` the cosines of label features and prototypes
    are measured, too; with `final` and without `split` test is taken where there is one, even if the run measured another split
    while it trained; `beside` gives the labels of a file of scores that has none; `check_card` and `check_split` are called with
    the model file, and its card or the images, before torch is imported, and may raise. In `label_options` the `classes` are
    also the names of the classes of a checkpoint of another program.

    Raises:
        DataError: there is no model or file, it is damaged, or no label is inactive.
        UsageError: the labels or the data are not given.
    """
    listen = listen or (lambda fact: None)
    if run_or_scores is not None and is_scores_file(Path(run_or_scores)):
        labels = None if labels is None else str(labels)
        options = ReadingOptions(**(label_options or {}))
        scores = read_scores(Path(run_or_scores), logits=logits, reading=Reading() if labels else options.reading())
        return _matched(scores, labels, options, split=split, by_order=by_order, beside=beside, listen=listen)

    check_device_and_precision(device, precision)
    classes = str((label_options or {}).get("classes") or "")
    if not is_checkpoint(Path(run_or_scores or "")):
        classes = ""  # of two models one may need them
    file = find_card(run_or_scores, uncalibrated=uncalibrated, classes=classes, img_size=img_size)
    if known_share:
        refuse_known(file.path, file.card, f"--known-share {known_share:g}")
    if check_card is not None:
        check_card(file.path, file.card)

    from sadcl_core.inference.split import open_split
    from sadcl_core.runtime.launcher import main_process_first, process_group

    with process_group():
        with main_process_first():  # data sets are prepared by one process and opened by the others
            opened = open_split(file, data=None if data is None else str(data), split=split, final=final, progress=progress)
            require_inactive(opened.split)
            if check_split is not None:
                check_split(file, opened.split)
        model = load(
            run_or_scores,
            device=device,
            precision=precision,
            img_size=img_size,
            uncalibrated=uncalibrated,
            tta=tta,
            resize=resize,
            classes=classes,
        )
        listen(model)
        listen((model, opened))
        report = stage(progress, "scoring images")
        if isinstance(model, OnnxModel):
            from sadcl_core.evaluation.score_exported import score_exported

            scored = score_exported(model, opened.split, workers=workers, limit=limit, progress=report)
        else:
            from sadcl_core.evaluation.score_split import score_split

            scored = score_split(
                model,
                opened.split,
                batch_size=batch_size,
                workers=workers,
                limit=limit,
                similarity=similarity,
                known_share=known_share,
                progress=report,
            )
        what = f"What was scored of split {opened.split.name} ({counted(len(scored), 'image')})"
        return _with_inactive(scored, what, "Score more images.")


def _with_inactive(scored: ScoredSplit, what: str, action: str) -> ScoredSplit:
    """Return a scored split, if some label that counts is inactive; an error says of `what` it is, and what to do.

    Raises:
        DataError: all labels are active or unknown.
    """
    if not (scored.targets == 0).any():
        raise DataError(f"{what} {NO_INACTIVE} {action}")
    return scored


def _matched(
    file: ScoresFile,
    labels: str | None,
    options: ReadingOptions,
    *,
    split: str | None,
    by_order: bool,
    beside: ScoredSplit | None,
    listen: Listener,
) -> ScoredSplit:
    """Return a file of scores with the labels from a file, from the same file, or of the split beside it."""
    path = file.path
    shared = None if beside is None else beside.split
    if labels is None and file.targets is None and shared is not None and shared.manifest.folder is not None:
        labels, split = str(shared.manifest.folder), shared.name
    matched = match_labels(file, labels, split=split, options=options, by_order=by_order)
    listen(matched)
    about = {"scores": str(path), "labels": labels or str(path), "dataset": Path(labels or path).stem}
    about |= {} if matched.split is None else difficult(matched.split)
    scored = ScoredSplit(path.stem, matched.scores, matched.targets, matched.classes, matched.images, about, split=matched.split)
    return _with_inactive(scored, scored.name, "If a value of the labels means that a class is absent, name it with --absent.")


def scored_by(
    model: Predictor[Any],
    split: Split,
    limit: int | None,
    *,
    scores: npt.NDArray[np.floating[Any]],
    as_trained: npt.NDArray[np.floating[Any]],
    how: Mapping[str, Any],
    **measured: Any,
) -> ScoredSplit:
    """Return the scores (N, K) of a model for the first `limit` images of a split, calibrated and as trained.

    `how` says in which way it was run, as part of the subject of the evaluation; `measured` are other fields of `ScoredSplit`.
    """
    card, count = model.card, len(scores)
    about: dict[str, Any] = {
        "dataset": split.manifest.description.name,
        "split": split.name,
        "img_size": card.img_size,
        "train_size": card.trained.get("img_size", card.img_size),
        "model": str(model.path),
        "backbone": card.model.backbone,
        "limit": limit,
        "data_fingerprint": split.manifest.fingerprint(),
        **difficult(split),
        **({"calibrated": card.calibrated} if card.calibrated else {}),
        **how,
    }
    return ScoredSplit(
        name=str(model.path),
        scores=scores,
        classes=card.classes,
        images=split if count == len(split) else [split[number] for number in range(count)],
        about=about,
        own_thresholds=card.thresholds,
        as_trained=as_trained if card.temperatures else None,
        model=model,
        split=split,
        **measured,
    )


def difficult(split: Split) -> dict[str, str]:
    """Return what was made of VOC's difficult objects, as part of the subject of an evaluation; nothing for other data."""
    description = split.manifest.description
    if description.source.get("format") != "voc":
        return {}
    return {"difficult": DIFFICULT.get(description.options.get("difficult", "ignore"), "ignored")}
