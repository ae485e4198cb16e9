"""The folder that `sadcl embed` writes: features as Parquet for any program, and as arrays that a search maps into memory.

label_features.parquet   a row per image and label: image, path, label, target, score, feature, embedding
image_features.parquet   a row per image: image, path, labels, predicted, scores, feature
label_embeddings.npy     (n, P) float32, the embedding of each row of the first table, of length 1
image_embeddings.npy     (N, D_b) float32, the feature of each row of the second table, scaled to length 1
prototypes.parquet       class and embedding, where the model has prototypes
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest
from sadcl_core.runtime.files import regular

Floats = npt.NDArray[np.float32]

LABELS, IMAGES, PROTOTYPES = "label_features.parquet", "image_features.parquet", "prototypes.parquet"
ARRAYS = {LABELS: "label_embeddings.npy", IMAGES: "image_embeddings.npy"}
TEXT, TEXTS = pa.string(), pa.list_(pa.string())
COLUMNS: dict[str, dict[str, pa.DataType]] = {  # that a search reads
    LABELS: {"image": TEXT, "label": TEXT, "path": TEXT, "score": pa.float32()},
    IMAGES: {"image": TEXT, "path": TEXT, "labels": TEXTS, "predicted": TEXTS},
}
ABOUT = b"sadcl"  # key of the metadata
RANDOM = "random"  # label features of a head that was never trained
SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class EmbeddedRows:
    """Rows that are searched.

    Attributes:
        table: n rows, without vectors; see `COLUMNS`.
        vectors: (n, P) float32 of length 1, mapped into memory where they come from a file.
    """

    table: pa.Table
    vectors: Floats

    def of_label(self, label: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the rows of a label."""
        labels = self.table["label"].cast(pa.binary())  # a label from the command line may be no UTF-8
        return np.flatnonzero(pc.equal(labels, label.encode("utf-8", "surrogatepass")).to_numpy(zero_copy_only=False))


@dataclass(frozen=True, eq=False)
class EmbeddingIndex:
    """Features that can be searched.

    Attributes:
        labels: a row per image and label.
        images: a row per image.
        prototypes: (P,) of each class, of length 1; none where the model has no prototypes.
        about: data set, split, classes, the model, its fingerprint, and whether its label features are trained or random.
        folder: that it was read from.
    """

    labels: EmbeddedRows
    images: EmbeddedRows
    prototypes: Mapping[str, Floats] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def rows_of(self, label: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the rows of a label.

        Raises:
            UsageError: no row has it, or the features of labels are random.
        """
        if self.about.get("label_features") == RANDOM:
            raise UsageError(
                f"{self.folder} has no features of labels that mean something: its model's linear layer alone was trained. "
                "Search for whole images, or train an epoch or more."
            )
        rows = self.labels.of_label(label)
        if not len(rows):
            present = pc.unique(self.labels.table["label"]).to_pylist()
            raise UsageError(f"No image of the index has the label {label!r}. {suggest(label, present)}")
        return rows


def open_index(folder: Path, *, remedy: str = "sadcl embed") -> EmbeddingIndex:
    """Open the folder that `sadcl embed` wrote; the vectors stay on the disk until they are needed.

    It is in the folder, or in a single one inside; errors name `remedy`, the command that makes it.

    Raises:
        DataError: there is no index, or a file of it is missing or damaged.
        UsageError: several folders inside hold an index.
    """
    folder = find_index(folder, remedy=remedy)
    about: dict[str, Any] = {}
    parts = []
    for name in (LABELS, IMAGES):
        with explained_index(folder / name, remedy):
            schema = pq.read_schema(folder / name)
            about = dict(json.loads((schema.metadata or {}).get(ABOUT, b"{}")))
            columns = {column: kind for column, kind in COLUMNS[name].items() if column in schema.names}
            lacking = {"image", "path", *(["label"] if name == LABELS else [])} - set(columns)
            if lacking:
                raise ValueError(f"it has no column {min(lacking)}")
            table = pq.read_table(folder / name, columns=list(columns)).cast(pa.schema(columns))
            table.validate(full=True)
        with explained_index(folder / ARRAYS[name], remedy):
            vectors = np.load(folder / ARRAYS[name], mmap_mode="r" if table.num_rows else None)
            if vectors.ndim != 2 or len(vectors) != table.num_rows or vectors.dtype != np.float32:
                raise ValueError(f"{len(vectors)} vectors for {table.num_rows} rows")
        parts.append(EmbeddedRows(table, vectors))
    prototypes: dict[str, Floats] = {}
    if (folder / PROTOTYPES).exists():
        with explained_index(folder / PROTOTYPES, remedy):
            stored = pq.read_table(folder / PROTOTYPES)
            stored.validate(full=True)
            rows = np.array(stored["embedding"].to_pylist(), np.float32)
            if rows.shape[1:] != parts[0].vectors.shape[1:]:
                raise ValueError(f"prototypes of another width than {ARRAYS[LABELS]}")
            prototypes = dict(zip(stored["class"].to_pylist(), rows, strict=True))
    return EmbeddingIndex(parts[0], parts[1], prototypes=prototypes, about=about, folder=folder)


def find_index(folder: Path, *, remedy: str = "sadcl embed") -> Path:
    """Return the folder of an index: the one named, or the only one in it.

    Raises:
        DataError: there is none.
        UsageError: there are several.
    """
    if (folder / LABELS).exists():
        return folder
    inside = sorted(path.parent for path in folder.glob(f"*/{LABELS}"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise UsageError(f"{folder} holds several indexes: {', '.join(path.name for path in inside)}. Name one with --index.")
    raise DataError(f"{folder} holds no embeddings ({LABELS}). Make them first: {remedy}.")


@contextmanager
def explained_index(path: Path, remedy: str) -> Iterator[None]:
    """Raise a DataError of one sentence if a file of an index cannot be read."""
    try:
        regular(path)
        yield
    except Exception as error:  # a damaged file makes its library raise whatever it likes
        reason = "there is none" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read ({reason}). Make the embeddings again: {remedy}.") from None


def fingerprint(weights: Mapping[str, Any]) -> str:
    """Return a short digest of a model's tensors, which training changes and calibration does not.

    Example:
        >>> import torch
        >>> one, other = {"w": torch.zeros(3)}, {"w": torch.ones(3)}
        >>> fingerprint(one) == fingerprint(one), fingerprint(one) == fingerprint(other)
        (True, False)
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name].detach().flatten()[:64].float().cpu().numpy()
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()[:16]


def unit(vectors: npt.ArrayLike) -> Floats:
    """Return vectors (..., P) scaled to length 1; those of length 0 stay as they are.

    Example:
        >>> unit([[3.0, 4.0], [0.0, 0.0]]).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    array = np.asarray(vectors, np.float32)
    length = np.linalg.norm(array, axis=-1, keepdims=True)
    return np.asarray(array / np.where(length > 0, length, 1), np.float32)
