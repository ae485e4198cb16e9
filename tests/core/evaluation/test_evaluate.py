from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sadcl_core.errors import DataError, GateError
from sadcl_core.evaluation.calibrate import calibrate
from sadcl_core.evaluation.columns import INTERVAL, MEASURES, NUMBERS, PER_CLASS, Column
from sadcl_core.evaluation.evaluate import evaluate, evaluate_scores
from sadcl_core.evaluation.result import Evaluation
from sadcl_core.evaluation.two_models import compare_models
from sadcl_core.metrics import (
    average_precisions,
    bootstrap_average_precision,
    hamming_loss,
    interval,
    label_ranking,
    mean_over_classes,
    per_image,
    precision_recall,
)
from sadcl_core.metrics.localisation import Localisation

CLASSES = ("a", "b", "c", "d")
ROOT = Path(__file__).parents[3]


def made(seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Scores and targets of four classes, the last without a positive."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 2, (40, 4)).astype(np.int8)
    targets[:, 3] = np.minimum(targets[:, 3], 0)
    return rng.random((40, 4)).astype(np.float32), targets


def everything() -> Evaluation:
    """An evaluation with a value for every column."""
    share = np.full(4, 0.5)
    places = Localisation(share, share, share, share, np.ones(4, np.int64), 0.0)
    subject = {"difficult": "ignored"}
    return evaluate_scores(*made(), CLASSES, resamples=100, localisation=places, seconds=2.0, subject=subject)


def test_document_holds_what_the_metrics_say() -> None:
    scores, targets = made()
    document = evaluate_scores(scores, targets, CLASSES, thresholds=0.4, topk=(3, 2), seconds=2.0).as_json()
    json.dumps(document, allow_nan=False)
    for name in ("interpolated", "non_interpolated"):
        ap = 100 * getattr(average_precisions(scores, targets), name)
        assert document[f"mAP_{name}"] == pytest.approx(np.nanmean(ap), abs=1e-4)
        assert document["per_class"][0][f"AP_{name}"] == pytest.approx(ap[0], abs=1e-4)
        assert document["per_class"][3][f"AP_{name}"] is None
    assert (document["images"], document["classes"], document["classes_evaluated"]) == (40, 4, 3)
    assert document["classes_without_positives"] == ["d"]
    assert document["unknown_labels"] == (targets < 0).sum()
    for key, topk in (("all", None), ("top3", 3), ("top2", 2)):
        expected = precision_recall(scores, targets, threshold=0.4, topk=topk)
        assert document[key] == pytest.approx({name: 100 * value for name, value in expected.items()}, abs=1e-4)
    assert document["images_per_second"] == 20
    assert document["hamming_loss"] == pytest.approx(hamming_loss(scores, targets, 0.4), abs=1e-6)
    ranking, images = label_ranking(scores, targets), per_image(scores, targets, 0.4)
    assert document["ranking_loss"] == pytest.approx(ranking.ranking_loss, abs=1e-6)
    assert document["coverage_error"] == pytest.approx(ranking.coverage_error, abs=1e-4)
    assert document["images_ranked"] == ranking.images
    assert document["samples_F1"] == pytest.approx(100 * images.f1, abs=1e-4)
    assert document["subset_accuracy"] == pytest.approx(100 * images.subset_accuracy, abs=1e-4)


def test_every_column_is_in_the_files_and_explained() -> None:
    """The documentation has a row for each number, with the key of the table."""
    result = everything()
    document = result.as_json()
    assert {column.key for column in NUMBERS} <= set(document)
    assert list(document["per_class"][0]) == ["name", *(column.key for column in PER_CLASS)]
    assert list(document["all"]) == [column.key for column in MEASURES]
    documentation = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    tables: list[Sequence[Column[Any]]] = [NUMBERS, PER_CLASS, MEASURES]
    for table in tables:
        assert len({column.key for column in table}) == len(table)
        for column in table:
            assert f"`{column.key}`" in documentation, column.key
            assert column.meaning


def test_nothing_positive_has_no_value() -> None:
    document = evaluate_scores(np.ones((2, 1), np.float32), np.zeros((2, 1), np.int8), ("a",)).as_json()
    assert document["mAP_interpolated"] is None
    assert document["all"]["OF1"] is None
    json.dumps(document, allow_nan=False)


def test_csv_has_a_row_per_class() -> None:
    lines = evaluate_scores(*made(), CLASSES).as_csv().splitlines()
    assert lines[0] == "name,positives,AP_interpolated,AP_non_interpolated,AP_11_point,threshold,precision,recall,F1,ECE"
    assert [line.split(",")[0] for line in lines[1:]] == list(CLASSES)
    rows = list(csv.DictReader(io.StringIO(everything().as_csv())))
    document = everything().as_json()
    low, high = document["per_class"][1][f"AP_interpolated{INTERVAL}"]
    key = f"AP_interpolated{INTERVAL}"
    assert (float(rows[1][f"{key}_low"]), float(rows[1][f"{key}_high"])) == (low, high)
    assert rows[3]["AP_interpolated"] == rows[3][f"{key}_low"] == ""


def test_no_interval_where_nothing_can_be_sure() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((60, 3), dtype=np.int8)
    targets[:20, 0], targets[:3, 1] = 1, 1
    scores = rng.random((60, 3)).astype(np.float32)
    result = evaluate_scores(scores, targets, CLASSES[:3], resamples=100)
    assert np.isnan(result.per_class[f"AP_interpolated{INTERVAL}"]).all(axis=1).tolist() == [False, True, True]
    low, high = result.numbers[f"mAP_interpolated{INTERVAL}"]
    assert low < result.map_interpolated < high
    few = scores[:9], targets[:9]
    for one in (few, (scores, targets * (np.arange(60) < 4)[:, None].astype(np.int8))):
        result = evaluate_scores(*one, CLASSES[:3], resamples=100)
        assert "[" not in result.summary
        json.dumps(result.as_json(), allow_nan=False)


def test_a_class_that_is_not_drawn_does_not_move_the_mean() -> None:
    """One class ranked perfectly in all resamples, one whose few images are often last: the mean stays over both."""
    targets = np.zeros((50, 2), dtype=np.int8)
    targets[:25, 0], targets[0, 1] = 1, 1
    scores = np.where(targets == 1, 0.9, 0.1).astype(np.float32)
    scores[0, 1] = 0.05  # last
    result = evaluate_scores(scores, targets, CLASSES[:2], resamples=200)
    low, high = result.numbers[f"mAP_interpolated{INTERVAL}"]
    assert result.map_interpolated == pytest.approx((100 + 2) / 2)
    assert high < 60
    assert low > 40


def test_rows_as_published_beside_the_thresholds_in_use() -> None:
    scores, targets = made()
    moved = (scores / 2).astype(np.float32)
    result = evaluate_scores(moved, targets, CLASSES, thresholds=np.full(4, 0.2), published=scores)
    direct, at = evaluate_scores(scores, targets, CLASSES), evaluate_scores(moved, targets, CLASSES, thresholds=0.2)
    assert {key: result.rows[key] for key in ("all", "top3")} == direct.rows
    assert result.rows["own_thresholds"] == at.rows["all"]
    np.testing.assert_array_equal(result.per_class["precision"], at.per_class["precision"])


def test_intervals_are_those_of_their_own_convention() -> None:
    scores, targets = made()
    result = evaluate_scores(scores, targets, CLASSES, resamples=100)
    points, samples = average_precisions(scores, targets), bootstrap_average_precision(scores, targets, samples=100)
    for name in ("interpolated", "non_interpolated"):
        point, drawn = 100 * getattr(points, name), 100 * getattr(samples, name)
        expected = interval(mean_over_classes(drawn, point), float(np.nanmean(point)), bounds=(0, 100))
        assert result.numbers[f"mAP_{name}{INTERVAL}"] == pytest.approx(expected)
    for k in range(3):
        expected = interval(100 * samples.interpolated[:, k], 100 * points.interpolated[k], bounds=(0, 100))
        assert result.per_class[f"AP_interpolated{INTERVAL}"][k].tolist() == pytest.approx(expected)


def test_the_gate() -> None:
    result = evaluate_scores(*made(), CLASSES)
    result.require_map(None)
    result.require_map(result.map_interpolated)  # reached exactly
    with pytest.raises(GateError, match="is below --min-map 99"):
        result.require_map(99)
    nothing = evaluate_scores(np.ones((2, 1), np.float32), np.zeros((2, 1), np.int8), ("a",))
    with pytest.raises(GateError, match="No mAP is defined"):
        nothing.require_map(0)


def test_a_file_of_another_model_keeps_its_place(tmp_path: Path) -> None:
    result = evaluate_scores(*made(), CLASSES, subject={"name": "s-eval", "scores": "one.npz"})
    assert result.save(tmp_path) == result.save(tmp_path) == tmp_path / "s-eval.json"
    other = replace(result, subject={"name": "s-eval", "scores": "two.npz"})
    assert other.save(tmp_path) == other.save(tmp_path) == tmp_path / "s-eval-2.json"
    assert json.loads((tmp_path / "s-eval.json").read_text())["scores"] == "one.npz"


def test_a_trained_model(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    facts: list[object] = []
    work: set[str] = set()
    result = evaluate(
        "runs/coco",
        topk=2,
        bootstrap=0,
        save_scores=tmp_path / "s.npz",
        output=tmp_path,
        listen=facts.append,
        progress=lambda what, done, total: work.add(what),
    )
    assert result.numbers["images"] == 12
    assert set(result.rows) == {"all", "top2", "top3"}
    assert {kind: path.name for kind, path in result.files.items()} == {
        "json": "coco-coco-val-64.json",
        "csv": "coco-coco-val-64.csv",
        "scores": "s.npz",
    }
    assert json.loads(result.files["json"].read_text()) == result.as_json()
    assert work == {"scoring images"}
    assert len(facts) == 2  # the model, and its images
    again = evaluate(tmp_path / "s.npz", labels="my-coco", split="val", bootstrap=0, output=tmp_path)
    assert again.map_interpolated == pytest.approx(result.map_interpolated)


COMMANDS = (
    (3, ()),
    (2, ("--threshold", "7", "--scores", "s.npz")),
    (2, ("--calibrate", "f2")),
    (2, ("--precision", "half")),
    (2, ("--bootstrap", "7")),
    (3, ("--scores", "none.npz")),
    (0, ("--scores", "s.csv", "--labels", "labels.csv", "--bootstrap", "100", "--label-errors")),
    (0, ("--scores", "s.npz", "--calibrate")),
    (0, ("s.npz", "s.npz", "--bootstrap", "100")),
)
WITHOUT_TORCH = f"""
import sys
from typer.testing import CliRunner
from sadcl_cli.app import app
for code, arguments in {COMMANDS}:
    ran = CliRunner().invoke(app, ["eval", *arguments])
    assert ran.exit_code == code, (arguments, ran.output)
    assert "torch" not in sys.modules, arguments
"""


def test_labels_of_1_and_minus_1_alone_say_active_and_inactive(tmp_path: Path) -> None:
    scores, targets = made()
    np.save(tmp_path / "scores.npy", scores[:, :3])
    known = np.where(targets[:, :3] == 1, 1, 0)
    expected = evaluate_scores(scores[:, :3], known).numbers["mAP_interpolated"]
    for name in ("ones.npy", "signed.npy"):
        np.save(tmp_path / name, known if name == "ones.npy" else 2 * known - 1)
        result = evaluate(tmp_path / "scores.npy", labels=tmp_path / name, output=tmp_path, bootstrap=0)
        assert result.numbers["mAP_interpolated"] == expected
    rows = [f"{k}.jpg,{','.join(str(cell) for cell in row)}" for k, row in enumerate(2 * known - 1)]
    (tmp_path / "signed.csv").write_text("\n".join(["image,a,b,c", *rows]))
    result = evaluate(tmp_path / "scores.npy", labels=tmp_path / "signed.csv", output=tmp_path, bootstrap=0, by_order=True)
    assert result.numbers["mAP_interpolated"] == expected


def test_a_class_that_is_active_wherever_it_is_known_is_left_out_of_the_map_and_named(tmp_path: Path) -> None:
    scores, targets = made()
    targets[:, 1] = np.where(targets[:, 1] == 1, 1, -1)
    targets[:, 2] = 1
    result = evaluate_scores(scores, targets, "abcd", resamples=200)
    others = evaluate_scores(scores[:, [0, 3]], targets[:, [0, 3]], "ad", resamples=200)
    assert result.classes_without_negatives == result.as_json()["classes_without_negatives"] == ["b", "c"]
    assert others.classes_without_negatives == []
    for key in ("mAP_interpolated", "mAP_11_point", "mAP_interpolated_interval", "classes_evaluated"):
        assert result.numbers[key] == pytest.approx(others.numbers[key])
    one_sided = evaluate_scores(scores[:, 1:3], targets[:, 1:3], "bc")
    assert one_sided.summary.startswith("mAP not defined, no class is active in some images and inactive in others")


def test_labels_without_an_inactive_one_are_refused_by_all_that_judge_scores(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", scores=np.full((40, 2), 0.5), targets=np.ones((40, 2), np.int8))
    for judge in (evaluate, calibrate, lambda path, output: compare_models(path, path)):
        with pytest.raises(DataError, match=r"s has no inactive label.*name it with --absent"):
            judge(tmp_path / "s.npz", output=tmp_path)


@pytest.mark.parametrize("value", [1, -1])
def test_labels_without_an_inactive_one_have_no_mean(tmp_path: Path, value: int) -> None:
    np.savez(tmp_path / "s.npz", scores=np.full((3, 2), 0.5), targets=np.array([[1, 1], [1, value], [1, 1]]))
    if value == 1:
        with pytest.raises(DataError, match=r"s has no inactive label: all are active or unknown"):
            evaluate(tmp_path / "s.npz", output=tmp_path)
    else:  # 1 and -1 alone
        assert evaluate(tmp_path / "s.npz", output=tmp_path).files["json"].is_file()


def test_torch_is_imported_for_models_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.random((20, 2)), rng.integers(0, 2, (20, 2))
    np.savez(tmp_path / "s.npz", scores=scores, targets=targets)
    for name, rows in (("s.csv", scores), ("labels.csv", targets)):
        lines = [f"{number}.jpg,{a},{b}" for number, (a, b) in enumerate(rows.tolist())]
        (tmp_path / name).write_text("\n".join(["image,a,b", *lines]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT_TORCH]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
