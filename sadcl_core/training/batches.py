"""The batches that a stage trains on: which images in which views, and how they are mixed."""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.config.schema import RunConfig, StageSection
from sadcl_core.data.dataset import Batch
from sadcl_core.data.loader import BatchLoader, make_loader
from sadcl_core.data.mixing import mix
from sadcl_core.data.splicing import Splices, splice
from sadcl_core.data.split import Split
from sadcl_core.data.statistics import repeat_factors
from sadcl_core.data.transforms import Inputs, augmentation, kept_views
from sadcl_core.inference.feature_cache import FeatureCache
from sadcl_core.runtime.distributed import all_reduce_min, get_rank
from sadcl_core.runtime.seeds import seed_of

DECODED = 3  # times the side of the network's images: what a crop of half an image still has twice


def training_loader(
    config: RunConfig,
    split: Split,
    stage: StageSection,
    *,
    seed: int,
    workers: int | None,
    features: FeatureCache | None = None,
    process: tuple[int, int] | None = None,
) -> BatchLoader[Batch]:
    """Return shuffled batches of the images to train on, in the views of a stage.

    Maps of `features` are in the place of images where they are computed once; `process` is (rank, world_size), this one's if
    None, and `workers` None chooses.
    """
    data = config.data
    weights = repeat_factors(split) if data.sampler == "repeat-factor" else None
    if features is not None:
        views = kept_views(stage.augment, config.features.views)
        return features.loader(
            split,
            batch_size=data.batch_size,
            views=views,
            per_image=stage.views,
            shuffle_seed=seed,
            weights=weights,
            process=process,
            drop_last=data.drop_last,
        )
    return make_loader(
        split,
        augmentation(stage.augment, data.img_size),
        batch_size=data.batch_size,
        workers=workers,
        shuffle_seed=seed,
        views=stage.views,
        weights=weights,
        process=process,
        at_least=DECODED * data.img_size,
        drop_last=data.drop_last,
    )


def mix_batch(images: Tensor, targets: Tensor, stage: StageSection, *, seed: int, epoch: int, step: int) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, S, S) of a floating type and targets (B, K) mixed as a stage asks in a step, both counted from 1."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch, step, get_rank(), "mix"))
    return mix(images, targets, mixup=stage.mixup, cutmix=stage.cutmix, generator=generator)


def splice_batch(
    images: Tensor, targets: Tensor, *, seed: int, epoch: int, step: int, part: int, black: Tensor | float = 0.0
) -> tuple[Tensor, Tensor, Splices | None]:
    """Return a part of a batch with spliced images, see `sadcl_core.data.splicing.splice`; parts are counted from 1."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch, step, get_rank(), "splice", part))
    return splice(images, targets, generator=generator, black=black)


def with_pseudo_labels(targets: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Return targets (B, K) of 1, 0 or -1 for unknown, in which scores (B, K) in 0..1 decide unknown labels; others stay unknown.

    A score above the threshold, which is above 0.5, makes a label active, one below 1 - threshold inactive.

    Example:
        >>> targets, scores = torch.tensor([[0, -1, -1, -1]]), torch.tensor([[0.99, 0.95, 0.5, 0.05]])
        >>> with_pseudo_labels(targets, scores, 0.9).tolist()
        [[0, 1, -1, 0]]
    """
    unknown = targets < 0
    return targets.masked_fill(unknown & (scores > threshold), 1).masked_fill(unknown & (scores < 1 - threshold), 0)


def flatten_views(images: Inputs, targets: Tensor) -> tuple[Inputs, Tensor]:
    """Return images or maps (B * V, ...) and targets (B * V, K) of a batch with V views (B, V, ...) of each image, or with one.

    Example:
        >>> images, targets = flatten_views(torch.zeros(2, 3, 3, 8, 8), torch.tensor([[1], [0]]))
        >>> tuple(images.shape), targets.flatten().tolist()
        ((6, 3, 8, 8), [1, 1, 1, 0, 0, 0])
    """
    first = images[0] if isinstance(images, tuple) else images
    if first.ndim != 5:
        return images, targets
    flat = tuple(maps.flatten(0, 1) for maps in images) if isinstance(images, tuple) else images.flatten(0, 1)
    return flat, targets.repeat_interleave(first.shape[1], dim=0)


def split_batch(images: Inputs, targets: Tensor, *, parts: int, batch_size: int) -> list[tuple[Inputs, Tensor]]:
    """Split a batch into micro-batches, as many in every process and one image at least in each; views of an image stay together.

    The batch has images (B * V, 3, S, S), or maps in their place, and targets (B * V, K); there may be fewer images than `parts`.

    Example:
        >>> parts = split_batch(torch.zeros(6, 3, 8, 8), torch.zeros(6, 2), parts=2, batch_size=3)
        >>> [len(images) for images, _ in parts]  # two images and one, two views of each
        [4, 2]
    """
    parts = min(parts, all_reduce_min(batch_size)) if parts > 1 else 1
    sizes = [len(some) * len(targets) // batch_size for some in torch.arange(batch_size).tensor_split(parts)]
    split = zip(*(maps.split(sizes) for maps in images), strict=True) if isinstance(images, tuple) else images.split(sizes)
    return list(zip(split, targets.split(sizes), strict=True))
