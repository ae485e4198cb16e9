"""The figures of a trained model, each as PNG, SVG or PDF: prototypes, label features, attention, thresholds, predictions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.data.images import NamedImage, open_image
from sadcl_core.data.loader import make_loader
from sadcl_core.data.shards import spaced_images
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.attention import attention_maps
from sadcl_core.inference.coordinates import LEAST, two_dimensions
from sadcl_core.inference.embed_split import label_features
from sadcl_core.inference.load import Model
from sadcl_core.inference.score import score
from sadcl_core.inference.thresholds import ThresholdRequest
from sadcl_core.metrics.precision_recall import decision_counts, ratios
from sadcl_core.metrics.precision_recall_curve import precision_recall_curves
from sadcl_core.metrics.separation import Separation, separation
from sadcl_core.plots.attention import plot_attention
from sadcl_core.plots.contact_sheet import Tile, plot_contact_sheet
from sadcl_core.plots.embeddings import FeatureMap, plot_embeddings
from sadcl_core.plots.prototypes import plot_prototypes
from sadcl_core.plots.style import short
from sadcl_core.plots.thresholds import ThresholdCurves, plot_thresholds
from sadcl_core.runtime.progress import Progress

Floats = npt.NDArray[np.float32]

THRESHOLDS = np.arange(1, 100) / 100
LINES = 6  # labels of an image
NEAREST = 5  # classes named for each class
MOST_PAIRS = 1000  # of classes most alike
ORDERED = 2000  # classes, up to which those alike are put together


def draw_prototypes(model: Model, path: Path, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Draw the class prototypes: a t-SNE map, coloured and shaped by superclass, their cosines and the pairs most alike.

    Returns:
        For each class the 5 others most alike, and their cosines.

    Raises:
        DataError: the model has no prototypes, or one class.
    """
    card = model.card
    if not card.has_prototypes:
        raise DataError(
            f"{model.path} has no prototypes: it was trained without contrastive losses. Train a method that has them, such as "
            "sadcl, with an epoch or more of its second stage."
        )
    if len(card.classes) < 2:
        raise DataError(f"{model.path} has one class; there is nothing to compare its prototype with.")
    embeddings = model.forward.project(model.classifier.prototypes).cpu().numpy()
    cosines = (embeddings @ embeddings.T).astype(np.float64)
    points = two_dimensions(embeddings, seed=seed) if len(embeddings) >= LEAST else None
    title = f"{len(card.classes)} class prototypes of {card.trained.get('dataset', 'the model')}, after projection"
    order, pairs = _like_together(cosines), _most_alike(cosines)
    plot_prototypes(points, cosines, order, pairs, card.classes, card.superclasses, path, title=title)
    ranked = np.argsort(-(cosines - 4 * np.eye(len(cosines))), axis=1, kind="stable")[:, :-1][:, :NEAREST]
    return {name: {card.classes[other]: float(cosines[k, other]) for other in ranked[k]} for k, name in enumerate(card.classes)}


def _like_together(cosines: npt.NDArray[np.float64]) -> list[int]:
    """Return an order of the classes in which those alike follow each other: the leaves of average linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    if not 2 < len(cosines) <= ORDERED:
        return list(range(len(cosines)))
    distances = squareform(np.clip(1 - (cosines + cosines.T) / 2, 0, None) * (1 - np.eye(len(cosines))), checks=False)
    return [int(k) for k in leaves_list(optimal_leaf_ordering(linkage(distances, "average"), distances))]


def _most_alike(cosines: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    first, second = np.triu_indices(len(cosines), 1)
    best = np.argsort(-cosines[first, second], kind="stable")[:MOST_PAIRS]
    return list(zip(first[best].tolist(), second[best].tolist(), strict=True))


def draw_embeddings(
    models: Sequence[tuple[str, Model]],
    split: Split,
    path: Path,
    *,
    limit: int | None = 1000,
    batch_size: int = 32,
    workers: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[tuple[Separation, Separation]]:
    """Draw t-SNE maps of the label features of active labels, before and after projection, of one model or several side by side.

    A class embedding tells its class's features from those of other classes whatever the image shows, so that clusters alone
    prove little; what the losses changed is seen beside a model that was trained without them. `models` are names and models, all
    of the classes of the first; `limit` is of the images of the split, and `seed` that of t-SNE.

    Returns:
        How far the classes are apart, before and after projection, of each model.

    Raises:
        DataError: the images have fewer than 3 active labels, or the models have other classes.
        UsageError: the head of a model was never trained.
    """
    columns, separations = [], []
    for name, model in models:
        if model.classes != models[0][1].classes:
            raise DataError(f"{model.path} has other classes than {models[0][1].path}: their features cannot be compared.")
        if not model.card.head_is_trained:
            raise UsageError(
                f"{model.path} has no features of labels to draw: its linear layer alone is trained. Train an epoch or more."
            )
        batches = list(label_features(model, split, batch_size=batch_size, workers=workers, limit=limit, progress=progress))
        labels = np.concatenate([batch.label for batch in batches])
        if len(labels) < LEAST:
            raise DataError(f"Split {split.name} has {len(labels)} active labels among these images; a map needs {LEAST}.")
        column, apart = [], []
        for kind, when in (("feature", "before projection"), ("embedding", "after projection")):
            vectors = np.concatenate([getattr(batch, kind) for batch in batches])
            apart.append(separation(vectors, labels))
            note = f"silhouette {apart[-1].silhouette:.3f} · between/within {apart[-1].between_within:.2f}"
            title = f"{name}, {when}".removeprefix(", ")
            column.append(FeatureMap(two_dimensions(vectors, seed=seed), labels, title, note))
        columns.append(column)
        separations.append((apart[0], apart[1]))
    images = min(len(split), limit or len(split))
    title = (
        f"label features of {len(columns[0][0].labels):,} active labels in {images:,} images of "
        f"{split.manifest.description.name}, split {split.name}, t-SNE"
    )
    rows = columns if len(columns) == 1 else list(zip(*columns, strict=True))  # one model: both maps beside each other
    plot_embeddings(rows, models[0][1].classes, path, title=title)
    return separations


def draw_attention(
    model: Model,
    image: NamedImage | Path,
    path: Path,
    *,
    labels: Sequence[str] = (),
    topk: int | None = None,
    threshold: ThresholdRequest = None,
) -> Path:
    """Draw an image, and beside it where the model read labels from.

    They are those that are named, else those above their `threshold`, see `Model.predict`, `topk` at most, or the best one where
    there is none; without a threshold they are the `topk` best ones, whatever their score.

    Raises:
        DataError: the image cannot be read.
        UsageError: the model has no class of a name.
    """
    named = NamedImage(str(image), image) if isinstance(image, Path) else image
    picture = open_image(named.fetch(), name=named.name)
    chosen = attention_maps(model.forward, model.card, picture, labels=labels, topk=topk or len(model.classes))
    note = ""
    if not labels and (topk is None or threshold is not None):
        limits = model.choose_thresholds(threshold)
        above = [one for one in chosen if one[1] > limits.values[one[0]]]
        note = f"labels above {limits.description}" if above else f"the best label; none is above {limits.description}"
        chosen = above or chosen[:1]
    if not model.card.head_is_trained:
        note = "; ".join(filter(None, (note, "maps of the linear layer, which alone is trained")))
    panels = [(model.classes[k], score, heat) for k, score, heat in chosen]
    return plot_attention(picture, panels, path, title=Path(named.name).name, note=note)


def draw_thresholds(
    model: Model,
    split: Split,
    path: Path,
    *,
    limit: int | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, tuple[float, float]]:
    """Draw precision against recall of every class, and F1 against a threshold for all, of the first `limit` images of a split.

    Returns:
        The best value of each kind of F1, in 0..1, and its threshold; chosen on the images themselves.

    Raises:
        DataError: an image cannot be read.
    """
    loader = make_loader(split, model.preprocessing.resize, batch_size=batch_size, workers=workers, limit=limit)
    compute: dict[str, Any] = {"card": model.card, "device": model.device, "precision": model.precision}
    result = score(model.classifier, loader, **compute, progress=progress)
    counts = [decision_counts(result.scores, result.targets, threshold) for threshold in THRESHOLDS]
    f1 = {name: np.array([ratios(one)[name] for one in counts]) for name in ("OF1", "CF1", "macro_F1")}
    each = precision_recall_curves(result.scores, result.targets)
    (together,) = precision_recall_curves(result.scores.reshape(-1, 1), result.targets.reshape(-1, 1))
    numbers = ThresholdCurves(model.classes, each, together, THRESHOLDS, f1, model.card.thresholds)
    title = f"{len(result.scores):,} images of {split.manifest.description.name}, split {split.name}"
    plot_thresholds(numbers, path, title=title)
    best = {name: int(np.nanargmax(values)) for name, values in f1.items() if np.isfinite(values).any()}
    return {name: (float(f1[name][k]), float(THRESHOLDS[k])) for name, k in best.items()}


def draw_predictions(
    model: Model, split: Split, path: Path, *, count: int = 24, threshold: ThresholdRequest = None, batch_size: int = 32
) -> Path:
    """Draw `count` images of a split, at equal distances or the first of shards, with predicted labels beside the true ones.

    `threshold` is as for `Model.predict`.

    Raises:
        DataError: an image cannot be read, or there is none.
    """
    limits = model.choose_thresholds(threshold)
    pictures = {row: open_image(source, name=split.path(row)) for row, source in spaced_images(split, count).items()}
    inputs = [model.read(picture) for picture in pictures.values()]
    scores = np.concatenate([model.score(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size)])
    tiles = [
        Tile(picture, _compared(each, split.targets(row), limits.values, model.classes))
        for each, (row, picture) in zip(scores, pictures.items(), strict=True)
    ]
    where = f"{split.manifest.description.name}, split {split.name}"
    title = f"{where}; labels above {limits.description}: \u2713 right, \u2717 wrong, \u25cb missed, ? not known"
    return plot_contact_sheet(tiles, path, title=title)


def _compared(scores: Floats, targets: npt.NDArray[np.int8], limits: Sequence[float], classes: Sequence[str]) -> tuple[str, ...]:
    """Return a line for each label that is predicted or active, the highest score first; at most LINES of them."""
    signs = {1: "\u2713", 0: "\u2717", -1: "?"}
    lines = []
    for k in np.argsort(-scores, kind="stable"):
        if scores[k] > np.float32(limits[k]):
            lines.append(f"{signs[int(targets[k])]} {short(classes[k], 16)} {scores[k]:.2f}")
        elif targets[k] == 1:
            lines.append(f"\u25cb {short(classes[k], 16)} {scores[k]:.2f}")
    more = f"and {len(lines) - LINES + 1} more"
    return tuple(lines if len(lines) <= LINES else [*lines[: LINES - 1], more]) or ("(no label)",)


def figure_names(images: Sequence[NamedImage], suffix: str = ".png") -> Iterator[str]:
    """Yield a name of a figure for each image: its folder, its name and a digest of its path; a number where images share it.

    Example:
        >>> list(figure_names([NamedImage("/a/x/1.jpg", Path("/a/x/1.jpg")), NamedImage("/b/x/1.jpg", Path("/b/x/1.jpg"))]))
        ['attention-x-1-e703b6e7.png', 'attention-x-1-2af7355d.png']
    """
    from sadcl_core.runtime.files import safe_name

    taken: dict[str, int] = {}
    for image in images:
        place = Path(image.name)
        digest = hashlib.sha256(os.fsencode(place.absolute())).hexdigest()[:8]
        stem = safe_name(f"attention-{place.absolute().parent.name}-{place.stem}-{digest}")
        taken[stem] = taken.get(stem, 0) + 1
        yield f"{stem}{'' if taken[stem] == 1 else f'-{taken[stem]}'}{suffix}"
