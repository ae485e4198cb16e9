"""A batch as the network sees it: augmented, in all its views, and mixed."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sadcl_core.config.schema import RunConfig
from sadcl_core.data.images import read_image
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.sampling import EpochBatches
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import kept_view, kept_views
from sadcl_core.inference.feature_cache import cache_folder
from sadcl_core.inference.feature_store import content_hashes
from sadcl_core.plots.contact_sheet import Tile, plot_contact_sheet
from sadcl_core.runtime.seeds import seed_of
from sadcl_core.training.batches import flatten_views, mix_batch, splice_batch, training_loader
from sadcl_core.training.setup import used_part

MOST = 24  # pictures
LABELS = 4  # names under a picture


def draw_batch(config: RunConfig, manifest: Manifest, stage: str, path: Path, *, most: int = MOST) -> Path:
    """Draw the first batch of a stage, `most` pictures at most, and return the path; errors as of `batch_tiles`."""
    tiles, title = batch_tiles(config, manifest, stage, most=most)
    return plot_contact_sheet(tiles, path, title=title)


def batch_tiles(config: RunConfig, manifest: Manifest, stage: str, *, most: int = MOST) -> tuple[list[Tile], str]:
    """Return the first batch of a stage as one process trains on it, each picture with its labels, and a title.

    Where the features of a frozen backbone are computed once, these are the views that are kept of the first images.

    Raises:
        DataError: an image cannot be read.
    """
    manifest = used_part(manifest, config)
    split, section = manifest.split(config.data.train_split), config.stages[stage]
    seed = seed_of(config.seed, config.used_stages.index(stage) + 1)
    loader = training_loader(config, split, section, seed=seed, workers=0, process=(0, 1))
    if config.features.once:
        assert isinstance(loader.batch_sampler, EpochBatches), "shuffled, and of files"
        rows = [index for index, _ in next(iter(loader.batch_sampler))]
        views = kept_views(section.augment, config.features.views)
        images, targets = _kept(config, split, rows[: max(most // len(views), 1)], views)
        what = f"views that are kept of each image: {', '.join(views)}"
    else:
        pixels, labels = flatten_views(*next(loader.epoch(1))[:2])
        assert isinstance(pixels, Tensor), "no features are kept"
        mixed, targets = mix_batch(pixels.float(), labels, section, seed=seed, epoch=1, step=1)  # as well as after normalising
        if section.mix == "splice":
            mixed, targets, _ = splice_batch(mixed, targets, seed=seed, epoch=1, step=1, part=1)
            mixed, targets = mixed.flip(0), targets.flip(0)  # spliced images first
        images = mixed.round().clamp(0, 255).to(torch.uint8)
        what = f"augmentation {section.augment}"
        what += f", {section.views} views of each image" if section.views > 1 else ""
        what += f", mixup {section.mixup:g}" if section.mixup else ""
        what += f", CutMix {section.cutmix:g}" if section.cutmix else ""
        what += ", SpliceMix" if section.mix == "splice" else ""
    tiles = [
        Tile(Image.fromarray(image.permute(1, 2, 0).numpy()), _names(target, split.manifest.classes))
        for image, target in zip(images[:most], targets[:most], strict=True)
    ]
    title = f"{manifest.description.name}, split {split.name}, stage {stage}, first batch at {config.data.img_size} px: {what}"
    return tiles, title


def _kept(config: RunConfig, split: Split, rows: list[int], views: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    contents = content_hashes(cache_folder(config.features), [split.path(row) for row in rows])
    images = [
        kept_view(read_image(split.path(row)), view, config.data.img_size, content=content)
        for row, content in zip(rows, contents, strict=True)
        for view in views
    ]
    targets = torch.stack([torch.from_numpy(split.targets(row)) for row in rows]).repeat_interleave(len(views), dim=0)
    return torch.stack(images), targets


def _names(target: Tensor, classes: tuple[str, ...]) -> tuple[str, ...]:
    shares = [(float(share), name) for share, name in zip(target.tolist(), classes, strict=True) if share > 0]
    lines = [name if share == 1 else f"{name} {share:.2f}" for share, name in sorted(shares, key=lambda one: -one[0])]
    return tuple(lines if len(lines) <= LABELS else [*lines[: LABELS - 1], f"and {len(lines) - LABELS + 1} more"]) or (
        "(no label)",
    )
