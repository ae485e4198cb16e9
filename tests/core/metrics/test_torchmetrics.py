"""The shared definitions against torchmetrics, where every class has a positive (it counts absent classes differently)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as reference
from torchmetrics.utilities.data import select_topk

from sadcl_core.metrics import average_precisions, decision_counts, precision_recall

CLASSES = 6
Average = Literal["macro", "micro"]
NAMES: dict[Average, tuple[str, ...]] = {"macro": ("CP", "CR", "macro_F1"), "micro": ("OP", "OR", "OF1")}


def random_scores(seed: int, unknown: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.random((300, CLASSES), dtype=np.float32).round(2)  # with ties
    targets = (rng.random(scores.shape) < 0.3 * scores + 0.1).astype(np.int8)
    targets[rng.random(scores.shape) < unknown] = -1
    return scores, targets


def as_tensors(scores: np.ndarray, targets: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(scores), torch.from_numpy(targets).long()


@pytest.mark.parametrize("unknown", [0, 0.3])
def test_non_interpolated_average_precision(unknown: float) -> None:
    scores, targets = random_scores(0, unknown)
    expected = reference.multilabel_average_precision(
        *as_tensors(scores, targets), CLASSES, average="none", thresholds=None, ignore_index=-1
    )
    np.testing.assert_allclose(average_precisions(scores, targets).non_interpolated, expected, atol=1e-6)


@pytest.mark.parametrize("unknown", [0, 0.3])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_precision_recall_and_f1(threshold: float, unknown: float) -> None:
    scores, targets = random_scores(1, unknown)
    values = precision_recall(scores, targets, threshold=threshold)
    assert_equal(values, torch.from_numpy(scores), targets, threshold)
    counts = decision_counts(scores, targets, threshold=threshold)
    expected = reference.multilabel_stat_scores(
        *as_tensors(scores, targets), CLASSES, threshold=threshold, average="none", ignore_index=-1
    ).numpy()
    np.testing.assert_array_equal(counts.true_positives, expected[:, 0])
    np.testing.assert_array_equal(counts.false_positives, expected[:, 1])
    np.testing.assert_array_equal(counts.false_negatives, expected[:, 3])


def test_best_three() -> None:
    rng = np.random.default_rng(2)
    scores = rng.permuted(np.tile(np.linspace(0.3, 0.9, CLASSES, dtype=np.float32), (300, 1)), axis=1)  # no ties in a row
    targets = (rng.random(scores.shape) < scores).astype(np.int8)
    chosen = select_topk(torch.from_numpy(scores), topk=3, dim=1).bool() & (torch.from_numpy(scores) > 0.7)
    assert_equal(precision_recall(scores, targets, threshold=0.7, topk=3), chosen.long(), targets, 0.5)


def assert_equal(values: dict[str, float], predictions: torch.Tensor, targets: np.ndarray, threshold: float) -> None:
    metrics = (reference.multilabel_precision, reference.multilabel_recall, reference.multilabel_f1_score)
    for average, names in NAMES.items():
        for name, metric in zip(names, metrics, strict=True):
            truth = torch.from_numpy(targets).long()
            expected = metric(predictions, truth, CLASSES, threshold=threshold, average=average, ignore_index=-1)
            assert values[name] == pytest.approx(float(expected), abs=1e-6), name
