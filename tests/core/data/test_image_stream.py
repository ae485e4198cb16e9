from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sadcl_core.data.image_stream import open_images
from sadcl_core.data.images import NamedImage, open_image
from sadcl_core.errors import DataError, MachineError, SadclError, UsageError
from tests.core.data.formats.samples_listing import write_tar

NAMES = ("a.jpg", "b/c.png", "b/d e,f.jpg")


def picture(number: int) -> bytes:
    """An image whose colour is its number."""
    content = io.BytesIO()
    Image.new("RGB", (4, 3), (number, 0, 0)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(picture(number))
    (folder / "notes.md").write_text("")
    return folder


def numbers(stream: Any) -> list[int]:
    """Which images these are, read to the bottom."""
    return [open_image(image).getpixel((0, 0))[0] for image in stream]  # type: ignore[index]


def write_list(folder: Path) -> str:
    (folder / "all.txt").write_text("\ufeff" + "\r\n".join(NAMES) + "\r\n\r\n")
    return str(folder / "all.txt")


def write_nul_list(folder: Path) -> str:
    (folder / "all.names").write_bytes(b"\0".join(name.encode() for name in NAMES) + b"\0")
    return f"@{folder / 'all.names'}"


def write_table(folder: Path, header: str = "id,File Name,labels", suffix: str = ".csv") -> str:
    with (folder / f"all{suffix}").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",")
        if header:
            writer.writerow(header.split(","))
        writer.writerows([number, name, "cat"] for number, name in enumerate(NAMES))
    return str(folder / f"all{suffix}")


def write_one_column(folder: Path) -> str:
    (folder / "one.csv").write_text("image\n" + "".join(f'"{name}"\n' for name in NAMES))
    return str(folder / "one.csv")


def write_parquet(folder: Path, column: pa.Array, name: str = "image") -> str:
    pq.write_table(pa.table({"id": pa.array(range(len(column))), name: column}), folder / "all.parquet", row_group_size=2)
    return str(folder / "all.parquet")


def write_shard(folder: Path) -> str:
    others = {"seg.png": b"a mask", "json": b"{}", "txt": b"cat"}
    samples = [(k, suffix, content) for k in range(3) for suffix, content in {"jpg": picture(k), **others}.items()]
    return str(write_tar(folder / "all.tar", {f"x/{k}.{suffix}": content for k, suffix, content in samples}))


FORMS: dict[str, Callable[[Path], str]] = {
    "folder": str,
    "pattern": lambda folder: f"{folder}/**/*",
    "pattern-of-folders": lambda folder: f"{folder.parent}/p*s",
    "list": write_list,
    "list-with-nul": write_nul_list,
    "table": write_table,
    "table-without-header": lambda folder: write_table(folder, header=""),
    "tsv": lambda folder: write_table(folder, suffix=".tsv"),
    "one-column": write_one_column,
    "parquet-of-paths": lambda folder: write_parquet(folder, pa.array(NAMES), "path"),
    "parquet-of-dictionary": lambda folder: write_parquet(folder, pa.array(NAMES).dictionary_encode()),
    "parquet-of-binary-paths": lambda folder: write_parquet(folder, pa.array([name.encode() for name in NAMES])),
    "parquet-of-images": lambda folder: write_parquet(folder, pa.array(map(picture, range(3)), pa.large_binary())),
    "parquet-of-hub": lambda folder: write_parquet(
        folder, pa.array([{"bytes": picture(number), "path": name} for number, name in enumerate(NAMES)])
    ),
    "shard": write_shard,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(photos: Path, form: str) -> None:
    place = FORMS[form](photos)
    stream = open_images([place])
    assert numbers(stream) == [0, 1, 2]
    assert numbers(stream) == [0, 1, 2], "it can be read again"
    assert len({image.name for image in stream}) == 3
    assert [numbers(open_images([place], part=(k, 2))) for k in (1, 2)] == [[0, 2], [1]]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "list-with-nul"])
def test_every_form_at_an_address(photos: Path, form: str, bucket: str) -> None:
    """Also of tables that name addresses."""
    place = Path(FORMS[form](photos))
    store = fsspec.filesystem("memory")
    for path in photos.rglob("*"):
        if path.is_file():
            store.pipe(f"/bucket/{path.relative_to(photos.parent)}", path.read_bytes())
    address = f"{bucket}/{place.relative_to(photos.parent)}".rstrip("/")
    assert numbers(open_images([address])) == [0, 1, 2]


@pytest.fixture
def bucket() -> Iterator[str]:
    yield "memory://bucket"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_addresses_in_a_table(tmp_path: Path, bucket: str) -> None:
    store = fsspec.filesystem("memory")
    for number in range(2):
        store.pipe(f"/bucket/{number}.jpg", picture(number))
    (tmp_path / "all.csv").write_text(f"url,kind\n{bucket}/0.jpg,x\n{bucket}/1.jpg,x\n{bucket}/gone.jpg,x\n,x\n")
    assert open_image(f"{bucket}/1.jpg").getpixel((0, 0)) == (1, 0, 0)
    *there, gone, empty = open_images([tmp_path / "all.csv"], column="url")
    assert numbers(there) == [0, 1]
    with pytest.raises(DataError, match=r"gone\.jpg: no such file"):
        open_image(gone)
    with pytest.raises(DataError, match=r"all\.csv, row 5: no image in this row"):
        open_image(empty)


def test_names_on_the_standard_input(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for end in ("\n", "\0"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(end.join(NAMES).encode())))
        monkeypatch.chdir(photos)
        assert numbers(open_images(["-"])) == [0, 1, 2]


def test_order_count_and_depth(photos: Path) -> None:
    places = [photos / "a.jpg", photos]
    assert numbers(open_images(places)) == [0, 0, 1, 2]
    assert numbers(open_images(places, recursive=False)) == [0, 0]
    assert open_images(places).count() == 4
    assert open_images(places, part=(2, 3)).count() == 1
    assert open_images([write_list(photos)]).count() is None


def test_parts_are_whole_files_where_there_are_enough(photos: Path) -> None:
    shard = Path(write_shard(photos))
    for number in range(3):
        (photos / f"{number}.tar").write_bytes(shard.read_bytes())
    shard.unlink()
    names = [[Path(image.name).parts[-3] for image in open_images([f"{photos}/*.tar"], part=(k, 2))] for k in (1, 2)]
    assert names == [["0.tar"] * 3 + ["2.tar"] * 3, ["1.tar"] * 3]


def test_tags_beside_an_image_are_no_list(photos: Path) -> None:
    (photos / "a.txt").write_text("cat, dog")
    assert [image.name for image in open_images([photos / "a.txt"])] == [str(photos / "a.txt")]


@pytest.mark.parametrize(
    ("place", "options", "error", "words"),
    [
        ("none.jpg", {}, DataError, "does not exist. Check the path."),
        ("x" * 300, {}, DataError, "does not exist. Check the path."),
        ("@none", {}, DataError, "does not exist. Check the path."),
        ("photos/*.gif", {}, DataError, "Nothing matches"),
        ("empty", {}, DataError, "empty holds no image"),
        ("photos", {"part": (3, 2)}, UsageError, "no such part"),
        ("photos/notes.csv", {}, DataError, "no column of images"),
        ("photos/notes.csv", {"column": "url"}, DataError, "no column of images 'url'"),
        ("photos/table.csv", {"column": "file nam"}, DataError, "no column 'file nam'"),
        ("photos/broken.parquet", {}, DataError, "cannot be read as Parquet"),
        ("photos/latin.parquet", {}, DataError, "after row 0 cannot be read as Parquet"),
        ("photos/numbers.parquet", {}, DataError, "Say which with --column"),
        ("photos/broken.tar", {}, DataError, "cannot be read as a tar file"),
        ("photos/wide.txt", {}, DataError, "Save it as UTF-8"),
        ("memory://nowhere/", {}, DataError, "no such file"),
        ("memory://nowhere/all.txt", {}, DataError, "no such file"),
        ("strange://nowhere/a.tar", {}, DataError, "Protocol not known"),
        ("s3://bucket/photos", {}, MachineError, "sadcl[cloud]"),
    ],
)
def test_places_without_images(
    photos: Path, monkeypatch: pytest.MonkeyPatch, place: str, options: Any, error: type[SadclError], words: str
) -> None:
    monkeypatch.chdir(photos.parent)
    (photos.parent / "empty").mkdir()
    write_parquet(photos, pa.array([b"a\xbc.jpg"]).view(pa.string()), "path")
    (photos / "all.parquet").rename(photos / "latin.parquet")
    for name in ("notes.csv", "broken.parquet", "broken.tar"):
        (photos / name).write_text("a,b\n1,2\n")
    (photos / "table.csv").write_text("id,file name\n1,a.jpg\n")
    (photos / "wide.txt").write_text("a.jpg", encoding="utf-16")
    pq.write_table(pa.table({"number": [1]}), photos / "numbers.parquet")
    if place.startswith("s3:"):
        monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(error) as caught:
        list(open_images([place], **options))
    assert words in str(caught.value)


def test_a_damaged_shard_gives_what_is_whole(photos: Path) -> None:
    place = Path(write_shard(photos))
    place.write_bytes(place.read_bytes()[:2000])
    images: list[NamedImage] = []
    with pytest.raises(DataError, match=r"all\.tar, after"):
        images.extend(open_images([place]))
    assert numbers(images) == [0]
