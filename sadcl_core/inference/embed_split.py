"""Label features and image features of a split, in memory or as Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sadcl_core.data.loader import make_loader
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.inference.load import Model
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.progress import Progress

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LabelFeatures:
    """Features of n (image, label) pairs.

    Attributes:
        image: (n,) index into the split.
        label: (n,) class index.
        score: (n,) in 0..1.
        feature: (n, D) before the projection.
        embedding: (n, P) after it, of length 1.
        pooled: (b, D_b) feature of every whole image of the batch.
        rows: (b,) index of every whole image of the batch.
    """

    image: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    score: Floats
    feature: Floats
    embedding: Floats
    pooled: Floats
    rows: npt.NDArray[np.int64]


def label_features(
    model: Model,
    split: Split,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    every_label: bool = False,
    progress: Progress | None = None,
) -> Iterator[LabelFeatures]:
    """Yield, batch by batch, the features of active labels of a split (of all K labels with `every_label`)."""
    forward = model.forward
    loader = make_loader(split, forward.preprocessing.resize, batch_size=batch_size, workers=workers, limit=limit)
    done, count = 0, len(loader.dataset)  # type: ignore[arg-type]
    for images, targets, rows in loader:
        output = forward(images)
        pairs = torch.ones_like(targets, dtype=torch.bool) if every_label else targets == 1
        image, label = pairs.nonzero(as_tuple=True)
        feature = output.label_features[image.to(model.device), label.to(model.device)].float()
        yield LabelFeatures(
            image=rows[image].numpy(),
            label=label.numpy(),
            score=model.card.scores(output.logits).cpu()[image, label].numpy(),
            feature=feature.cpu().numpy(),
            embedding=forward.project(feature).cpu().numpy(),
            pooled=output.image_features.float().cpu().numpy(),
            rows=rows.numpy(),
        )
        done += len(images)
        if progress is not None:
            progress(done, count)


def write_embeddings(
    model: Model,
    split: Split,
    folder: Path,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    every_label: bool = False,
    progress: Progress | None = None,
) -> dict[Path, int]:
    """Write `label_features.parquet` (a row per image and label) and `image_features.parquet` (a row per image), batch by batch.

    Args:
        model: from `sadcl_core.load`.
        split: of images with labels.
        folder: where the two files go.
        batch_size: images at a time.
        workers: processes that read images; None chooses.
        limit: only the first so many images.
        every_label: features of inactive labels too, not only of active ones.
        progress: called with how many images are done, of how many.

    Returns:
        The rows of each file.

    Raises:
        DataError: the split is empty, or an image cannot be read.
    """
    paths = (folder / "label_features.parquet", folder / "image_features.parquet")
    rows = dict.fromkeys(paths, 0)
    writers: list[pq.ParquetWriter] = []
    with replacing(paths[0]) as label_file, replacing(paths[1]) as image_file:
        try:
            for batch in label_features(
                model,
                split,
                batch_size=batch_size,
                workers=workers,
                limit=limit,
                every_label=every_label,
                progress=progress,
            ):
                tables = (_label_table(batch, split), _image_table(batch, split))
                if not writers:
                    writers = [pq.ParquetWriter(f, t.schema) for f, t in zip((label_file, image_file), tables, strict=True)]
                for path, writer, table in zip(paths, writers, tables, strict=True):
                    writer.write_table(table)
                    rows[path] += table.num_rows
        finally:
            for writer in writers:
                writer.close()
        if not writers:
            raise DataError(f"Split {split.name} has no image to embed.")
    return rows


def _label_table(batch: LabelFeatures, split: Split) -> pa.Table:
    names = split.manifest.classes
    return pa.table(
        {
            "image": [split[int(i)] for i in batch.image],
            "label": [names[k] for k in batch.label],
            "target": pa.array([int(split.targets(int(i))[k]) for i, k in zip(batch.image, batch.label, strict=True)], pa.int8()),
            "score": batch.score,
            "feature": _vectors(batch.feature),
            "embedding": _vectors(batch.embedding),
        }
    )


def _image_table(batch: LabelFeatures, split: Split) -> pa.Table:
    names, images = split.manifest.classes, [int(i) for i in batch.rows]
    return pa.table(
        {
            "image": [split[i] for i in images],
            "labels": pa.array([[names[k] for k in split.active(i)] for i in images], pa.list_(pa.string())),
            "feature": _vectors(batch.pooled),
        }
    )


def _vectors(values: Floats) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), pa.float32()), values.shape[1])
