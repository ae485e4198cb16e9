from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from sadcl_core.metrics import (
    average_precisions,
    bootstrap_average_precision,
    default_samples,
    interval,
    mean_over_classes,
    precision_recall,
)
from tests.core.metrics.test_average_precision import random_scores, tied


def repeated(images: int, seed: int, s: int) -> np.ndarray:
    """The images that resample s draws."""
    return np.random.default_rng((seed, s)).integers(images, size=images)


@settings(max_examples=50)
@given(tied())
def test_equals_average_precision_of_the_repeated_images(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = arrays
    found = bootstrap_average_precision(scores, targets, samples=5, seed=3)
    for s in range(5):
        drawn = repeated(len(scores), 3, s)
        expected = average_precisions(scores[drawn], targets[drawn])
        np.testing.assert_allclose(found.interpolated[s], expected.interpolated, atol=1e-12)
        np.testing.assert_allclose(found.non_interpolated[s], expected.non_interpolated, atol=1e-12)


@pytest.mark.parametrize("decimals", [1, 9])
def test_equals_average_precision_of_the_repeated_images_in_blocks(decimals: int) -> None:
    scores, targets = random_scores(0, images=200)
    scores = scores.round(decimals).astype(np.float32)
    targets[np.random.default_rng(1).random(targets.shape) < 0.2] = -1
    samples = 18  # more than are drawn together
    found = bootstrap_average_precision(scores, targets, samples=samples, block=3 * len(scores))
    assert found.interpolated.shape == (samples, scores.shape[1])
    for s in range(samples):
        drawn = repeated(len(scores), 0, s)
        expected = average_precisions(scores[drawn], targets[drawn])
        np.testing.assert_allclose(found.interpolated[s], expected.interpolated, atol=1e-12)
        np.testing.assert_allclose(found.non_interpolated[s], expected.non_interpolated, atol=1e-12)


def test_a_resample_depends_on_its_number_and_the_seed_alone() -> None:
    scores, targets = random_scores(2)
    many = bootstrap_average_precision(scores, targets, samples=20, seed=1).interpolated
    few = bootstrap_average_precision(scores[:, :3], targets[:, :3], samples=4, seed=1).interpolated
    np.testing.assert_array_equal(few, many[:4, :3])
    assert (bootstrap_average_precision(scores, targets, samples=20, seed=2).interpolated != many).any()


def test_two_models_are_resampled_alike() -> None:
    scores, targets = random_scores(3)
    same_ranking = bootstrap_average_precision(np.exp(scores), targets, samples=9).non_interpolated
    np.testing.assert_array_equal(same_ranking, bootstrap_average_precision(scores, targets, samples=9).non_interpolated)


def test_class_without_a_drawn_positive_is_nan() -> None:
    scores, targets = random_scores(4, images=30, classes=2)
    targets[:, 0] = 0
    targets[:, 1] = np.arange(30) == 7
    found = bootstrap_average_precision(scores, targets, samples=60).interpolated
    assert np.isnan(found[:, 0]).all()
    drawn = [7 in repeated(30, 0, s) for s in range(60)]
    assert 0 < sum(drawn) < 60
    np.testing.assert_array_equal(np.isnan(found[:, 1]), np.logical_not(drawn))


def test_perfect_scores_are_perfect_in_every_resample() -> None:
    targets = np.array([[1], [1], [0], [0]] * 5)
    found = bootstrap_average_precision(targets.astype(float), targets, samples=30)
    assert (found.interpolated == 1).all()
    assert (found.non_interpolated == 1).all()


def test_no_images_give_no_values() -> None:
    assert np.isnan(bootstrap_average_precision(np.zeros((0, 2)), np.zeros((0, 2)), samples=3).interpolated).all()


def test_progress_counts_resamples_to_the_end() -> None:
    scores, targets = random_scores(5)
    reports: list[tuple[int, int]] = []
    bootstrap_average_precision(
        scores, targets, samples=40, block=4 * len(scores), progress=lambda *report: reports.append(report)
    )
    assert reports == sorted(reports)
    assert len(reports) == 6
    assert reports[-1] == (40, 40)


def test_mean_over_classes_leaves_out_what_has_no_value() -> None:
    samples = np.array([[0.2, 0.4], [np.nan, 0.6], [np.nan, np.nan]])
    np.testing.assert_allclose(mean_over_classes(samples), [0.3, 0.6, np.nan])


def test_interval_mirrors_the_quantiles_at_the_estimate() -> None:
    samples = np.append(np.arange(101) / 100, np.nan)
    assert interval(samples, 0.6, level=0.9) == pytest.approx((0.25, 1.15))
    assert interval(samples, 0.6, level=0.9, bounds=(0, 1)) == pytest.approx((0.25, 1))
    assert interval(samples, 0.6, level=0.5) == pytest.approx((0.45, 0.95))


def test_interval_includes_the_estimate_also_where_all_resamples_are_on_one_side() -> None:
    assert interval(np.full(10, 0.7), 0.5) == pytest.approx((0.3, 0.5))
    assert interval(np.full(10, 0.5), 0.5) == (0.5, 0.5)


def test_interval_of_nothing_is_nan() -> None:
    assert np.isnan(interval(np.full(3, np.nan), np.nan)).all()


def test_interval_covers_the_mean_of_a_known_population() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):  # the mean of 50 values is about normal: its interval must hold 0 in 95 of 100 cases
        values = rng.normal(size=50)
        low, high = interval(rng.choice(values, (400, 50)).mean(axis=1), float(values.mean()))
        covered += low <= 0 <= high
    assert 0.91 < covered / 300 < 0.98


@pytest.mark.parametrize(
    ("images", "classes", "expected"),
    [(40137, 80, 1000), (100, 1, 1000), (100_000, 80, 500), (1_000_000, 500, 100), (0, 0, 1000)],
)
def test_default_samples(images: int, classes: int, expected: int) -> None:
    assert default_samples(images, classes) == expected


def test_refuses() -> None:
    scores, targets = random_scores(6)
    with pytest.raises(ValueError, match="samples"):
        bootstrap_average_precision(scores, targets, samples=0)
    with pytest.raises(ValueError, match="level"):
        interval(np.zeros(3), 0.0, level=95)
    for metric in (precision_recall, lambda s, t: bootstrap_average_precision(s, t, samples=1)):
        with pytest.raises(ValueError, match="NaN"):
            metric(np.where(scores > 0.9, np.nan, scores), targets)
