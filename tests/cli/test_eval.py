from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Sadcl, draw, make_coco, run_sadcl


def test_the_last_finished_run_on_its_own_data(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "--topk", "3", "-o", tmp_path)
    assert "model runs/coco/weights/best.safetensors (the run that finished last)" in ran.stderr
    assert "data coco, split val: 12 images" in ran.stderr
    for words in (
        "interpolated",
        "non-interpolated",
        "Top-3",
        "CF1 (of CP, CR)",
        "CF1 (macro)",
        "classes",
        "12 images",
        "images/s",
    ):
        assert words in ran.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"coco-coco-val-64.json", "coco-coco-val-64.csv"}


def test_one_json_document_that_is_also_in_the_file(in_trained: Sadcl, tmp_path: Path, trained: Path) -> None:
    ran = in_trained("eval", "--json", "-o", tmp_path, "--topk", "2")
    document = json.loads(ran.stdout)
    assert document == json.loads((tmp_path / "coco-coco-val-64.json").read_text())
    status = json.loads((trained / "runs/coco/run.json").read_text())
    assert document["mAP_interpolated"] == pytest.approx(status["best"]["mAP_interpolated"], abs=1e-3)
    for key in ("all", "top2", "top3"):
        assert set(document[key]) == {"CP", "CR", "CF1", "macro_F1", "OP", "OR", "OF1"}
    assert len(document["per_class"]) == document["classes"] == 10


def test_the_files_go_into_the_run(in_trained: Sadcl, trained: Path) -> None:
    ran = in_trained("eval", "--limit", "5")
    assert ran.stdout.splitlines()[-1].startswith("results saved to runs/coco/eval/coco-val-64-first-5.json")
    assert (trained / "runs/coco/eval/coco-val-64-first-5.csv").is_file()


@pytest.mark.parametrize("alias", ["val", "validate", "test"])
def test_other_names_of_the_command(in_trained: Sadcl, tmp_path: Path, alias: str) -> None:
    in_trained(alias, "-o", tmp_path, "--limit", "2")


@pytest.mark.parametrize("weights", ["runs/coco", "runs/coco/weights/last.safetensors"])
def test_other_splits_sizes_and_weights(in_trained: Sadcl, tmp_path: Path, weights: str) -> None:
    in_trained("eval", "-w", weights, "--split", "train", "--img-size", "96", "-o", tmp_path, "-b", "5")
    last = "-last" if "last" in weights else ""
    document = json.loads((tmp_path / f"coco-coco-train-96{last}.json").read_text())
    assert document["images"] == 24


def test_scores_over_an_image_and_its_mirror_image(in_trained: Sadcl, tmp_path: Path) -> None:
    in_trained("eval", "--tta", "flip", "-o", tmp_path, "--save-scores", tmp_path / "flip.npz")
    assert json.loads((tmp_path / "coco-coco-val-64-flip.json").read_text())["tta"] == "flip"
    in_trained("eval", "-o", tmp_path, "--save-scores", tmp_path / "plain.npz")
    document = json.loads((tmp_path / "coco-coco-val-64.json").read_text())
    assert "tta" not in document
    assert not np.allclose(np.load(tmp_path / "flip.npz")["scores"], np.load(tmp_path / "plain.npz")["scores"])


def test_scores_of_the_centre_of_a_larger_image(in_trained: Sadcl, tmp_path: Path) -> None:
    sizes = ("--img-size", "64", "--resize", "96")
    ran = in_trained("eval", *sizes, "--tta", "flip", "-o", tmp_path)
    document = json.loads((tmp_path / "coco-coco-val-64-flip-centre-of-96.json").read_text())
    assert (document["resize"], document["tta"], document["img_size"]) == (96, "flip", 64)
    assert document["backbone"] == "test_resnet"
    assert "pointing" not in ran.stdout  # the boxes are those of whole images
    for words, message in (
        (("eval", "--resize", "48"), "--resize 48 is less than the 64 px that are cut out of it"),
        (("predict", "my-coco/val2017/001.png", *sizes, "--annotate", "x"), "Leave one of both out"),
    ):
        assert message in in_trained(*words, code=2).stderr


def test_batch_size_and_workers_change_nothing(in_trained: Sadcl, tmp_path: Path) -> None:
    first, second = (
        json.loads(in_trained("eval", "--json", "-o", tmp_path, *extra).stdout)
        for extra in (("-b", "12"), ("-b", "5", "-j", "2"))
    )
    for document in (first, second):
        document.pop("images_per_second")
    assert first == second


def test_data_that_moved_and_other_data(in_trained: Sadcl, tmp_path: Path) -> None:
    moved = make_coco(tmp_path / "moved")
    assert str(moved) in in_trained("eval", "--data", moved, "-o", tmp_path).stderr
    in_trained("eval", "--data", "prepared/coco", "-o", tmp_path)


def test_labels_of_ones_own_images(sadcl: Sadcl, trained: Path, tmp_path: Path) -> None:
    """Two of the classes, in an order of their own, and no splits: all images count, and a later training divides them."""
    draw(tmp_path / "mine", 20, seed=7)
    lines = [f"{k:03d}.png,{('two', 'one', 'one;two', '')[k % 4]}\n" for k in range(20)]
    Path("mine/labels.csv").write_text(f"image,labels\n{''.join(lines)}")
    Path("mine/classes.txt").write_text("two\none\n")
    ran = sadcl("eval", "-w", trained / "runs" / "coco", "--data", "mine/labels.csv", "--json", "-o", "out")
    assert "data mine, split test: 20 images" in ran.stderr
    assert "with labels of 2 of the model's 10 classes" in ran.stderr
    document = json.loads(ran.stdout)
    assert (document["images"], document["classes"], document["classes_evaluated"]) == (20, 10, 2)
    assert {entry["name"]: entry["positives"] for entry in document["per_class"] if entry["positives"]} == {"one": 10, "two": 10}
    assert [path.name for path in Path("prepared").iterdir()] == ["mine@test"]
    assert "divided by iterative stratification" in sadcl("prepare-data", "mine/labels.csv").stderr


def test_other_labels_are_read_as_those_of_the_run_were(sadcl: Sadcl, tmp_path: Path) -> None:
    for name in ("mine", "more"):
        draw(tmp_path / name, 20, seed=7)
        rows = [f"{k:03d}.png;{'0,9' if k % 2 else '-1'};{'-1' if k % 3 else '0,7'};1;{k}" for k in range(20)]
        Path(name, "labels.csv").write_bytes("\n".join(["image;Bär;Kuh;Esel;Wert", *rows]).encode("cp1252"))
    options = ("--encoding", "cp1252", "--decimal", ",", "--threshold", "0.5", "--absent", "-1", "--classes", "Bär,Kuh,Esel")
    sadcl("prepare-data", "mine/labels.csv", *options, "--merge", "Tier=Bär", "--drop", "Esel")
    arguments = ("--no-pretrained", "--backbone", "resnet18", "--img-size", "32", "--epochs", "1,0", "--device", "cpu", "-j", "0")
    sadcl("train", "mine/labels.csv", *arguments, "-o", "runs/mine")
    ran = sadcl("eval", "-w", "runs/mine", "--data", "more/labels.csv", "--json", "-o", "out")
    assert "-1 is absent" in ran.stderr
    assert "data more: left out 1 of 3 classes: Esel" in ran.stderr
    document = json.loads(ran.stdout)
    assert (document["images"], document["unknown_labels"]) == (20, 0)
    assert {entry["name"]: entry["positives"] for entry in document["per_class"]} == {"Tier": 10, "Kuh": 7}


def test_another_folder_with_images_of_the_same_names(sadcl: Sadcl, trained: Path, tmp_path: Path) -> None:
    folder = make_coco(tmp_path / "others")
    path = folder / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        annotation["category_id"] = document["categories"][3]["id"]
    path.write_text(json.dumps(document))
    ran = sadcl("eval", "-w", trained / "runs" / "coco", "--data", folder, "--json", "-o", "out")
    assert "data others, split val: 12 images" in ran.stderr
    positives = {entry["name"]: entry["positives"] for entry in json.loads(ran.stdout)["per_class"] if entry["positives"]}
    assert positives == {"three": 11}


def test_a_model_file_alone_needs_data(in_trained: Sadcl, trained: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((trained / "runs/coco/weights/best.safetensors").read_bytes())
    assert "does not say where its data lies" in in_trained("eval", "-w", alone, code=2).stderr
    in_trained("eval", "-w", alone, "--data", "prepared/coco", "-o", tmp_path)


def test_mistakes(sadcl: Sadcl, tmp_path: Path) -> None:
    Path("not.safetensors").write_text("hello")
    Path("folder").mkdir()
    for arguments, code, words in [
        (("eval",), 3, "no finished run under runs/"),
        (("eval", "-w", "none"), 3, "no model file none"),
        (("eval", "-w", "not.safetensors"), 3, "is not a model file"),
        (("eval", "-w", "folder"), 3, "has no weights"),
        (("eval", "--topk", "0"), 2, "--topk"),
        (("eval", "--topkk", "3"), 2, "--topk"),
        (("evil",), 2, "eval"),
    ]:
        ran = sadcl(*arguments, code=code)
        assert words in ran.stderr
        assert ran.stdout == ""


def test_other_settings_do_not_overwrite_each_other(in_trained: Sadcl, tmp_path: Path) -> None:
    for extra in ((), ("--threshold", "0.3"), ("-w", "runs/coco/weights/last.safetensors"), ("--limit", "3")):
        in_trained("eval", "-o", tmp_path, *extra)
    assert len(list(tmp_path.glob("*.json"))) == 4


def test_mistakes_with_a_model(in_trained: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file. Name a folder" in in_trained("eval", "-o", tmp_path / "file", code=2).stderr
    for arguments, code, words in [
        (("eval", "--threshold", "7"), 2, "--threshold"),
        (("eval", "--data", tmp_path / "none"), 3, "does not exist"),
        (("eval", "--device", "cuda:9"), 5, "no device cuda:9"),
        (("eval", "--precision", "half"), 2, "choose from"),
    ]:
        assert words in in_trained(*arguments, code=code).stderr


def test_data_with_other_classes(in_trained: Sadcl, tmp_path: Path) -> None:
    from tests.conftest import make_voc, voc_object

    voc = make_voc(tmp_path / "voc", {"trainval": {"000001": [voc_object("dog")]}, "test": {"000002": []}})
    in_trained("prepare-data", "voc2007", "--data", voc, "-o", tmp_path / "prepared-voc")
    ran = in_trained("eval", "--data", tmp_path / "prepared-voc", code=3)
    assert "has classes that the model does not know, such as 'aeroplane'" in ran.stderr


def test_data_prepared_anew_since_the_training_is_said(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    status = tmp_path / "copy" / "runs" / "coco" / "run.json"
    status.write_text(status.read_text().replace(str(trained), str(tmp_path / "copy")))
    assert "prepared again" not in run_sadcl("eval", "--limit", "4").stderr
    shutil.rmtree(tmp_path / "copy" / "prepared")
    run_sadcl("prepare-data", "coco", "--data", "my-coco", "--skip-broken")
    assert "prepared again" not in run_sadcl("eval", "--limit", "4").stderr
    (tmp_path / "copy" / "my-coco" / "train2017" / "003.png").unlink()
    run_sadcl("prepare-data", "coco", "--data", "my-coco", "--skip-broken")
    assert "prepared again since the training" in run_sadcl("eval", "--limit", "4").stderr


def test_all_splits_can_be_evaluated_at_once(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("eval", "--split", "all", "--json", "-o", tmp_path)
    document = json.loads(ran.stdout)
    assert (document["images"], document["split"]) == (36, "all")
    assert "24 of them have the paths of images that the model was trained on" in ran.stderr
    assert "trained on" not in in_trained("eval", "-o", tmp_path).stderr
