from __future__ import annotations

import json

import numpy as np
import pytest

from sadcl_core.errors import GateError
from sadcl_core.evaluation.evaluate import below, evaluate
from sadcl_core.inference.score import Scores
from sadcl_core.metrics import (
    average_precisions,
    bootstrap_average_precision,
    interval,
    mean_over_classes,
    precision_recall,
)

CLASSES = ("a", "b", "c", "d")


def scored(seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 2, (40, 4)).astype(np.int8)
    targets[:, 3] = np.minimum(targets[:, 3], 0)  # no positive
    return Scores(rng.random((40, 4)).astype(np.float32), targets, 2.0)


def test_document_holds_what_the_metrics_say() -> None:
    scores = scored()
    document = evaluate(scores, CLASSES, thresholds=0.4, topk=(3, 2)).as_json()
    json.dumps(document, allow_nan=False)
    for name in ("interpolated", "non_interpolated"):
        ap = 100 * getattr(average_precisions(scores.scores, scores.targets), name)
        assert document[f"mAP_{name}"] == pytest.approx(np.nanmean(ap), abs=1e-4)
        assert document["per_class"][0][f"AP_{name}"] == pytest.approx(ap[0], abs=1e-4)
        assert document["per_class"][3][f"AP_{name}"] is None
    assert (document["images"], document["classes"], document["classes_evaluated"]) == (40, 4, 3)
    assert document["classes_without_positives"] == ["d"]
    assert document["unknown_labels"] == (scores.targets < 0).sum()
    for key, topk in (("all", None), ("top3", 3), ("top2", 2)):
        expected = precision_recall(scores.scores, scores.targets, threshold=0.4, topk=topk)
        assert document[key] == pytest.approx({name: 100 * value for name, value in expected.items()}, abs=1e-4)
    assert document["images_per_second"] == 20


def test_nothing_positive_has_no_value() -> None:
    document = evaluate(Scores(np.ones((2, 1), np.float32), np.zeros((2, 1), np.int8), 1.0), ("a",)).as_json()
    assert document["mAP_interpolated"] is None
    assert document["all"]["OF1"] is None
    json.dumps(document, allow_nan=False)


def test_csv_has_a_row_per_class() -> None:
    lines = evaluate(scored(), CLASSES).per_class_csv().splitlines()
    assert lines[0] == "name,positives,AP_interpolated,AP_non_interpolated,AP_11_point,threshold,precision,recall,F1,ECE"
    assert [line.split(",")[0] for line in lines[1:]] == list(CLASSES)


def test_no_interval_where_nothing_can_be_sure() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((60, 3), dtype=np.int8)
    targets[:20, 0], targets[:3, 1] = 1, 1
    scores = Scores(rng.random((60, 3)).astype(np.float32), targets, 1.0)
    sure = evaluate(scores, CLASSES[:3], resamples=100).uncertainty
    assert sure is not None
    assert np.isnan(sure.ap_interpolated).all(axis=1).tolist() == [False, True, True]
    low, high = sure.map_interpolated
    assert low < evaluate(scores, CLASSES[:3]).map_interpolated < high
    few = Scores(scores.scores[:9], targets[:9], 1.0)
    for one in (few, Scores(scores.scores, targets * (np.arange(60) < 4)[:, None].astype(np.int8), 1.0)):
        result = evaluate(one, CLASSES[:3], resamples=100)
        assert "[" not in result.line
        json.dumps(result.as_json(), allow_nan=False)


def test_a_class_that_is_not_drawn_does_not_move_the_mean() -> None:
    """One class ranked perfectly in all resamples, one whose single image is often not drawn: the mean stays over both."""
    targets = np.zeros((50, 2), dtype=np.int8)
    targets[:25, 0], targets[0, 1] = 1, 1
    scores = np.where(targets == 1, 0.9, 0.1).astype(np.float32)
    scores[0, 1] = 0.05  # last
    result = evaluate(Scores(scores, targets, 1.0), CLASSES[:2], resamples=200)
    assert result.uncertainty is not None
    low, high = result.uncertainty.map_interpolated
    assert result.map_interpolated == pytest.approx((100 + 2) / 2)
    assert high < 60
    assert low > 40


def test_rows_as_published_beside_the_thresholds_in_use() -> None:
    plain = scored()
    moved = Scores((plain.scores / 2).astype(np.float32), plain.targets, 1.0)
    result = evaluate(moved, CLASSES, thresholds=np.full(4, 0.2), published=plain.scores)
    direct = evaluate(plain, CLASSES)
    assert result.all_labels == direct.all_labels
    assert result.top == direct.top
    assert result.own_thresholds == evaluate(moved, CLASSES, thresholds=0.2).all_labels
    assert result.precision.tolist() == pytest.approx(evaluate(moved, CLASSES, thresholds=0.2).precision.tolist(), nan_ok=True)


def test_intervals_are_those_of_their_own_convention() -> None:
    scores = scored()
    got = evaluate(scores, CLASSES, resamples=100).uncertainty
    assert got is not None
    points = average_precisions(scores.scores, scores.targets)
    samples = bootstrap_average_precision(scores.scores, scores.targets, samples=100)
    for name in ("interpolated", "non_interpolated"):
        point, drawn = 100 * getattr(points, name), 100 * getattr(samples, name)
        expected = interval(mean_over_classes(drawn, point), float(np.nanmean(point)), bounds=(0, 100))
        assert getattr(got, f"map_{name}") == pytest.approx(expected)
    for k in range(3):
        expected = interval(100 * samples.interpolated[:, k], 100 * points.interpolated[k], bounds=(0, 100))
        assert got.ap_interpolated[k].tolist() == pytest.approx(expected)


def test_the_gate() -> None:
    result = evaluate(scored(), CLASSES)
    below(result, None)
    below(result, result.map_interpolated)  # reached exactly
    with pytest.raises(GateError, match="is below --min-map 99"):
        below(result, 99)
    nothing = evaluate(Scores(np.ones((2, 1), np.float32), np.zeros((2, 1), np.int8), 1.0), ("a",))
    with pytest.raises(GateError, match="No label is active"):
        below(nothing, 0)
