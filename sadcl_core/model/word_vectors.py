"""Vectors of class names for heads that are built on words: random, of co-occurrence, or from a file of GloVe or fastText.

Random vectors are nearly orthogonal in 300 dimensions: each class is then told from all others, and like none. Published methods
use GloVe; ML-GCN's ablation finds that one-hot vectors give about the same.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sadcl_core.data.class_names import vectors_file
from sadcl_core.errors import DataError
from sadcl_core.model.label_facts import LabelFacts

WIDTH = 300  # W, of the vectors, as GloVe's in the papers
NORM = 6.5  # about the mean length of GloVe's vectors of the classes of COCO and VOC
WIDEST, LONGEST = 65_536, 1 << 22  # of a file: numbers of a vector, bytes of a line
COMPOUNDS = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}  # of VOC
Vectors = dict[str, npt.NDArray[np.float32]]


def word_vectors(source: str, facts: LabelFacts) -> tuple[Tensor, tuple[str, ...]]:
    """Return a vector of each of K class names.

    Args:
        source: `random`, `cooccurrence` (singular vectors of the classes' positive pointwise mutual information), or a file: text
            of GloVe or fastText, `.npz` or `.csv` by class name. Narrower vectors than `WIDTH` get zeros, wider ones are
            turned into `WIDTH` dimensions, which keeps their products for up to `WIDTH` classes.
        facts: names and counts of the classes.

    Returns:
        (K, WIDTH) float32, and the names that have no vector there; theirs are random.

    Raises:
        DataError: the file cannot be read, or holds no vector of any class.

    Example:
        >>> facts = LabelFacts(("cat", "dog"), *(torch.ones(2, 2) for _ in range(3)))
        >>> vectors, missing = word_vectors("random", facts)
        >>> tuple(vectors.shape), missing, torch.equal(vectors[1], random_vector("dog"))
        ((2, 300), (), True)
    """
    if source == "random":
        return torch.stack([random_vector(name) for name in facts.names]), ()
    path = vectors_file(source)
    rows = _co_occurrence_vectors(facts) if path is None else _from_file(path, facts.names)
    named = list(zip(facts.names, rows, rows.any(dim=1).tolist(), strict=True))
    vectors = [row if present else random_vector(name) for name, row, present in named]
    return torch.stack(vectors), tuple(name for name, _, present in named if not present)


def random_vector(name: str) -> Tensor:
    """Return (WIDTH,) normal numbers drawn by a name alone, of length `NORM` on average.

    Example:
        >>> torch.equal(random_vector("cat"), random_vector("cat")), 6 < random_vector("cat").norm() < 7
        (True, tensor(True))
    """
    seed = int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=7).digest(), "big")
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) * NORM / math.sqrt(WIDTH)


def _co_occurrence_vectors(facts: LabelFacts) -> Tensor:
    """Return (K, WIDTH); zeros for a class that is never active with another one."""
    counts = facts.active.double()[:, None] * facts.together.double() / facts.known.double().clamp(min=1)
    counts = (counts + counts.T) / 2  # of all images, were every label known
    totals = counts.sum(dim=1)
    information = (counts * counts.sum() / (totals[:, None] * totals).clamp(min=1e-12)).log().clamp(min=0)
    left, values, _ = torch.linalg.svd(information)
    rows = _of_width((left * values.sqrt()).float())
    alone = counts.sum(dim=1) - counts.diagonal() <= 0
    return torch.where(alone[:, None], 0, NORM * torch.nn.functional.normalize(rows, dim=1))


def _of_width(rows: Tensor) -> Tensor:
    """Return the first WIDTH columns of (K, W), or these and zeros; the largest number of each is positive.

    Columns are coordinates along singular vectors, largest first, whose sign is arbitrary.
    """
    rows = rows[:, :WIDTH]
    largest = rows.gather(0, rows.abs().argmax(dim=0, keepdim=True))
    return _padded(rows * torch.where(largest < 0, -1.0, 1.0))


def _padded(rows: Tensor) -> Tensor:
    """Return (K, WIDTH) for (K, W) that are not wider."""
    return torch.nn.functional.pad(rows, (0, WIDTH - rows.shape[1]))


def _from_file(path: Path, names: Sequence[str]) -> Tensor:
    """Return (K, WIDTH); zeros for a name without a vector."""
    wordings = {name: _wordings(name) for name in names}
    needed = {word for several in wordings.values() for wording in several for word in (wording, *wording.split())}
    needed |= set(names)
    try:
        vectors = _read(path, needed)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, MemoryError) as error:
        raise DataError(f"model.word_vectors={path} cannot be read ({error}). Give random, cooccurrence or a file.") from None
    rows = [_look_up(name, wordings[name], vectors) for name in names]
    width = max((len(row) for row in rows if row is not None), default=0)
    if not width:
        raise DataError(f"{path} holds no vector of any class, such as {names[0]!r}. Give vectors of these words, or random.")
    if any(row is not None and len(row) != width for row in rows):
        raise DataError(f"{path} holds vectors of several lengths. Give vectors of one length.")
    table = np.stack([np.zeros(width, np.float32) if row is None else row for row in rows])
    if not np.isfinite(table).all():
        raise DataError(f"{path} holds numbers that are not finite. Give other vectors.")
    if width <= WIDTH:
        return _padded(torch.from_numpy(table))
    left, values, _ = torch.linalg.svd(torch.from_numpy(table), full_matrices=False)
    return _of_width(left * values)


def _wordings(name: str) -> tuple[str, ...]:
    """Return how a class may be spelt in a file: as it is, with other separators, and as words."""
    low = name.lower()
    words = re.sub(r"[\s_\-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).lower().strip()
    words = COMPOUNDS.get(low, words)
    return (low, *(words.replace(" ", separator) for separator in ("_", "-", "")), words)


def _look_up(
    name: str, wordings: Sequence[str], vectors: Mapping[str, npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32] | None:
    """Return the vector of a class: of its name, else of one of its spellings, else the mean over its words that have one."""
    for wording in (name, *wordings):
        if wording in vectors:
            return vectors[wording]
    rows = [vectors[word] for word in wordings[-1].split() if word in vectors]
    if len({len(row) for row in rows}) > 1:
        raise DataError(f"The words of the class {name!r} have vectors of several lengths. Give vectors of one length.")
    mean: npt.NDArray[np.float32] | None = np.mean(rows, axis=0) if rows else None
    return mean


def _read(path: Path, needed: set[str]) -> Vectors:
    """Return the vectors of the needed words; no other line is kept."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {word: np.asarray(arrays[word], np.float32).reshape(-1) for word in arrays.files if word in needed}
    separator = "," if path.suffix == ".csv" else " "
    vectors: Vectors = {}
    for line in _lines(path):
        word, _, rest = line.partition(separator)
        if separator == ",":
            word = word.strip().strip('"')
        if word in needed and word not in vectors:
            numbers = np.array(rest.replace(",", " ").split(), np.float32)
            if len(numbers) > 1:  # else the first line of a .vec file: how many words, how many numbers
                vectors[word] = numbers
    return vectors


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text, packed or not."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        while line := file.readline(LONGEST):
            if len(line) == LONGEST:
                raise ValueError("it is no text of vectors")
            yield line.decode("utf-8", errors="replace").rstrip()
