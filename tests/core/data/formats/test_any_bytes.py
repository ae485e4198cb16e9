"""Whatever stands in a label file, a reader gives a manifest that is one, or says in one sentence why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sadcl_core.errors import SadclError
from tests.core.data.formats.samples import FORMAT, SAMPLES, load
from tests.core.data.formats.samples_listing import LISTINGS
from tests.hostile.changes import changed

LABEL_FILES = {
    "coco-single": "result.json",
    "voc-own": "Annotations/000005.xml",
    "voc-own-splits": "ImageSets/Main/train.txt",
    "nuswide": "Groundtruth/Labels_Train.txt",
    "nuswide-per-class": "ImageList/TrainImagelist.txt",
    "vg500": "vg_category_500_labels_index.json",
    "csv": "labels.csv",
    "txt": "labels.txt",
    "csv-columns": "labels.csv",
    "imagefolder-parquet": "metadata.parquet",
    "jsonl": "labels.jsonl",
    "vertex": "data-00001.jsonl",
    "openmmlab": "photos.json",
    "labelstudio": "project-1-at-2024-01-01-00-00-0a1b2c3d.json",
    "labelstudio-minimal": "project-1.json",
    "yolo": "data.yaml",
    "yolo-flat": "a.txt",
    "captions": "a.txt",
    **{name: sample.file for name, sample in LISTINGS.items() if not sample.file.endswith(".mat")},  # a process for each example
}
WRITERS = {**SAMPLES, **{name: sample.write for name, sample in LISTINGS.items()}}
FORMATS = {**FORMAT, **{name: sample.format for name, sample in LISTINGS.items()}}
Written = Callable[[str], tuple[Path, Path, bytes]]


def write_once(folder: Path) -> Written:
    """Return what writes a sample into the folder, once, and gives the path a person names, its label file and its content."""
    known: dict[str, tuple[Path, Path, bytes]] = {}

    def write(name: str) -> tuple[Path, Path, bytes]:
        if name not in known:
            inside = folder / str(len(known)) / "mine"
            inside.mkdir(parents=True)
            path = WRITERS[name](inside)
            file = inside / LABEL_FILES[name]
            known[name] = (path, file, file.read_bytes())
        return known[name]

    return write


def read_changed(name: str, written: Written, data: st.DataObject) -> None:
    """Read a sample whose label file was changed."""
    path, file, content = written(name)
    file.write_bytes(changed(content, data))
    try:
        manifest = load(path, expected=FORMATS[name] if data.draw(st.booleans()) else "")
    except SadclError as error:
        message = str(error)
        assert message.endswith((".", "?"))
        assert str(path.parent.name) in message or file.name in message
        return
    manifest.rows.validate(full=True)
    count = len(manifest.classes)
    for row in manifest.rows.to_pylist():
        assert row["image"]
        assert not row["image"].startswith(("/", "../"))
        assert all(0 <= label < count for label in (*row["active"], *row["unknown"]))
        assert not set(row["active"]) & set(row["unknown"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_once(tmp_path_factory.mktemp("samples"))


@pytest.mark.parametrize("name", LABEL_FILES)
@given(data=st.data())
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_other_content(name: str, written: Written, data: st.DataObject) -> None:
    read_changed(name, written, data)
