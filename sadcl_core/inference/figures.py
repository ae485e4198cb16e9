"""The figures of a trained model: its prototypes, its label features and its attention, each as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sadcl_core.data.images import open_image
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.inference.attention import attention_maps
from sadcl_core.inference.coordinates import two_dimensions
from sadcl_core.inference.embed_split import label_features
from sadcl_core.inference.load import Model
from sadcl_core.plots.attention import plot_attention
from sadcl_core.plots.embeddings import plot_embeddings
from sadcl_core.plots.prototypes import plot_prototypes
from sadcl_core.runtime.progress import Progress


def draw_prototypes(model: Model, path: Path, *, seed: int = 0) -> Path:
    """Draw a t-SNE map of the K class prototypes, coloured and shaped by superclass.

    Args:
        model: from `sadcl_core.load`.
        path: of the PNG.
        seed: of t-SNE.

    Raises:
        DataError: the model has no prototypes, or fewer than 3 classes.
    """
    card = model.card
    if not card.has_prototypes:
        raise DataError(f"{model.path} has no prototypes: it was trained without contrastive losses.")
    if len(card.classes) < 3:
        raise DataError(f"{model.path} has {len(card.classes)} classes; a map needs at least 3.")
    embeddings = model.forward.project(model.classifier.prototypes).cpu().numpy()
    title = f"{len(card.classes)} class prototypes of {card.trained.get('dataset', 'the model')}, t-SNE"
    return plot_prototypes(two_dimensions(embeddings, seed=seed), card.classes, card.superclasses, path, title=title)


def draw_embeddings(
    model: Model,
    split: Split,
    path: Path,
    *,
    limit: int | None = 1000,
    batch_size: int = 32,
    workers: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Draw a t-SNE map of the label features of active labels, coloured and shaped by class.

    Args:
        model: from `sadcl_core.load`.
        split: of images with labels.
        path: of the PNG.
        limit: only the first so many images.
        batch_size: images at a time.
        workers: processes that read images; None chooses.
        seed: of t-SNE.
        progress: called with how many images are done, of how many.

    Raises:
        DataError: the images have fewer than 3 active labels.
    """
    batches = list(label_features(model, split, batch_size=batch_size, workers=workers, limit=limit, progress=progress))
    vectors = np.concatenate([batch.feature for batch in batches])
    labels = np.concatenate([batch.label for batch in batches])
    if len(vectors) < 3:
        raise DataError(f"Split {split.name} has {len(vectors)} active labels among these images; a map needs at least 3.")
    title = f"label features of {len(vectors):,} active labels, {split.manifest.description.name} {split.name}, t-SNE"
    return plot_embeddings(two_dimensions(vectors, seed=seed), labels, model.classes, path, title=title)


def draw_attention(model: Model, image: Path, path: Path, *, labels: Sequence[str] = (), topk: int = 3) -> Path:
    """Draw an image, and beside it where the model read labels from.

    Args:
        model: from `sadcl_core.load`.
        image: a file.
        path: of the PNG.
        labels: class names; empty for those scored highest.
        topk: how many of those.

    Raises:
        DataError: the image cannot be read.
        UsageError: a name is no class of the model.
    """
    picture = open_image(image)
    maps = attention_maps(model.forward, model.card, picture, labels=labels, topk=topk)
    panels = [(model.classes[k], score, heat) for k, score, heat in zip(maps.labels, maps.scores, maps.maps, strict=True)]
    return plot_attention(picture, panels, path, title=image.name)
