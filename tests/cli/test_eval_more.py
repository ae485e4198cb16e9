"""What eval does beside the numbers: rows for tables, gates, scores out of files, two at a time, calibration, the page."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sadcl_core.runs.checkpoint import read_card
from tests.conftest import QUICK, Sadcl, make_voc, run_sadcl, voc_object
from tests.core.data.formats.samples import draw, put
from tests.processes import end, start

QUICK_EVAL = ("--bootstrap", "100")


@pytest.fixture
def own_run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained run that a test may change."""
    shutil.copytree(trained / "runs" / "coco", tmp_path / "runs" / "coco", ignore=shutil.ignore_patterns("eval"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "runs" / "coco"


def test_the_one_line(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "--split", "train", "-o", tmp_path)
    document = json.loads((tmp_path / "coco-coco-train-64.json").read_text())
    low, high = document["mAP_interpolated_interval"]
    assert low <= document["mAP_interpolated"] <= high
    line = ran.stdout.splitlines()[-2]
    assert line == document["summary"]
    assert line == (
        f"mAP {document['mAP_interpolated']:.1f} [{low:.1f}, {high:.1f}] interpolated · {document['mAP_non_interpolated']:.1f} "
        f"non-interpolated · {document['classes_evaluated']}/10 classes · 24 images"
    )
    assert document["resamples"] == 1000
    columns = (tmp_path / "coco-coco-train-64.csv").read_text().splitlines()[0].split(",")
    assert {"AP_interpolated_interval_low", "pointing_game", "box_energy", "box_area", "threshold"} <= set(columns)
    assert "pointing game" in ran.stdout
    assert {"pointing", "centre", "energy", "area"} == set(document["localisation"])


def test_no_resamples_no_interval(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "-o", tmp_path, "--bootstrap", "0", "--json")
    document = json.loads(ran.stdout)
    assert "mAP_interpolated_interval" not in document
    assert "[" not in document["summary"]


def test_voc_has_its_own_convention_and_says_what_became_of_difficult(in_trained: Sadcl, tmp_path: Path) -> None:
    objects = {
        "train": {"1": [voc_object("dog")], "2": [voc_object("cat", difficult=1)]},
        "test": {"3": [voc_object("dog")], "4": []},
    }
    voc = make_voc(tmp_path / "voc", objects)
    np.save(tmp_path / "s.npy", np.full((2, 2), 0.3))
    ran = in_trained("eval", "--scores", tmp_path / "s.npy", "--labels", voc, "--by-order", "-o", tmp_path)
    assert "difficult ignored · 2 images" in ran.stdout
    assert "mAP 11-point 50.0 · F1 per image" in ran.stdout


@pytest.mark.parametrize(
    ("form", "start"), [("md", "| method | train_size"), ("latex", r"\begin{tabular}"), ("csv", "method,train_size")]
)
def test_a_row_to_paste(in_trained: Sadcl, tmp_path: Path, form: str, start: str) -> None:
    ran = in_trained("eval", "-o", tmp_path, "--format", form, *QUICK_EVAL)
    assert ran.stdout.startswith(start)
    assert "mAP " in ran.stderr
    if form == "csv":
        (row,) = csv.DictReader(ran.stdout.splitlines())
        document = json.loads((tmp_path / "coco-coco-val-64.json").read_text())
        assert float(row["mAP"]) == round(document["mAP_interpolated"], 1)
        assert float(row["top3_OF1"]) == round(document["top3"]["OF1"], 1)
        assert (row["method"], row["train_size"], row["test_size"]) == ("ours", "64", "64")


def test_beside_a_table(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "-o", tmp_path, "--against", "paper", *QUICK_EVAL, code=2)  # nothing was printed about these classes
    assert "--against" in ran.stderr
    table = tmp_path / "mine.csv"
    table.write_text("method,mAP,CF1\nlast year,12.5,\n")
    ran = in_trained("eval", "-o", tmp_path, "--against", table, *QUICK_EVAL)
    assert "last year" in ran.stdout
    assert "ours-mAP" in ran.stdout


def test_a_gate(in_trained: Sadcl, tmp_path: Path) -> None:
    in_trained("eval", "-o", tmp_path, "--min-map", "0", *QUICK_EVAL)
    ran = in_trained("eval", "-o", tmp_path, "--min-map", "99.9", *QUICK_EVAL, code=6)
    assert "is below --min-map 99.9" in ran.stderr
    assert "mAP" in ran.stdout  # everything is shown and saved before


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_scores_saved_give_the_same_numbers(in_trained: Sadcl, tmp_path: Path, suffix: str) -> None:
    scores = tmp_path / f"scores.{suffix}"
    ran = in_trained("eval", "-o", tmp_path, "--json", "--save-scores", scores, *QUICK_EVAL)
    first = json.loads(ran.stdout)
    ran = in_trained("eval", "--scores", scores, "--labels", "my-coco", "--split", "val", "-o", tmp_path, "--json", *QUICK_EVAL)
    second = json.loads(ran.stdout)
    for key in ("mAP_interpolated", "mAP_interpolated_interval", "all", "top3", "ECE"):
        assert second[key] == first[key], key
    assert second["images"] == 12


def test_logits_of_another_tool(sadcl: Sadcl, tmp_path: Path) -> None:
    logits = np.array([[3.0, -2.0], [-1.0, 0.5], [0.2, 4.0]])
    np.save("logits.npy", logits)
    np.save("labels.npy", np.array([[1, 0], [0, 1], [1, 1]]))
    assert "--logits" in sadcl("eval", "--scores", "logits.npy", "--labels", "labels.npy", code=3).stderr
    ran = sadcl("eval", "--scores", "logits.npy", "--labels", "labels.npy", "--logits", "--json")
    document = json.loads(ran.stdout)
    assert document["mAP_interpolated"] == 100
    assert document["all"]["OF1"] == 100
    assert Path("eval/logits-eval.json").is_file()


def test_two_on_the_same_images(in_trained: Sadcl, trained: Path, tmp_path: Path) -> None:
    last = "runs/coco/weights/last.safetensors"
    assert "within chance" in in_trained("eval", "runs/coco", last, *QUICK_EVAL).stdout
    in_trained("eval", "runs/coco", last, "--json", *QUICK_EVAL)
    train = ("--split", "train", *QUICK_EVAL)
    in_trained("eval", "--save-scores", tmp_path / "s.parquet", "-o", tmp_path, *train)
    ran = in_trained("eval", "runs/coco", tmp_path / "s.parquet", "--labels", "prepared/coco", "--json", *train)
    document = json.loads(ran.stdout)
    assert document["mAP_interpolated"]["difference"] == 0
    assert document["mAP_interpolated"]["interval"] == [0, 0]
    assert document["classes_that_moved"] == []
    in_trained("eval", "runs/coco", tmp_path / "s.parquet", "--labels", "prepared/coco", "--split", "val", *QUICK_EVAL, code=3)


def test_calibration_goes_into_the_model(own_run: Path) -> None:
    before = read_card(own_run / "weights" / "best.safetensors")
    ran = run_sadcl("eval", "--calibrate")
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
    plain = json.loads(run_sadcl("eval", "--json", "--uncalibrated", *QUICK_EVAL).stdout)
    assert "own_thresholds" not in plain
    for key in ("mAP_interpolated", "all", "top3"):  # as published, and so as trained
        assert plain[key] == document[key], key
    assert document["ECE"] < plain["ECE"]
    assert {path.name for path in (own_run / "eval").glob("coco-val-64*.json")} == {
        "coco-val-64.json",
        "coco-val-64-calibrated.json",
        "coco-val-64-thresholds-f1.json",
    }
    for k, entry in enumerate(document["per_class"]):
        assert entry["threshold"] == pytest.approx(card.thresholds[k], abs=1e-6)

    thresholds = next((own_run / "eval").glob("*thresholds-f1.json"))
    stored = json.loads(thresholds.read_text())
    assert tuple(stored["thresholds"].values()) == card.thresholds
    by_file = json.loads(run_sadcl("eval", "--json", "--threshold", thresholds, *QUICK_EVAL).stdout)
    by_name = json.loads(run_sadcl("eval", "--json", "--threshold", "auto", *QUICK_EVAL).stdout)
    assert by_file["all"] == by_name["all"] == document["own_thresholds"]
    ran = run_sadcl("eval", "--uncalibrated", "--threshold", thresholds, code=2)
    assert "is for scores that are calibrated, and these are not" in ran.stderr
    run_sadcl("predict", image, "--uncalibrated", "--threshold", thresholds, code=2)


def test_a_calibration_is_taken_away_again(own_run: Path) -> None:
    before = read_card(own_run / "weights" / "best.safetensors")
    run_sadcl("eval", "--calibrate")
    other = run_sadcl("eval", "--split", "train", "--json", *QUICK_EVAL)
    assert "very images" not in other.stderr
    assert "own_thresholds" in json.loads(other.stdout)
    assert "is as it was trained" in run_sadcl("eval", "--calibrate", "none").stdout
    assert read_card(own_run / "weights" / "best.safetensors") == before


def test_a_precision_out_of_reach(own_run: Path) -> None:
    ran = run_sadcl("eval", "--calibrate", "precision:1")
    assert "a precision of 1 is reached on images held out in" in ran.stdout
    if 1.0 in read_card(own_run / "weights" / "best.safetensors").thresholds:
        assert "never predicted" in ran.stdout


@pytest.mark.parametrize("objective", ["precision>=0.5", "recall:0.5"])
def test_other_objectives(own_run: Path, objective: str) -> None:
    ran = run_sadcl("eval", "--calibrate", objective, "--json")
    assert json.loads(ran.stdout)["objective"] == objective.replace(":", ">=")


def test_calibrate_needs_no_value_wherever_it_stands(own_run: Path) -> None:
    for arguments in (("--calibrate", "runs/coco"), ("runs/coco", "--calibrate"), ("--calibrate", "--json")):
        run_sadcl("eval", *arguments)


def test_a_page_and_a_table_of_suspects(in_trained: Sadcl, tmp_path: Path) -> None:
    in_trained("eval", "--report", "-o", tmp_path, *QUICK_EVAL)
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
    in_trained("eval", "--label-errors", "-o", tmp_path, *QUICK_EVAL)
    assert not (tmp_path / "coco-coco-val-64.html").exists()


def test_a_page_without_a_model(sadcl: Sadcl) -> None:
    rng = np.random.default_rng(0)
    np.savez("s.npz", scores=rng.random((30, 3)), targets=rng.integers(0, 2, (30, 3)))
    sadcl("eval", "--scores", "s.npz", "--report")
    assert "there are no pictures" in Path("eval/s-eval.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--labels", "labels.npy"), 2, "--labels does not go with a model"),
        (("a", "b", "c"), 2, "no more than two"),
        (("-w", "a", "b"), 2, "Name"),
        (("--calibrate", "--report"), 2, "--report does not go with --calibrate"),
        (("a", "b", "--report"), 2, "--report does not go with comparing two"),
        (("a", "b", "--format", "csv"), 2, "--format does not go with comparing two"),
        (("a", "b", "--min-map", "1"), 2, "--min-map does not go with comparing two"),
        (("a", "b", "--save-scores", "s.npz"), 2, "--save-scores does not go with comparing two"),
        (("a", "b", "--threshold", "0.3"), 2, "--threshold does not go with comparing two"),
        (("a", "b", "-o", "out"), 2, "--output does not go with comparing two"),
        (("--calibrate", "--min-map", "1"), 2, "--min-map does not go with --calibrate"),
        (("--calibrate", "--topk", "2"), 2, "--topk does not go with --calibrate"),
        (("--scores", "s.npz", "--limit", "5"), 2, "--limit does not go with --scores"),
        (("--scores", "s.npz", "--data", "x"), 2, "--data does not go with --scores"),
        (("--scores", "s.npz", "--uncalibrated"), 2, "--uncalibrated does not go with --scores"),
        (("--min-map", "0.8"), 2, "Give 80 for 80 %"),
        (("--scores", "s.npz", "--calibrate", "none"), 2, "Name one"),
        (("a", "--logits"), 2, "--logits does not go with a model"),
        (("--json", "--format", "csv"), 2, "two forms of the same"),
        (("--bootstrap", "7"), 2, "100 or more, or 0"),
        (("-o", "x.pkl"), 2, "is a file"),
        (("--save-scores", "s.xlsx"), 2, "s.xlsx"),
        (("--scores", "labels.npy", "--labels", "labels.npy", "--save-scores", "folder.npz"), 2, "is a folder"),
        (("--scores", "s.npz", "--save-scores", "s.npz"), 2, "would overwrite what is read"),
        (("a", "b", "--calibrate"), 2, "--calibrate does not go with"),
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
    Path("folder.npz").mkdir()
    np.savez("s.npz", scores=np.full((3, 2), 0.5), targets=np.eye(3, 2, dtype=np.int8))
    np.save("labels.npy", np.zeros((3, 2), dtype=np.int8))
    ran = sadcl("eval", *arguments, code=code)
    assert words in ran.stderr
    assert ran.stdout == ""


def test_mistakes_with_a_model(in_trained: Sadcl, tmp_path: Path) -> None:
    for arguments, code, words in [
        (("--threshold", "auto"), 2, "sadcl eval --calibrate"),
        (("--threshold", "zerro=0.3"), 2, "Did you mean 'zero'"),
        (("--calibrate", "--img-size", "96"), 2, "without --img-size"),
        (("--calibrate", "--tta", "flip"), 2, "--tta does not go with --calibrate"),
        (("--against", tmp_path / "none.csv"), 3, "none.csv"),
        (("--save-scores", tmp_path / "s.xlsx"), 2, "s.xlsx"),
    ]:
        ran = in_trained("eval", *map(str, arguments), "-o", tmp_path, code=code)
        assert words in ran.stderr, arguments


def test_calibration_on_images_trained_on_is_refused(own_run: Path) -> None:
    before = (own_run / "weights" / "best.safetensors").read_bytes()
    for split, count in (("train", "24 of these 24"), ("all", "24 of these 36")):
        ran = run_sadcl("eval", "--calibrate", "--split", split, code=2)
        assert f"trained on {count} images" in ran.stderr
    assert (own_run / "weights" / "best.safetensors").read_bytes() == before


def test_thresholds_of_a_file_of_scores_are_for_its_scores(sadcl: Sadcl) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((400, 3)) < 0.3
    logits = 0.5 * (3 * truth - 1.5 + rng.standard_normal((400, 3))) - 3  # all far below 0
    np.savez("s.npz", scores=1 / (1 + np.exp(-logits)), targets=truth.astype(np.int8))
    sadcl("eval", "--scores", "s.npz", "--calibrate")
    stored = json.loads(Path("eval/s-eval-thresholds-f1.json").read_text())
    promised = stored["held_out"]["per_class"]["macro_F1"]
    ran = sadcl("eval", "--scores", "s.npz", "--threshold", "eval/s-eval-thresholds-f1.json", "--json", *QUICK_EVAL)
    assert json.loads(ran.stdout)["all"]["macro_F1"] == pytest.approx(promised, abs=3)
    assert promised > 80


def test_some_images_only(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "--limit", "7", "--save-scores", tmp_path / "s.csv", "-o", tmp_path, *QUICK_EVAL)
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 8
    assert "[" not in ran.stdout.splitlines()[-2]  # seven images cannot say how sure they are


def test_predict_and_eval_decide_alike(in_trained: Sadcl, tmp_path: Path) -> None:
    """At a threshold that is the score of an image, written with the digits that people see."""
    ran = in_trained("predict", "my-coco/val2017", "--json", "--all-scores", "--threshold", "0")
    documents = [json.loads(line) for line in ran.stdout.splitlines()]
    for document in documents[:4]:
        score = document["scores"]["three"]
        ran = in_trained("predict", "my-coco/val2017", "--json", "--threshold", f"three={score:.6f}")
        said = sum(any(label["name"] == "three" for label in json.loads(line)["labels"]) for line in ran.stdout.splitlines())
        ran = in_trained("eval", "--json", "-o", tmp_path, "--threshold", f"three={score:.6f}", *QUICK_EVAL)
        (entry,) = (entry for entry in json.loads(ran.stdout)["per_class"] if entry["name"] == "three")
        if not said or not entry["positives"]:
            continue
        hits = round(entry["recall"] / 100 * entry["positives"])
        assert entry["precision"] == pytest.approx(100 * hits / said, abs=1e-3)


def test_nothing_is_active(sadcl: Sadcl) -> None:
    np.savez("a.npz", scores=np.full((20, 2), 0.2), targets=np.zeros((20, 2), dtype=np.int8))
    assert "mAP not defined, no label is active · 0/2 classes" in sadcl("eval", "--scores", "a.npz").stdout
    assert "No label is active" in sadcl("eval", "a.npz", "a.npz", "--json", code=3).stderr


def test_a_row_says_which_thresholds_it_is_at(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "-o", tmp_path, "--format", "csv", "--threshold", "0.3", *QUICK_EVAL)
    assert ran.stdout.splitlines()[1].startswith('"ours, above 0.3"') or "ours, above 0.3" in ran.stdout


def test_order_that_only_one_side_names_is_warned_of(sadcl: Sadcl) -> None:
    np.save("s.npy", np.random.default_rng(0).random((3, 2)))
    Path("labels.csv").write_text("image,labels\na.jpg,zebra\nb.jpg,ant\nc.jpg,zebra;ant\n")
    ran = sadcl("eval", "--scores", "s.npy", "--labels", "labels.csv", "-q", code=2)
    assert "s.npy does not name its images, and labels.csv does" in ran.stderr
    ran = sadcl("eval", "--scores", "s.npy", "--labels", "labels.csv", "-q", "--by-order")
    assert "Warning: only the labels name their classes, so columns are taken in that order: 1 ant, 2 zebra." in ran.stderr
    assert "Warning: only the labels name their images" in ran.stderr
    np.save("labels.npy", np.ones((3, 2), dtype=np.int8))
    ran = sadcl("eval", "--scores", "s.npy", "--labels", "labels.npy", "--logits", "-q", code=3)
    assert "all logits lie between 0 and 1" in ran.stderr


def test_how_labels_are_read_is_said_and_chosen(sadcl: Sadcl) -> None:
    np.save("s.npy", np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6]]))
    np.save("labels.npy", np.array([[1, -1], [-1, 1], [1, -1]]))
    ran = sadcl("eval", "--scores", "s.npy", "--labels", "labels.npy", "--json")
    assert "labels labels.npy: -1 is absent, 1 is present (--present, --absent, --unknown)" in ran.stderr
    assert json.loads(ran.stdout)["unknown_labels"] == 0
    ran = sadcl("eval", "--scores", "s.npy", "--labels", "labels.npy", "--unknown", "-1", code=3)
    assert "has no inactive label" in ran.stderr
    ran = sadcl("eval", "--scores", "s.npy", "--labels", "labels.npy", "--delimiter", ";", code=2)
    assert "--delimiter has no effect on an array of labels" in ran.stderr


def test_a_model_and_scores_of_the_same_images(in_trained: Sadcl, tmp_path: Path) -> None:
    in_trained("eval", "--split", "train", "--save-scores", tmp_path / "s.csv", "-o", tmp_path, *QUICK_EVAL)
    for arguments in (("runs/coco", tmp_path / "s.csv"), (tmp_path / "s.csv", "runs/coco")):
        ran = in_trained("eval", *arguments, "--split", "train", "--json", *QUICK_EVAL)
        document = json.loads(ran.stdout)
        assert document["mAP_interpolated"]["interval"] == pytest.approx([0, 0], abs=1e-3)
        names = [document[key].rpartition("/")[2] for key in ("first", "second")]
        assert names == ["best.safetensors", "s"] if arguments[0] == "runs/coco" else names == ["s", "best.safetensors"]


def test_two_need_resamples(sadcl: Sadcl) -> None:
    np.savez("a.npz", scores=np.full((20, 2), 0.2), targets=np.ones((20, 2), dtype=np.int8))
    assert "Give 100 or more" in sadcl("eval", "a.npz", "a.npz", "--bootstrap", "0", code=2).stderr


def test_what_is_read_is_never_overwritten(sadcl: Sadcl) -> None:
    Path("s.csv").write_text("image,cat,dog\na.jpg,0.9,0.1\nb.jpg,0.2,0.8\n")
    Path("labels.csv").write_text("image,labels\na.jpg,cat\nb.jpg,dog\n")
    before = Path("s.csv").read_text()
    for folder in (".", "eval"):
        sadcl("eval", "--scores", "s.csv", "--labels", "labels.csv", "-o", folder)
    assert Path("s.csv").read_text() == before
    ran = sadcl("eval", "--scores", "s.csv", "--labels", "labels.csv", "--save-scores", "eval/s-eval.csv", code=2)
    assert "where the evaluation itself is" in ran.stderr
    assert Path("eval/s-eval.csv").read_text().startswith("name,positives")


def test_evaluations_of_other_files_do_not_take_each_others_place(sadcl: Sadcl) -> None:
    for folder, value in (("one", 0.3), ("two", 0.6)):
        Path(folder).mkdir()
        np.savez(f"{folder}/s.npz", scores=np.full((3, 2), value), targets=np.eye(3, 2, dtype=np.int8))
        sadcl("eval", "--scores", f"{folder}/s.npz")
    sadcl("eval", "--scores", "two/s.npz")
    assert sorted(path.name for path in Path("eval").glob("*.json")) == ["s-eval-2.json", "s-eval.json"]
    assert json.loads(Path("eval/s-eval.json").read_text())["scores"] == "one/s.npz"


def test_many_thresholds(sadcl: Sadcl) -> None:
    names = [f"class {k}" for k in range(80)]
    np.savez(
        "s.npz",
        scores=np.full((3, 80), 0.5),
        targets=np.eye(3, 80, dtype=np.int8),
        classes=np.array([n.encode() for n in names]),
    )
    ran = sadcl("eval", "--scores", "s.npz", "--threshold", ",".join(f"{name}=0.3" for name in names), "--json")
    assert {entry["threshold"] for entry in json.loads(ran.stdout)["per_class"]} == {0.3}


def test_names_do_not_steer_the_terminal(sadcl: Sadcl) -> None:
    names = ["\x1b[2J\x1b[31mred", "new\nline", "[bold]b[/bold]", "<script>", "\u202eright to left"]
    np.savez(
        "s.npz",
        scores=np.random.default_rng(0).random((20, 5)),
        targets=np.random.default_rng(1).integers(0, 2, (20, 5)),
        classes=np.array([name.encode() for name in names]),
    )
    ran = sadcl("eval", "--scores", "s.npz", "--report", *QUICK_EVAL)
    assert "\x1b" not in ran.stdout + ran.stderr
    assert "\u202e" not in ran.stdout + ran.stderr
    assert "\\x1b[31mred" in ran.stdout
    assert "[bold]b[/bold]" in ran.stdout
    assert "<script>" not in Path("eval/s-eval.html").read_text().split("</style>")[1].replace("<script>", "", 1)
    ran = sadcl("eval", "--scores", "s.npz", "--save-scores", "out.csv", *QUICK_EVAL, code=2)
    assert "line break" in ran.stderr


def test_calibration_of_a_linked_model_file(own_run: Path, tmp_path: Path) -> None:
    link = own_run / "weights" / "best.safetensors"
    real = tmp_path / "store.safetensors"
    shutil.move(link, real)
    real.chmod(0o600)
    link.symlink_to(real)
    run_sadcl("eval", "--calibrate")
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert read_card(real).thresholds


@pytest.mark.slow
def test_two_processes_print_what_one_prints(trained: Path, tmp_path: Path) -> None:
    def evaluate(ranks: int) -> dict[str, object]:
        arguments = ("eval", "--json", "-b", "5", "--split", "train", "-o", tmp_path)
        code, stdout, stderr = end(start(trained, *arguments, ranks=ranks))
        assert code == 0, stderr
        document: dict[str, object] = json.loads(stdout)
        document.pop("images_per_second")
        return document

    assert evaluate(2) == evaluate(1)


def test_the_test_split_is_taken_where_another_was_measured_during_the_training(sadcl: Sadcl, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    rows = ["image,labels,split"]
    for k in range(24):
        draw(folder / f"{k}.png")
        rows.append(f"{k}.png,{'cat' if k % 2 else 'dog'},{('train', 'train', 'val', 'test')[k // 2 % 4]}")
    put(folder / "labels.csv", "\n".join(rows) + "\n")
    sadcl("train", folder, *QUICK, "--epochs", "1,0")
    ran = sadcl("eval", "--device", "cpu", "-j", "0")
    assert "split test: 6 images" in ran.stderr
    assert "(val was measured during the training: --split val takes that)" in ran.stderr
    assert "split val: 6 images" in sadcl("eval", "--device", "cpu", "-j", "0", "--split", "val").stderr
