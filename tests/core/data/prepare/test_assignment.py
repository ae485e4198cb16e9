from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.prepare.assignment import extend_splits, splits_before
from sadcl_core.data.prepare.prepare import Prepared, find_or_prepare, prepare
from sadcl_core.data.rows import Record
from tests.core.data.formats.samples import SAMPLES, draw, put

LABELS = ("cat", "cat;dog", "dog;bird", "")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put_table(images: Mapping[int, str] | Iterable[int], *, name: str = "labels.csv") -> Path:
    """A table of numbered images in photos/ beside it; the content of each is decided by its number."""
    labels = images if isinstance(images, Mapping) else {number: LABELS[number % 4] for number in images}
    for number in labels:
        draw_number(f"{number:03d}", number)
    return put(Path("pets") / name, "image,labels\n" + "".join(f"photos/{k:03d}.png,{text}\n" for k, text in labels.items()))


def draw_number(name: str, content: int) -> None:
    path = Path("pets/photos") / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        Image.fromarray(np.random.default_rng(content).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)


def splits_of(manifest: Manifest) -> dict[str, str]:
    images, splits = (manifest.rows[name].to_pylist() for name in ("image", "split"))
    return dict(zip((image.removesuffix(".jpg") for image in images), splits, strict=True))


def prepared_splits(**options: object) -> dict[str, str]:
    return splits_of(prepare("pets", **options).manifest)  # type: ignore[arg-type]


def said(prepared: Prepared) -> str:
    return prepared.manifest.description.notes[-1]


def test_images_stay_where_they_are_when_labels_change() -> None:
    put_table(range(80))
    before = prepared_splits()
    put_table({number: "horse" if number % 9 == 0 else LABELS[(number // 3) % 4] for number in range(80)})
    taken = find_or_prepare("pets")
    assert taken.kind == "now"
    assert "horse" in taken.manifest.classes
    assert splits_of(taken.manifest) == before
    assert "80 images stay where they were" in taken.manifest.description.notes[-1]


def test_new_images_are_divided_and_the_others_stay() -> None:
    put_table(range(60))
    before = prepared_splits()
    put_table(range(160))
    after = prepared_splits()
    assert after.items() >= before.items()
    new = [split for image, split in after.items() if image not in before]
    assert {name: new.count(name) for name in ("train", "val", "test")} == {"train": 80, "val": 10, "test": 10}
    assert load_manifest(Path("prepared/pets")).splits == ["train", "val", "test"]


def test_a_new_copy_of_a_held_out_image_is_held_out_as_well() -> None:
    path = put_table(range(60))
    before = prepared_splits()
    for number in range(60):
        draw_number(f"copy {number:03d}", number)
    path.write_text(path.read_text() + "".join(f"photos/copy {k:03d}.png,{LABELS[k % 4]}\n" for k in range(60)))
    prepared = prepare("pets")
    after = splits_of(prepared.manifest)
    assert after.items() >= before.items()
    assert all(after[f"photos/copy {number:03d}.png"] == after[f"photos/{number:03d}.png"] for number in range(60))
    assert "duplicates across splits" not in {finding.what for finding in prepared.report.findings}


def test_images_that_are_no_longer_listed_leave() -> None:
    put_table(range(60))
    before = prepared_splits()
    put_table(range(20, 60))
    assert prepared_splits() == {image: split for image, split in before.items() if image >= "photos/020.png"}


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "0.5,0.3,0.2"}, {"split": "0.8,0.2"}, {"split": "test"}])
def test_all_is_divided_anew_in_another_way_and_then_stays_so(other: dict[str, object]) -> None:
    put_table(range(60))
    first = prepared_splits()
    second = prepared_splits(**other)
    fresh = prepare("pets", output=Path("fresh"), **other).manifest  # type: ignore[arg-type]
    assert second == splits_of(fresh) != first
    put_table(range(100))
    taken = find_or_prepare("pets").manifest
    assert splits_of(taken).items() >= second.items()
    assert taken.splits == fresh.splits
    assert len(taken) == 100


def test_the_same_again_is_the_same() -> None:
    put_table(range(40))
    assert prepared_splits() == prepared_splits() == prepared_splits(split="0.8,0.1,0.1") == prepared_splits(split="80,10,10")


def test_copies_are_in_the_splits_of_their_originals() -> None:
    put_table(range(40))
    before = prepared_splits()
    for resize in (8, 4, 0):
        assert prepared_splits(resize=resize) == before
    put_table({number: "dog" if number % 2 else "cat" for number in range(40)})
    assert prepared_splits(resize=8) == before


def test_an_image_that_was_broken_is_new_when_it_was_mended() -> None:
    put_table(range(60))
    whole = Path("pets/photos/007.png").read_bytes()
    Path("pets/photos/007.png").write_bytes(whole[:40])
    before = prepared_splits(skip_broken=True)
    assert len(before) == 59
    Path("pets/photos/007.png").write_bytes(whole)
    after = prepared_splits(skip_broken=True)
    assert after.items() >= before.items()
    assert len(after) == 60


def test_splits_that_the_data_have_come_before_an_earlier_division() -> None:
    path = put_table(range(40))
    before = prepared_splits()
    lines = [line + (",split" if k == 0 else f",{'ab'[k % 2]}") for k, line in enumerate(path.read_text().splitlines())]
    plain = path.read_text()
    path.write_text("\n".join(lines) + "\n")
    assert set(prepared_splits().values()) == {"a", "b"}
    path.write_text(plain)
    prepared = prepare("pets")
    assert "stay" not in said(prepared)
    assert splits_of(prepared.manifest) == before  # divided anew, in the same way


def test_damaged_rows_of_an_earlier_preparation_do_not_matter() -> None:
    put_table(range(40))
    before = prepared_splits()
    Path("prepared/pets/manifest.arrow").write_bytes(b"ARROW1 no")
    assert prepared_splits() == before


@pytest.mark.parametrize("name", ["train.csv", "trainval.csv", "train_labels.csv"])
@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_single_file_that_is_called_train_is_divided(name: str, whole_folder: bool) -> None:
    path = put_table(range(40), name=name)
    prepared = prepare(str(path.parent if whole_folder else path))
    assert prepared.manifest.split_sizes == {"train": 32, "val": 4, "test": 4}
    assert "divided by iterative stratification" in said(prepared)


def test_a_single_coco_file_that_is_called_train_is_divided() -> None:
    folder = SAMPLES["coco-official"](Path("mine"))
    prepared = prepare(str(folder / "annotations" / "instances_train2017.json"), data=folder)
    assert prepared.manifest.split_sizes == {"train": 1, "val": 1, "test": 1}
    assert all((folder / image).is_file() for image in prepared.manifest.rows["image"].to_pylist())


def test_a_file_that_is_said_to_be_train_is_all_of_train() -> None:
    path = put_table(range(40))
    prepared = prepare(f"train={path}")
    assert prepared.manifest.split_sizes == {"train": 40}
    assert not any("divided" in note for note in prepared.manifest.description.notes)


@pytest.mark.parametrize(
    ("said_split", "split"), [("Validation", "val"), ("testing", "test"), ("Training", "train"), ("mine", "mine")]
)
def test_one_split_may_be_called_as_people_call_it(said_split: str, split: str) -> None:
    put_table(range(12))
    prepared = prepare("pets", split=said_split)
    assert prepared.manifest.split_sizes == {split: 12}
    assert f"all images are in split {split}" in said(prepared)


def test_one_image_more_each_time_comes_to_train() -> None:
    put_table(range(20))
    before = prepared_splits()
    for count in (21, 22):
        put_table(range(count))
        after = prepared_splits()
        assert after == {**before, f"photos/{count - 1:03d}.png": "train"}
        before = after


def test_drawn_again_with_another_content_an_image_stays(tmp_path: Path) -> None:
    put_table(range(40))
    before = prepared_splits()
    Path("pets/photos/003.png").unlink()
    draw(tmp_path / "pets/photos/003.png")
    assert prepared_splits() == before


def test_images_stay_on_their_side_when_their_folder_moves() -> None:
    earlier = {f"photos/{n:03d}.jpg": "train" if n % 3 else "val" for n in range(12)}
    moved = [f"all/photos/{n:03d}.jpg" for n in range(12)] + ["all/more/000.jpg", "all/new.jpg"]
    assert splits_before(earlier, moved) == [*earlier.values(), None, None]
    assert splits_before(earlier, list(earlier)) == list(earlier.values())


def test_small_additions_do_not_change_the_fractions() -> None:
    fractions = {"train": 0.8, "val": 0.1, "test": 0.1}
    splits: list[str | None] = [*["train"] * 80, *["val"] * 10, *["test"] * 10]
    for _ in range(30):
        records = [Record(f"{n}.jpg", "", (n % 3,)) for n in range(len(splits) + 3)]
        manifest = Manifest.from_records(Description("some", Path("/images"), ("a", "b", "c")), records)
        divided, order = extend_splits(manifest, [*splits, None, None, None], fractions, seed=0)
        found = np.empty(len(records), dtype=object)
        found[order] = divided.rows["split"].to_pylist()
        assert found[: len(splits)].tolist() == splits
        splits = found.tolist()
    counts = [splits.count(name) for name in fractions]
    assert np.abs(np.array(counts) - 190 * np.array(list(fractions.values()))).max() <= 1
