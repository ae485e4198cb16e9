from __future__ import annotations

import numpy as np
import pytest

from sadcl_core.metrics import bin_sums, calibration_error


def sample(seed: int, images: int = 400, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are too sure, with unknown labels."""
    rng = np.random.default_rng(seed)
    scores = rng.random((images, classes)).astype(np.float32)
    targets = (rng.random(scores.shape) < 0.2 + 0.5 * scores).astype(np.int8)
    targets[rng.random(scores.shape) < 0.1] = -1
    return scores, targets


def naive(scores: np.ndarray, targets: np.ndarray, bins: int) -> float:
    members: list[list[tuple[float, int]]] = [[] for _ in range(bins)]
    for score, target in zip(scores.ravel().tolist(), targets.ravel().tolist(), strict=True):
        if target >= 0:
            members[min(int(score * bins), bins - 1)].append((score, target))
    total = sum(len(each) for each in members)
    return sum(
        len(each) / total * abs(sum(s for s, _ in each) / len(each) - sum(t for _, t in each) / len(each))
        for each in members
        if each
    )


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_equals_a_naive_loop(bins: int) -> None:
    scores, targets = sample(0)
    errors = calibration_error(scores, targets, bins)
    each = [naive(scores[:, k], targets[:, k], bins) for k in range(scores.shape[1])]
    assert errors.overall == pytest.approx(naive(scores, targets, bins))
    np.testing.assert_allclose(errors.per_class, each)
    assert errors.classwise == pytest.approx(np.mean(each))


@pytest.mark.parametrize("bins", [10, 15])
def test_equals_torchmetrics(bins: int) -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.functional.classification")
    scores, targets = sample(1)
    expected = classification.binary_calibration_error(
        torch.from_numpy(scores).double(), torch.from_numpy(targets), n_bins=bins, norm="l1", ignore_index=-1
    )
    assert calibration_error(scores, targets, bins).overall == pytest.approx(float(expected), abs=1e-9)


def test_scores_that_say_the_truth_have_no_error() -> None:
    scores = np.repeat([0.25, 0.75], 4)[:, None]
    assert calibration_error(scores, np.array([1, 0, 0, 0, 1, 1, 1, 0])[:, None]).overall == 0
    assert calibration_error(scores, np.array([0, 0, 0, 0, 1, 1, 1, 1])[:, None]).overall == pytest.approx(0.25)


def test_opposite_errors_of_two_classes_cancel_overall_only() -> None:
    errors = calibration_error(np.full((2, 2), 0.5), np.array([[1, 0], [1, 0]]))
    assert errors.overall == 0
    assert errors.classwise == 0.5


def test_diagram() -> None:
    diagram = bin_sums(np.array([[0.0, 0.1, 0.6, 1.0, 0.9]]).T, np.array([[0, 1, 1, 1, -1]]).T, bins=2).reliability()
    np.testing.assert_allclose(diagram.mean_scores, [0.05, 0.8])
    np.testing.assert_allclose(diagram.frequencies, [0.5, 1.0])
    assert diagram.counts.tolist() == [2, 2]


def test_empty_bins_and_unknown_classes_are_nan() -> None:
    scores, targets = np.array([[0.9, 0.5]]), np.array([[1, -1]])
    errors, diagram = calibration_error(scores, targets, 2), bin_sums(scores, targets, 2).reliability()
    assert np.isnan(errors.per_class[1])
    assert errors.classwise == errors.overall == pytest.approx(0.1)
    assert np.isnan(diagram.mean_scores[0])
    assert np.isnan(diagram.frequencies[0])
    nothing = calibration_error(scores, np.full((1, 2), -1))
    assert np.isnan([nothing.overall, nothing.classwise, *nothing.per_class]).all()


def test_parts_add_up() -> None:
    scores, targets = sample(3)
    whole = bin_sums(scores, targets)
    parts = bin_sums(scores[:150], targets[:150]) + bin_sums(scores[150:], targets[150:])
    np.testing.assert_array_equal(parts.counts, whole.counts)
    np.testing.assert_array_equal(parts.positives, whole.positives)
    np.testing.assert_allclose(parts.scores, whole.scores)


def test_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        calibration_error(np.array([[1.5]]), np.array([[1]]))
    with pytest.raises(ValueError, match="bins"):
        calibration_error(np.array([[0.5]]), np.array([[1]]), 0)
