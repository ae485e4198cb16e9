"""What eval does beside the numbers: rows for tables, gates, scores out of files, two at a time, calibration, the page."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sadcl_core.checkpoint import read_card
from tests.conftest import Sadcl, make_voc, run_sadcl, voc_object

QUICK_EVAL = ("--bootstrap", "50")


@pytest.fixture
def own_run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained run that a test may change."""
    shutil.copytree(trained / "runs" / "coco", tmp_path / "runs" / "coco")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "runs" / "coco"


def test_the_one_line(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "-o", tmp_path)
    document = json.loads((tmp_path / "coco-coco-val-64.json").read_text())
    low, high = document["mAP_interpolated_interval"]
    assert low <= document["mAP_interpolated"] <= high
    line = ran.stdout.splitlines()[-2]
    assert line == document["summary"]
    assert line == (
        f"mAP {document['mAP_interpolated']:.1f} [{low:.1f}, {high:.1f}] interpolated · {document['mAP_non_interpolated']:.1f} "
        f"non-interpolated · {document['classes_evaluated']}/10 classes · 12 images"
    )
    assert document["resamples"] == 1000
    columns = (tmp_path / "coco-coco-val-64.csv").read_text().splitlines()[0].split(",")
    assert {"AP_interpolated_interval_low", "pointing_game", "box_energy", "box_area", "threshold"} <= set(columns)
    assert "pointing game" in ran.stdout
    assert {"pointing", "centre", "energy", "area"} == set(document["localisation"])


def test_no_resamples_no_interval(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "-o", tmp_path, "--bootstrap", "0", "--json")
    document = json.loads(ran.stdout)
    assert "mAP_interpolated_interval" not in document
    assert "[" not in document["summary"]


def test_voc_has_its_own_convention_and_says_what_became_of_difficult(in_trained: Sadcl, tmp_path: Path) -> None:
    objects = {"train": {"1": [voc_object("dog")], "2": [voc_object("cat", difficult=1)]}, "test": {"3": [voc_object("dog")]}}
    voc = make_voc(tmp_path / "voc", objects)
    np.save(tmp_path / "s.npy", np.full((1, 2), 0.3))
    ran = in_trained("eval", "--scores", tmp_path / "s.npy", "--labels", voc, "-o", tmp_path)
    assert ran.exit_code == 0, ran.stderr
    assert "difficult ignored · 1 image" in ran.stdout
    assert "11-point" in ran.stdout


@pytest.mark.parametrize(
    ("form", "start"), [("md", "| method | train_size"), ("latex", r"\begin{tabular}"), ("csv", "method,train_size")]
)
def test_a_row_to_paste(in_trained: Sadcl, tmp_path: Path, form: str, start: str) -> None:
    ran = in_trained("eval", "-o", tmp_path, "--format", form, *QUICK_EVAL)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.startswith(start)
    assert "mAP " in ran.stderr
    if form == "csv":
        (row,) = csv.DictReader(ran.stdout.splitlines())
        document = json.loads((tmp_path / "coco-coco-val-64.json").read_text())
        assert float(row["mAP"]) == round(document["mAP_interpolated"], 1)
        assert float(row["top3_OF1"]) == round(document["top3"]["OF1"], 1)
        assert (row["method"], row["train_size"], row["test_size"]) == ("ours", "64", "64")


def test_beside_a_table(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "-o", tmp_path, "--against", "paper", *QUICK_EVAL)
    assert ran.exit_code == 2  # nothing was printed about these classes
    assert "--against" in ran.stderr
    table = tmp_path / "mine.csv"
    table.write_text("method,mAP,CF1\nlast year,12.5,\n")
    ran = in_trained("eval", "-o", tmp_path, "--against", table, *QUICK_EVAL)
    assert ran.exit_code == 0, ran.stderr
    assert "last year" in ran.stdout
    assert "ours-mAP" in ran.stdout


def test_a_gate(in_trained: Sadcl, tmp_path: Path) -> None:
    assert in_trained("eval", "-o", tmp_path, "--min-map", "0", *QUICK_EVAL).exit_code == 0
    ran = in_trained("eval", "-o", tmp_path, "--min-map", "99.9", *QUICK_EVAL)
    assert ran.exit_code == 6
    assert "is below --min-map 99.9" in ran.stderr
    assert "mAP" in ran.stdout  # everything is shown and saved before


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_scores_saved_give_the_same_numbers(in_trained: Sadcl, tmp_path: Path, suffix: str) -> None:
    scores = tmp_path / f"scores.{suffix}"
    ran = in_trained("eval", "-o", tmp_path, "--json", "--save-scores", scores, *QUICK_EVAL)
    first = json.loads(ran.stdout)
    ran = in_trained("eval", "--scores", scores, "--labels", "my-coco", "--split", "val", "-o", tmp_path, "--json", *QUICK_EVAL)
    assert ran.exit_code == 0, ran.stderr
    second = json.loads(ran.stdout)
    for key in ("mAP_interpolated", "mAP_interpolated_interval", "all", "top3", "ECE"):
        assert second[key] == first[key], key
    assert second["images"] == 12


def test_logits_of_another_tool(sadcl: Sadcl, tmp_path: Path) -> None:
    logits = np.array([[3.0, -2.0], [-1.0, 0.5], [0.2, 4.0]])
    np.save("logits.npy", logits)
    np.save("labels.npy", np.array([[1, 0], [0, 1], [1, 1]]))
    ran = sadcl("eval", "--scores", "logits.npy", "--labels", "labels.npy")
    assert ran.exit_code == 3
    assert "--logits" in ran.stderr
    ran = sadcl("eval", "--scores", "logits.npy", "--labels", "labels.npy", "--logits", "--json")
    assert ran.exit_code == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["mAP_interpolated"] == 100
    assert document["all"]["OF1"] == 100
    assert Path("eval/logits.json").is_file()


def test_two_on_the_same_images(in_trained: Sadcl, trained: Path, tmp_path: Path) -> None:
    last = "runs/coco/weights/last.safetensors"
    ran = in_trained("eval", "runs/coco", last, *QUICK_EVAL)
    assert ran.exit_code == 0, ran.stderr
    assert "within chance" in ran.stdout
    assert in_trained("eval", "runs/coco", last, "--json", *QUICK_EVAL).exit_code == 0
    in_trained("eval", "--save-scores", tmp_path / "s.parquet", "-o", tmp_path, *QUICK_EVAL)
    ran = in_trained("eval", "runs/coco", tmp_path / "s.parquet", "--labels", "prepared/coco", "--json", *QUICK_EVAL)
    document = json.loads(ran.stdout)
    assert document["mAP_interpolated"]["difference"] == 0
    assert document["mAP_interpolated"]["interval"] == [0, 0]
    assert document["classes_that_moved"] == []
    ran = in_trained("eval", "runs/coco", tmp_path / "s.parquet", "--labels", "prepared/coco", "--split", "train", *QUICK_EVAL)
    assert ran.exit_code == 3


def test_calibration_goes_into_the_model(own_run: Path) -> None:
    before = read_card(own_run / "weights" / "best.safetensors")
    ran = run_sadcl("eval", "--calibrate", *QUICK_EVAL)
    assert ran.exit_code == 0, ran.stderr
    assert "one per class" in ran.stdout
    assert "stored in runs/coco/weights/best.safetensors" in ran.stderr
    card = read_card(own_run / "weights" / "best.safetensors")
    assert len(card.thresholds) == len(card.temperatures) == len(card.biases) == 10
    assert card.calibrated["objective"] == "f1"
    assert card.calibrated["split"] == "val"
    assert card.as_trained == before

    image = str(next(Path(json.loads((own_run / "run.json").read_text())["manifest"]).parents[1].glob("my-coco/val2017/*.png")))
    ran = run_sadcl("predict", image)
    assert "labels above the model's own thresholds" in ran.stderr
    assert "calibrated for f1 on split val of coco" in ran.stderr
    as_trained = run_sadcl("predict", image, "--uncalibrated", "--json", "--all-scores")
    calibrated = run_sadcl("predict", image, "--json", "--all-scores")
    assert "labels above 0.5" in as_trained.stderr
    first, second = (json.loads(ran.stdout)["scores"] for ran in (as_trained, calibrated))
    for k, (name, score) in enumerate(first.items()):
        logit = np.log(score) - np.log1p(-score)
        expected = 1 / (1 + np.exp(-(logit / card.temperatures[k] + card.biases[k])))
        assert second[name] == pytest.approx(expected, abs=1e-4)

    ran = run_sadcl("eval", "--json", *QUICK_EVAL)
    document = json.loads(ran.stdout)
    assert "calibrated on these very images" in ran.stderr
    assert set(document["own_thresholds"]) == set(document["all"])
    plain = json.loads(run_sadcl("eval", "--json", "--uncalibrated", *QUICK_EVAL).stdout)
    assert "own_thresholds" not in plain
    assert plain["mAP_interpolated"] == document["mAP_interpolated"]
    assert document["ECE"] < plain["ECE"]

    thresholds = next((own_run / "eval").glob("*thresholds-f1.json"))
    stored = json.loads(thresholds.read_text())
    assert tuple(stored["thresholds"].values()) == card.thresholds
    by_file = json.loads(run_sadcl("eval", "--json", "--threshold", thresholds, *QUICK_EVAL).stdout)
    by_name = json.loads(run_sadcl("eval", "--json", "--threshold", "auto", *QUICK_EVAL).stdout)
    assert by_file["all"] == by_name["all"] == document["own_thresholds"]


@pytest.mark.parametrize("objective", ["precision>=0.5", "recall:0.5"])
def test_other_objectives(own_run: Path, objective: str) -> None:
    ran = run_sadcl("eval", "--calibrate", objective, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["objective"] == objective.replace(":", ">=")


def test_calibrate_needs_no_value_wherever_it_stands(own_run: Path) -> None:
    for arguments in (("--calibrate", "runs/coco"), ("runs/coco", "--calibrate"), ("--calibrate", "--json")):
        ran = run_sadcl("eval", *arguments)
        assert ran.exit_code == 0, (arguments, ran.stderr)


def test_a_page_and_a_table_of_suspects(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "--report", "-o", tmp_path, *QUICK_EVAL)
    assert ran.exit_code == 0, ran.stderr
    page = (tmp_path / "coco-coco-val-64.html").read_text()
    assert json.loads((tmp_path / "coco-coco-val-64.json").read_text())["summary"].split(" · ")[0] in page
    assert page.count("data:image/jpeg") > 2
    assert "http://" not in page
    assert "https://" not in page
    rows = list(csv.DictReader((tmp_path / "coco-coco-val-64-label-errors.csv").read_text().splitlines()))
    assert rows
    assert {row["kind"] for row in rows} <= {"missing", "wrong"}
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    (tmp_path / "coco-coco-val-64.html").unlink()
    assert in_trained("eval", "--label-errors", "-o", tmp_path, *QUICK_EVAL).exit_code == 0
    assert not (tmp_path / "coco-coco-val-64.html").exists()


def test_a_page_without_a_model(sadcl: Sadcl) -> None:
    rng = np.random.default_rng(0)
    np.savez("s.npz", scores=rng.random((30, 3)), targets=rng.integers(0, 2, (30, 3)))
    ran = sadcl("eval", "--scores", "s.npz", "--report")
    assert ran.exit_code == 0, ran.stderr
    assert "there are no pictures" in Path("eval/s.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--labels", "labels.npy"), 2, "Give --scores FILE"),
        (("a", "b", "c"), 2, "no more than two"),
        (("-w", "a", "b"), 2, "Name"),
        (("--calibrate", "--report"), 2, "--calibrate does not go with --report"),
        (("a", "b", "--report"), 2, "--report is for one model"),
        (("a", "b", "--format", "csv"), 2, "--format is for one model"),
        (("--calibrate", "precision"), 2, "quote it"),
        (("--calibrate", "f2"), 2, "f2"),
        (("--scores", "none.npy", "--labels", "labels.npy"), 3, "none.npy"),
        (("--scores", "x.pkl", "--labels", "labels.npy"), 3, "x.pkl"),
        (("--format", "html"), 2, "html"),
        (("--min-map", "200"), 2, "--min-map"),
        (("--bootstrap", "-1"), 2, "--bootstrap"),
    ],
)
def test_mistakes(sadcl: Sadcl, arguments: tuple[str, ...], code: int, words: str) -> None:
    Path("x.pkl").write_bytes(b"\x80\x04.")
    np.save("labels.npy", np.zeros((3, 2), dtype=np.int8))
    ran = sadcl("eval", *arguments)
    assert ran.exit_code == code, ran.stderr
    assert words in ran.stderr
    assert ran.stdout == ""


def test_mistakes_with_a_model(in_trained: Sadcl, tmp_path: Path) -> None:
    for arguments, code, words in [
        (("--threshold", "auto"), 2, "sadcl eval --calibrate"),
        (("--threshold", "zerro=0.3"), 2, "Did you mean 'zero'"),
        (("--calibrate", "--img-size", "96"), 2, "without --img-size"),
        (("--against", tmp_path / "none.csv"), 3, "none.csv"),
        (("--save-scores", tmp_path / "s.xlsx"), 2, "s.xlsx"),
    ]:
        ran = in_trained("eval", *map(str, arguments), "-o", tmp_path, *QUICK_EVAL)
        assert ran.exit_code == code, (arguments, ran.stderr)
        assert words in ran.stderr, arguments


@pytest.mark.slow
def test_two_processes_print_what_one_prints(trained: Path, tmp_path: Path) -> None:
    def evaluate(*launcher: str) -> dict[str, object]:
        command = [
            *launcher,
            "-m",
            "sadcl_cli",
            "eval",
            "--json",
            "-b",
            "5",
            "--split",
            "train",
            "-o",
            str(tmp_path),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(command, cwd=trained, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert ran.returncode == 0, ran.stderr
        document: dict[str, object] = json.loads(ran.stdout)
        document.pop("images_per_second")
        return document

    alone = evaluate(sys.executable)
    together = evaluate(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29533")
    assert together == alone
