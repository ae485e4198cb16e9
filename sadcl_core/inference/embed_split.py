"""Label features and image features of a split, or of any images, in memory or as an index on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sadcl_core.data.batches import read_batches
from sadcl_core.data.image_stream import ImageStream
from sadcl_core.data.loader import make_loader
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.inference.coordinates import Method, add_coordinates, check_rows
from sadcl_core.inference.embedding_index import (
    ABOUT,
    ARRAYS,
    IMAGES,
    LABELS,
    PROTOTYPES,
    RANDOM,
    SCHEMA_VERSION,
    fingerprint,
    unit,
)
from sadcl_core.inference.load import Model
from sadcl_core.inference.predict import printable_name
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.progress import Progress

Floats = npt.NDArray[np.float32]
Pairs = Literal["active", "predicted", "every"]


@dataclass(frozen=True)
class LabelFeatures:
    """Features of b images and n of their labels.

    Attributes:
        image: (n,) index of the image, into the split or among the files.
        label: (n,) class index.
        target: (n,) 1, 0 or -1 for unknown.
        score: (n,) in 0..1.
        feature: (n, D) before the projection.
        embedding: (n, P) after it, of length 1.
        rows: (b,) index of every whole image of the batch.
        pooled: (b, D_b) feature of every whole image.
        scores: (b, K) in 0..1.
        targets: (b, K) 1, 0 or -1 for unknown.
    """

    image: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    target: npt.NDArray[np.int8]
    score: Floats
    feature: Floats
    embedding: Floats
    rows: npt.NDArray[np.int64]
    pooled: Floats
    scores: Floats
    targets: npt.NDArray[np.int8]


def label_features(
    model: Model,
    split: Split,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    pairs: Pairs = "active",
    progress: Progress | None = None,
) -> Iterator[LabelFeatures]:
    """Yield, batch by batch, the features of labels of the first `limit` images of a split.

    The labels are the active ones, the predicted ones, or all K.

    Raises:
        DataError: an image cannot be read.
    """
    loader = make_loader(split, model.preprocessing.resize, batch_size=batch_size, workers=workers, limit=limit)
    done, count = 0, len(loader.dataset)  # type: ignore[arg-type]
    for images, targets, rows in loader:
        yield _features(model, images, targets, rows, pairs)
        done += len(images)
        if progress is not None:
            progress(done, count)


def _features(model: Model, images: Tensor, targets: Tensor, rows: Tensor, pairs: Pairs) -> LabelFeatures:
    output = model.forward(images, refuse_nan=True)
    scores = model.card.scores(output.logits).cpu()
    chosen = targets == 1
    if pairs == "every":
        chosen = torch.ones_like(chosen)
    elif pairs == "predicted":
        chosen = scores > torch.tensor(model.choose_thresholds().values, dtype=scores.dtype)
    image, label = chosen.nonzero(as_tuple=True)
    feature = output.label_features[image.to(model.device), label.to(model.device)].float()
    return LabelFeatures(
        image=rows[image].numpy(),
        label=label.numpy(),
        target=targets[image, label].numpy(),
        score=scores[image, label].numpy(),
        feature=feature.cpu().numpy(),
        embedding=model.forward.project(feature).cpu().numpy(),
        rows=rows.numpy(),
        pooled=output.image_features.float().cpu().numpy(),
        scores=scores.numpy(),
        targets=targets.numpy(),
    )


def write_embeddings(
    model: Model,
    split: Split,
    folder: Path,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    pairs: Pairs = "active",
    coordinates: Method | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Path, int]:
    """Write the features of a split as an index, batch by batch; see `sadcl_core.inference.embedding_index` for its files.

    `coordinates` adds the places in the plane, drawn from `seed`; see `sadcl_core.inference.coordinates.add_coordinates`, also
    for its errors. The other arguments are those of `label_features`.

    Returns:
        The rows of each table.

    Raises:
        DataError: the split is empty, or an image cannot be read.
    """
    count = min(len(split), limit or len(split))
    check_rows(count, coordinates)
    batches = label_features(model, split, batch_size=batch_size, workers=workers, limit=limit, pairs=pairs, progress=progress)
    description = split.manifest.description
    paths = [""] * count if description.shards is not None else [str(split.path(row).absolute()) for row in range(count)]
    about = {"dataset": description.name, "split": split.name, "pairs": pairs}
    return _write(model, batches, split, paths, folder, about, coordinates, seed)


def write_image_embeddings(
    model: Model,
    images: ImageStream,
    folder: Path,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    coordinates: Method | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[dict[Path, int], list[str]]:
    """Write the features of images without labels, and of the labels that the model predicts; otherwise as `write_embeddings`.

    Images that cannot be read are left out; `workers` are threads. `progress` is given 0 where the number of images is not known.

    Returns:
        The rows of each table, and a sentence for each image that could not be read.

    Raises:
        DataError: no image could be read.
    """
    count = images.count()
    if count is not None:
        count = min(count, limit or count)
        check_rows(count, coordinates)
    names: list[str] = []
    paths: list[str] = []
    errors: list[str] = []

    def batches() -> Iterator[LabelFeatures]:
        unknown = torch.full((batch_size, len(model.classes)), -1, dtype=torch.int8)
        for batch in read_batches(islice(images, limit), model.forward.read, batch_size=batch_size, workers=workers):
            for image in batch.sources.values():
                names.append(image.name)
                paths.append(str(image.source.absolute()) if isinstance(image.source, Path) else "")
            errors.extend(batch.errors.values())
            if batch.indices:
                rows = torch.tensor(batch.indices)
                yield _features(model, torch.stack(batch.images), unknown[: len(rows)], rows, "predicted")
            if progress is not None:
                progress(len(names), count or 0)
        if errors and len(errors) == len(names):
            raise DataError(f"None of {len(names):,} images could be read. {errors[0]}")

    about = {"dataset": "images without labels", "pairs": "predicted"}
    return _write(model, batches(), names, paths, folder, about, coordinates, seed), errors


def _write(
    model: Model,
    batches: Iterator[LabelFeatures],
    names: Sequence[str],
    paths: Sequence[str],
    folder: Path,
    about: dict[str, Any],
    coordinates: Method | None,
    seed: int,
) -> dict[Path, int]:
    card = model.card
    about = {
        "schema_version": SCHEMA_VERSION,
        **about,
        "classes": list(card.classes),
        "model": str(model.path.resolve()),
        "img_size": card.img_size,
        "fingerprint": fingerprint(model.classifier.state_dict()),
        "label_features": "trained" if card.head_is_trained else RANDOM,
    }
    thresholds = np.asarray(model.choose_thresholds().values, np.float32)
    with ExitStack() as stack:
        labels, images = (_TableFile(stack, folder, name, about) for name in (LABELS, IMAGES))
        for batch in batches:
            labels.add(_label_table(batch, names, paths, card.classes), batch.embedding)
            images.add(_image_table(batch, names, paths, card.classes, thresholds), unit(batch.pooled))
        if not images.rows:
            raise DataError("There is no image to embed.")
        if card.has_prototypes:
            centres = model.forward.project(model.classifier.prototypes).cpu().numpy()
            path = stack.enter_context(replacing(folder / PROTOTYPES))
            pq.write_table(pa.table({"class": list(card.classes), "embedding": _vectors(centres)}), path)
    if not card.has_prototypes:
        (folder / PROTOTYPES).unlink(missing_ok=True)  # of another model
    if coordinates is not None:
        add_coordinates(folder, method=coordinates, seed=seed)
    return {folder / LABELS: labels.rows, folder / IMAGES: images.rows}


class _TableFile:
    """A table that grows batch by batch, and its vectors beside it; both files get their names when the stack is left."""

    def __init__(self, stack: ExitStack, folder: Path, name: str, about: dict[str, Any]) -> None:
        self.path = stack.enter_context(replacing(folder / name))
        self.file: BinaryIO = stack.enter_context(stack.enter_context(replacing(folder / ARRAYS[name])).open("wb"))
        self.stack, self.about = stack, about
        self.writer: Any = None
        self.rows, self.width = 0, 0
        stack.callback(self._write_header)

    def add(self, table: pa.Table, vectors: Floats) -> None:
        """Write rows."""
        if self.writer is None:
            schema = table.schema.with_metadata({ABOUT: json.dumps(self.about).encode()})
            self.writer = self.stack.enter_context(pq.ParquetWriter(self.path, schema))
            self.width = vectors.shape[1]
            self._write_header()
        self.writer.write_table(table)
        self.file.write(np.ascontiguousarray(vectors, np.float32).tobytes())
        self.rows += table.num_rows

    def _write_header(self) -> None:
        """Write the header of the array, which leaves room for the number of rows."""
        self.file.seek(0)
        shape = (self.rows, self.width)
        np.lib.format.write_array_header_1_0(self.file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _label_table(batch: LabelFeatures, names: Sequence[str], paths: Sequence[str], classes: Sequence[str]) -> pa.Table:
    return pa.table(
        {
            **_places([int(i) for i in batch.image], names, paths),
            "label": [classes[k] for k in batch.label],
            "target": batch.target,
            "score": batch.score,
            "feature": _vectors(batch.feature),
            "embedding": _vectors(batch.embedding),
        }
    )


def _image_table(
    batch: LabelFeatures, names: Sequence[str], paths: Sequence[str], classes: Sequence[str], thresholds: Floats
) -> pa.Table:
    def listed(chosen: npt.NDArray[np.bool_]) -> pa.Array:
        return pa.array([[classes[int(k)] for k in np.flatnonzero(row)] for row in chosen], pa.list_(pa.string()))

    return pa.table(
        {
            **_places([int(i) for i in batch.rows], names, paths),
            "labels": listed(batch.targets == 1),
            "predicted": listed(batch.scores > thresholds),
            "scores": _vectors(batch.scores),
            "feature": _vectors(batch.pooled),
        }
    )


def _places(indices: Sequence[int], names: Sequence[str], paths: Sequence[str]) -> dict[str, pa.Array]:
    return {
        "image": pa.array([printable_name(names[i]) for i in indices], pa.string()),
        "path": pa.array([printable_name(paths[i]) for i in indices], pa.string()),
    }


def _vectors(values: Floats) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), pa.float32()), values.shape[1])
