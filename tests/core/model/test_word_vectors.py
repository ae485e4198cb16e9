from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sadcl_core.errors import DataError
from sadcl_core.model.label_facts import LabelFacts
from sadcl_core.model.word_vectors import NORM, WIDTH, random_vector, word_vectors


def facts(*names: str, together: list[list[int]] | None = None) -> LabelFacts:
    counts = torch.tensor(together) if together else torch.eye(len(names), dtype=torch.int64)
    active = counts.diagonal()
    return LabelFacts(names, active, counts, active[:, None].expand(len(names), -1))


def test_random_vectors_belong_to_names_and_are_nearly_orthogonal() -> None:
    vectors, missing = word_vectors("random", facts("cat", "dog", "bowl"))
    assert missing == ()
    other, _ = word_vectors("random", facts("bowl", "cat"))
    assert torch.equal(other, vectors[[2, 0]])
    unit = torch.nn.functional.normalize(torch.stack([random_vector(f"class {k}") for k in range(50)]))
    assert (unit @ unit.T - torch.eye(50)).abs().max() < 0.3
    assert vectors.norm(dim=1).min() > 5.5
    assert vectors.norm(dim=1).max() < 7.5


def test_vectors_of_co_occurrence_are_alike_where_classes_go_together() -> None:
    counts = [[9, 8, 0, 0, 0], [8, 9, 0, 0, 0], [0, 0, 9, 7, 0], [0, 0, 7, 9, 0], [0, 0, 0, 0, 3]]
    vectors, missing = word_vectors("cooccurrence", facts(*"abcde", together=counts))
    unit = torch.nn.functional.normalize(vectors)
    assert unit[0] @ unit[1] > 0.5 > unit[0] @ unit[2]
    torch.testing.assert_close(vectors[:4].norm(dim=1), torch.full((4,), NORM))
    assert missing == ("e",)  # never with another class
    assert torch.equal(vectors[4], random_vector("e"))
    again, _ = word_vectors("cooccurrence", facts(*"abcde", together=counts))
    assert torch.equal(again, vectors)


TEXT = "the 1 2 3\ncat 1 0 0\ntraffic 0 2 0\nlight 0 0 4\nhot-dog 5 5 5\ndining 1 1 1\ntable 3 3 3\n. . . 1 2 3\n"
NAMES = ("Cat", "traffic light", "hot dog", "diningtable", "trafficLight", "okapi")


def expected() -> Tensor:
    return torch.tensor([[1, 0, 0], [0, 1, 2], [5, 5, 5], [2, 2, 2], [0, 1, 2.0]])


@pytest.mark.parametrize("form", ["glove.txt", "fasttext.vec", "glove.txt.gz", "own.csv", "own.npz"])
def test_files(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    rows = [line.rsplit(" ", 3) for line in TEXT.splitlines()]
    if form.endswith(".gz"):
        path.write_bytes(gzip.compress(TEXT.encode()))
    elif form.endswith(".npz"):
        arrays: dict[str, Any] = {word: np.array(numbers, np.float32) for word, *numbers in rows}
        np.savez(path, **arrays)
    elif form.endswith(".csv"):
        path.write_text("".join(f"{','.join(row)}\n" for row in rows))
    else:
        path.write_text(("8 3\n" if form.endswith(".vec") else "") + TEXT)
    vectors, missing = word_vectors(str(path), facts(*NAMES))
    assert missing == ("okapi",)
    torch.testing.assert_close(vectors[:5, :3], expected())
    assert not vectors[:5, 3:].any()
    assert torch.equal(vectors[5], random_vector("okapi"))


def test_wider_vectors_are_turned_and_keep_their_products(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32)
    np.savez(tmp_path / "wide.npz", a=rows[0], b=rows[1], c=rows[2])
    vectors, _ = word_vectors(str(tmp_path / "wide.npz"), facts("a", "b", "c"))
    assert vectors.shape == (3, WIDTH)
    torch.testing.assert_close(vectors @ vectors.T, torch.from_numpy(rows @ rows.T), atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Give random, cooccurrence or a file"),
        (b"", "holds no vector of any class, such as 'cat'"),
        (b"dog 1 2\n", "holds no vector of any class"),
        (b"cat 1 two\n", "cannot be read"),
        (b"cat 1 2\ncow 1 2 3\n", "vectors of several lengths"),
        (b"cat nan 2\n", "not finite"),
        (b"\x00" * 10_000_000, "no text of vectors"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        word_vectors(str(tmp_path / "words.txt"), facts("cat", "cow"))


def test_the_home_of_a_user_whom_nobody_knows_is_no_file() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        word_vectors("~nobody-knows-me/words.txt", facts("cat"))
