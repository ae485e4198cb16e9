from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.images import NamedImage
from sadcl_core.errors import MachineError, UsageError
from sadcl_core.inference.predict import Prediction
from sadcl_core.inference.sinks import Annotated, FileNames, Keywords, Sink, Sorted, Tags, path_below

TWO = Prediction("a", (("sea lion", 0.9), ("dog, wet", 0.8)), attention=np.ones((2, 3, 3), np.float32))
NONE = Prediction("a", attention=np.empty((0, 3, 3), np.float32))
needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NamedImage:
    monkeypatch.chdir(tmp_path)
    Path("photos/x").mkdir(parents=True)
    path = Path("photos/x/a.jpg")
    Image.new("RGB", (64, 48), (90, 120, 30)).save(path)
    return NamedImage(str(path), path)


def give(sink: Sink, image: NamedImage, prediction: Prediction = TWO) -> None:
    with sink.opened() as opened:
        opened(image, prediction)
        opened(image, prediction)  # again changes nothing


def test_tags_beside_an_image_and_in_a_folder(photo: NamedImage) -> None:
    give(Tags(), photo)
    assert Path("photos/x/a.txt").read_text() == "sea lion, dog wet"
    give(Tags(Path("out"), underscore=True), photo)
    assert Path("out/photos/x/a.txt").read_text() == "sea_lion, dog_wet"
    give(Tags(Path("out")), NamedImage("s3://b/1.jpg", b""), NONE)
    assert Path("out/b/1.jpg.txt").read_text() == ""
    with pytest.raises(UsageError, match="--txt-dir"):
        give(Tags(), NamedImage("s3://b/1.jpg", b""))


def test_tags_that_are_there_stay(photo: NamedImage) -> None:
    text = Path("photos/x/a.txt")
    text.write_text("me\nsea lion,")
    with pytest.raises(UsageError, match="--append"):
        give(Tags(), photo)
    assert text.read_text() == "me\nsea lion,"
    give(Tags(append=True), photo)
    assert text.read_text() == "me, sea lion, dog wet"
    give(Tags(exist_ok=True), photo)
    assert text.read_text() == "sea lion, dog wet"
    text.write_text("dog wet", encoding="utf-8-sig")
    give(Tags(append=True), photo)
    assert text.read_text() == "dog wet, sea lion"
    text.write_bytes("Katzenöhrchen".encode("cp1252"))
    with pytest.raises(UsageError, match="not UTF-8"):
        give(Tags(append=True), photo)
    assert text.read_bytes() == "Katzenöhrchen".encode("cp1252")


def test_two_images_of_one_stem_have_texts_of_their_own(photo: NamedImage) -> None:
    other = Path("photos/x/a.png")
    Image.new("RGB", (2, 2)).save(other)
    give(Tags(), photo)
    give(Tags(), NamedImage(str(other), other), NONE)
    assert (Path("photos/x/a.jpg.txt").read_text(), Path("photos/x/a.png.txt").read_text()) == ("sea lion, dog wet", "")


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["a.jpg", "b.png", "a.txt", "notes.md"], ["a.xmp", "b.xmp"]),
        (["a.jpg", "a.png"], ["a.jpg.xmp", "a.png.xmp"]),
        (["a.jpg", "A.JPG"], ["a.jpg.xmp", "A.JPG.xmp"]),
        (["a.jpg", "A.PNG", "b.jpeg"], ["a.jpg.xmp", "A.PNG.xmp", "b.xmp"]),
        (["a.jpg", "a.jpg.jpg"], ["a.xmp", "a.jpg.jpg.xmp"]),
        (["a.jpg", "a"], ["a.jpg.xmp", "a.xmp"]),
    ],
)
def test_no_two_images_share_a_file(names: list[str], files: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "b").mkdir()
    name_of, below = FileNames(".xmp"), FileNames(".xmp", Path("out"))
    images = [NamedImage(name, tmp_path / name) for name in names[: len(files)]]
    assert [name_of(image) for image in images] == [tmp_path / file for file in files]
    assert [below(image).name for image in images] == files


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_only_a_regular_file_is_written_over(make: Callable[[Path], None], photo: NamedImage) -> None:
    for folder in (Path("photos/x"), Path("out/photos/x")):
        folder.mkdir(parents=True, exist_ok=True)
        make(folder / "a.xmp")
    for file_of in (FileNames(".xmp"), FileNames(".xmp", Path("out"))):
        with pytest.raises(UsageError, match=r"x/a\.xmp is not a regular file"):
            file_of(photo)


def test_images_elsewhere_have_other_paths_than_those_here(photo: NamedImage) -> None:
    here = path_below(photo, Path("out"))
    assert here == Path("out/photos/x/a.jpg")
    elsewhere = (NamedImage("s3://photos/x/a.jpg", b""), NamedImage("/photos/x/a.jpg", Path("/photos/x/a.jpg")))
    paths = [path_below(image, Path("out")) for image in elsewhere]
    assert len({here, *paths}) == 3
    assert all(path.match("out/*/photos/x/a.jpg") for path in paths)


def test_folders_by_label(photo: NamedImage) -> None:
    classes = ("sea lion", "sea-lion", "dog, wet", "../up")
    sink = Sorted(Path("out"), classes, {"model": 1})
    give(sink, photo)
    give(sink, photo, NONE)
    other = Path("photos/a.jpg")
    other.write_bytes(b"2")
    give(sink, NamedImage("photos/a.jpg", other), Prediction("b", (("dog, wet", 0.5), ("../up", 0.5))))
    give(sink, NamedImage("s3://b/a.jpg", lambda: b"3"), Prediction("c", (("dog, wet", 0.5),)))
    contents = sorted(path.read_bytes()[:3] for path in Path("out/dog-wet").iterdir())
    assert contents == [b"2", b"3", b"\xff\xd8\xff"]
    assert (
        len(list(Path("out").iterdir())) == 5
    )  # four labels' folders, one for images without, less one that no image has, a note
    assert all(path.resolve().is_relative_to(Path.cwd()) for path in Path("out").rglob("*"))
    assert Path("out/no-label/a.jpg").readlink() == Path.cwd() / "photos/x/a.jpg"


def test_folders_of_another_job_are_not_mixed(photo: NamedImage) -> None:
    give(Sorted(Path("out"), ["dog, wet", "sea lion"], {"threshold": (0.5,)}), photo)
    Sorted(Path("out"), ["dog, wet", "sea lion"], {"threshold": (0.5,)})
    for make in (lambda: Sorted(Path("out"), ["a"], {"threshold": (0.6,)}), lambda: Annotated(Path("photos"), {})):
        with pytest.raises(UsageError, match=r"Give --(sort|annotate) a new folder"):
            make()
    Sorted(Path("out"), ["a"], {"threshold": (0.6,)}, exist_ok=True)


def test_annotated_pictures(photo: NamedImage) -> None:
    sink = Annotated(Path("out"), {})
    give(sink, photo)
    give(sink, NamedImage("s3://b/1.png", Path("photos/x/a.jpg").read_bytes()), NONE)
    with Image.open("out/photos/x/a.jpg.jpg") as picture, Image.open("out/b/1.png.jpg") as other:
        assert picture.width == other.width == 240
        assert picture.height > 180


def test_paths_of_results_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("../up.jpg", "/etc/x.jpg", "../../x.jpg", "a/../b.jpg", "\n.jpg", "x" * 300, "https://h/a?" + "q" * 300)
    for name in names:
        for source in (Path(name), b""):
            path = path_below(NamedImage(name, source), Path("out"))
            assert path.parts[0] == "out"
            assert ".." not in path.parts
            assert all(len(part.encode()) <= 200 for part in path.parts)


@needs_exiftool
@pytest.mark.parametrize("name", ["-new\nline 😀 #\\.jpg", "- 😀 #@$\\.jpg"])
def test_keywords(photo: NamedImage, name: str) -> None:
    path = Path("photos/x/a.jpg").rename(Path("photos/x", name))
    image = NamedImage(str(path), path)

    def keywords(file: Path) -> list[str]:
        command = ["exiftool", "-s3", "-sep", "|", "-charset", "iptc=UTF8", "-Subject", "-Keywords", "-"]
        return subprocess.run(command, input=file.read_bytes(), capture_output=True, check=True).stdout.decode().splitlines()

    give(Keywords("sidecar"), image)
    assert path.with_suffix(".xmp").is_file()
    assert keywords(path) == []
    give(Keywords("inside"), image)
    assert keywords(path) == ["sea lion|dog, wet"] * 2
    give(Keywords("inside"), image, Prediction("a", (("zoë", 0.9),)))
    assert keywords(path) == ["sea lion|dog, wet|zoë"] * 2
    give(Keywords("inside"), image, NONE)
    with pytest.raises(UsageError, match="no file on the disk"):
        give(Keywords("inside"), NamedImage("s3://b/1.jpg", b""))


@needs_exiftool
def test_keywords_that_cannot_be_written(photo: NamedImage) -> None:
    path = Path("photos/x/broken.jpg")
    path.write_bytes(b"no image")
    with pytest.raises(UsageError, match="exiftool cannot write keywords"):
        give(Keywords("inside"), NamedImage(str(path), path))


def test_without_exiftool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="exiftool"):
        Keywords("inside")


def test_an_exiftool_that_ends_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photo: NamedImage) -> None:
    program = tmp_path / "exiftool"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(MachineError, match="exiftool ended"):
        give(Keywords("inside"), photo)
