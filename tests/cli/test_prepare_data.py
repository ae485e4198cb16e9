from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_cli.console import stages
from sadcl_core.data.manifest import load_manifest
from sadcl_core.runtime.progress import Bytes
from tests.conftest import Sadcl, make_voc, voc_object

LABELS = ("cat", "cat;dog", "dog;a bird", "")


def put_table(path: Path, numbers: Iterable[int], *, between: str = ";", split: str = "") -> Path:
    """A table of images in photos/ beside it: every fourth has no label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["image,labels,split" if split else "image,labels"]
    for number in numbers:
        image = path.parent / "photos" / f"{number}.png"
        image.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(image)
        lines.append(f"photos/{number}.png,{LABELS[number % 4].replace(';', between)}" + (f",{split}" if split else ""))
    path.write_text("\n".join(lines) + "\n")
    return path


def put_voc(folder: Path) -> Path:
    """Own classes, some difficult, no image sets, as VOC's files are in a folder of one's own."""
    make_voc(folder, {"trainval": {f"{k}": [voc_object("screw"), voc_object("nut", difficult=k % 2)] for k in range(20)}})
    sets = folder / "VOCdevkit/VOC2007/ImageSets"
    for path in sorted(sets.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    sets.rmdir()
    return folder / "VOCdevkit/VOC2007"


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


@pytest.fixture
def coco(tmp_path: Path, drawn_coco: Path) -> Path:
    """The small COCO data set, not prepared."""
    return Path(shutil.copytree(drawn_coco, tmp_path / "my-coco"))


@pytest.fixture
def pets(sadcl: Sadcl) -> Path:
    """A folder with a table of 40 images and no splits, in the folder the program runs in."""
    return put_table(Path("pets/labels.csv"), range(40)).parent


def test_report_and_manifest(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("prepare-data", "coco", "--data", coco)
    assert "manifest saved to prepared/coco" in ran.stdout
    for words in ("split", "images per class", "zero", "10 of 10"):
        assert words in ran.stdout
    assert "checking images: 36" in ran.stderr
    assert Path("prepared/coco/dataset.json").is_file()


def test_one_json_document(sadcl: Sadcl, coco: Path) -> None:
    document = json.loads(sadcl("prepare-data", "coco", "--data", coco, "--json").stdout)
    assert document["images"] == 36
    assert document["splits"]["train"]["images"] == 24
    assert len(document["splits"]["val"]["class_counts"]) == len(document["classes"]) == 10


def test_unknown_labels_have_their_column(sadcl: Sadcl, tmp_path: Path) -> None:
    splits = {"trainval": {"000001": [voc_object("dog", difficult=1)]}, "test": {"000002": [voc_object("dog")]}}
    ran = sadcl("prepare-data", "voc2007", "--data", make_voc(tmp_path / "voc", splits))
    assert "train unknown" in ran.stdout


def test_a_truncated_image_is_an_error_unless_skipped(sadcl: Sadcl, coco: Path) -> None:
    path = coco / "train2017" / "003.png"
    path.write_bytes(path.read_bytes()[:60])
    ran = sadcl("prepare-data", "coco", "--data", coco, code=3)
    assert ran.stdout == ""
    assert "1 of 36 images cannot be read" in ran.stderr
    assert "003.png" in ran.stderr
    assert "left out" in sadcl("prepare-data", "coco", "--data", coco, "--skip-broken").stderr


def test_mistakes(sadcl: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, code, words in [
        (("prepare-data", "coco", "--data", "nowhere"), 3, "nowhere does not exist"),
        (("prepare-data", "coco", "--data", "empty"), 3, "not in COCO's layout"),
        (("prepare-data", "voc2007", "--data", "empty"), 3, "not in VOC's layout"),
        (("prepare-data", "coc"), 2, "Did you mean 'coco'"),
        (("prepare-data",), 2, "Missing argument"),
    ]:
        ran = sadcl(*arguments, code=code)
        assert words in ran.stderr
        assert ran.stdout == ""


def test_an_unknown_class_in_a_file(sadcl: Sadcl, tmp_path: Path) -> None:
    splits: dict[str, dict[str, list[str]]] = {"trainval": {"000001": [voc_object("unicorn")]}, "test": {"000002": []}}
    ran = sadcl("prepare-data", "voc2007", "--data", make_voc(tmp_path / "voc", splits), code=3)
    assert "000001.xml: 'unicorn' is not one of the 20 classes" in ran.stderr


def test_a_table_without_splits_is_found_out_divided_and_shown(sadcl: Sadcl, pets: Path) -> None:
    before = state_of(pets)
    ran = sadcl("prepare-data", "pets")
    lines = [line.split() for line in ran.stdout.splitlines()]
    for row in (["train", "32", "8", "1.25", "3", "of", "3"], ["val", "4", "1", "1.25", "3", "of", "3"]):
        assert row in lines
    for row in (["a", "bird", "8", "1", "1"], ["cat", "16", "2", "2"], ["dog", "16", "2", "2"]):
        assert row in lines
    assert ["note", "10", "images", "without", "an", "active", "label"] in lines
    assert lines[-1] == ["manifest", "saved", "to", "prepared/pets"]
    assert "pets: read as csv" in ran.stderr
    assert "pets: divided by iterative stratification: train 0.8, val 0.1, test 0.1, seed 0" in ran.stderr
    assert "written: prepared/pets/report.png" in ran.stderr
    assert state_of(pets) == before
    assert load_manifest(Path("prepared/pets")).description.root == pets.resolve()


@pytest.mark.parametrize("how", ["pets", "pets/labels.csv", "{}/pets", "pets/../pets"])
def test_a_path_may_be_given_in_many_ways(sadcl: Sadcl, pets: Path, how: str) -> None:
    assert "manifest saved to prepared/pets" in sadcl("prepare-data", how.format(Path.cwd())).stdout
    assert len(load_manifest(Path("prepared/pets"))) == 40


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ("0.5,0.25,0.25", {"train": 20, "val": 10, "test": 10}),
        ("75,25", {"train": 30, "val": 10}),
        ("test", {"test": 40}),
        ("mine", {"mine": 40}),
    ],
)
def test_how_to_divide_can_be_said(sadcl: Sadcl, pets: Path, split: str, sizes: dict[str, int]) -> None:
    ran = sadcl("prepare-data", "pets", "--split", split)
    assert load_manifest(Path("prepared/pets")).split_sizes == sizes
    assert f"{'all images are in split ' + split if len(sizes) == 1 else 'divided by iterative stratification'}" in ran.stderr


def test_the_seed_decides_the_division_alone(sadcl: Sadcl, pets: Path) -> None:
    images = []
    for number, seed in enumerate(("1", "1", "2")):
        sadcl("prepare-data", "pets", "--seed", seed, "-o", f"out{number}")
        images.append(load_manifest(Path(f"out{number}")).rows["image"].to_pylist())
    assert images[0] == images[1] != images[2]


def test_classes_come_in_the_order_of_a_file(sadcl: Sadcl, pets: Path) -> None:
    Path("order.txt").write_text("dog\nfish\ncat\na bird\n")
    document = json.loads(sadcl("prepare-data", "pets", "--classes", "order.txt", "--json").stdout)
    assert document["classes"] == ["dog", "fish", "cat", "a bird"]
    assert [finding["examples"] for finding in document["findings"] if finding["what"] == "classes never positive"] == [["fish"]]


@pytest.mark.parametrize(
    ("delimiter", "classes"),
    [
        ((), ["a bird", "cat", "dog"]),
        (("--delimiter", ";"), ["a bird", "cat", "dog"]),
        (("--delimiter", "none"), ["cat", "cat;dog", "dog;a bird"]),
    ],
)
def test_what_stands_between_labels_can_be_said(sadcl: Sadcl, pets: Path, delimiter: tuple[str, ...], classes: list[str]) -> None:
    ran = sadcl("prepare-data", "pets", *delimiter, "--json")
    assert json.loads(ran.stdout)["classes"] == classes


def put_flags(text: str) -> Path:
    """A table of flags of 12 images beside it."""
    table = put_table(Path("flags/labels.csv"), range(12))
    lines = [f"photos/{k}.png,{text.splitlines()[1 + k % (len(text.splitlines()) - 1)]}" for k in range(12)]
    table.write_text("\n".join([text.splitlines()[0], *lines]) + "\n")
    return table


def test_how_labels_were_read_is_said_and_in_the_document(sadcl: Sadcl) -> None:
    table = put_flags("image,cat,dog,patient_id,note\n1,-1,7,x\n-1,1,8,y\n-1,-1,7,x\n")
    ran = sadcl("prepare-data", table)
    for words in (
        "labels.csv: images in column image (its name is a usual one and it holds paths of images); classes cat, dog (",
        "a likely group in column patient_id: --group-by patient_id",
        "not read: note (its name is that of a fact about images); -1 is absent, 1 is present (--present, --absent, --unknown)",
        "images found in ./ (12)",
    ):
        assert words in ran.stderr
    document = json.loads(sadcl("prepare-data", table, "--json").stdout)["interpretation"]
    assert [column["role"] for column in document["files"][0]["columns"]] == ["image", "class", "class", "group", "metadata"]
    assert document["files"][0]["values"] == {"-1": "absent", "1": "present"}
    assert document["places"] == [{"folder": "", "images": 12, "dropped": "", "extension": ""}]


def test_what_values_mean_can_be_said(sadcl: Sadcl) -> None:
    table = put_flags("image,cat,dog\n1,\n,1\n,\n")
    assert "Say --absent blank or --unknown blank" in sadcl("prepare-data", table, code=3).stderr
    ran = sadcl("train", table, code=3)
    assert f"or --unknown blank. Give it to: sadcl prepare-data {table}." in ran.stderr
    sadcl("prepare-data", table, "--absent", "blank")
    assert load_manifest(Path("prepared/flags")).split("train").inactive_counts().all()
    ran = sadcl("prepare-data", table, "--absent", "blank", "--delimiter", ";", code=2)
    assert "--delimiter has no effect, because no cell holds several labels" in ran.stderr


def test_classes_may_be_given_by_name(sadcl: Sadcl) -> None:
    table = put_flags("image,cat,dog,visible\n1,0,0\n0,1,1\n")
    ran = sadcl("prepare-data", table, code=3)
    assert "columns visible may be classes, or facts about the images" in ran.stderr
    sadcl("prepare-data", table, "--classes", "dog,cat")
    assert load_manifest(Path("prepared/flags")).classes == ("dog", "cat")
    many = [f"a name of many letters {k}" for k in range(20)]  # more than the name of a file may have
    table = put_flags(",".join(["image", *many]) + "\n" + ",".join("10" * 10) + "\n" + ",".join("01" * 10) + "\n")
    sadcl("prepare-data", table, "--classes", ",".join(many))
    assert load_manifest(Path("prepared/flags")).classes == tuple(many)
    sadcl("prepare-data", table, "--keep", many[3])
    assert load_manifest(Path("prepared/flags")).classes == (many[3],)
    assert "mine.txt is missing" in sadcl("prepare-data", table, "--keep", "mine.txt", code=3).stderr


def test_labels_that_are_all_present_or_unknown_are_not_trained_on(sadcl: Sadcl) -> None:
    table = put_flags("image,cat,dog\n1,\n,1\n,\n")
    sadcl("prepare-data", table, "--unknown", "blank")
    ran = sadcl("train", "prepared/flags", "--epochs", "1", code=3)
    assert "has no inactive label: all are active or unknown" in ran.stderr


@pytest.mark.parametrize(("difficult", "active", "unknown"), [("ignore", 10, 10), ("negative", 10, 0), ("positive", 20, 0)])
def test_what_difficult_objects_say_can_be_said(sadcl: Sadcl, difficult: str, active: int, unknown: int) -> None:
    document = json.loads(sadcl("prepare-data", put_voc(Path("parts")), "--difficult", difficult, "--json").stdout)
    assert document["classes"] == ["nut", "screw"]
    assert sum(split["class_counts"][0] for split in document["splits"].values()) == active
    assert sum(split["unknown_counts"][0] for split in document["splits"].values()) == unknown
    assert sum(split["images"] for split in document["splits"].values()) == 20


def test_compact_copies_and_label_files_and_shards(sadcl: Sadcl, pets: Path) -> None:
    pytest.importorskip("webdataset")
    before = state_of(pets)
    more = ("--resize", "12", "--export", "coco", "--export", "csv", "--shards", "tar", "-o", "out", "--name", "my pets")
    ran = sadcl("prepare-data", "pets", *more)
    assert "my-pets: images are compact copies with a short side of 12 pixels at most" in ran.stderr
    for path in ("out/export/coco/annotations/instances_train.json", "out/export/csv/labels.csv", "out/report.png", "tar"):
        assert f"written: {path}" in ran.stderr.splitlines()
    for file in (Path("out/images-12/photos/0.png.jpg"), Path("tar/manifest.arrow"), Path("out/report.json")):
        assert file.is_file()
    with Image.open("out/images-12/photos/0.png.jpg") as picture:
        assert picture.size == (16, 12)
    back = sadcl("prepare-data", "out/export/csv", "--data", "out/images-12", "-o", "back", "--json")
    assert {name: split["images"] for name, split in json.loads(back.stdout)["splits"].items()} == {
        "train": 32,
        "val": 4,
        "test": 4,
    }
    assert state_of(pets) == before


def test_groups_of_classes_are_data_sets_with_the_same_splits(sadcl: Sadcl, pets: Path) -> None:
    table = put_flags("image,cat,dog,cow\n1,1,0\n0,0,1\n1,1,0\n0,0,1\n")
    ran = sadcl("prepare-data", table, "--class-groups", "2", "--split", "0.5,0.5")
    assert "written: prepared/flags/class-groups-2" in ran.stderr.splitlines()
    assert "prepared/flags/class-groups-2/together-1: cat, dog" in ran.stdout.splitlines()
    whole = load_manifest(Path("prepared/flags"))
    groups = [load_manifest(path) for path in sorted(Path("prepared/flags/class-groups-2").iterdir())]
    assert [group.description.name for group in groups] == [f"flags-{kind}-{n}" for kind in ("apart", "together") for n in (1, 2)]
    assert [group.classes for group in groups[2:]] == [("cat", "dog"), ("cow",)]
    assert all(list(group.split("train")) == list(whole.split("train")) for group in groups)
    sadcl("prepare-data", table, "--class-groups", "2", "--split", "0.5,0.5")  # over itself
    ran = sadcl("prepare-data", table, "--class-groups", "3", code=2)
    assert "give 2 groups or more, and fewer than the 3 classes" in ran.stderr


def test_label_files_one_per_split(sadcl: Sadcl) -> None:
    for number, split in enumerate(("a", "b", "c")):
        put_table(Path(f"pets/{split}.csv"), range(10 * number, 10 * number + 10))
    ran = sadcl("prepare-data", "train=pets/a.csv", "valid=pets/b.csv", "mine=pets/c.csv")
    assert load_manifest(Path("prepared/pets")).split_sizes == {"train": 10, "val": 10, "mine": 10}
    assert "divided" not in ran.stderr


def test_splits_that_are_there_are_kept(sadcl: Sadcl) -> None:
    put_table(Path("pets/labels.csv"), range(8), split="Validation")
    table = Path("pets/labels.csv").read_text()
    Path("pets/labels.csv").write_text(table.replace("photos/7.png,,Validation", "photos/7.png,,train"))
    ran = sadcl("prepare-data", "pets", "--json")
    assert {name: split["images"] for name, split in json.loads(ran.stdout)["splits"].items()} == {"train": 1, "val": 7}
    again = sadcl("prepare-data", "pets", "--split", "0.5,0.5", "-o", "out")
    assert "seed 0; the splits val, train that they had are not kept" in again.stderr
    assert load_manifest(Path("out")).split_sizes == {"train": 4, "val": 4}


def test_a_name_decides_the_folder(sadcl: Sadcl, pets: Path) -> None:
    assert "manifest saved to prepared/animals" in sadcl("prepare-data", "pets", "--name", "animals").stdout
    assert load_manifest(Path("prepared/animals")).description.name == "animals"


def test_the_document_says_what_was_found_and_written(sadcl: Sadcl, pets: Path) -> None:
    (pets / "photos" / "39.png").write_bytes((pets / "photos" / "0.png").read_bytes())
    ran = sadcl("prepare-data", "pets", "--json", "--export", "jsonl")
    document = json.loads(ran.stdout)
    assert {key: document[key] for key in ("schema_version", "name", "manifest", "images", "problems")} == {
        "schema_version": 1,
        "name": "pets",
        "manifest": "prepared/pets",
        "images": 40,
        "problems": [],
    }
    assert document["root"] == str(pets.resolve())
    found = {finding["what"]: finding for finding in document["findings"]}
    assert (found["no label"]["severity"], found["no label"]["count"]) == ("note", 10)
    assert found["duplicates with other labels"]["count"] == 1
    assert found["duplicates within a split"]["examples"] == ["photos/0.png (train) = photos/39.png (train)"]
    assert [Path(path).name for path in document["written"]] == ["report.json", "report.png", "labels.jsonl", "classes.txt"]
    assert all(Path(path).is_file() for path in document["written"])
    assert document["notes"][0] == "read as csv"
    report = json.loads(Path("prepared/pets/report.json").read_text())
    assert report["findings"] == document["findings"]
    assert "checking images: 40" in ran.stderr


def test_images_without_a_label_only_counted_when_decoding_is_left_out(sadcl: Sadcl, pets: Path) -> None:
    (pets / "photos" / "0.png").write_text("no image")
    sadcl("prepare-data", "pets", code=3)
    sadcl("prepare-data", "pets", "--fast")
    assert Path("prepared/pets/report.png").is_file()
    assert json.loads(Path("prepared/pets/report.json").read_text())["images_decoded"] is False


def test_quiet_says_nothing_but_the_result(sadcl: Sadcl, pets: Path) -> None:
    ran = sadcl("prepare-data", "pets", "-q", "--export", "csv", "--resize", "8")
    assert ran.stderr == ""
    assert "manifest saved to prepared/pets" in ran.stdout


def test_the_same_again_and_other_data_in_its_place(sadcl: Sadcl, pets: Path) -> None:
    sadcl("prepare-data", "pets")
    sadcl("prepare-data", "pets", "--seed", "3")
    put_table(Path("other/pets/labels.csv"), range(8))
    before = state_of(Path("prepared"))
    assert "prepared/pets is the manifest of " in sadcl("prepare-data", "other/pets", code=2).stderr
    assert state_of(Path("prepared")) == before


def test_mistakes_in_paths_and_options(sadcl: Sadcl, pets: Path) -> None:
    before = state_of(pets)
    Path("order.txt").write_text("dog\nfish\n")
    Path("empty.csv").write_text("")
    for arguments, code, words in [
        (("pets", "--format", "cvs"), 2, "There is no format called 'cvs'. Did you mean 'csv'?"),
        (("pets", "--format", "voc"), 3, "pets is not in VOC's layout"),
        (
            ("pets", "--export", "csv", "--export", "yolo"),
            2,
            "Labels cannot be written as 'yolo'. Choose from: coco, csv, jsonl.",
        ),
        (("pets", "--split", "0.5,0.2"), 2, "The parts of '0.5,0.2' sum to 0.7 and not to 1."),
        (("pets", "--split", "0.5,x"), 2, "'0.5,x' has a part that is not a number above 0."),
        (("pets", "--seed", "-1"), 2, "--seed"),
        (("pets", "--resize", "-1"), 2, "--resize"),
        (("pets", "--resize", "9000"), 2, "--resize"),
        (("pets", "--difficult", "maybe"), 2, "--difficult"),
        (("pets", "--classes", "none.txt"), 3, "none.txt is missing."),
        (("pets", "--classes", "order.txt"), 3, "labels.csv, row 2: 'cat' is not one of the 2 classes (dog, fish"),
        (("pets", "--data", "nowhere"), 3, "nowhere does not exist. Check --data."),
        (("pets", "-o", "pets"), 2, "pets holds other files. Choose another place for the manifest with -o."),
        (("pets", "-o", "order.txt"), 2, "order.txt"),
        (("petz",), 2, "There is no data set 'petz', and no folder or file of that name."),
        (("pets/none.csv",), 3, "pets/none.csv does not exist. Check the path."),
        (("train=pets/none.csv", "test=pets/labels.csv"), 3, "pets/none.csv does not exist."),
        (("pets", "other"), 2, "pets does not say which split it is. Give one path, or one file per split"),
        (("train=pets/labels.csv", "training=pets/labels.csv"), 2, "Split train is given twice."),
        (("empty.csv",), 3, "empty.csv is empty."),
    ]:
        ran = sadcl("prepare-data", *arguments, code=code)
        assert words in ran.stderr
        assert ran.stdout == ""
        assert not Path("prepared").exists()
    assert state_of(pets) == before


def test_images_that_are_somewhere_else(sadcl: Sadcl, pets: Path) -> None:
    os.rename("pets/photos", "elsewhere")  # noqa: PTH104 - a folder
    ran = sadcl("prepare-data", "pets", code=3)
    assert "There are labels, but none of the 40 images" in ran.stderr
    assert "Say with --data DIR which folder holds them." in ran.stderr
    Path("photos").mkdir()
    os.rename("elsewhere", "photos/photos")  # noqa: PTH104
    sadcl("prepare-data", "pets", "--data", "photos")


@pytest.mark.parametrize("locked", ["pets", "pets/labels.csv", "pets/photos"])
def test_what_may_not_be_read_is_a_mistake_in_the_data(sadcl: Sadcl, pets: Path, locked: str) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    mode = Path(locked).stat().st_mode
    Path(locked).chmod(0)
    try:
        ran = sadcl("prepare-data", "pets", code=None)
    finally:
        Path(locked).chmod(mode)
    assert ran.exit_code in (2, 3), ran.stderr
    assert ran.stderr.count("Error: ") == 1
    assert "pets" in ran.stderr


def test_columns_and_rows_of_tables_can_be_said(sadcl: Sadcl, pets: Path) -> None:
    lines = ["image,caption,finding", *(f"photos/{k % 20}.png,a photo,{'cat' if k < 20 else 'dog'}" for k in range(40))]
    (pets / "labels.csv").write_text("\n".join(lines) + "\n")
    ran = sadcl("prepare-data", "pets", "--label-column", "finding", "--long", "--split", "Validation", "--json")
    document = json.loads(ran.stdout)
    assert document["classes"] == ["cat", "dog"]
    assert {name: split["class_counts"] for name, split in document["splits"].items()} == {"val": [20, 20]}
    ran = sadcl("prepare-data", "pets", "--label-column", "finding", "-o", "out", code=3)
    assert "say --long" in ran.stderr


def test_a_spreadsheet_is_to_be_saved_as_text(sadcl: Sadcl) -> None:
    Path("labels.xlsx").write_bytes(b"PK\x03\x04")
    ran = sadcl("prepare-data", "labels.xlsx", code=3)
    assert "labels.xlsx is a spreadsheet. Save it as CSV." in ran.stderr


def test_a_division_outlasts_its_labels(sadcl: Sadcl, pets: Path) -> None:
    def splits() -> dict[str, str]:
        manifest = load_manifest(Path("prepared/pets"))
        return dict(zip(*(manifest.rows[name].to_pylist() for name in ("image", "split")), strict=True))

    sadcl("prepare-data", "pets")
    before = splits()
    text = (pets / "labels.csv").read_text()
    (pets / "labels.csv").write_text(text.replace("cat;dog", "dog"))
    assert "40 images stay where they were" in sadcl("prepare-data", "pets").stderr
    assert splits() == before
    assert "stay" not in sadcl("prepare-data", "pets", "--seed", "1").stderr
    assert splits() != before


def test_class_names_are_no_markup(sadcl: Sadcl, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("image,labels\na.png,cat[b];dog[/x]\n")
    ran = sadcl("prepare-data", "labels.csv", "--split", "test")
    assert "cat[b]" in ran.stdout
    assert "dog[/x]" in ran.stdout


def test_amounts_are_counted_or_measured_in_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    with stages() as report:
        report(Bytes("fetching a.zip"), 3 << 19, 4 << 20)
        report("checking images", 7, 7)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" in ")[0] for line in lines] == ["fetching a.zip: 1.5 MiB", "checking images: 7"]


def test_a_work_that_goes_on_has_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with stages(every=0) as report:
        for done in (1, 2, 3):
            report("checking images", done, 3)
    lines = capsys.readouterr().err.splitlines()
    begins = ["checking images: 1 of 3", "checking images: 2 of 3", "checking images: 3"]
    assert [line.split(" in ")[0] for line in lines] == begins


@pytest.mark.parametrize(("every", "lines"), [(0, 3), (3600, 0)])
def test_a_work_that_need_not_be_named_has_lines_if_it_goes_on(
    capsys: pytest.CaptureFixture[str], every: int, lines: int
) -> None:
    with stages(every=every, brief=False) as report:
        for done in (1, 2, 3):
            report("scoring held-out images", done, 3)
    assert len(capsys.readouterr().err.splitlines()) == lines
