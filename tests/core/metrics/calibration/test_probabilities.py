from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from sadcl_core.metrics import average_precisions, calibration_error
from sadcl_core.metrics.calibration import apply_probabilities, fit_probabilities
from sadcl_core.metrics.calibration.probabilities import CLASS_SPREAD
from tests.core.metrics.calibration.simulation import world

FREE = (1e3, 1e3)  # a prior that says nothing


def test_equals_logistic_regression_without_a_prior() -> None:
    drawn = world(0, images=3000, classes=6, rarest=100, commonest=1500)
    fitted = fit_probabilities(drawn.scores, drawn.targets, spread=FREE)
    logits = np.clip(logit(drawn.scores.astype(np.float64)), -16, 16)
    for k in range(6):
        reference = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, [k]], drawn.targets[:, k])
        assert 1 / fitted.temperatures[k] == pytest.approx(reference.coef_[0, 0], rel=2e-3)
        assert fitted.biases[k] == pytest.approx(reference.intercept_[0], abs=5e-3)


def test_gathering_scores_in_cells_hardly_matters() -> None:
    drawn = world(6)
    coarse = fit_probabilities(drawn.scores, drawn.targets)
    fine = fit_probabilities(drawn.scores, drawn.targets, steps=4096)
    np.testing.assert_allclose(coarse.temperatures, fine.temperatures, rtol=3e-3)
    np.testing.assert_allclose(coarse.biases, fine.biases, atol=1e-2)


def test_finds_the_temperature_and_bias_the_scores_were_made_with() -> None:
    drawn = world(1, images=40_000, classes=4, rarest=8000, commonest=20_000)
    fitted = fit_probabilities(drawn.scores, drawn.targets)
    np.testing.assert_allclose(fitted.temperatures, drawn.temperature, rtol=0.05)
    np.testing.assert_allclose(fitted.biases, drawn.bias, atol=0.08)


def naive_loss(pair: np.ndarray, logits: np.ndarray, targets: np.ndarray, centre: np.ndarray, width: np.ndarray) -> float:
    total = float((((pair - centre) / width) ** 2).sum() / 2)
    for z, y in zip(logits.tolist(), targets.tolist(), strict=True):
        probability = expit(z / np.exp(pair[0]) + pair[1])
        total -= float(np.log(probability if y else 1 - probability))
    return total


def test_nothing_near_is_more_probable() -> None:
    drawn = world(2, images=300, classes=3, rarest=5, commonest=60)
    fitted = fit_probabilities(drawn.scores, drawn.targets)
    centre = np.array([np.log(fitted.global_temperature), fitted.global_bias])
    for k in range(3):
        logits, targets = logit(drawn.scores[:, k].astype(np.float64)), drawn.targets[:, k]
        best = np.array([np.log(fitted.temperatures[k]), fitted.biases[k]])
        least = naive_loss(best, logits, targets, centre, np.array(CLASS_SPREAD))
        for step in ((0.02, 0), (-0.02, 0), (0, 0.05), (0, -0.05), (0.02, 0.05), (-0.02, -0.05)):
            assert naive_loss(best + step, logits, targets, centre, np.array(CLASS_SPREAD)) > least


def test_rare_classes_stay_near_the_global_map() -> None:
    scores, targets = np.full((500, 2), 0.3), np.zeros((500, 2), dtype=np.int8)
    scores[:3, 0], targets[:3, 0] = 0.999, 1  # three perfect images say nothing of the temperature
    scores[:250, 1] = np.linspace(0.2, 0.95, 250)
    targets[:250, 1] = np.arange(250) % 3 > 0
    fitted = fit_probabilities(scores, targets)
    free = fit_probabilities(scores, targets, spread=FREE)
    away = abs(np.log(fitted.temperatures / fitted.global_temperature))
    assert away[0] < abs(np.log(free.temperatures[0] / free.global_temperature)) / 2


def test_class_without_positives_or_negatives_takes_the_global_map() -> None:
    drawn = world(3, images=200, classes=4, rarest=20, commonest=100)
    targets = drawn.targets.copy()
    targets[:, 0], targets[:, 1], targets[:, 2] = 0, 1, -1
    fitted = fit_probabilities(drawn.scores, targets)
    assert fitted.fitted.tolist() == [False, False, False, True]
    np.testing.assert_array_equal(fitted.temperatures[:3], fitted.global_temperature)
    np.testing.assert_array_equal(fitted.biases[:3], fitted.global_bias)


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (4, 0)])
def test_without_data_nothing_changes(shape: tuple[int, int]) -> None:
    fitted = fit_probabilities(np.zeros(shape), np.zeros(shape))
    assert (fitted.global_temperature, fitted.global_bias) == (1.0, 0.0)
    assert fitted.temperatures.shape == fitted.biases.shape == fitted.fitted.shape == (shape[1],)


@pytest.mark.parametrize("scores", [[0.0, 1.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5], [1.0, 0.0, 1.0, 0.0]])
def test_extreme_scores_give_a_map_within_bounds(scores: list[float]) -> None:
    fitted = fit_probabilities(np.array(scores)[:, None], np.array([[0], [1], [0], [1]]))
    assert 0.04 < fitted.temperatures[0] < 21
    assert np.isfinite(fitted.biases[0])


def test_calibration_error_falls_on_new_images_and_ranking_stays() -> None:
    drawn = world(4, images=4000, classes=20, rarest=20, commonest=1500)
    half = slice(0, 2000), slice(2000, 4000)
    fitted = fit_probabilities(drawn.scores[half[0]], drawn.targets[half[0]])
    scores, targets = drawn.scores[half[1]], drawn.targets[half[1]]
    mapped = apply_probabilities(scores, fitted.temperatures, fitted.biases)
    assert calibration_error(mapped, targets).classwise < 0.6 * calibration_error(scores, targets).classwise
    before, after = average_precisions(scores, targets), average_precisions(mapped, targets)
    np.testing.assert_allclose(after.non_interpolated, before.non_interpolated, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    st.floats(0.05, 20),
    st.floats(-20, 20),
    st.sampled_from([np.float32, np.float64]),
)
def test_a_higher_score_never_gets_less(values: list[float], temperature: float, bias: float, kind: type) -> None:
    scores: np.ndarray = np.sort(np.array([0, *values, 1], dtype=kind))[:, None]
    mapped = apply_probabilities(scores, [temperature], [bias])
    assert mapped.dtype == kind
    assert (np.diff(mapped[:, 0]) >= 0).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()


def test_map_by_hand() -> None:
    scores = np.array([[0.8, 0.5], [0.2, 0.5]])
    mapped = apply_probabilities(scores, [2.0, 1.0], [0.0, np.log(3)])
    np.testing.assert_allclose(mapped, [[2 / 3, 0.75], [1 / 3, 0.75]])
    np.testing.assert_allclose(apply_probabilities(scores, [1.0, 1.0], [0.0, 0.0]), scores)


def test_blocks_of_rows_do_not_show() -> None:
    scores = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    whole = apply_probabilities(scores, [0.5, 1, 2], [1, 0, -1])
    np.testing.assert_array_equal(apply_probabilities(scores, [0.5, 1, 2], [1, 0, -1], block=21), whole)


def test_order_of_images_and_classes_and_unknown_images_change_nothing() -> None:
    rng = np.random.default_rng(5)
    drawn = world(5, images=300, classes=6, rarest=5, commonest=100)
    rows, order = rng.permutation(300), rng.permutation(6)
    fitted = fit_probabilities(drawn.scores, drawn.targets)
    more = fit_probabilities(
        np.concatenate([rng.random((9, 6)).astype(np.float32), drawn.scores[rows][:, order]]),
        np.concatenate([np.full((9, 6), -1, dtype=np.int8), drawn.targets[rows][:, order]]),
    )
    np.testing.assert_allclose(more.temperatures, fitted.temperatures[order], rtol=1e-4)
    np.testing.assert_allclose(more.biases, fitted.biases[order], atol=1e-4)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(K,\)"):
        apply_probabilities(np.zeros((2, 3)), [1.0, 1.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="above 0"):
        apply_probabilities(np.zeros((2, 1)), [0.0], [0.0])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        fit_probabilities(np.full((2, 1), 2.0), np.ones((2, 1)))
