"""A command that a message shows prepares the data as they were, and mends what it is shown for."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.checks import require_inactive
from sadcl_core.data.prepare.command import prepare_again
from sadcl_core.data.prepare.prepare import find_or_prepare, prepare
from sadcl_core.diagnosis.checks_data import few_positives, label_names, same_images
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.findings import Finding
from sadcl_core.errors import DataError
from sadcl_core.runs.card import ModelCard
from tests.conftest import Sadcl
from tests.core.data.formats.samples import draw_all, put

IMAGES = [f"{k}.png" for k in range(40)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_all(Path("my photos"), IMAGES)


def put_marks(path: str, *, split: bool = False) -> Path:
    """A table of three classes, of which `owl, grey` is rare; -1 is absent, and x is one more present."""
    header = ["image", "cat", "dog", '"owl, grey"', *(["split"] if split else [])]
    rows = [
        [
            image,
            ("1", "-1")[k % 2],
            ("-1", "x", "1")[k % 3],
            ("-1", "1")[k < 4],
            *([("train", "val")[k % 4 == 3]] if split else []),
        ]
        for k, image in enumerate(IMAGES)
    ]
    return put(Path(path), "\n".join(map(",".join, [header, *rows])) + "\n")


def run_shown(sadcl: Sadcl, text: str) -> None:
    """Run the command that a message shows."""
    command = re.search(r"sadcl (prepare-data .+?)(, and train again)?$", text)
    assert command is not None, text
    sadcl(*shlex.split(command[1]))


def checked(check: Any, manifest: Manifest, **facts: Any) -> Finding:
    train, held_out = manifest.split("train"), manifest.split("val")
    finding: Finding = check(Evidence(Path("run"), {}, manifest=manifest, train=train, held_out=held_out, **facts))
    return finding


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "my birds", "output": "out here"},
        {"drop": ["cat"], "merge": ["pet=cat,dog"][:0], "seed": 3, "split": "0.5,0.5", "fast": True},
        {"merge": ["pet=cat,dog", 'bird="owl, grey"'], "limit": 30, "min_positives": 2},
        {"keep": 'dog,"owl, grey"', "resize": 16, "group_by": r"(\d)\.png"},
        {"classes": '"owl, grey",dog,cat', "image_column": "image", "split_column": "none"},
    ],
)
def test_data_are_prepared_again_as_they_were(sadcl: Sadcl, options: dict[str, Any]) -> None:
    table = put_marks("labels/marks.csv")
    before = prepare(table, data="my photos", present="x", **options).manifest
    assert before.folder is not None
    run_shown(sadcl, prepare_again(before))
    again = load_manifest(before.folder)
    assert (again.fingerprint(), again.classes) == (before.fingerprint(), before.classes)
    assert again.description.options == before.description.options


def test_the_doctor_leaves_rare_classes_out(sadcl: Sadcl) -> None:
    manifest = prepare(put_marks("my photos/marks.csv"), present="x", output="out").manifest
    finding = checked(few_positives, manifest)
    assert finding.numbers["few"] == ["owl, grey (3)"]
    run_shown(sadcl, finding.action)
    assert load_manifest(Path("out")).classes == ("cat", "dog")
    assert checked(few_positives, load_manifest(Path("out"))).status == "passed"


def test_the_doctor_divides_again_what_is_on_both_sides(sadcl: Sadcl) -> None:
    for k in (4, 8, 12):
        Path(f"my photos/{k}.png").write_bytes(Path(f"my photos/{k - 1}.png").read_bytes())
    manifest = prepare(put_marks("my photos/marks.csv", split=True), present="x").manifest
    finding = checked(same_images, manifest)
    assert finding.numbers["same_content"] == 3
    run_shown(sadcl, finding.action)
    again = load_manifest(Path("prepared/marks"))
    assert again.split_sizes == {"train": 32, "val": 4, "test": 4}
    assert "the splits train, val that they had are not kept" in again.description.notes[-1]
    assert checked(same_images, again).status == "passed"


@pytest.mark.parametrize(
    ("cells", "options", "meant"),
    [
        (("1", ""), {"unknown": "blank"}, "If blank means that a class is absent"),
        (("yes", "-1"), {"unknown": "-1,?"}, "If -1 means that a class is absent"),
        (("1", "u", "?"), {"unknown": "U"}, r"If \? or u means that a class is absent"),
    ],
)
def test_labels_without_an_inactive_one_are_refused_with_the_command_that_makes_some(
    sadcl: Sadcl, cells: tuple[str, ...], options: dict[str, Any], meant: str
) -> None:
    rows = [f"{image},{cells[k % len(cells)]},{cells[(k + 1) % len(cells)]}\n" for k, image in enumerate(IMAGES)]
    table = put(Path("my photos/marks.csv"), "image,cat,dog\n" + "".join(rows))
    split = prepare(table, **options).manifest.split("train")
    with pytest.raises(DataError, match=rf"Split train of marks has no inactive label.*{meant}") as refused:
        require_inactive(split)
    run_shown(sadcl, str(refused.value))
    require_inactive(load_manifest(Path("prepared/marks")).split("train"))


def test_data_that_were_not_divided_are_not_divided_by_the_command(sadcl: Sadcl) -> None:
    put(Path("my photos/more.csv"), put_marks("my photos/marks.csv").read_text().replace("x", "1"))
    whole = find_or_prepare("my photos/more.csv", whole=True).manifest
    assert (whole.folder, whole.split_sizes) == (Path("prepared/more@test"), {"test": 40})
    run_shown(sadcl, prepare_again(whole, min_positives=5))
    again = find_or_prepare("my photos/more.csv", whole=True)
    assert (again.kind, again.manifest.split_sizes, again.manifest.classes) == ("before", {"test": 40}, ("cat", "dog"))


def test_labels_without_an_inactive_one_and_an_unknown_one_need_other_images() -> None:
    table = put(Path("my photos/marks.csv"), "image,cat,dog\n" + "".join(f"{image},1,1\n" for image in IMAGES))
    with pytest.raises(DataError, match=r"would be perfect\. Add images that do not show every class"):
        require_inactive(prepare(table).manifest.split("train"))


@pytest.mark.parametrize("classes", [("cat", "dog"), ("dog", "owl, grey", "cat")])
def test_the_doctor_gives_the_data_the_classes_of_the_model(sadcl: Sadcl, classes: tuple[str, ...]) -> None:
    manifest = prepare(put_marks("my photos/marks.csv"), present="x").manifest
    card = ModelCard(classes=classes, img_size=16, mean=(0, 0, 0), std=(1, 1, 1), model=ModelSection())
    finding = checked(label_names, manifest, card=card)
    run_shown(sadcl, finding.action)
    assert checked(label_names, load_manifest(Path("prepared/marks")), card=card).status == "passed"


def test_images_that_cannot_be_read_are_left_out_by_the_command_that_is_shown(sadcl: Sadcl) -> None:
    table = put_marks("my photos/marks.csv")
    Path("my photos/7.png").write_bytes(b"none")
    with pytest.raises(DataError) as refused:
        prepare(table, present="x", drop=["cat"], name="mine")
    run_shown(sadcl, str(refused.value))
    manifest = load_manifest(Path("prepared/mine"))
    assert (len(manifest), manifest.classes) == (39, ("dog", "owl, grey"))
