"""Precision, recall and F1 over all labels, or over the k best of each image ("Top-3").

CP, CR: mean of the per-class precision and recall. OP, OR: over all decisions together. OF1: harmonic mean of OP and
OR. CF1 has two meanings in print and both are returned: `CF1` is the harmonic mean of CP and CR (ML-GCN, MulCon,
Query2Label), `macro_F1` the mean of the per-class F1 (SADCL, SSGRL).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import Scores, checked

NAMES = ("CP", "CR", "CF1", "macro_F1", "OP", "OR", "OF1")


@dataclass(frozen=True)
class Counts:
    """Decisions per class, each (K,): right, wrong and missed."""

    true_positives: npt.NDArray[np.int64]
    false_positives: npt.NDArray[np.int64]
    false_negatives: npt.NDArray[np.int64]


def precision_recall(
    scores: npt.ArrayLike, targets: npt.ArrayLike, threshold: float = 0.5, topk: int | None = None
) -> dict[str, float]:
    """The seven values of a row in the published tables.

    Args:
        scores: (N, K).
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        threshold: a label counts when its score is above it.
        topk: when given, the label must also be among the `topk` best of its image (the first class wins a tie).

    Returns:
        CP, CR, CF1, macro_F1, OP, OR, OF1 in 0..1. A class without a positive is left out of the class means (but its
        false positives count in OP); a class never predicted has precision 0. All are NaN when nothing is positive.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or topk < 1.
    """
    score_array, target_array = checked(scores, targets)
    predicted = score_array > threshold
    if topk is not None:
        predicted &= among_best(np.where(target_array < 0, -np.inf, score_array), topk)  # unknown labels take no place
    counts = Counts(
        true_positives=(predicted & (target_array == 1)).sum(axis=0),
        false_positives=(predicted & (target_array == 0)).sum(axis=0),
        false_negatives=(~predicted & (target_array == 1)).sum(axis=0),
    )
    return ratios(counts)


def among_best(scores: Scores, topk: int) -> npt.NDArray[np.bool_]:
    """(N, K), true for the `topk` highest scores of each row; exactly min(topk, K) of them."""
    if topk < 1:
        raise ValueError(f"topk must be at least 1, got {topk}")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :topk]
    mask = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(mask, best, True, axis=1)
    return mask


def ratios(counts: Counts) -> dict[str, float]:
    """The seven values from the counts of each class."""
    tp, fp, fn = counts.true_positives, counts.false_positives, counts.false_negatives
    present = (tp + fn) > 0
    if not present.any():
        return dict.fromkeys(NAMES, float("nan"))
    class_precision = tp[present] / np.maximum(tp + fp, 1)[present]
    class_recall = tp[present] / (tp + fn)[present]
    class_f1 = 2 * tp[present] / (2 * tp + fp + fn)[present]
    mean_precision, mean_recall = float(class_precision.mean()), float(class_recall.mean())
    overall_precision = float(tp.sum() / max(int((tp + fp).sum()), 1))
    overall_recall = float(tp.sum() / (tp + fn).sum())
    return {
        "CP": mean_precision,
        "CR": mean_recall,
        "CF1": _harmonic_mean(mean_precision, mean_recall),
        "macro_F1": float(class_f1.mean()),
        "OP": overall_precision,
        "OR": overall_recall,
        "OF1": _harmonic_mean(overall_precision, overall_recall),
    }


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
