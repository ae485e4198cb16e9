from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from sadcl_core.metrics import AveragePrecisions, average_precisions, precision_recall

CONVENTIONS = ("interpolated", "non_interpolated", "eleven_point")


def random_scores(seed: int, images: int = 60, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((images, classes)), (rng.random((images, classes)) < 0.3).astype(np.int8)


def naive(scores: list[float], targets: list[int]) -> dict[str, Fraction]:
    """One class from the definitions, in exact fractions; ends of ties only."""
    points = []  # recall, precision
    known = [(s, t) for s, t in zip(scores, targets, strict=True) if t >= 0]
    positives = sum(t for _, t in known)
    for end in sorted({s for s, _ in known}, reverse=True):
        chosen = [t for s, t in known if s >= end]
        points.append((Fraction(sum(chosen), positives), Fraction(sum(chosen), len(chosen))))
    result = dict.fromkeys(CONVENTIONS, Fraction(0))
    before = Fraction(0)
    for i, (recall, precision) in enumerate(points):
        result["non_interpolated"] += (recall - before) * precision
        result["interpolated"] += (recall - before) * max(p for _, p in points[i:])
        before = recall
    for i in range(11):
        result["eleven_point"] += max(p for r, p in points if r >= Fraction(i, 10)) / 11
    return result


@st.composite
def tied(draw: st.DrawFn, most_images: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, infinite ones among them, and targets with unknown ones."""
    images, classes = draw(st.integers(1, most_images)), draw(st.integers(1, 3))
    cells = images * classes
    levels = st.sampled_from([-np.inf, -3.0, -0.0, 0.0, 0.25, 0.5, 7.0, np.inf])
    scores = np.array(draw(st.lists(levels, min_size=cells, max_size=cells))).reshape(images, classes)
    targets = np.array(draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=cells, max_size=cells)), dtype=np.int8)
    return scores, targets.reshape(images, classes)


def assert_equal(found: AveragePrecisions, expected: AveragePrecisions) -> None:
    for name in CONVENTIONS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("decimals", [1, 9])
def test_non_interpolated_equals_scikit_learn(decimals: int, dtype: type) -> None:
    scores, targets = random_scores(0, images=300)
    scores = scores.round(decimals).astype(dtype)
    expected = [average_precision_score(targets[:, k], scores[:, k]) for k in range(targets.shape[1])]
    np.testing.assert_allclose(average_precisions(scores, targets).non_interpolated, expected, atol=1e-12)


@given(tied())
def test_equals_the_definitions_in_fractions(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = arrays
    found = average_precisions(scores, targets)
    for k in range(scores.shape[1]):
        if not (targets[:, k] == 1).any():
            assert all(np.isnan(getattr(found, name)[k]) for name in CONVENTIONS)
            continue
        for name, value in naive(scores[:, k].tolist(), targets[:, k].tolist()).items():
            assert getattr(found, name)[k] == pytest.approx(float(value), abs=1e-12), name


def test_by_hand() -> None:
    scores = np.array([[0.9, 0.9], [0.8, 0.8], [0.7, 0.7], [0.6, 0.6]])
    targets = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])  # precision at the positives: 1/2 and 2/4; 1/2 and 2/3
    found = average_precisions(scores, targets)
    np.testing.assert_allclose(found.non_interpolated, [1 / 2, (1 / 2 + 2 / 3) / 2])
    np.testing.assert_allclose(found.interpolated, [1 / 2, 2 / 3])
    np.testing.assert_allclose(found.eleven_point, [1 / 2, 2 / 3])


def test_eleven_point_by_hand() -> None:
    targets = np.array([[1], [0], [1], [0], [0], [1]])  # precision 1, 2/3, 1/2 at recall 1/3, 2/3, 1
    found = average_precisions(-np.arange(6.0)[:, None], targets)
    assert found.eleven_point[0] == pytest.approx((4 * 1 + 3 * 2 / 3 + 4 * 1 / 2) / 11)


def test_eleven_point_counts_a_recall_that_is_reached_exactly() -> None:
    targets = np.array([1] * 3 + [0] * 7 + [1] * 7)  # recall 0.3 at precision 1, then never above 10/17
    found = average_precisions(-np.arange(17.0)[:, None], targets[:, None])
    assert found.eleven_point[0] == pytest.approx((4 * 1 + 7 * 10 / 17) / 11)


def test_constant_scores_give_the_share_of_positives() -> None:
    found = average_precisions(np.full((5, 1), 0.3), np.array([[1], [0], [0], [1], [0]]))
    for name in CONVENTIONS:
        assert getattr(found, name)[0] == pytest.approx(0.4)


def test_class_without_positive_is_nan_and_with_only_positives_is_one() -> None:
    found = average_precisions(np.random.default_rng(0).random((4, 2)), np.array([[0, 1]] * 4))
    for name in CONVENTIONS:
        assert np.isnan(getattr(found, name)[0])
        assert getattr(found, name)[1] == 1


@pytest.mark.parametrize(("target", "expected"), [(1, 1), (0, np.nan), (-1, np.nan)])
def test_one_image(target: int, expected: float) -> None:
    np.testing.assert_equal(average_precisions([[0.2]], [[target]]).interpolated, [expected])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_rank(shape: tuple[int, int]) -> None:
    found = average_precisions(np.zeros(shape), np.zeros(shape, dtype=np.int8))
    np.testing.assert_equal(found.eleven_point, np.full(shape[1], np.nan))


@given(tied(), st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_a_strictly_monotone_scale_of_each_class_does_not_matter(
    arrays: tuple[np.ndarray, np.ndarray], steepness: list[float]
) -> None:
    scores, targets = arrays
    scaled = np.arctan(scores * np.array(steepness[: scores.shape[1]])) + 3
    assert_equal(average_precisions(scaled, targets), average_precisions(scores, targets))


@given(tied(), st.floats(-1, 8))
def test_images_of_unknown_labels_and_another_class_change_nothing(arrays: tuple[np.ndarray, np.ndarray], score: float) -> None:
    scores, targets = arrays
    more = np.vstack([scores, np.full_like(scores, score)]), np.vstack([targets, np.full_like(targets, -1)])
    assert_equal(average_precisions(*more), average_precisions(scores, targets))
    constant = np.hstack([scores, np.full((len(scores), 1), score)]), np.hstack([targets, np.ones((len(targets), 1))])
    found = average_precisions(*constant)
    assert found.interpolated[-1] == 1
    assert_equal(AveragePrecisions(*(getattr(found, name)[:-1] for name in CONVENTIONS)), average_precisions(scores, targets))


def test_columns_in_blocks_and_mapped_files_give_the_same(tmp_path: Path) -> None:
    scores, targets = random_scores(4)
    expected = average_precisions(scores, targets)
    np.save(tmp_path / "scores.npy", np.asfortranarray(scores))
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    assert_equal(average_precisions(mapped, targets, block=130), expected)  # two columns at a time, and one is left over


def test_memory_stays_below_that_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((4000, 500), dtype=np.float32)
    targets = (rng.random(scores.shape, dtype=np.float32) < 0.01).astype(np.int8)
    tracemalloc.start()
    average_precisions(scores, targets, block=16 * len(scores))
    precision_recall(scores, targets, threshold=np.full(500, 0.9))
    precision_recall(scores, targets, topk=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes / 2


def test_refuses_nan_and_other_shapes_types_and_targets() -> None:
    scores, targets = random_scores(6)
    with pytest.raises(ValueError, match="1 NaN"):
        average_precisions(np.where(scores == scores.max(), np.nan, scores), targets)
    with pytest.raises(ValueError, match=r"\(N, K\)"):
        average_precisions(scores, targets[:, :2])
    with pytest.raises(ValueError, match="real numbers"):
        average_precisions(scores.astype(str), targets)
    for wrong in (targets + 1, targets * 0.5, np.where(targets == 1, np.nan, 0)):
        with pytest.raises(ValueError, match="targets must be"):
            average_precisions(scores, wrong)
