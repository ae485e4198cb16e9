"""What holds of every metric, one row each: its type of scores, its blocks, order, unknown labels, one class, one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadcl_core.metrics import (
    average_precisions,
    bin_sums,
    bootstrap_average_precision,
    decision_counts,
    hamming_loss,
    label_ranking,
    per_image,
    precision_recall,
    precision_recall_curves,
)
from sadcl_core.metrics.label_errors import suspected_label_errors
from sadcl_core.metrics.mistakes import confusions, worst_mistakes

Array = npt.NDArray[Any]
Metric = Callable[..., Any]

WHOLE: dict[str, Metric] = {  # one number or dictionary: the order of images and classes does not matter
    "precision_recall": precision_recall,
    "top-2": lambda scores, targets, **more: precision_recall(scores, targets, topk=2, **more),
    "hamming_loss": hamming_loss,
    "label_ranking": label_ranking,
    "per_image": per_image,
    "reliability": lambda scores, targets, **more: bin_sums(scores, targets, **more).reliability(),
}
PER_CLASS: dict[str, Metric] = {  # arrays (K,): the order of images does not matter
    "average_precisions": average_precisions,
    "calibration_error": lambda scores, targets, **more: bin_sums(scores, targets, **more).errors().per_class,
    "decision_counts": decision_counts,
    "curves": precision_recall_curves,
    "confusions": lambda scores, targets, **more: confusions(scores, targets, 0.5, **more),
}
BY_IMAGE: dict[str, Metric] = {
    "worst_mistakes": lambda scores, targets, **more: worst_mistakes(scores, targets, 0.5, **more),
    "bootstrap": lambda scores, targets, **more: bootstrap_average_precision(scores, targets, samples=18, **more),
    "label_errors": lambda scores, targets, **more: suspected_label_errors(scores, targets, **more),
}
ALL = {**WHOLE, **PER_CLASS, **BY_IMAGE}
BLOCKS = {name: metric for name, metric in ALL.items() if name != "curves"}


def values(result: Any) -> list[float]:
    """Every number of a result, in order."""
    if is_dataclass(result) and not isinstance(result, type):
        return values(astuple(result))
    if isinstance(result, dict):
        return values(list(result.values()))
    if isinstance(result, list | tuple):
        return [value for entry in result for value in values(entry)]
    if isinstance(result, np.ndarray):
        return [float(value) for value in result.ravel()]
    return [float("nan") if result is None else float(len(result) if isinstance(result, str) else result)]


def sample(seed: int, images: int = 40, classes: int = 6, unknown: float = 0.2) -> tuple[Array, Array]:
    """Scores that every type of float holds exactly, with ties, and targets."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 65, (images, classes)) / 64
    targets = (rng.random((images, classes)) < 0.2 + 0.4 * scores).astype(np.int8)
    targets[rng.random((images, classes)) < unknown] = -1
    return scores, targets


def same(result: Any, expected: Any, tolerance: float = 1e-9) -> None:
    assert values(result) == pytest.approx(values(expected), abs=tolerance, nan_ok=True)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_type_of_the_scores_changes_nothing(name: str, dtype: type) -> None:
    scores, targets = sample(0)
    same(ALL[name](scores.astype(dtype), targets), ALL[name](scores, targets), 0.02 if name == "label_errors" else 1e-9)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("block", [1, 90])
def test_blocks_do_not_show(name: str, block: int) -> None:
    scores, targets = sample(1)
    same(BLOCKS[name](scores, targets, block=block), BLOCKS[name](scores, targets))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 5), (30, 1), (1, 1), (0, 3)])
def test_one_image_one_class_or_none(name: str, shape: tuple[int, int]) -> None:
    ALL[name](*sample(2, *shape))
    for target in (1, 0, -1):
        ALL[name](np.full(shape, 0.5), np.full(shape, target))


@pytest.mark.parametrize("name", ALL)
def test_nan_is_refused(name: str) -> None:
    scores, targets = sample(3)
    scores[4, 2] = np.nan
    with pytest.raises(ValueError, match="1 NaN"):
        ALL[name](scores, targets)


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_and_unknown_images_do_not_matter_to_the_whole(name: str, seed: int) -> None:
    metric, rng = WHOLE[name], np.random.default_rng(seed)
    scores, targets = sample(seed, 12, 4)
    if name == "top-2":  # of a tie the first class has the place
        scores = rng.permuted(np.tile(np.arange(4.0) / 4 + 0.1, (12, 1)), axis=1)
    expected = metric(scores, targets)
    images, classes = rng.permutation(12), rng.permutation(4)
    same(metric(scores[images][:, classes], targets[images][:, classes]), expected)
    same(metric(np.vstack([scores, rng.random((3, 4))]), np.vstack([targets, np.full((3, 4), -1)])), expected)
    same(metric(np.where(targets < 0, rng.random(targets.shape), scores), targets), expected)


@pytest.mark.parametrize("name", PER_CLASS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_and_unknown_images_do_not_matter_to_a_class(name: str, seed: int) -> None:
    metric, rng = PER_CLASS[name], np.random.default_rng(seed)
    scores, targets = sample(seed, 12, 4)
    expected, images = metric(scores, targets), rng.permutation(12)
    same(metric(scores[images], targets[images]), expected)
    same(metric(np.vstack([scores, rng.random((3, 4))]), np.vstack([targets, np.full((3, 4), -1)])), expected)
    same(metric(np.where(targets < 0, rng.random(targets.shape), scores), targets), expected)
    if isinstance(expected, np.ndarray):
        classes = rng.permutation(4)
        same(metric(scores[:, classes], targets[:, classes]), expected[classes])
