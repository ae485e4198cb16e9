"""Precision, recall and F1 over all labels, or over the k best of each image ("Top-3").

CP, CR: mean of the per-class precision and recall. OP, OR: over all decisions together. OF1: harmonic mean of OP and
OR. CF1 has two meanings in print and both are returned: `CF1` is the harmonic mean of CP and CR (ML-GCN, MulCon,
Query2Label), `macro_F1` the mean of the per-class F1 (SADCL, SSGRL).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import ROW_BLOCK, Scores, checked, row_blocks

Values = npt.NDArray[np.float64]

NAMES = ("CP", "CR", "CF1", "macro_F1", "OP", "OR", "OF1")


@dataclass(frozen=True)
class Counts:
    """Decisions per class, each (K,): right, wrong and missed."""

    true_positives: npt.NDArray[np.int64]
    false_positives: npt.NDArray[np.int64]
    false_negatives: npt.NDArray[np.int64]

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of the images of both."""
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def precision_recall(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    threshold: npt.ArrayLike = 0.5,
    topk: int | None = None,
    *,
    block: int = ROW_BLOCK,
) -> dict[str, float]:
    """Return the seven values of a row in the published tables.

    Args:
        scores: (N, K).
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        threshold: a label counts when its score is above it; one number, or (K,) with one for each class. It is first rounded
            to the type of the scores, so that 0.3 in an array means what 0.3 alone means.
        topk: when given, the label must also be among the `topk` best of its image (the first class wins a tie).
        block: entries looked at together.

    Returns:
        CP, CR, CF1, macro_F1, OP, OR, OF1 in 0..1. A class without a positive is left out of the class means (but its
        false positives count in OP); a class never predicted has precision 0. All are NaN when nothing is positive.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or topk < 1; or a threshold is NaN or they are not K.

    Example:
        >>> values = precision_recall([[0.9, 0.6], [0.8, 0.4]], [[1, 0], [1, 1]])
        >>> values["CP"], values["OR"]
        (0.5, 0.6666666666666666)
    """
    return ratios(decision_counts(scores, targets, threshold, topk, block=block))


def decision_counts(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    threshold: npt.ArrayLike = 0.5,
    topk: int | None = None,
    *,
    block: int = ROW_BLOCK,
) -> Counts:
    """Return the decisions of each class, counted; arguments and errors as of `precision_recall`.

    Example:
        >>> decision_counts([[0.9, 0.6], [0.8, 0.4]], [[1, 0], [1, 1]]).false_positives
        array([0, 1])
    """
    score_array, target_array = checked(scores, targets)
    above = in_precision_of(score_array, threshold)
    if topk is not None and topk < 1:
        raise ValueError(f"topk must be at least 1, got {topk}")
    right, predicted, active = np.zeros((3, score_array.shape[1]), dtype=np.int64)
    for rows in row_blocks(score_array.shape, block):
        some, positive, known = score_array[rows], target_array[rows] == 1, target_array[rows] >= 0
        counted = (some > above) & known
        if topk is not None:
            counted &= among_best(np.where(known, some, -np.inf), topk)  # unknown labels take no place
        right += np.count_nonzero(counted & positive, axis=0)
        predicted += np.count_nonzero(counted, axis=0)
        active += np.count_nonzero(positive, axis=0)
    return Counts(true_positives=right, false_positives=predicted - right, false_negatives=active - right)


def among_best(scores: Scores, topk: int) -> npt.NDArray[np.bool_]:
    """Return (N, K), true for the `topk` highest scores of each row; exactly min(topk, K) of them, the first of a tie."""
    classes = scores.shape[1]
    if topk >= classes:
        return np.ones(scores.shape, dtype=bool)
    last = np.partition(scores, classes - topk, axis=1)[:, classes - topk, None]  # (N, 1) the lowest score that has a place
    best: npt.NDArray[np.bool_] = scores >= last
    crowded = np.flatnonzero(np.count_nonzero(best, axis=1) > topk)  # rows where a tie wants more places than there are
    higher = scores[crowded] > last[crowded]
    tied = best[crowded] & ~higher
    places = topk - np.count_nonzero(higher, axis=1)[:, None]
    best[crowded] = higher | (tied & (tied.cumsum(axis=1) <= places))
    return best


def class_ratios(counts: Counts) -> tuple[Values, Values, Values]:
    """Return precision, recall and F1 of each class, three (K,) in 0..1; NaN without a positive, precision 0 if never predicted.

    Example:
        >>> class_ratios(Counts(np.array([2]), np.array([2]), np.array([0])))
        (array([0.5]), array([1.]), array([0.66666667]))
    """
    tp, fp, fn = counts.true_positives, counts.false_positives, counts.false_negatives
    absent = (tp + fn) == 0
    precision, recall, f1 = tp / np.maximum(tp + fp, 1), tp / np.maximum(tp + fn, 1), 2 * tp / np.maximum(2 * tp + fp + fn, 1)
    precision[absent] = recall[absent] = f1[absent] = np.nan
    return precision, recall, f1


def ratios(counts: Counts) -> dict[str, float]:
    """Return the seven values, in 0..1, from the counts of each class.

    Example:
        >>> ratios(Counts(np.array([2]), np.array([2]), np.array([0])))["OP"]
        0.5
    """
    tp, fp, fn = counts.true_positives, counts.false_positives, counts.false_negatives
    present = (tp + fn) > 0
    if not present.any():
        return dict.fromkeys(NAMES, float("nan"))
    mean_precision, mean_recall, macro_f1 = (float(values[present].mean()) for values in class_ratios(counts))
    overall_precision = float(tp.sum() / max(int((tp + fp).sum()), 1))
    overall_recall = float(tp.sum() / (tp + fn).sum())
    return {
        "CP": mean_precision,
        "CR": mean_recall,
        "CF1": _harmonic_mean(mean_precision, mean_recall),
        "macro_F1": macro_f1,
        "OP": overall_precision,
        "OR": overall_recall,
        "OF1": _harmonic_mean(overall_precision, overall_recall),
    }


def in_precision_of(scores: Scores, threshold: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return one threshold or K, rounded to the type of the scores (N, K), so that 0.3 decides alike wherever it comes from.

    Raises:
        ValueError: a threshold is NaN, or they are neither one nor K.
    """
    rounded = np.asarray(threshold, dtype=scores.dtype if scores.dtype.kind == "f" else np.float64)
    if rounded.shape not in ((), scores.shape[1:]):
        count = scores.shape[1]
        raise ValueError(f"{rounded.shape} thresholds for {count} classes: give one number, or one for each of {count} classes")
    if np.isnan(rounded).any():
        raise ValueError("a threshold is NaN: nothing is above it")
    return rounded


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
