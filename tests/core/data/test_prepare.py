from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sadcl_core.data.prepare import Options, find_or_prepare, prepare
from sadcl_core.errors import DataError, UsageError
from tests.conftest import make_coco, make_voc, voc_object


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def test_counts_what_is_there(coco: Path) -> None:
    seen: list[tuple[int, int]] = []
    prepared = prepare("coco", data=coco, progress=lambda what, done, total: seen.append((done, total)))
    assert seen[-1] == (36, 36)
    train, val = prepared.report.splits
    assert (train.images, val.images) == (24, 12)
    assert train.without_labels == val.without_labels == 1
    split = prepared.manifest.split("train")
    assert train.class_counts == tuple(split.class_counts())
    assert train.labels_per_image == pytest.approx(sum(train.class_counts) / 24)
    assert sorted(path.name for path in Path("prepared/coco").iterdir()) == ["dataset.json", "manifest.arrow", "report.json"]


def test_nothing_of_the_users_is_touched(coco: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in coco.rglob("*")}
    prepare("coco", data=coco)
    assert {path: path.stat().st_mtime_ns for path in coco.rglob("*")} == before


def test_broken_images_are_an_error_that_names_and_counts_them(coco: Path) -> None:
    truncate(coco / "train2017" / "003.png")
    (coco / "val2017" / "001.png").unlink()
    with pytest.raises(
        DataError, match=r"2 of 36 images cannot be read.*003\.png: broken image.*001\.png: no such file.*--skip-broken"
    ):
        prepare("coco", data=coco)
    assert not Path("prepared").exists()


def test_broken_images_can_be_left_out(coco: Path) -> None:
    truncate(coco / "train2017" / "003.png")
    prepared = prepare("coco", data=coco, options=Options(skip_broken=True))
    assert [problem.image for problem in prepared.problems] == ["train2017/003.png"]
    assert prepared.report.splits[0].images == 23
    assert "train2017/003.png" not in list(prepared.manifest.split("train"))
    assert "1 images that could not be read" in find_or_prepare("coco", data=coco)[0].description.notes[-1]


def test_without_decoding_only_missing_files_are_found(coco: Path) -> None:
    truncate(coco / "train2017" / "003.png")
    prepare("coco", data=coco, options=Options(decode=False))
    (coco / "val2017" / "001.png").unlink()
    with pytest.raises(DataError, match="1 of 36 images"):
        prepare("coco", data=coco, options=Options(decode=False))


def test_annotations_whose_images_are_all_gone(coco: Path) -> None:
    for path in coco.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="none of the 36 images"):
        prepare("coco", data=coco, options=Options(skip_broken=True))


def test_prepared_once_and_again_when_the_annotations_change(coco: Path) -> None:
    assert "prepared now" in find_or_prepare("coco", data=coco)[1]
    assert "prepared before" in find_or_prepare("coco", data=coco)[1]
    assert "prepared before" in find_or_prepare("coco")[1]
    assert find_or_prepare("prepared/coco")[1] == "manifest prepared/coco"
    shutil.rmtree(coco)
    make_coco(coco, train=10)
    manifest, taken, _ = find_or_prepare("coco")
    assert "prepared now" in taken
    assert len(manifest.split("train")) == 10


def test_another_folder_does_not_overwrite_a_manifest(coco: Path) -> None:
    prepare("coco", data=coco)
    other = make_coco(Path("other"))
    for command in (prepare, find_or_prepare):
        with pytest.raises(UsageError, match=r"prepared/coco is the manifest of coco in .*my-coco, not of coco in other.*-o"):
            command("coco", data=other)
    assert prepare("coco", data=other, output=Path("second")).manifest.folder == Path("second")


def test_another_data_set_in_the_same_folder_does_not_overwrite_a_manifest(coco: Path) -> None:
    prepare("coco", data=coco, output=Path("mine"))
    with pytest.raises(UsageError, match=r"mine is the manifest of coco in .*, not of coco2017"):
        prepare("coco2017", data=coco, output=Path("mine"))


def test_an_edited_voc_annotation_is_noticed(tmp_path: Path) -> None:
    splits = {"trainval": {"000001": [voc_object("dog")]}, "test": {"000002": [voc_object("dog")]}}
    voc = make_voc(tmp_path / "voc", splits)
    find_or_prepare("voc2007", data=voc)
    assert "prepared before" in find_or_prepare("voc2007")[1]
    (voc / "VOCdevkit/VOC2007/Annotations/000001.xml").write_text(f"<annotation>{voc_object('cat')}</annotation>")
    manifest, taken, _ = find_or_prepare("voc2007")
    assert "prepared now" in taken
    assert manifest.split("train").active(0) == [7]


@pytest.mark.parametrize("content", ["{", '{"schema_version": 99}'])
def test_a_damaged_description_is_written_anew(coco: Path, content: str) -> None:
    prepare("coco", data=coco)
    Path("prepared/coco/dataset.json").write_text(content)
    prepare("coco", data=coco)
    assert find_or_prepare("coco")[0].splits == ["train", "val"]


@pytest.mark.parametrize("output", ["file", "file/inside"])
def test_a_manifest_cannot_be_written_over_a_file(coco: Path, output: str) -> None:
    Path("file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        prepare("coco", data=coco, output=Path(output))
    assert Path("file").read_text() == "mine"


def test_a_folder_with_other_files_is_not_written_to(coco: Path) -> None:
    with pytest.raises(UsageError, match="holds other files"):
        prepare("coco", data=coco, output=coco)


def test_what_is_not_there() -> None:
    Path("file").write_text("")
    with pytest.raises(DataError, match="file is no folder"):
        prepare("digits", data=Path("file"))
    with pytest.raises(DataError, match=r"There is no folder nowhere. Check --data"):
        prepare("coco", data=Path("nowhere"))
    with pytest.raises(DataError, match=r"There is no folder data/voc2007. Say where it lies with --data DIR"):
        find_or_prepare("voc2007")
    with pytest.raises(UsageError, match="Did you mean 'voc2007'"):
        find_or_prepare("voc207")
    Path("folder").mkdir()
    with pytest.raises(DataError, match="folder holds no labels in a format that is known"):
        find_or_prepare("folder")


def test_interrupted_copies_are_gone_on_with(coco: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "writing copies":
            raise KeyboardInterrupt

    options = Options(resize=32)
    with pytest.raises(KeyboardInterrupt):
        prepare("coco", data=coco, options=options, progress=interrupt)
    assert [path.name for path in Path("prepared/coco").iterdir()] == [".images-32"]
    first = next(Path("prepared/coco/.images-32").rglob("*.jpg"))
    written = first.stat().st_mtime_ns
    manifest = prepare("coco", data=coco, options=options).manifest
    assert manifest.description.root == Path("prepared/coco/images-32").resolve()
    assert all(manifest.split("all").path(i).is_file() for i in range(len(manifest)))
    kept = Path("prepared/coco/images-32") / first.relative_to("prepared/coco/.images-32")
    assert kept.stat().st_mtime_ns == written
    assert not Path("prepared/coco/.images-32").exists()


def test_a_suggested_command_can_be_typed(coco: Path) -> None:
    spaced = coco.rename(coco.with_name("my photos"))
    prepare("coco", data=make_coco(Path("first")))
    with pytest.raises(UsageError, match=r"sadcl prepare-data coco --data '.*my photos' -o prepared/coco-2"):
        prepare("coco", data=spaced)
