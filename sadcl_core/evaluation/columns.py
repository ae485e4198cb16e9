"""The one table of the numbers of an evaluation: terminal, JSON, CSV, Markdown, LaTeX and the page iterate over it.

A new metric is a function in `sadcl_core.metrics`, a row in `NUMBERS` or `PER_CLASS`, and a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from sadcl_core import metrics
from sadcl_core.evaluation.intervals import Intervals, bootstrap_intervals
from sadcl_core.metrics.localisation import Localisation
from sadcl_core.runtime.progress import Progress

T = TypeVar("T")
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Column(Generic[T]):
    """A number, or a column of numbers.

    Attributes:
        key: its name in JSON and CSV.
        title: its heading for people.
        meaning: in a few words, with its unit.
        value: computes it; None where it was not measured.
        stored: decimals in JSON and CSV.
        rank: on a terminal, columns of a high rank are left out first where it is narrow; None is never shown there.
        needs: a key that the subject of the evaluation must have for people to see the column.
    """

    key: str
    title: str
    decimals: int
    meaning: str
    value: Callable[[T], Any]
    stored: int = 4
    rank: int | None = None
    needs: str = ""


@dataclass(frozen=True, eq=False)
class Measured:
    """The values that columns are computed from; a value that several need is computed once.

    Attributes:
        scores: (N, K).
        targets: (N, K) with 1, 0 or -1 for unknown.
        thresholds: (K,); a label counts when its score is above.
        resamples: of the images, for the intervals; 0 for none.
        localisation: of the same model on the same images.
        seconds: that the scoring took; 0 when the scores came from a file.
        progress: called with how many resamples are done, of how many.
    """

    scores: npt.NDArray[Any]
    targets: npt.NDArray[Any]
    thresholds: Values
    resamples: int = 0
    localisation: Localisation | None = None
    seconds: float = 0.0
    progress: Progress | None = None

    @cached_property
    def ap(self) -> metrics.AveragePrecisions:
        """Return the average precisions of each class with an active and an inactive label, in 0..1; NaN for the others."""
        return metrics.two_sided_precisions(self.scores, self.targets)

    @cached_property
    def counts(self) -> metrics.Counts:
        """Return the decisions of each class at the thresholds."""
        return metrics.decision_counts(self.scores, self.targets, self.thresholds)

    @cached_property
    def positives(self) -> npt.NDArray[np.int64]:
        """Return how many images have each label."""
        return self.counts.true_positives + self.counts.false_negatives

    @cached_property
    def ratios(self) -> tuple[Values, Values, Values]:
        """Return precision, recall and F1 of each class, in 0..1."""
        return metrics.class_ratios(self.counts)

    @cached_property
    def calibration(self) -> metrics.CalibrationError:
        """Return the calibration errors, in 0..1."""
        return metrics.calibration_error(self.scores, self.targets)

    @cached_property
    def ranking(self) -> metrics.LabelRanking:
        """Return how well each image ranks its labels."""
        return metrics.label_ranking(self.scores, self.targets)

    @cached_property
    def per_image(self) -> metrics.PerImage:
        """Return the decisions judged image by image, in 0..1."""
        return metrics.per_image(self.scores, self.targets, self.thresholds)

    @cached_property
    def intervals(self) -> Intervals | None:
        """Return the intervals of the average precisions, in percent."""
        if not self.resamples:
            return None
        return bootstrap_intervals(self.scores, self.targets, self.ap, self.resamples, progress=self.progress)


def mean(values: Values) -> float:
    """Return the mean of the values that are there; NaN when none is.

    Example:
        >>> mean(np.array([0.25, np.nan, 0.75]))
        0.5
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


NUMBERS: tuple[Column[Measured], ...] = (
    Column("mAP_interpolated", "mAP", 1, "mean AP, interpolated (VOC after 2010), %", lambda m: 100 * mean(m.ap.interpolated)),
    Column(
        "mAP_non_interpolated",
        "mAP non-int.",
        1,
        "mean AP, non-interpolated (scikit-learn), %",
        lambda m: 100 * mean(m.ap.non_interpolated),
    ),
    Column(
        "mAP_11_point",
        "mAP 11-point",
        1,
        "mean AP, as in the devkit of VOC 2007, %",
        lambda m: 100 * mean(m.ap.eleven_point),
        rank=0,
        needs="difficult",
    ),
    Column("images", "images", 0, "images that were scored", lambda m: len(m.scores)),
    Column("classes", "classes", 0, "classes", lambda m: len(m.positives)),
    Column("classes_evaluated", "evaluated", 0, "classes with an AP", lambda m: np.count_nonzero(~np.isnan(m.ap.interpolated))),
    Column(
        "unknown_labels", "unknown labels", 0, "labels that are not known, left out", lambda m: np.count_nonzero(m.targets < 0)
    ),
    Column("samples_F1", "F1 per image", 1, "F1, mean over images, at the thresholds, %", lambda m: 100 * m.per_image.f1, rank=0),
    Column(
        "subset_accuracy",
        "subset accuracy",
        1,
        "images in which every label is decided rightly, at the thresholds, %",
        lambda m: 100 * m.per_image.subset_accuracy,
        rank=0,
    ),
    Column(
        "hamming_loss",
        "Hamming loss",
        4,
        "share of the labels that are decided wrongly, at the thresholds, 0 to 1",
        lambda m: metrics.hamming_loss(m.scores, m.targets, m.thresholds),
        stored=6,
        rank=0,
    ),
    Column(
        "ranking_loss",
        "ranking loss",
        4,
        "share of the pairs of an active and an inactive label of an image that are ranked wrongly, 0 to 1",
        lambda m: m.ranking.ranking_loss,
        stored=6,
        rank=0,
    ),
    Column(
        "coverage_error",
        "coverage error",
        2,
        "labels, from the best, that it takes to include all active ones of an image",
        lambda m: m.ranking.coverage_error,
        rank=0,
    ),
    Column(
        "images_ranked", "ranked", 0, "images with an active and an inactive label, of the two before", lambda m: m.ranking.images
    ),
    Column(
        "ECE",
        "calibration error",
        4,
        "expected calibration error: how far scores are from frequencies, 0 to 1",
        lambda m: m.calibration.overall,
        rank=0,
    ),
    Column(
        "images_per_second",
        "images/s",
        0,
        "images scored per second, reading included; 0 for scores from a file",
        lambda m: len(m.scores) / m.seconds if m.seconds else 0.0,
        stored=1,
    ),
    Column("resamples", "resamples", 0, "of the images, for the intervals", lambda m: m.resamples or None),
    Column(
        "mAP_interpolated_interval",
        "95 %",
        1,
        "of the interpolated mAP, with other images, %",
        lambda m: m.intervals and m.intervals.map_interpolated,
    ),
    Column(
        "mAP_non_interpolated_interval",
        "95 %",
        1,
        "of the non-interpolated mAP, with other images, %",
        lambda m: m.intervals and m.intervals.map_non_interpolated,
    ),
    Column(
        "localisation",
        "attention",
        1,
        "pointing game, its rival the centre of the image, energy in the boxes, its rival their area, %",
        lambda m: m.localisation and {name: 100 * value for name, value in m.localisation.means().items()},
    ),
)
PER_CLASS: tuple[Column[Measured], ...] = (
    Column("positives", "images", 0, "images that have the label", lambda m: m.positives, rank=0),
    Column(
        "AP_interpolated",
        "AP",
        2,
        "average precision, interpolated (VOC after 2010, SADCL), %; with its 95 % interval",
        lambda m: 100 * m.ap.interpolated,
        rank=0,
    ),
    Column(
        "AP_non_interpolated",
        "AP non-int.",
        2,
        "average precision, non-interpolated (scikit-learn, ML-GCN, ASL), %",
        lambda m: 100 * m.ap.non_interpolated,
        rank=0,
    ),
    Column(
        "AP_11_point",
        "AP 11-point",
        2,
        "average precision, as in the devkit of VOC 2007, %",
        lambda m: 100 * m.ap.eleven_point,
        rank=3,
        needs="difficult",
    ),
    Column(
        "threshold",
        "threshold",
        3,
        "a label counts when its score is above it; the next three are taken there",
        lambda m: m.thresholds,
        stored=6,
        rank=5,
    ),
    Column(
        "precision",
        "precision",
        1,
        "of the images where the label counts, how many have it, %",
        lambda m: 100 * m.ratios[0],
        rank=4,
    ),
    Column(
        "recall", "recall", 1, "of the images that have the label, in how many it counts, %", lambda m: 100 * m.ratios[1], rank=4
    ),
    Column("F1", "F1", 1, "harmonic mean of precision and recall, %", lambda m: 100 * m.ratios[2], rank=2),
    Column(
        "ECE",
        "ECE",
        3,
        "expected calibration error: how far scores are from frequencies, 0 to 1",
        lambda m: m.calibration.per_class,
    ),
    Column(
        "AP_interpolated_interval",
        "95 %",
        1,
        "of the interpolated AP, with other images, %",
        lambda m: m.intervals and m.intervals.ap_interpolated,
        rank=1,
    ),
    Column(
        "pointing_game",
        "pointing",
        1,
        "how often the attention is highest inside a box of the label, %",
        lambda m: m.localisation and 100 * m.localisation.pointing,
        rank=3,
    ),
    Column(
        "box_energy",
        "in boxes",
        1,
        "how much of the attention lies inside the label's boxes, %",
        lambda m: m.localisation and 100 * m.localisation.energy,
        rank=3,
    ),
    Column(
        "box_area",
        "box area",
        1,
        "how much of the image its boxes cover: the energy of attention that is the same everywhere, %",
        lambda m: m.localisation and 100 * m.localisation.area,
    ),
)
MEASURES: tuple[Column[Mapping[str, float]], ...] = tuple(
    Column(key, title, 1, meaning, itemgetter(key))
    for key, title, meaning in (
        ("CP", "CP", "precision, mean over classes, %"),
        ("CR", "CR", "recall, mean over classes, %"),
        ("CF1", "CF1 (of CP, CR)", "harmonic mean of CP and CR, %"),
        ("macro_F1", "CF1 (macro)", "F1, mean over classes, %"),
        ("OP", "OP", "precision over all decisions, %"),
        ("OR", "OR", "recall over all decisions, %"),
        ("OF1", "OF1", "harmonic mean of OP and OR, %"),
    )
)
INTERVAL = "_interval"  # ends the key of a column of (low, high)


def plain(value: Any, digits: int = 4) -> Any:
    """Return a value as JSON has it: numbers rounded, None for NaN, pairs as lists.

    Example:
        >>> plain((np.float64(1.23456), np.nan), 2), plain(np.int64(7))
        ([1.23, None], 7)
    """
    if isinstance(value, Mapping):
        return {key: plain(entry, digits) for key, entry in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [plain(entry, digits) for entry in value]
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else round(float(value), digits)
    return int(value)
