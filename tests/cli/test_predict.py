from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
from PIL import Image

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.formats.digits import CLASSES
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.checkpoint import ModelCard, save_model
from tests.conftest import Sadcl
from tests.processes import end, start, wait_until

IMAGES = "my-coco/val2017"


def test_labels_of_an_image(in_trained: Sadcl) -> None:
    ran = in_trained("predict", f"{IMAGES}/001.png", "--topk", "2")
    (line,) = ran.stdout.splitlines()
    assert line.startswith(f"{IMAGES}/001.png  ")
    assert len(line.split("  ")) == 3
    assert "model runs/coco/weights/best.safetensors (the run that finished last)" in ran.stderr


def test_a_folder_and_a_threshold(in_trained: Sadcl) -> None:
    ran = in_trained("predict", IMAGES, "--threshold", "1")
    assert len(ran.stdout.splitlines()) == 12
    assert all(line.endswith("(no label)") for line in ran.stdout.splitlines())
    assert "labels above 1" in ran.stderr


@pytest.mark.parametrize("command", ["predict", "infer"])
def test_json_lines(in_trained: Sadcl, command: str) -> None:
    ran = in_trained(command, IMAGES, "--json", "--all-scores", "--threshold", "0.2")
    documents = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(documents) == 12
    for document in documents:
        assert len(document["scores"]) == 10
        expected = {name for name, score in document["scores"].items() if score > 0.2}
        assert {label["name"] for label in document["labels"]} == expected
        assert all(label["score"] == document["scores"][label["name"]] for label in document["labels"])
    assert "scores" not in json.loads(in_trained("predict", f"{IMAGES}/001.png", "--json").stdout)


def test_broken_images_are_named_and_the_others_done(in_trained: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    ran = in_trained("predict", tmp_path / "broken.jpg", f"{IMAGES}/001.png", code=3)
    assert len(ran.stdout.splitlines()) == 1
    assert "broken.jpg" in ran.stderr
    assert "1 of 2 images could not be read" in ran.stderr
    ran = in_trained("predict", tmp_path / "broken.jpg", f"{IMAGES}/001.png", "--json", code=3)
    broken, fine = map(json.loads, ran.stdout.splitlines())
    assert "broken.jpg: not an image" in broken["error"]
    assert "error" not in fine


def test_pictures_of_telephones_from_labels_to_predictions(sadcl: Sadcl, trained: Path) -> None:
    pytest.importorskip("pillow_heif")
    Path("phone").mkdir()
    lines = ["image,labels"]
    for number, path in enumerate(sorted((trained / IMAGES).iterdir())):
        name = f"{path.stem}.{('heic', 'avif')[number % 2]}"
        with Image.open(path) as image:
            image.save(Path("phone") / name, format=("HEIF", "AVIF")[number % 2])
        lines.append(f"{name},{'zero' if number % 3 else 'zero;seven'}")
    Path("phone/labels.csv").write_text("\n".join(lines))
    assert json.loads(sadcl("prepare-data", "phone", "--split", "test", "--json").stdout)["images"] == 12
    run = trained / "runs" / "coco"
    sadcl("eval", run, "--data", "phone", "--device", "cpu")
    predictions = [
        json.loads(line) for line in sadcl("predict", "phone", "-w", run, "--json", "--all-scores").stdout.splitlines()
    ]
    assert len(predictions) == 12
    assert all(0 < prediction["scores"]["zero"] < 1 for prediction in predictions)


def test_mistakes(in_trained: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, code, words in [
        (("predict",), 2, "Missing argument"),
        (("predict", f"{IMAGES}/001.png", "--all-scores"), 2, "Give --json as well"),
        (("predict", f"{IMAGES}/001.png", "--threshold", "auto"), 2, "sadcl eval --calibrate"),
        (("predict", f"{IMAGES}/001.png", "--threshold", "cat=0.3"), 2, "no class 'cat'"),
        (("predict", tmp_path / "none.jpg"), 3, "does not exist. Check the path."),
        (("predict", tmp_path / "empty"), 3, "holds no image"),
        (("predict", f"{IMAGES}/001.png", "--topk", "0"), 2, "--topk"),
        (("predict", f"{IMAGES}/001.png", "--part", "2"), 2, "such as 1/8"),
        (("predict", f"{IMAGES}/001.png", "--part", "2/1"), 2, "no such part"),
        (("predict", f"{IMAGES}/001.png", "--embed"), 2, "Give -o FILE.parquet"),
        (("predict", f"{IMAGES}/001.png", "--append"), 2, "--save-txt"),
        (("predict", f"{IMAGES}/001.png", "--exclude", "cat"), 2, "no class 'cat'"),
        (("predict", f"{IMAGES}/001.png", "--known", "one=1"), 2, "the head sarl of"),
        (("predict", f"{IMAGES}/001.png", "--known", "one=yes"), 2, "1 if it is there"),
        (("predict", f"{IMAGES}/001.png", "--known", "one=1", "--known", "one=0"), 2, "write each label once"),
        (("predict", f"{IMAGES}/001.png", "-o", "labels.txt"), 2, "does not end in .parquet"),
    ]:
        ran = in_trained(*arguments, code=code)
        assert words in ran.stderr
        assert ran.stdout == ""


def test_no_run_yet(sadcl: Sadcl, coco: Path) -> None:
    assert "Train first: sadcl train digits" in sadcl("predict", coco / "val2017" / "001.png", code=3).stderr


def test_any_source_into_any_file(in_trained: Sadcl, tmp_path: Path) -> None:
    names = [f"{IMAGES}/00{number}.png" for number in range(3)]
    (tmp_path / "all.txt").write_text("\n".join(str(Path(name).absolute()) for name in names))
    (tmp_path / "all.csv").write_text("file\n" + "\n".join(str(Path(name).absolute()) for name in names))
    lines = in_trained("predict", *names, "--json", "--topk", "2").stdout.splitlines()
    labels = [json.loads(line)["labels"] for line in lines]
    for sources in ((f"@{tmp_path}/all.txt",), (tmp_path / "all.csv",), (f"{IMAGES}/00[0-2].png",)):
        ran = in_trained("predict", *sources, "-o", tmp_path / "out.jsonl", "--topk", "2", "--exist-ok")
        assert ran.stdout == f"3 images saved to {tmp_path}/out.jsonl\n"
        assert [json.loads(line)["labels"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == labels
    parts = [in_trained("predict", f"@{tmp_path}/all.txt", "--json", "--topk", "2", "--part", f"{k}/2").stdout for k in (1, 2)]
    assert [json.loads(line)["labels"] for line in "".join(parts).splitlines()] == [labels[0], labels[2], labels[1]]


def test_results_beside_the_images(in_trained: Sadcl, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        (photos / f"{number}.png").write_bytes(Path(IMAGES, f"00{number}.png").read_bytes())
    (photos / "broken.png").write_bytes(b"")
    options = ("--save-txt", "--sort", tmp_path / "sorted", "--annotate", tmp_path / "drawn", "--topk", "2", "--exclude", "one")
    ran = in_trained("predict", photos, *options, code=3)
    assert ran.stdout == f"3 images; texts beside them; sorted into {tmp_path / 'sorted'}; pictures in {tmp_path / 'drawn'}\n"
    assert "1 of 3 images could not be read" in ran.stderr
    predictions = [
        json.loads(line) for line in in_trained("predict", photos, "--json", *options[-4:], code=3).stdout.splitlines()
    ]
    for prediction in predictions[:2]:
        names = [label["name"] for label in prediction["labels"]]
        assert "one" not in names
        path = Path(prediction["image"])
        assert path.with_suffix(".txt").read_text() == ", ".join(names)
        assert all((tmp_path / "sorted" / name / path.name).resolve() == path for name in names)
    assert len(list((tmp_path / "drawn").rglob("*.jpg"))) == 2
    in_trained("predict", photos / "0.png", "--save-txt", "--topk", "3", code=2)
    ran = in_trained("predict", photos / "0.png", "--txt-dir", tmp_path / "txt", "--topk", "3", "-o", tmp_path / "a.csv")
    assert ran.stdout == f"1 image saved to {tmp_path / 'a.csv'}; texts in {tmp_path / 'txt'}\n"


def test_the_same_command_goes_on(in_trained: Sadcl, tmp_path: Path) -> None:
    """The state after a kill is that after an error in a list: finished chunks, and no file."""
    more = tmp_path / "more.txt"
    more.write_bytes("x.png".encode("utf-16"))
    command = ("predict", IMAGES, more, "-o", tmp_path / "out.parquet", "--topk", "1")
    in_trained(*command, code=3)
    assert not (tmp_path / "out.parquet").exists()
    more.write_text("")
    in_trained(*command)
    assert "is there already" in in_trained(*command, code=2).stderr


def test_help_shows_the_options_in_groups(sadcl: Sadcl) -> None:
    text = sadcl("predict", "--help").stdout
    titles = [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [
        *("Images", "Labels", "Results", "Results beside and inside the images", "Model and machine", "Other options"),
    ]
    assert "IMAGE|DIR" in text


@pytest.mark.slow
def test_sigterm_says_what_is_kept(trained: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.txt"
    many.write_text(f"{trained / IMAGES / '001.png'}\n" * 100_000)
    output = tmp_path / "all.csv"
    process = start(trained, "predict", many, "-o", output)
    wait_until((tmp_path / ".all.csv.parts" / "000000.parquet").is_file, process)
    os.kill(process.pid, signal.SIGTERM)
    code, stdout, stderr = end(process)
    assert (code, stdout) == (143, "")
    (kept,) = re.findall(r"^Error: ended by SIGTERM\. ([\d,]+) images kept; the same command goes on\.$", stderr, re.MULTILINE)
    assert int(kept.replace(",", "")) % 1024 == 0
    assert not output.exists()


def test_known_labels_of_all_images(in_trained: Sadcl, tmp_path: Path) -> None:
    options = {"c_tran": {"width": 8, "feedforward": 16}}
    section = ModelSection(backbone="test_resnet", stride=16, pretrained=False, head="c_tran", heads=options)
    names = ("a, b", *CLASSES[1:])
    card = ModelCard(classes=names, img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, model=section)
    own = tmp_path / "own.safetensors"
    save_model(own, Classifier(section, num_classes=10, img_size=64).state_dict(), card)
    ran = in_trained(
        "predict", f"{IMAGES}/001.png", "-w", own, "--known", "a, b=1,one=0", "--known", "two=1", "--json", "--all-scores"
    )
    scores = json.loads(ran.stdout)["scores"]
    assert [scores[name] for name in names[:3]] == [1, 0, 1]
    assert 0 < scores["three"] < 1
    save_model(own, Classifier(section, num_classes=10, img_size=64).state_dict(), card.model_copy(update={"classes": CLASSES}))
    ran = in_trained("eval", own, "--data", "my-coco", "--known-share", "0.5", "-o", tmp_path, "--json", "--bootstrap", "0")
    document = json.loads(ran.stdout)
    assert (document["known_share"], document["unknown_labels"]) == (0.5, 12 * 5)
    assert f"{12 * 5} given or unknown labels left out" in document["summary"]
    assert {path.suffix for path in tmp_path.glob("*known-0.5*")} == {".json", ".csv"}
    for words, message in (
        (("--known-share", "1"), "from 0 to below 1"),
        (("--known-share", "0.5", "--save-scores", tmp_path / "s.npz"), "Leave one out"),
        (("--known-share", "0.5", "-w", "runs/coco"), "the head sarl of"),
    ):
        assert message in in_trained("eval", "--data", "my-coco", *words, code=2).stderr
