from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sadcl_core import search
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.embedding_index import EmbeddedRows, EmbeddingIndex, Floats, open_index, unit
from sadcl_core.inference.search import draw_matches, duplicates, near_pairs, nearest, outliers


def vectors(count: int, width: int = 16, *, seed: int = 0, copies: bool = False) -> Floats:
    """Draw vectors of length 1; with copies each appears several times, so that there are ties."""
    rng = np.random.default_rng(seed)
    drawn = unit(rng.normal(size=(count, width)))
    return drawn[rng.integers(0, max(count // 4, 1), count)] if copies else drawn


def make_index(rows: Floats, labels: list[str], *, paths: list[str] | None = None) -> EmbeddingIndex:
    names = [f"{number}.jpg" for number in range(len(rows))]
    table = pa.table({"image": names, "path": paths or names, "label": labels, "score": [0.5] * len(rows)})
    images = table.drop_columns(["label", "score"]).append_column("labels", pa.array([[label] for label in labels]))
    return EmbeddingIndex(
        EmbeddedRows(table, rows), EmbeddedRows(images, rows), prototypes={"dog": unit(np.eye(rows.shape[1])[0])}
    )


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("count", [1, 5, 200])
def test_nearest_is_the_sorted_list(block: int, count: int, copies: bool) -> None:
    rows, query = vectors(100, copies=copies), vectors(1, seed=1)[0]
    order = np.lexsort((np.arange(100), -(rows @ query)))[:count]
    found, products = nearest(rows, query, count, block=block)
    np.testing.assert_allclose(products, (rows @ query)[order], rtol=1e-5)
    if not copies:
        assert found.tolist() == order.tolist()
    some = np.arange(3, 100, 3)
    expected = some[np.lexsort((some, -(rows[some] @ query)))][:count]
    np.testing.assert_allclose(nearest(rows, query, count, rows=some, block=block)[1], (rows @ query)[expected], rtol=1e-5)


def test_of_equals_the_first_rows_are_taken() -> None:
    rows = np.ones((50, 4), np.float32)
    for block in (1, 8, 64):
        assert nearest(rows, np.ones(4, np.float32), 3, block=block)[0].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="shape"):
        nearest(rows, np.ones(3, np.float32), 3)


@pytest.mark.parametrize("block", [4, 64])
@pytest.mark.parametrize("most", [3, 1000])
def test_near_pairs_are_those_of_the_whole_matrix(block: int, most: int) -> None:
    rows = vectors(40, 4)
    calls: list[tuple[int, int]] = []
    pairs, products = near_pairs(rows, 0.8, most, block=block, progress=lambda done, total: calls.append((done, total)))
    whole = rows @ rows.T
    expected = sorted(((i, j) for i in range(40) for j in range(i + 1, 40) if whole[i, j] >= 0.8), key=lambda pair: -whole[pair])
    assert len(expected) > 3
    assert [tuple(pair) for pair in pairs.tolist()] == expected[:most]
    np.testing.assert_allclose(products, [whole[pair] for pair in expected[:most]], rtol=1e-5)
    assert calls[-1] == (40, 40)


def test_a_label_is_compared_with_that_label_alone() -> None:
    rows = vectors(30)
    index = make_index(rows, ["dog" if number % 3 else "cat" for number in range(30)])
    found = search(index, label="dog", prototype=True, count=4)
    dogs = [number for number in range(30) if number % 3]
    order = sorted(dogs, key=lambda number: -rows[number, 0])
    assert [match.image for match in found] == [f"{number}.jpg" for number in order[:4]]
    assert {match.label for match in found} == {"dog"}
    middle = unit(rows[dogs].mean(axis=0))
    typical, odd = search(index, label="dog", count=30), outliers(index, "dog", count=30)
    assert [match.image for match in typical] == [match.image for match in reversed(odd)]
    assert typical[0].cosine == pytest.approx(float((rows[dogs] @ middle).max()), abs=1e-6)
    assert {match.label for match in outliers(index)} == {"dog", "cat"}
    assert len(outliers(index, count=2)) == 4


def test_of_too_few_images_none_is_unlike_the_others() -> None:
    index = make_index(vectors(5), ["dog", "dog", "dog", "cat", "cat"])
    assert {match.label for match in outliers(index)} == {"dog"}
    with pytest.raises(UsageError, match="'cat' is a label of 2 images in the index"):
        outliers(index, "cat")


def test_duplicates_are_named_with_their_images() -> None:
    rows = vectors(10)
    rows[7] = rows[2]
    ((one, other),) = duplicates(make_index(rows, ["cat"] * 10))
    assert (one.image, other.image) == ("2.jpg", "7.jpg")
    assert one.cosine == other.cosine == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "Nothing to search for"),
        ({"label": "dgo"}, "Did you mean 'dog'"),
        ({"label": "cat", "prototype": True}, "no prototypes"),
        ({"label": "cat", "count": 0}, "at least one"),
        ({"image": b""}, "does not say which model"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        search(make_index(vectors(4), ["cat", "dog", "cat", "dog"]), **arguments)  # type: ignore[arg-type]


def test_an_index_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sadcl embed"):
        open_index(tmp_path)
    for split in ("a", "b"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "label_features.parquet").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="--index"):
        open_index(tmp_path)
    with pytest.raises(DataError, match=r"label_features\.parquet cannot be read"):
        open_index(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("label_features.parquet", {"image": ["a.jpg"], "path": ["a.jpg"]}, "it has no column label"),
        ("image_features.parquet", {"path": ["a.jpg"]}, "it has no column image"),
        ("label_features.parquet", {"image": ["a.jpg"], "label": ["cat"]}, "it has no column path"),
        ("image_features.parquet", {"image": ["a.jpg"], "path": ["a.jpg"], "labels": ["dog"]}, "Unsupported cast"),
        ("prototypes.parquet", {"class": ["dog"], "embedding": [[1.0, 0.0]]}, "another width"),
        *(("label_embeddings.npy", b"", "No data left in file"), ("label_features.parquet", b"", "size is 0 bytes")),
        *((name, None, "pipe") for name in ("label_features.parquet", "label_embeddings.npy", "prototypes.parquet")),
    ],
)
def test_a_damaged_file_of_an_index_is_named(
    tmp_path: Path, name: str, content: dict[str, list[object]] | bytes | None, words: str
) -> None:
    pq.write_table(pa.table({"image": ["a.jpg"], "path": ["a.jpg"], "label": ["dog"]}), tmp_path / "label_features.parquet")
    pq.write_table(pa.table({"image": ["a.jpg"], "path": ["a.jpg"]}), tmp_path / "image_features.parquet")
    for array in ("label_embeddings.npy", "image_embeddings.npy"):
        np.save(tmp_path / array, vectors(1))
    assert duplicates(open_index(tmp_path)) == []
    if content is None:
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        pq.write_table(pa.table(content), tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} cannot be read .*{words}") as caught:
        open_index(tmp_path)
    assert str(caught.value).endswith("sadcl embed.")


def test_a_contact_sheet_has_a_place_for_what_cannot_be_read(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), (30, 90, 160)).save(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png"), str(tmp_path / "none.png"), ""]
    index = make_index(vectors(3), ["dog"] * 3, paths=paths)
    path = draw_matches(search(index, label="dog"), tmp_path / "s.png", title="dogs", query=tmp_path / "a.png")
    with Image.open(path) as sheet:
        assert sheet.width > 120
    with pytest.raises(DataError, match="no match"):
        draw_matches([], tmp_path / "s.png", title="")
