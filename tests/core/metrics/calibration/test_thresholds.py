from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_curve

from sadcl_core.metrics.calibration import Objective, choose_thresholds, global_threshold
from tests.core.metrics.calibration.simulation import world

F1, PRECISE, COMPLETE = Objective("f1"), Objective("precision", 0.75), Objective("recall", 0.6)
OBJECTIVES = [F1, PRECISE, COMPLETE]
STEPS = 16  # scores are multiples of 1/16, thresholds are tried at the odd multiples of 1/32


@st.composite
def small(draw: st.DrawFn, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Few images, many ties, unknown labels, exact 0 and 1."""
    images = draw(st.integers(1, 12))
    cells = st.lists(st.integers(0, STEPS), min_size=images * classes, max_size=images * classes)
    labels = st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=images * classes, max_size=images * classes)
    scores = np.array(draw(cells), dtype=np.float32).reshape(images, classes) / STEPS
    return scores, np.array(draw(labels), dtype=np.int8).reshape(images, classes)


def brute_force(scores: np.ndarray, targets: np.ndarray, objective: Objective) -> set[int]:
    """The images (of one class, known ones) that the best threshold takes, of all thresholds there are."""
    best: tuple[tuple[float, int], set[int]] | None = None
    for threshold in [*(np.arange(1, 2 * STEPS, 2) / (2 * STEPS)), 1.0]:
        taken = {i for i in range(len(scores)) if targets[i] >= 0 and scores[i] > threshold}
        right = sum(int(targets[i] == 1) for i in taken)
        positives = int((targets == 1).sum())
        if objective.kind == "f1":
            rank = (2 * right / (len(taken) + positives), -len(taken))
        elif objective.kind == "precision":
            assert objective.at_least is not None
            rank = (right, -len(taken)) if taken and right / len(taken) >= objective.at_least else (0, -len(taken))
        else:
            assert objective.at_least is not None
            rank = (1, -len(taken)) if right / positives >= objective.at_least else (0, len(taken))
        if best is None or rank > best[0]:
            best = rank, taken
    assert best is not None
    return best[1]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@settings(max_examples=150, deadline=None)
@given(data=small())
def test_own_thresholds_are_those_of_brute_force(objective: Objective, data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = data
    found = choose_thresholds(scores, targets, objective, pull=0)
    for k in range(scores.shape[1]):
        if (targets[:, k] == 1).any():
            taken = set(np.flatnonzero((scores[:, k] > found.own[k]) & (targets[:, k] >= 0)).tolist())
            assert taken == brute_force(scores[:, k], targets[:, k], objective)
        else:
            assert found.own[k] == found.global_value
    np.testing.assert_array_equal(found.values, found.own)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@settings(max_examples=100, deadline=None)
@given(data=small())
def test_the_global_threshold_is_that_of_brute_force_on_all_decisions(
    objective: Objective, data: tuple[np.ndarray, np.ndarray]
) -> None:
    scores, targets = data[0].ravel(), data[1].ravel()
    value = global_threshold(*data, objective)
    if (targets == 1).any():
        assert set(np.flatnonzero((scores > value) & (targets >= 0)).tolist()) == brute_force(scores, targets, objective)
    else:
        assert value == 0.5


def test_own_f1_is_the_best_of_scikit_learns_curve() -> None:
    drawn = world(0, classes=20)
    found = choose_thresholds(drawn.scores, drawn.targets, F1, pull=0)
    for k in np.flatnonzero(found.positives):
        precision, recall, _ = precision_recall_curve(drawn.targets[:, k], drawn.scores[:, k])
        curve = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        assert f1_score(drawn.targets[:, k], drawn.scores[:, k] > found.own[k]) == pytest.approx(curve.max())


def test_lies_midway_between_the_scores_it_divides() -> None:
    scores = np.array([[0.2], [0.4], [0.8], [0.9]])
    found = choose_thresholds(scores, np.array([[0], [0], [1], [1]]), F1, pull=0)
    assert found.own[0] == pytest.approx(0.6)
    with_unknown = choose_thresholds(np.vstack([scores, [[0.7]]]), np.array([[0], [0], [1], [1], [-1]]), F1, pull=0)
    assert with_unknown.own[0] == pytest.approx(0.6)


def test_neighbouring_float32_scores_are_told_apart() -> None:
    low = np.float32(0.7)
    scores = np.array([[low], [np.nextafter(low, np.float32(1))]])
    found = choose_thresholds(scores, np.array([[0], [1]]), F1, pull=0)
    assert (scores > found.values).ravel().tolist() == [False, True]
    assert (scores > found.values.astype(np.float32)).ravel().tolist() == [False, True]


def test_by_hand() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.5]])
    targets = np.array([[1], [0], [1], [1], [0]])
    for objective, expected in (
        (F1, 0.55),  # 3 of 4
        (Objective("precision", 0.75), 0.55),
        (Objective("precision", 0.8), 0.85),  # lower ones have 2 of 3 and 3 of 4
        (Objective("recall", 0.6), 0.65),
        (Objective("recall", 0.3), 0.85),
    ):
        assert choose_thresholds(scores, targets, objective, pull=0).own[0] == pytest.approx(expected), objective


def test_weight_is_the_share_of_positives() -> None:
    drawn = world(1, classes=20)
    found = choose_thresholds(drawn.scores, drawn.targets, F1, pull=4.0)
    np.testing.assert_array_equal(found.positives, (drawn.targets == 1).sum(axis=0))
    np.testing.assert_allclose(found.weight, found.positives / (found.positives + 4.0))
    lower, upper = np.minimum(found.own, found.global_value), np.maximum(found.own, found.global_value)
    assert ((found.values >= lower - 1e-6) & (found.values <= upper + 1e-6)).all()
    everything = choose_thresholds(drawn.scores, drawn.targets, F1, pull=np.inf)
    np.testing.assert_allclose(everything.values, everything.global_value, rtol=1e-6)


@pytest.mark.parametrize("objective", [PRECISE, COMPLETE], ids=str)
@pytest.mark.parametrize("pull", [0.0, 3.0, np.inf])
def test_reached_is_true_of_the_values_and_wherever_it_can_be(objective: Objective, pull: float) -> None:
    drawn = world(2)
    found = choose_thresholds(drawn.scores, drawn.targets, objective, pull=pull)
    alone = choose_thresholds(drawn.scores, drawn.targets, objective, pull=0)
    taken = drawn.scores > found.values
    right = (taken & (drawn.targets == 1)).sum(axis=0)
    whole = taken.sum(axis=0) if objective.kind == "precision" else found.positives
    assert objective.at_least is not None
    np.testing.assert_array_equal(found.reached, (whole > 0) & (right >= objective.at_least * whole))
    np.testing.assert_array_equal(found.reached, alone.reached)
    assert found.reached.sum() > 0


def test_precision_out_of_reach_silences_the_class() -> None:
    scores = np.array([[0.9, 0.9], [0.8, 0.1]])
    found = choose_thresholds(scores, np.array([[0, 1], [1, 0]]), Objective("precision", 0.9))
    assert found.values[0] == found.own[0] == 1
    assert found.reached.tolist() == [False, True]


def test_a_global_threshold_out_of_reach_draws_nothing() -> None:
    scores = np.array([[0.9, 0.9], [0.8, 0.8], [0.1, 0.7]])
    found = choose_thresholds(scores, np.array([[1, 0], [0, 0], [0, 0]]), Objective("precision", 0.9))
    assert found.global_value == 1  # of the two best scores one is wrong
    assert found.values[0] == pytest.approx(0.85)
    assert found.reached.tolist() == [True, False]


def test_about_half_of_the_classes_miss_on_new_images_what_they_just_reached() -> None:
    missed = []
    for seed in range(5):
        drawn, wanted = world(seed, images=4000, rarest=20, commonest=800), Objective("recall", 0.8)
        found = choose_thresholds(drawn.scores[:2000], drawn.targets[:2000], wanted)
        positive = drawn.targets[2000:] == 1
        right = ((drawn.scores[2000:] > found.values) & positive).sum(axis=0)
        missed.append(np.mean(right < 0.8 * positive.sum(axis=0)))
    assert 0.3 < np.mean(missed) < 0.7


def test_recall_out_of_reach_takes_every_score_above_0() -> None:
    found = choose_thresholds(np.array([[0.0], [0.5]]), np.array([[1], [0]]), Objective("recall", 0.5))
    assert found.own[0] == 0
    assert not found.reached[0]


def test_class_without_a_positive_takes_the_global_threshold() -> None:
    scores, targets = np.array([[0.9, 0.9], [0.3, 0.3]]), np.array([[1, 0], [0, -1]])
    for objective in OBJECTIVES:
        found = choose_thresholds(scores, targets, objective)
        assert found.values[1] == found.own[1] == found.global_value
        assert found.weight[1] == found.positives[1] == 0
        assert not found.reached[1]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_little_data_has_a_defined_answer(objective: Objective) -> None:
    nothing = choose_thresholds(np.zeros((0, 2)), np.zeros((0, 2)), objective)
    assert nothing.values.tolist() == [0.5, 0.5]
    assert choose_thresholds(np.zeros((0, 0)), np.zeros((0, 0)), objective).values.shape == (0,)
    one_image = choose_thresholds(np.array([[0.4, 0.2]]), np.array([[1, 0]]), objective)
    assert one_image.own[0] == pytest.approx(0.2)
    assert one_image.reached.tolist() == [True, False]
    only_positives = choose_thresholds(np.array([[0.9], [0.8]]), np.array([[1], [1]]), objective, pull=0)
    assert only_positives.own[0] == pytest.approx(0.4)  # 1 of 2 is not a recall of 0.6: all three take both
    constant = choose_thresholds(np.full((4, 1), 0.5), np.array([[1], [0], [0], [0]]), objective, pull=0)
    assert constant.own[0] == (1.0 if objective.kind == "precision" else 0.25)


@settings(max_examples=60, deadline=None)
@given(small(), st.integers(0, 1000), st.sampled_from(OBJECTIVES))
def test_order_of_images_and_classes_and_unknown_images_change_nothing(
    data: tuple[np.ndarray, np.ndarray], seed: int, objective: Objective
) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = data
    rows, order = rng.permutation(len(scores)), rng.permutation(scores.shape[1])
    found = choose_thresholds(scores, targets, objective)
    unknown = rng.random((3, scores.shape[1])).astype(np.float32)
    more = choose_thresholds(
        np.concatenate([unknown, scores[rows][:, order]]),
        np.concatenate([np.full(unknown.shape, -1, np.int8), targets[rows][:, order]]),
        objective,
    )
    assert more.global_value == found.global_value
    for name in ("values", "own", "weight", "reached", "positives"):
        np.testing.assert_array_equal(getattr(more, name), getattr(found, name)[order])


def test_blocks_of_classes_do_not_show() -> None:
    drawn = world(3, classes=7)
    whole = choose_thresholds(drawn.scores, drawn.targets, F1)
    np.testing.assert_array_equal(choose_thresholds(drawn.scores, drawn.targets, F1, block=2000).values, whole.values)


def test_drawn_thresholds_beat_their_rivals_on_new_images() -> None:
    rivals: dict[str, list[float]] = {"half": [], "global": [], "own": [], "drawn": [], "drawn too far": []}
    for seed in range(10):
        drawn = world(seed)
        found = choose_thresholds(drawn.scores, drawn.targets, F1)
        rivals["half"].append(drawn.macro_f1(0.5))
        rivals["global"].append(drawn.macro_f1(found.global_value))
        rivals["own"].append(drawn.macro_f1(found.own))
        rivals["drawn"].append(drawn.macro_f1(found.values))
        rivals["drawn too far"].append(drawn.macro_f1(choose_thresholds(drawn.scores, drawn.targets, F1, pull=50).values))
    mean = {name: float(np.mean(values)) for name, values in rivals.items()}
    assert mean["drawn"] > mean["own"] + 0.002
    assert mean["drawn"] > mean["drawn too far"] + 0.002
    assert mean["own"] > mean["global"] + 0.005
    assert mean["global"] > mean["half"] + 0.005


def test_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        choose_thresholds(np.array([[-0.1]]), np.array([[1]]), F1)
    with pytest.raises(ValueError, match="pull"):
        choose_thresholds(np.array([[0.1]]), np.array([[1]]), F1, pull=-1)
