"""Small archives to download, and what should be there afterwards."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sadcl_core.data.prepare.download import download
from sadcl_core.data.prepare.download.place import DOWNLOADS, RECORD
from sadcl_core.errors import SadclError
from tests.core.data.prepare.download.server import Site

Files = dict[str, bytes]
Offer = Callable[..., str]  # see the fixture `single`


def photograph(seed: int, size: int = 2000) -> bytes:
    """Bytes that do not shrink."""
    return b"".join(hashlib.sha256(f"{seed} {block}".encode()).digest() for block in range(size // 32))


COCO_FILES: dict[str, Files] = {
    "annotations_trainval2014.zip": {
        "annotations/instances_train2014.json": photograph(1),
        "annotations/instances_val2014.json": photograph(2),
    },
    "val2014.zip": {f"val2014/{number}.jpg": photograph(number) for number in range(3)},
    "train2014.zip": {f"train2014/{number}.jpg": photograph(10 + number) for number in range(5)},
}
VOC_FILES: dict[str, Files] = {
    f"VOC{part}_06-Nov-2007.tar": {
        f"VOCdevkit/VOC2007/{path}": photograph(len(part) + number)
        for number, path in enumerate((f"Annotations/{part}.xml", f"ImageSets/Main/{part}.txt", f"JPEGImages/{part}.jpg"))
    }
    for part in ("trainval", "test")
}
LARGE = {"train/large.jpg": photograph(0, 64_000)}


def zipped(
    files: Files, *, change: Callable[[zipfile.ZipInfo], None] = lambda info: None, packing: int = zipfile.ZIP_STORED
) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", packing) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = packing
            change(info)
            archive.writestr(info, content)
    return written.getvalue()


def tarred(files: Files, *, change: Callable[[tarfile.TarInfo], None] = lambda info: None) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        folder = tarfile.TarInfo("VOCdevkit")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content))
    return written.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def left_part(folder: Path, site: Site, name: str, content: bytes, **changes: object) -> None:
    """What an interrupted fetch of the first half of `content` leaves."""
    part = write(folder / DOWNLOADS / f"{name}.part", content[: len(content) // 2])
    origin = {"url": f"{site.url}/{name}", "validator": site.version(content), "total": len(content), **changes}
    part.with_name(f"{name}.part.json").write_text(json.dumps(origin))


def tree(folder: Path) -> Files:
    """Every file of the data set, without the download's own."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name != RECORD}


def all_of(archives: dict[str, Files]) -> Files:
    return {path: content for files in archives.values() for path, content in files.items()}


def fails(kind: type[SadclError], folder: Path, *matches: str, name: str = "coco") -> str:
    with pytest.raises(kind) as caught:
        download(name, folder)
    for match in matches:
        assert match in str(caught.value)
    return str(caught.value)
