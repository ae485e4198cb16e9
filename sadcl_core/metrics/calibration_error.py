"""Do scores mean what they say: of the decisions with a score near 0.7, are 7 of 10 positive?

Naeini et al. (AAAI 2015) and Guo et al. (ICML 2017), for binary decisions: scores are put in bins of equal width, and the
expected calibration error is the mean over decisions of |mean score - fraction of positives| of their bin. The score
is the probability of the label, not the confidence in the more likely answer, as torchmetrics' BinaryCalibrationError has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import ROW_BLOCK, Scores, checked, row_blocks

Values = npt.NDArray[np.float64]

BINS = 15  # Guo et al.


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration errors, in 0..1, 0 is best.

    Attributes:
        overall: all known decisions in one set of bins; ruled by the many easy negatives, and errors of two classes in
            opposite directions cancel.
        per_class: (K,) each class in bins of its own; NaN for a class without a known decision.
        classwise: mean of `per_class` without the NaN (Kull et al., NeurIPS 2019).
    """

    overall: float
    per_class: Values
    classwise: float


@dataclass(frozen=True)
class Reliability:
    """The bars of a reliability diagram, each (bins,): bin i holds scores in i / bins <= score < (i + 1) / bins, the last also 1.

    Attributes:
        mean_scores: NaN for an empty bin.
        frequencies: fraction of positives in 0..1; NaN for an empty bin.
        counts: decisions.
    """

    mean_scores: Values
    frequencies: Values
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class BinSums:
    """The sums both are made of, each (K, bins); the sums of parts of the images add up with `+`."""

    counts: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    scores: Values

    def __add__(self, other: BinSums) -> BinSums:
        """Return the sums of the images of both."""
        return BinSums(self.counts + other.counts, self.positives + other.positives, self.scores + other.scores)

    def errors(self) -> CalibrationError:
        """Return the expected calibration errors."""
        decisions = self.counts.sum(axis=1)
        # count * |mean score - fraction| = |sum of scores - positives|, so that an empty bin is 0 and not 0 / 0
        gaps = np.abs(self.scores - self.positives).sum(axis=1)
        per_class = np.divide(gaps, decisions, out=np.full(len(gaps), np.nan), where=decisions > 0)
        known = per_class[decisions > 0]
        if len(known) == 0:
            return CalibrationError(float("nan"), per_class, float("nan"))
        pooled = np.abs((self.scores - self.positives).sum(axis=0)).sum()
        return CalibrationError(float(pooled / decisions.sum()), per_class, float(known.mean()))

    def reliability(self) -> Reliability:
        """Return the diagram of all classes together."""
        counts = self.counts.sum(axis=0)
        empty = np.full(len(counts), np.nan)
        mean_scores = np.divide(self.scores.sum(axis=0), counts, out=empty.copy(), where=counts > 0)
        frequencies = np.divide(self.positives.sum(axis=0), counts, out=empty.copy(), where=counts > 0)
        return Reliability(mean_scores, frequencies, counts)


def calibration_error(scores: npt.ArrayLike, targets: npt.ArrayLike, bins: int = BINS) -> CalibrationError:
    """Return the expected calibration error of all decisions and of each class.

    Args:
        scores: (N, K) in 0..1.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        bins: of equal width.

    Returns:
        The errors; NaN where nothing is known.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or a score is not in 0..1, or bins < 1.

    Example:
        >>> round(calibration_error([[0.9], [0.9], [0.1], [0.1]], [[1], [0], [0], [0]]).overall, 3)
        0.25
    """
    return bin_sums(scores, targets, bins).errors()


def bin_sums(scores: npt.ArrayLike, targets: npt.ArrayLike, bins: int = BINS, *, block: int = ROW_BLOCK) -> BinSums:
    """Return the counts of each bin, counted about `block` entries at a time. Arguments and errors as of `calibration_error`.

    Example:
        >>> bin_sums([[0.2], [0.9]], [[0], [1]], bins=2).counts
        array([[1, 1]])
    """
    score_array, target_array = checked(scores, targets)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    classes = score_array.shape[1]
    size = classes * bins
    sums = np.zeros((3, size))  # float64 counts exactly up to 2^53
    for rows in row_blocks(score_array.shape, block):
        positions, values, labels = _flat(score_array[rows], target_array[rows], bins)
        sums[0] += np.bincount(positions, minlength=size)
        sums[1] += np.bincount(positions[labels], minlength=size)
        sums[2] += np.bincount(positions, weights=values, minlength=size)
    counts, positives = sums[:2].reshape(2, classes, bins).astype(np.int64)
    return BinSums(counts, positives, sums[2].reshape(classes, bins))


def _flat(
    scores: Scores, targets: npt.NDArray[np.integer], bins: int
) -> tuple[npt.NDArray[np.int64], Values, npt.NDArray[np.bool_]]:
    """Return of the known entries class * bins + bin, the score, and whether it is positive."""
    known = targets >= 0
    values = scores[known].astype(np.float64)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"scores must lie in 0..1, got {values.min():g} to {values.max():g}")
    places = np.minimum((values * bins).astype(np.int64), bins - 1)
    return np.nonzero(known)[1] * bins + places, values, targets[known] == 1
