from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.calibrate import fit_calibration, make_folds
from sadcl_core.evaluation.score_split import score_split
from sadcl_core.evaluation.scored_split import ScoredSplit
from sadcl_core.inference.load import Model, load_trained
from sadcl_core.inference.split import open_split
from sadcl_core.inference.thresholds import read_thresholds
from sadcl_core.metrics import average_precisions, precision_recall
from sadcl_core.metrics.calibration import apply_probabilities, parse_objective
from sadcl_core.runs.checkpoint import load_model

CLASSES = ("common", "rare", "never")


def miscalibrated(n: int = 2000, seed: int = 0) -> ScoredSplit:
    """Scores that are too low by three logits and half as sure as they might be; a class that is never active."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((n, 3)) * 2 - np.array([1.0, 4.0, 5.0])
    targets = (rng.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    targets[:, 2] = 0
    scores = 1 / (1 + np.exp(-(logits - 3) / 2))
    return ScoredSplit("made", scores.astype(np.float32), targets, CLASSES)


def test_what_calibration_is_good_for_is_measured_on_images_held_out() -> None:
    made = fit_calibration(miscalibrated(), parse_objective("f1"))
    benefit = made.benefit
    assert benefit.after["macro_F1"] > benefit.before["macro_F1"] + 0.1
    assert benefit.error_after.overall < 0.3 * benefit.error_before.overall
    fresh = miscalibrated(n=20_000, seed=1)
    mapped = apply_probabilities(fresh.scores, made.probabilities.temperatures, made.probabilities.biases)
    elsewhere = precision_recall(mapped, fresh.targets, made.thresholds.values)
    assert benefit.after["macro_F1"] == pytest.approx(elsewhere["macro_F1"], abs=0.06)
    json.dumps(made.as_json(), allow_nan=False)
    assert made.as_json()["per_class"][2]["reached"] is False


def test_every_class_is_spread_over_the_folds() -> None:
    targets = miscalibrated().targets
    fold = make_folds(targets)
    counts = np.array([(targets[fold == number] == 1).sum(axis=0) for number in range(5)])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    assert sorted(np.bincount(fold)) == [400] * 5


@pytest.mark.parametrize("n", [0, 9])
def test_too_few_images(n: int) -> None:
    scored = ScoredSplit("made", np.full((n, 2), 0.5, np.float32), np.ones((n, 2), np.int8), ("a", "b"))
    with pytest.raises(DataError, match="too few to calibrate"):
        fit_calibration(scored, parse_objective("f1"))


def test_nothing_positive() -> None:
    scored = ScoredSplit("made", np.full((50, 2), 0.5, np.float32), np.zeros((50, 2), np.int8), ("a", "b"))
    with pytest.raises(DataError, match="too few to calibrate"):
        fit_calibration(scored, parse_objective("f1"))


@pytest.fixture
def opened(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    shutil.copytree(trained / "runs" / "coco", tmp_path / "run")
    monkeypatch.chdir(trained)
    return load_trained(tmp_path / "run")


def test_a_stored_calibration_changes_scores_and_nothing_else(opened: Model, tmp_path: Path) -> None:
    split = open_split(opened).split
    scored = score_split(opened, split)
    made = fit_calibration(scored, parse_objective("f1"))
    made.store(opened)
    stored = load_model(opened.path)
    for name, tensor in opened.classifier.state_dict().items():
        assert torch.equal(stored.classifier.state_dict()[name], tensor)
    again = score_split(load_trained(tmp_path / "run"), split)
    expected = apply_probabilities(scored.scores, made.probabilities.temperatures, made.probabilities.biases)
    np.testing.assert_allclose(again.scores, expected, rtol=2e-5, atol=1e-7)
    assert again.own_thresholds == tuple(made.thresholds.values)
    plain = score_split(load_trained(tmp_path / "run", uncalibrated=True), split)
    assert np.array_equal(plain.scores, scored.scores)
    ap = [average_precisions(one.scores, one.targets).interpolated for one in (again, scored)]
    np.testing.assert_allclose(ap[0], ap[1])
    path = made.save(tmp_path / "eval")
    assert read_thresholds(path, made.scored.classes) == tuple(made.thresholds.values)


def test_thresholds_belong_to_an_image_size(opened: Model, tmp_path: Path) -> None:
    split = open_split(opened).split
    other = load_trained(tmp_path / "run", img_size=96)
    made = fit_calibration(score_split(other, split), parse_objective("f1"))
    before = opened.path.read_bytes()
    with pytest.raises(UsageError, match="is for images of 64 px"):
        made.store(other)
    assert opened.path.read_bytes() == before
