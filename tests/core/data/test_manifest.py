from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from sadcl_core.data.interpretation import Column, FileReading, ImagePlace, Interpretation, LeftOut
from sadcl_core.data.manifest import Description, Manifest, Shards, load_manifest, load_with_images
from sadcl_core.data.rows import Box, Record
from sadcl_core.errors import DataError


def describe(**changes: object) -> Description:
    values: dict[str, object] = {"name": "pets", "root": Path("/images"), "classes": ("cat", "dog", "fish"), **changes}
    return Description(**values)  # type: ignore[arg-type]


RECORDS = [
    Record("a.jpg", "train", (2, 0), unknown=(1,), boxes=(Box(2, 1.0, 2.0, 3.0, 4.0),)),
    Record("b.jpg", "train", ()),
    Record("c.jpg", "test", (1, 1), unknown=(1, 2), boxes=()),
]


def test_targets_counts_and_boxes() -> None:
    train = Manifest.from_records(describe(), RECORDS).split("train")
    assert train.targets(0).tolist() == [1, -1, 1]
    assert train.targets(1).tolist() == [0, 0, 0]
    assert train.active(0) == [0, 2]
    assert train.boxes(0) == [Box(2, 1.0, 2.0, 3.0, 4.0)]
    assert train.boxes(1) is None
    assert train.class_counts().tolist() == [1, 0, 1]
    assert train.unknown_counts().tolist() == [0, 1, 0]
    assert train.labels_per_image().tolist() == [2, 0]
    assert list(train) == ["a.jpg", "b.jpg"]
    assert train.path(1) == Path("/images/b.jpg")


def test_active_wins_over_unknown() -> None:
    test = Manifest.from_records(describe(), RECORDS).split("test")
    assert test.targets(0).tolist() == [0, 1, -1]
    assert test.boxes(0) == []


def test_all_targets_are_those_of_each_image() -> None:
    rng = np.random.default_rng(0)
    records = [
        Record(f"{i}.jpg", ("train", "test")[i % 3 == 0], tuple(rng.permutation(3)[: i % 3]), tuple(rng.permutation(3)[: i % 4]))
        for i in range(50)
    ]
    manifest = Manifest.from_records(describe(), records)
    for block in (1, 7, 1 << 16):
        for name in ("train", "test", "all"):
            split = manifest.split(name)
            assert split.all_targets(block=block).dtype == np.int8
            assert np.array_equal(split.all_targets(block=block), [split.targets(i) for i in range(len(split))])


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    manifest = Manifest.from_records(describe(superclasses=("pet", "pet", "food"), notes=("a note",)), RECORDS)
    manifest.save(tmp_path)
    loaded = load_manifest(tmp_path)
    assert loaded.rows.equals(manifest.rows)
    assert loaded.description == manifest.description
    assert json.loads((tmp_path / "dataset.json").read_text())["splits"] == {"train": 2, "test": 1}


def test_how_labels_were_read_is_stored_and_may_be_missing(tmp_path: Path) -> None:
    account = Interpretation(
        "csv",
        (FileReading("a.csv", "train", 1, (Column("path", "image", "its name"),), ";", {"-1": "absent"}),),
        (ImagePlace("photos", 1, "old", ".jpg"),),
        (LeftOut("row", ("3",), "no label", 1),),
    )
    manifest = Manifest.from_records(Description("pets", tmp_path, ("cat",), interpretation=account), [Record("a.jpg", "", (0,))])
    manifest.save(tmp_path)
    assert load_manifest(tmp_path).description.interpretation == account
    stored = json.loads((tmp_path / "dataset.json").read_text())
    del stored["interpretation"]  # as earlier versions wrote it
    (tmp_path / "dataset.json").write_text(json.dumps(stored))
    assert load_manifest(tmp_path).description.interpretation is None
    (tmp_path / "dataset.json").write_text(json.dumps({**stored, "interpretation": {"format": "csv", "files": [{"columns": 5}]}}))
    with pytest.raises(DataError, match="cannot be read"):
        load_manifest(tmp_path)


def test_root_can_be_moved(tmp_path: Path) -> None:
    Manifest.from_records(describe(), RECORDS).save(tmp_path)
    assert load_manifest(tmp_path, root=Path("/moved")).split("train").path(0) == Path("/moved/a.jpg")


def test_images_that_are_gone(tmp_path: Path) -> None:
    Manifest.from_records(describe(), RECORDS).save(tmp_path)
    with pytest.raises(DataError, match=r"images of pets are not in /images\. Give their folder: --data"):
        load_with_images(tmp_path)
    assert load_with_images(tmp_path, root=tmp_path).split("train").path(0) == tmp_path / "a.jpg"


def test_rows_of_a_split_that_do_not_lie_together() -> None:
    records = [Record(f"{i}.jpg", ("train", "test")[i % 2], (i % 3,)) for i in range(10)]
    test = Manifest.from_records(describe(), records).split("test")
    assert list(test) == [f"{i}.jpg" for i in range(1, 10, 2)]
    assert [test.active(i) for i in range(5)] == [[i % 3] for i in range(1, 10, 2)]
    assert test.class_counts().tolist() == [2, 2, 1]


def test_a_pickled_split_carries_no_rows(tmp_path: Path) -> None:
    records = [Record(f"{i:06d}.jpg", "train", (i % 3,)) for i in range(20_000)]
    split = Manifest.from_records(describe(root=tmp_path), records).save(tmp_path).split("train")
    pickled = pickle.dumps(split)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert again[19_999] == split[19_999]
    assert np.array_equal(again.class_counts(), split.class_counts())


def test_a_pickled_split_is_found_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Manifest.from_records(describe(root=Path("photos")), RECORDS).save(Path("here"))
    pickled = pickle.dumps(load_manifest(Path("here"), root=Path("moved")).split("train"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    again = pickle.loads(pickled)
    assert list(again) == ["a.jpg", "b.jpg"]
    assert again.path(0) == Path("moved/a.jpg")


def test_a_pickled_split_is_not_taken_from_data_that_were_prepared_again(tmp_path: Path) -> None:
    manifest = Manifest.from_records(describe(), RECORDS)
    pickled = pickle.dumps(manifest.save(tmp_path).split("train"))
    manifest.save(tmp_path)
    with pytest.raises(DataError, match=r"was prepared again while it was in use\. Start again"):
        pickle.loads(pickled)


def test_the_fingerprint_is_that_of_the_rows_alone(tmp_path: Path) -> None:
    manifest = Manifest.from_records(describe(), RECORDS)
    first, second = (manifest.save(tmp_path / name) for name in ("first", "second"))
    assert first.description.stamp != second.description.stamp
    assert first.fingerprint() == second.fingerprint() == load_manifest(tmp_path / "first", root=tmp_path).fingerprint()
    for change in ({"image": "d.jpg"}, {"split": "val"}, {"active": (0,)}, {"unknown": (0,)}):
        other = Manifest.from_records(describe(), [*RECORDS[:2], RECORDS[2]._replace(**change)])
        assert other.save(tmp_path / "other").fingerprint() != first.fingerprint()


@pytest.mark.parametrize("name", ["manifest.arrow", "dataset.json"])
def test_files_of_two_preparations_are_not_put_together(tmp_path: Path, name: str) -> None:
    for folder in ("first", "second"):
        Manifest.from_records(describe(), RECORDS).save(tmp_path / folder)
    shutil.copy(tmp_path / "second" / name, tmp_path / "first" / name)
    with pytest.raises(DataError, match=r"manifest\.arrow and dataset\.json are not of one preparation. Run sadcl prepare-data"):
        load_manifest(tmp_path / "first")


@pytest.mark.parametrize("records", [RECORDS[:2], [Record("a.jpg", "train", (0,), unknown=(2,))]])
def test_labels_that_are_of_no_class_are_refused(tmp_path: Path, records: list[Record]) -> None:
    Manifest.from_records(describe(), records).save(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "classes": ["cat", "dog"]}))
    with pytest.raises(DataError, match="are not of one preparation"):
        load_manifest(tmp_path)


FILES: dict[str, tuple[tuple[str, int], ...]] = {"train": (("train-000000.tar", 2),), "test": (("test-000000.tar", 1),)}
BASES = ("https://host/sets/", "http://host:8080/~me/a%20b/", "s3://bucket/a-b_c/", "gs://bucket/")


@pytest.mark.parametrize("base", ["", *BASES])
def test_a_description_may_say_at_which_address_its_shards_are(tmp_path: Path, base: str) -> None:
    Manifest.from_records(describe(shards=Shards(base, FILES)), RECORDS).save(tmp_path)
    shards = load_manifest(tmp_path).description.shards
    assert shards is not None
    assert shards.base == (base or f"{tmp_path.resolve()}/")


@pytest.mark.parametrize(
    "base",
    [
        *("pipe:touch PWNED; cat sh/", "PIPE:touch PWNED/", "file:/etc/", "ftp://host/a/", "/etc/", "../", "sh/", "~/"),
        *(f"{BASES[0]}{text}/" for text in (";touch PWNED;", "$(touch PWNED)", "`touch PWNED`", "a b", "'", '"', "a\nb", "|sh")),
        *("https://host", "s3://bucket/a", " https://host/", "https://host/\n", "https:///"),
    ],
)
def test_a_description_cannot_say_what_is_to_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"dataset\.json says that its shards are at .*, which is no web address"):
        Manifest.from_records(describe(shards=Shards(base, FILES)), RECORDS).save(tmp_path / "sh")
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([Record("a.jpg", "train", (3,))], "has label 3, but there are 3 classes"),
        ([Record("a.jpg", "train", (-1,))], "has label -1"),
        ([Record("a.jpg", "train", ()), Record("a.jpg", "train", (1,))], "listed twice"),
        ([], "no image is listed"),
    ],
)
def test_refuses_impossible_records(records: list[Record], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Manifest.from_records(describe(), records)


def test_refuses_impossible_descriptions() -> None:
    with pytest.raises(DataError, match="'cat' appears twice"):
        describe(classes=("cat", "dog", "cat"))
    with pytest.raises(DataError, match="2 superclasses for 3 classes"):
        describe(superclasses=("a", "b"))


def test_unknown_split() -> None:
    with pytest.raises(DataError, match=r"no split 'val'\. It has: train, test"):
        Manifest.from_records(describe(), RECORDS).split("val")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset.json", b"{", "cannot be read"),
        ("dataset.json", b"[]", "cannot be read"),
        ("dataset.json", None, "not a prepared data set"),
        ("manifest.arrow", b"ARROW1 no", "cannot be read"),
        ("manifest.arrow", None, "cannot be read"),
    ],
)
def test_damaged_files_are_data_errors(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    Manifest.from_records(describe(), RECORDS).save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_manifest(tmp_path)


def test_later_version_is_refused(tmp_path: Path) -> None:
    Manifest.from_records(describe(), RECORDS).save(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 9'))
    with pytest.raises(DataError, match="schema version 9"):
        load_manifest(tmp_path)
