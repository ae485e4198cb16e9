"""Find images by what a label looks like in them: exact search by cosine, block by block, without an index to be trained.

A product of n vectors with one is bound by the memory that they are read from: 1,000,000 x 256 take a fraction of a second on a
CPU (`benchmarks/search.py`), so that nothing has to be approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.embedding_index import EmbeddedRows, EmbeddingIndex, Floats, fingerprint, open_index, unit
from sadcl_core.runtime.progress import Progress
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from PIL import Image

    from sadcl_core.inference.load import Model

Rows = npt.NDArray[np.int64]

BLOCK = 1 << 16  # rows multiplied together
PAIR_BLOCK = 1 << 10  # rows whose cosines to all others are in memory at a time
FEW = 3  # vectors of a label, below which none of them can be unlike the others


@dataclass(frozen=True)
class Match:
    """An image that a search found.

    Attributes:
        image: its name in the index.
        path: of its file; empty for an image in a shard.
        cosine: of its vector and the query, in -1..1.
        label: whose feature was compared; empty: the feature of the whole image was.
        score: of that label, in 0..1; None for a whole image.
        labels: of the whole image, where it was compared.
    """

    image: str
    path: str
    cosine: float
    label: str = ""
    score: float | None = None
    labels: tuple[str, ...] = ()


def search(
    index: EmbeddingIndex | str | Path,
    image: str | Path | bytes | Image.Image | None = None,
    label: str | None = None,
    *,
    model: Model | None = None,
    prototype: bool = False,
    count: int = 20,
) -> list[Match]:
    """Return the images of an index that are most alike to an image, to a label in it, or to what a label mostly looks like.

    Args:
        index: from `open_index`, or the folder that `sadcl embed` wrote.
        image: to compare with; None: the mean of the features of the label, or its prototype.
        label: class name: its features are compared, of images that have the label; None: features of whole images are.
        model: that made the index, from `sadcl_core.load`; loaded where an image is given and it is not.
        prototype: without an image, compare with the prototype of the label, as the model learned it.
        count: images to return, at most.

    Returns:
        The most alike first, equals in the order of the index. The file of `image` itself is left out.

    Raises:
        UsageError: neither an image nor a label was given, no image of the index has the label, or there is no prototype of it.
        DataError: there is no index, the image cannot be read, or the model is another than the one that made the index.

    Example:
        >>> import pyarrow as pa
        >>> table = pa.table({"image": ["a", "b", "c"], "path": ["", "", ""], "label": ["dog", "cat", "dog"], "score": [0.9] * 3})
        >>> labels = EmbeddedRows(table, unit([[1.0, 0.0], [1.0, 0.1], [1.0, 1.0]]))
        >>> index = EmbeddingIndex(labels, images=labels, prototypes={"dog": unit([1.0, 0.9])})
        >>> [(match.image, round(match.cosine, 3)) for match in search(index, label="dog", prototype=True)]
        [('c', 0.999), ('a', 0.743)]
    """
    if image is None and label is None:
        raise UsageError("Nothing to search for. Give an image, a label, or both.")
    if count < 1:
        raise UsageError(f"count {count}: at least one image must be asked for.")
    opened = index if isinstance(index, EmbeddingIndex) else open_index(Path(index))
    part = opened.images if label is None else opened.labels
    rows = None if label is None else opened.rows_of(label)
    if image is not None:
        query = _query(opened, image, label, model)
    elif prototype:
        query = _prototype(opened, str(label))
    else:
        assert rows is not None, "there is a label"
        query = _mean(part.vectors, rows)
    own = Path(image).resolve() if isinstance(image, str | Path) else None
    found, cosines = nearest(part.vectors, query, count + (own is not None), rows=rows)
    matches = [_match(part, int(row), float(cosine)) for row, cosine in zip(found, cosines, strict=True)]
    return [match for match in matches if own is None or Path(match.path).resolve() != own][:count]


def outliers(index: EmbeddingIndex, label: str | None = None, *, count: int = 3) -> list[Match]:
    """Return the images whose label looks least like that label in the others: odd ones, and wrong labels.

    Args:
        index: from `open_index`.
        label: class name; None: every label with 3 images or more.
        count: images of each label, at most.

    Returns:
        For one label after the other, the lowest cosine to the mean feature of the label first.

    Raises:
        UsageError: fewer than 3 images of the index have the label.

    Example:
        >>> import pyarrow as pa
        >>> table = pa.table({"image": list("abcd"), "path": [""] * 4, "label": ["dog"] * 4, "score": [0.9] * 4})
        >>> labels = EmbeddedRows(table, unit([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]]))
        >>> [match.image for match in outliers(EmbeddingIndex(labels, labels), "dog", count=1)]
        ['c']
    """
    present = index.labels.table["label"].unique().to_pylist() if label is None else [label]
    matches = []
    for name in present:
        rows = index.rows_of(name)
        if len(rows) < FEW:
            if label is not None:
                images = counted(len(rows), "image")
                raise UsageError(f"{label!r} is a label of {images} in the index; which is unlike the others, {FEW} or more say.")
            continue
        found, cosines = nearest(index.labels.vectors, -_mean(index.labels.vectors, rows), count, rows=rows)
        matches += [_match(index.labels, int(row), -float(cosine)) for row, cosine in zip(found, cosines, strict=True)]
    return matches


def duplicates(
    index: EmbeddingIndex, *, cosine: float = 0.98, count: int = 1000, progress: Progress | None = None
) -> list[tuple[Match, Match]]:
    """Return pairs of images that look nearly the same, the most alike first, each image with the cosine of both.

    Args:
        index: from `open_index`.
        cosine: of the features of whole images, from which on two images count as the same.
        count: pairs to return, at most: the most alike.
        progress: called with how many images are done, of how many.

    Example:
        >>> import pyarrow as pa
        >>> images = EmbeddedRows(pa.table({"image": list("abc"), "path": [""] * 3}), unit([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]]))
        >>> [(one.image, other.image) for one, other in duplicates(EmbeddingIndex(images, images))]
        [('a', 'c')]
    """
    part = index.images
    found, cosines = near_pairs(part.vectors, cosine, count, progress=progress)
    return [
        (_match(part, int(first), float(value)), _match(part, int(second), float(value)))
        for (first, second), value in zip(found, cosines, strict=True)
    ]


def draw_matches(matches: Sequence[Match], path: Path, *, title: str, query: str | Path | None = None, most: int = 60) -> Path:
    """Draw at most `most` matches, each with its label, cosine and name; images that cannot be read have no picture.

    The image that was searched for, `query`, is drawn first and framed.

    Raises:
        DataError: there is no match to draw.
    """
    from sadcl_core.plots.contact_sheet import Tile, plot_contact_sheet

    if not matches:
        raise DataError("There is no match to draw.")
    tiles = [] if query is None else [Tile(_picture(str(query)), ("query", Path(query).name), framed=True)]
    for match in matches[:most]:
        what = match.label or ", ".join(match.labels) or "(no label)"
        score = "" if match.score is None else f" {match.score:.2f}"
        tiles.append(Tile(_picture(match.path), (f"{match.cosine:.3f}", f"{what}{score}", Path(match.image).name)))
    return plot_contact_sheet(tiles, path, title=title)


def _picture(path: str) -> Image.Image | None:
    from sadcl_core.data.images import open_image

    try:
        return open_image(path) if path else None
    except DataError:
        return None


def nearest(vectors: Floats, query: Floats, count: int, *, rows: Rows | None = None, block: int = BLOCK) -> tuple[Rows, Floats]:
    """Return the rows of the highest products with a query, exactly, and those products; the first of equals comes first.

    Of vectors (n, P) and a query (P,), at most `count` rows, or of the given `rows` alone, whose numbers rise. They are
    multiplied `block` at a time. For cosines, all are of length 1.

    Raises:
        ValueError: the query has another width.

    Example:
        >>> nearest(np.eye(3, dtype=np.float32), np.array([0.0, 1.0, 0.5], np.float32), 2)[0].tolist()
        [1, 2]
    """
    if query.shape != vectors.shape[1:]:
        raise ValueError(f"the query has the shape {query.shape}, the vectors {vectors.shape}")
    total = len(vectors) if rows is None else len(rows)
    best_rows, best = np.empty(0, np.int64), np.empty(0, np.float32)
    for start in range(0, total, block):
        chosen = slice(start, min(start + block, total)) if rows is None else rows[start : start + block]
        products = np.asarray(vectors[chosen] @ query)
        places = np.flatnonzero(products > best[-1]) if len(best) == count else np.arange(len(products))
        if len(places) > count:
            limit = np.partition(products[places], -count)[-count]
            above, at = places[products[places] > limit], places[products[places] == limit]
            places = np.concatenate([above, at[: count - len(above)]])
        numbers = places + start if rows is None else rows[start + places]
        best_rows, best = np.concatenate([best_rows, numbers]), np.concatenate([best, products[places]])
        order = np.lexsort((best_rows, -best))[:count]
        best_rows, best = best_rows[order], best[order]
    return best_rows, best


def near_pairs(
    vectors: Floats, least: float, count: int, *, block: int = PAIR_BLOCK, progress: Progress | None = None
) -> tuple[Rows, Floats]:
    """Return the `count` pairs of rows (m, 2) of the highest products, from `least` on, and the products (m,).

    Of vectors (n, P), for cosines of length 1; the products of `block` rows with all others are in memory at a time.

    Example:
        >>> pairs, products = near_pairs(np.array([[1, 0], [0, 1], [1, 0]], np.float32), 0.9, count=10)
        >>> pairs.tolist(), products.tolist()
        ([[0, 2]], [1.0])
    """
    pairs, best = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    for start in range(0, len(vectors), block):
        some = np.asarray(vectors[start : start + block])
        for other in range(start, len(vectors), block):
            products = some @ vectors[other : other + block].T
            if other == start:
                products[np.tril_indices(len(products))] = -np.inf  # each pair once, and none of a row with itself
            first, second = np.nonzero(products >= least)
            pairs = np.concatenate([pairs, np.stack([first + start, second + other], axis=1)])
            best = np.concatenate([best, products[first, second]])
            order = np.lexsort((pairs[:, 1], pairs[:, 0], -best))[:count]
            pairs, best = pairs[order], best[order]
            least = max(least, float(best[-1])) if len(best) == count else least
        if progress is not None:
            progress(min(start + block, len(vectors)), len(vectors))
    return pairs, best


def _prototype(index: EmbeddingIndex, label: str) -> Floats:
    if label not in index.prototypes:
        raise UsageError("The index has no prototypes: its model was trained without contrastive losses. Leave --prototype out.")
    return index.prototypes[label]


def _mean(vectors: Floats, rows: Rows) -> Floats:
    """Return the mean of rows, scaled to length 1."""
    total = np.zeros(vectors.shape[1], np.float64)
    for start in range(0, len(rows), BLOCK):
        total += vectors[rows[start : start + BLOCK]].sum(axis=0, dtype=np.float64)
    return unit(total)


def _query(index: EmbeddingIndex, image: str | Path | bytes | Image.Image, label: str | None, model: Model | None) -> Floats:
    """Return the vector of an image, or of a label in it."""
    if model is None:
        from sadcl_core.inference.load import load_trained

        if not index.about.get("model"):
            raise UsageError("The index does not say which model made it. Give the model.")
        model = load_trained(index.about["model"], img_size=index.about.get("img_size"))
    if index.about.get("fingerprint", "") not in ("", fingerprint(model.classifier.state_dict())):
        raise DataError(
            f"{index.folder} was made by another model than {model.path}: their features cannot be compared. Make the "
            "embeddings again: sadcl embed."
        )
    size = index.about.get("img_size", model.card.img_size)
    if size != model.card.img_size:
        raise DataError(
            f"{index.folder} was made of images of {size} px, and the model takes {model.card.img_size}. "
            f"Load it with img_size={size}."
        )
    features = model.embed(image)
    if label is None:
        return unit(features.image_features[0])
    return np.asarray(features.embeddings[0, model.card.class_indices([label])[0]])


def _match(part: EmbeddedRows, row: int, cosine: float) -> Match:
    values = {name: column[0].as_py() for name, column in zip(part.table.column_names, part.table.slice(row, 1), strict=True)}
    labels: Sequence[str] = values.get("labels") or values.get("predicted") or ()
    return Match(values["image"], values["path"], cosine, values.get("label", ""), values.get("score"), tuple(labels))
