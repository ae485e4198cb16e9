"""Whatever stands in a label file, a reader gives a manifest that is one, or says in one sentence why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sadcl_core.errors import SadclError
from tests.core.data.formats.samples import FORMAT, SAMPLES, load
from tests.core.data.formats.samples_listing import LISTINGS

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
OF_JSON = [name for name, file in LABEL_FILES.items() if file.endswith((".json", ".jsonl"))]
SNIPPETS = (
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xe4",
        b"\n",
        b"\r",
        b'"',
        b"'",
        b",",
        b";",
        b"[",
        b"]",
        b"{",
        b"}",
        b":",
        b"-1",
        b"nan",
    ),
    *(
        b"../",
        b"/",
        b"\\",
        b"&a",
        b"*a",
        b"!!python/name:os",
        b"<!DOCTYPE a>",
        b"\\ud800",
        b"9" * 400,
        b"1e999",
        b"<a>",
        b"&#0;",
        b"~",
    ),
)
examples = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5) | st.just("../../a"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "image", "labels", "", "\ud800"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path, bytes]]:
    """Of a sample, written once: the path a person names, its label file and what stands in it."""
    known: dict[str, tuple[Path, Path, bytes]] = {}

    def write(name: str) -> tuple[Path, Path, bytes]:
        if name not in known:
            folder = tmp_path_factory.mktemp("sample") / "mine"
            folder.mkdir()
            path = WRITERS[name](folder)
            file = folder / LABEL_FILES[name]
            known[name] = (path, file, file.read_bytes())
        return known[name]

    return write


Written = Callable[[str], tuple[Path, Path, bytes]]


def read_with(content: bytes, name: str, written: Written, expected: bool) -> None:
    path, file, _ = written(name)
    file.write_bytes(content)
    try:
        manifest = load(path, expected=FORMATS[name] if expected else "")
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


@pytest.mark.parametrize("name", LABEL_FILES)
@given(content=st.binary(max_size=200), expected=st.booleans())
@examples
def test_any_bytes(name: str, written: Written, content: bytes, expected: bool) -> None:
    read_with(content, name, written, expected)


@pytest.mark.parametrize("name", LABEL_FILES)
@given(data=st.data(), expected=st.booleans())
@examples
def test_bytes_flipped_put_in_cut_off_and_lines_dropped_and_doubled(
    name: str, written: Written, data: st.DataObject, expected: bool
) -> None:
    read_with(changed_bytes(written(name)[2], data), name, written, expected)


@pytest.mark.parametrize("name", OF_JSON)
@given(data=st.data(), expected=st.booleans())
@settings(examples, max_examples=60)
def test_values_of_json_replaced_by_others(name: str, written: Written, data: st.DataObject, expected: bool) -> None:
    _, file, content = written(name)
    texts = content.decode().splitlines() if file.suffix == ".jsonl" else [content.decode()]
    chosen = data.draw(st.integers(0, len(texts) - 1))
    document = {"": json.loads(texts[chosen])}
    replace_one(document, data)
    texts[chosen] = json.dumps(document[""])
    read_with("\n".join(texts).encode(), name, written, expected)


def changed_bytes(content: bytes, data: st.DataObject) -> bytes:
    """Return bytes with a few of them flipped, put in, cut off or dropped, or with lines dropped or doubled."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(len(changed) - 1, 0)))
        change = data.draw(st.integers(0, 5))
        if change == 0 and changed:
            changed[place] ^= 1 << data.draw(st.integers(0, 7))
        elif change == 1:
            changed[place:place] = data.draw(st.sampled_from(SNIPPETS))
        elif change == 2:
            del changed[place:]
        elif change == 3:
            del changed[place : place + data.draw(st.integers(1, 10))]
        else:
            lines = changed.splitlines(keepends=True)
            chosen = data.draw(st.integers(0, max(len(lines) - 1, 0)))
            lines[chosen : chosen + 1] = lines[chosen : chosen + 1] * (2 if change == 4 else 0)
            changed = bytearray(b"".join(lines))
    return bytes(changed)


def replace_one(document: Any, data: st.DataObject) -> None:
    """Walk down to a value, and put another one in its place, or take it away."""
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        key = data.draw(st.sampled_from(keys))
        inner = document[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.integers(0, 4)) == 0:
            break
        document = inner
    if key != "" and data.draw(st.integers(0, 4)) == 0:
        del document[key]
    else:
        document[key] = data.draw(values)
