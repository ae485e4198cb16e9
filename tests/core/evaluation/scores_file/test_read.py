from __future__ import annotations

import io
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.scores_file import read_scores, write_scores

SCORES = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 1.0], [0.0, 0.5, 1e-7]], np.float32)
CLASSES = ("cat", "traffic light", "st. bernard, old")
IMAGES = ("val/a.jpg", "val/b, c.jpg", "val/ünï.png")


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
@pytest.mark.parametrize("images", [IMAGES, None])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, images: tuple[str, ...] | None) -> None:
    write_scores(tmp_path / f"s{suffix}", SCORES, CLASSES, images)
    read = read_scores(tmp_path / f"s{suffix}")
    assert (read.classes, read.images) == (CLASSES, images)
    assert np.array_equal(read.take().astype(np.float32), SCORES)
    assert suffix == ".csv" or read.values.dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == [f"s{suffix}"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.floats(0, 1)),
    suffix=st.sampled_from([".npz", ".parquet"]),
)
def test_every_bit_is_kept(tmp_path: Path, values: np.ndarray[Any, Any], suffix: str) -> None:
    write_scores(tmp_path / f"s{suffix}", values, [f"class {k}" for k in range(values.shape[1])])
    assert read_scores(tmp_path / f"s{suffix}").take().tobytes() == values.tobytes()


def test_classes_that_are_called_as_images_are(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.csv", SCORES, ("image", "file", "id"), IMAGES)
    read = read_scores(tmp_path / "s.csv")
    assert (read.classes, read.images) == (("image", "file", "id"), IMAGES)


def test_writing_says_what_names_may_end_in(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"s\.xlsx does not end in \.csv, \.parquet, \.npz"):
        write_scores(tmp_path / "s.xlsx", SCORES, CLASSES)
    with pytest.raises(ValueError, match="3 images and 2 classes"):
        write_scores(tmp_path / "s.csv", SCORES, CLASSES[:2])


def test_an_npy_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", SCORES)
    taken = read_scores(tmp_path / "s.npy").take()
    assert isinstance(taken, np.memmap)
    assert np.array_equal(taken, SCORES)


@pytest.mark.parametrize("kind", ["<f2", ">f4", ">f8", "<f8", "i8", "?", "u1"])
def test_numbers_of_any_kind(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 1], [1, 0]]).astype(kind)
    np.save(tmp_path / "s.npy", np.asfortranarray(values))
    taken = read_scores(tmp_path / "s.npy").take()
    assert taken.dtype == (np.float64 if kind.endswith("8") else np.float32)
    assert taken.tolist() == [[0, 1], [1, 0]]


def test_the_sigmoid_of_logits_is_stable_and_keeps_their_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 8, (300, 2)).astype(np.float32)
    logits[0] = (-2000, 2000)
    np.save(tmp_path / "s.npy", logits)
    scores = read_scores(tmp_path / "s.npy", logits=True).take()
    naive = [[1 / (1 + np.exp(-float(x))) if x > -700 else 0.0 for x in row] for row in logits]
    assert scores == pytest.approx(np.array(naive), rel=1e-12)
    targets = rng.integers(0, 2, logits.shape)
    assert average_precision_score(targets, scores) == average_precision_score(targets, logits)


TABLES = {  # text, classes, images, scores; the same three forms that many programs write
    "kaggle": ("image_name,cat,dog\na.jpg,0.5,1\nb.jpg,0.25,0\n", ("cat", "dog"), ("a.jpg", "b.jpg")),
    "no images": ("cat,dog\n0.5,1\n0.25,0\n", ("cat", "dog"), None),
    "row numbers of pandas": (",cat,dog\n0,0.5,1\n1,0.25,0\n", ("cat", "dog"), None),
    "paths as the index of pandas": (",cat,dog\nval/a,0.5,1\nval/b,0.25,0\n", ("cat", "dog"), ("val/a", "val/b")),
    "ids with zeros": ("id,cat,dog\n0071,0.5,1\n0072,0.25,0\n", ("cat", "dog"), ("0071", "0072")),
    "other texts": ("path,labels,cat,dog\na.jpg,cat;x,0.5,1\nb.jpg,,0.25,0\n", ("cat", "dog"), ("a.jpg", "b.jpg")),
    "spreadsheet": ("\ufefffile;cat;dog\r\na.jpg;0.5;1\r\nb.jpg;0.25;0\r\n", ("cat", "dog"), ("a.jpg", "b.jpg")),
    "tabs": ("image\tcat\tdog\na.jpg\t5e-1\t1\n\nb.jpg\t.25\t0\n", ("cat", "dog"), ("a.jpg", "b.jpg")),
    "Excel": ("sep=,\nimage,cat,dog\na.jpg,0.5,1\nb.jpg,0.25,0\n", ("cat", "dog"), ("a.jpg", "b.jpg")),
    "a row per label": (
        "image,label,score\na.jpg,cat,0.5\nb.jpg,dog,0\na.jpg,dog,1\nb.jpg,cat,0.25\n",
        ("cat", "dog"),
        ("a.jpg", "b.jpg"),
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_programs(tmp_path: Path, name: str) -> None:
    text, classes, images = TABLES[name]
    (tmp_path / "s.csv").write_text(text, encoding="utf-8", newline="")
    read = read_scores(tmp_path / "s.csv")
    assert (read.classes, read.images) == (classes, images)
    assert read.take().tolist() == [[0.5, 1], [0.25, 0]]


def test_utf_16(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("image,кот\na.jpg,0.5\n", encoding="utf-16")
    assert read_scores(tmp_path / "s.csv").classes == ("кот",)


def test_numbered_classes_without_images(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("0,1,2\n0.5,1,0\n")
    assert read_scores(tmp_path / "s.csv").classes == ("0", "1", "2")


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    lists = pa.array([[0.5, 1.0], [0.25, 0.0]], pa.list_(pa.float32()))
    for kind in (lists, lists.cast(pa.list_(pa.float32(), 2))):
        read = read_scores(parquet(path, width=[640, 480], filename=["a.jpg", "b.jpg"], probs=kind))
        assert (read.classes, read.images) == (None, ("a.jpg", "b.jpg"))
        assert read.take().tolist() == [[0.5, 1], [0.25, 0]]
    long = {"image": ["a.jpg", "b.jpg"] * 2, "label": ["cat", "cat", "dog", "dog"], "score": [0.5, 0.25, 1.0, 0.0]}
    assert read_scores(parquet(path, **long)).take().tolist() == [[0.5, 1], [0.25, 0]]
    read = read_scores(parquet(path, image_id=[139, 285], cat=pa.array([0.5, 0.25]), dog=pa.array([1, 0])))
    assert (read.classes, read.images) == (("cat", "dog"), ("139", "285"))


BAD_TEXT = {
    "image,cat\n": "has a header and no row",
    "\n \n": "has no row",
    "0.5,1\n0.25,0\n": r"begins with scores \(0\.5, 1\)\. Give it a header",
    "a.jpg,0.5\nb.jpg,0.25\n": r"begins with scores \(a\.jpg, 0\.5\)",
    "image,cat\na.jpg,0.5\nb.jpg,high\n": r"class 'cat': not every cell is a number .*'high'",
    "file;cat\na.jpg;0,5\nb.jpg;0,25\n": r"class 'cat': not every cell is a number .*'0,25'.* decimals are written 0\.5",
    "image,cat\na.jpg,0.5\n\nb.jpg,0.5,0.5\n": "Expected 2 columns, got 3",
    "image,cat\na.jpg,0.5\na.jpg,0.5\n": "has the image 'a.jpg' twice",
    "image,cat,cat\na.jpg,0.5,0.5\n": "has the class 'cat' twice",
    "image,cat\na.jpg,0.5\n,0.5\n": "image 2 has no name",
    "image,cat,\na.jpg,0.5,0.5\nb.jpg,\0,0.5\n": "NUL",
    "image,label,score\na.jpg,cat,1\na.jpg,cat,0\n": "image 'a.jpg' has 2 scores of 'cat'",
    "image,label,score\na.jpg,cat,1\nb.jpg,dog,0\nb.jpg,cat,0\n": "image 'a.jpg' has 0 scores of 'dog'",
    "image,labels\na.jpg,cat\n": "has no column of scores",
}


@pytest.mark.parametrize(("text", "message"), BAD_TEXT.items())
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_scores(tmp_path / "s.csv")


OUTSIDE = {
    "1.5": "image 'b.jpg', class 'dog': the score is 1.5, outside 0..1",
    "-0.1": "image 'b.jpg', class 'dog': the score is -0.1, outside",
    "inf": "image 'b.jpg', class 'dog': the score is inf, outside",
    "nan": "image 'b.jpg', class 'dog': the score is missing or NaN",
    "": "image 'b.jpg', class 'dog': the score is missing or NaN",
}


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("cell", OUTSIDE)
def test_scores_outside_0_to_1_are_refused(tmp_path: Path, cell: str, logits: bool) -> None:
    (tmp_path / "s.csv").write_text(f"image,cat,dog\na.jpg,0,0\n\nb.jpg,1,{cell}\nc.jpg,7,0\n")
    read = read_scores(tmp_path / "s.csv", logits=logits)
    if logits and cell not in ("nan", ""):
        assert ((read.take() >= 0) & (read.take() <= 1)).all()
        return
    with pytest.raises(DataError, match=OUTSIDE[cell]):
        read.take(np.array([0, 1]))
    assert read.take(np.array([0])).tolist() == [[0.5, 0.5]] if logits else [[0, 0]]  # the others are not needed


def test_a_bad_score_without_names_is_told_by_its_place(tmp_path: Path) -> None:
    values = np.full((9, 2), 0.5)
    values[8, 0] = 2
    np.save(tmp_path / "s.npy", values)
    read = read_scores(tmp_path / "s.npy")
    for rows, columns in ((None, None), (np.arange(8, -1, -1), np.array([1, 0]))):
        with pytest.raises(DataError, match="row 9, column 1: the score is 2, outside"):
            read.take(rows, columns)


def header_of(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def saved(**contents: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **contents)
    return file.getvalue()


class Runs:
    """A pickle that runs something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("PWNED"),))


def object_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([[Runs()]], dtype=object), allow_pickle=True)
    return file.getvalue()


def zip_of(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


WHOLE_NPY = header_of("(2, 1)") + bytes(8)
DAMAGED = {
    "empty.npy": b"",
    "empty.npz": b"",
    "empty.parquet": b"",
    "empty.csv": b"",
    "truncated.npy": WHOLE_NPY[:-1],
    "cut in the header.npy": WHOLE_NPY[:40],
    "truncated.npz": saved(scores=SCORES)[:-30],
    "text.npy": b"0.5,0.5\n",
    "text.npz": b"0.5,0.5\n",
    "text.parquet": b"PAR1 image,cat PAR1",
    "pickle.npy": pickle.dumps(Runs()),
    "pickle.csv": pickle.dumps(Runs()),
    "pickle.npz": pickle.dumps(Runs()),
    "pickle.pt": pickle.dumps(Runs()),
    "objects.npy": object_array(),
    "objects.npz": zip_of("scores.npy", object_array()),
    "enormous.npy": header_of("(1000000000, 1000000000)") + bytes(8),
    "enormous.npz": zip_of("scores.npy", header_of("(1000000000, 100000000)") + bytes(8)),
    "negative.npy": header_of("(-1, 2)") + bytes(8),
    "no shape.npy": header_of("(" * 50) + bytes(8),
    "long header.npy": b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + b"{" * 100_000,
    "not arrays.npz": zip_of("readme.txt", b"scores"),
    "no scores.npz": saved(a=SCORES, b=SCORES),
    "one dimension.npy": header_of("(2,)") + bytes(8),
    "three dimensions.npz": saved(scores=SCORES[None]),
    "no rows.npz": saved(scores=SCORES[:0]),
    "words.npz": saved(scores=np.array([["a"]])),
    "complex.npz": saved(scores=SCORES.astype(complex)),
    "few classes.npz": saved(scores=SCORES, classes=["a"]),
    "classes twice.npz": saved(scores=SCORES, classes=["a", "b", "a"]),
    "numbers for classes.npz": saved(scores=SCORES, classes=np.arange(3)),
    "no UTF-8.npz": saved(scores=SCORES, classes=np.array([b"a", b"\xff", b"c"])),
    "other labels.npz": saved(scores=SCORES, targets=np.zeros((2, 3))),
    "labels of 2.npz": saved(scores=SCORES, labels=np.full((3, 3), 2)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(DAMAGED[name])
    with pytest.raises(DataError, match=name.replace(".", r"\.")) as raised:
        read_scores(Path(name))
    assert "\n" not in str(raised.value)
    assert not Path("PWNED").exists()


def test_parquet_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    whole = parquet(path, image=["a", "b"], cat=[0.5, 0.5]).read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:30] + bytes(20) + whole[50:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            read_scores(path)
    for columns, message in (
        ({"image": ["a"], "probs": pa.array([None], pa.list_(pa.float32()))}, "shape"),
        ({"probs": [[0.5], [0.5, 0.5]]}, "cannot be read as lists of one score per class"),
        ({"a": [[0.5]], "b": [[0.5]]}, "several columns of lists"),
        ({"image": pa.array([b"a\xbc.jpg"]).view(pa.string()), "cat": [0.5]}, r"cannot be read as Parquet \(.*UTF8"),
        ({"image": ["a", None], "cat": [0.5, 0.5]}, "row 2 names no image"),
        ({"image": pa.array([], pa.string()), "cat": pa.array([], pa.float32())}, "has a header and no row"),
        ({"image": ["a"], "what": ["b"]}, "has no column of scores"),
    ):
        with pytest.raises(DataError, match=message):
            read_scores(parquet(path, **columns))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200),
    suffix=st.sampled_from([".npy", ".npz", ".csv", ".parquet"]),
    start=st.sampled_from([b"", WHOLE_NPY[:100], b"PK\x03\x04", b"PAR1", b"image,cat\n", b"a.jpg,0.5\n"]),
)
def test_any_bytes(tmp_path: Path, content: bytes, suffix: str, start: bytes) -> None:
    path = tmp_path / f"s{suffix}"
    path.write_bytes(start + content)
    with suppress(DataError):
        assert read_scores(path).values.ndim == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5),
    suffix=st.sampled_from([".npz", ".parquet", ".csv"]),
)
@example(places=[(89, 0)], suffix=".parquet")  # text that is no UTF-8
def test_changed_bytes(tmp_path: Path, places: list[tuple[int, int]], suffix: str) -> None:
    path = tmp_path / f"s{suffix}"
    write_scores(path, SCORES, CLASSES, IMAGES)
    content = bytearray(path.read_bytes())
    for place, value in places:
        content[place % len(content)] = value
    path.write_bytes(content)
    with suppress(DataError):
        taken = read_scores(path).take()
        assert ((taken >= 0) & (taken <= 1)).all()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s\.npy is missing"):
        read_scores(tmp_path / "s.npy")
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path)
