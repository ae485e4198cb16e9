"""The maps of a frozen backbone for the images of splits, computed once and read from the disk ever after."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import timm
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.data import Dataset

from sadcl_core.config.layers import load_config_file
from sadcl_core.config.schema import FeatureSection
from sadcl_core.data.images import read_image
from sadcl_core.data.loader import BatchLoader, make_batches
from sadcl_core.data.sampling import Key
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import PLAIN, kept_view
from sadcl_core.errors import NotFiniteError, SadclError, UsageError
from sadcl_core.inference.feature_store import FeatureCard, FeatureStore, Rows, content_hashes, default_folder, record
from sadcl_core.inference.forward import Forward
from sadcl_core.inference.load import Model
from sadcl_core.model.backbone import Backbone
from sadcl_core.runtime.files import from_home
from sadcl_core.runtime.threads import map_ahead

FeatureBatch = tuple[tuple[Tensor, ...], Tensor, Tensor]  # maps, targets, and the index of each image in the split
BLOCK = 256  # rows that are in memory at a time
BATCH, SIDE = 32, 448  # views that go through the backbone at a time, and pixels of their sides; fewer of larger ones


def cache_folder(section: FeatureSection) -> Path:
    """Return the folder of feature maps that a configuration names, else the user's own."""
    return from_home(section.cache) if section.cache else default_folder()


def hash_of_weights(backbone: Backbone) -> str:
    """Return a hash of every tensor of the frozen layers, the same on every device and in every memory layout."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in backbone.frozen_tensors().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def feature_card(forward: Forward, *, stride: int, kept: Literal["fp16", "fp32"]) -> FeatureCard:
    """Return all that the maps of a model's backbone depend on, up to a stride, kept on the disk in a precision."""
    preprocessing, backbone = forward.preprocessing, forward.classifier.backbone
    maps = forward.frozen_features(torch.zeros(1, 3, preprocessing.img_size, preprocessing.img_size, dtype=torch.uint8))
    return FeatureCard(
        backbone=backbone.name,
        weights=hash_of_weights(backbone),
        img_size=preprocessing.img_size,
        stride=stride,
        shapes=tuple((features.shape[2], features.shape[3], features.shape[1]) for features in maps),
        mean=preprocessing.mean,
        std=preprocessing.std,
        computed=forward.precision,
        kept=kept,
        timm=timm.__version__,
    )


@dataclass(frozen=True)
class Missing:
    """Views of an image whose maps are not there: its path, the hash of its content, and their names."""

    path: Path
    content: bytes
    views: tuple[str, ...]


class FeatureCache:
    """The maps of a backbone for splits, found by the contents of the images.

    Attributes:
        store: the maps on the disk.
    """

    def __init__(self, store: FeatureStore, *, read: bool = True) -> None:
        """Read maps from a store that is open; without `read`, images that no run has hashed count as missing."""
        self.store, self.read = store, read
        self._contents: dict[tuple[int, str], tuple[Split, list[bytes]]] = {}  # by manifest, kept alive, and name

    def contents(self, split: Split) -> list[bytes]:
        """Return the hash of each image's content.

        Raises:
            DataError: an image cannot be read.
            UsageError: the images are in shards.
        """
        if split.manifest.description.shards is not None:
            raise UsageError(
                "Images in shards come as a stream, so their features cannot be looked up. Leave --frozen out, or prepare the "
                "images as files: sadcl prepare-data without --shards."
            )
        key = id(split.manifest), split.name
        if key not in self._contents:
            paths = [split.manifest.description.root / image for image in split]
            self._contents[key] = (split, content_hashes(self.store.root, paths, read=self.read))
        return self._contents[key][1]

    def count(self, views: Mapping[Split, Sequence[str]]) -> int:
        """Return how many rows the views of splits have, each content and view once."""
        return len(
            {record(content, name) for split, names in views.items() for content in self.contents(split) for name in names}
        )

    def rows(self, split: Split, views: Sequence[str] = (PLAIN,)) -> Rows:
        """Return the row of each image and view in the store, (N, V); -1 where it is missing."""
        contents = self.contents(split)
        found = self.store.find([record(content, view) for content in contents for view in views])
        return found.reshape(len(contents), len(views))

    def missing(self, views: Mapping[Split, Sequence[str]]) -> list[Missing]:
        """Return the images of splits that lack views, each content once."""
        lacking: dict[bytes, Missing] = {}
        for split, names in views.items():
            contents = self.contents(split)
            absent = self.rows(split, names) < 0
            for index in np.flatnonzero(absent.any(axis=1)).tolist():
                before = lacking.get(contents[index])
                own = [name for name, is_absent in zip(names, absent[index], strict=True) if is_absent]
                merged = tuple(dict.fromkeys((*(before.views if before else ()), *own)))
                lacking[contents[index]] = Missing(split.path(index), contents[index], merged)
        return list(lacking.values())

    def compute(
        self,
        missing: Iterable[Missing],
        forward: Forward,
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        progress: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Compute maps and add them, in a block of `FeatureStore.writing`; what was added stays whatever happens.

        By default BATCH views go through the backbone at a time, fewer where they are larger than SIDE. Progress is called with
        how many rows were added.

        Raises:
            DataError: an image cannot be read.
            MachineError: the disk is full.
            NotFiniteError: maps have NaN, or numbers beyond half precision where that is kept.
        """
        size = forward.preprocessing.img_size
        batch_size = batch_size or min(BATCH, max(BATCH * SIDE**2 // size**2, 1))

        def read(image: Missing) -> list[tuple[bytes, Tensor]]:
            pixels = read_image(image.path)
            return [(record(image.content, name), kept_view(pixels, name, size, content=image.content)) for name in image.views]

        views = (view for views in map_ahead(read, missing, workers=workers, ahead=2 * batch_size) for view in views)
        while batch := list(islice(views, batch_size)):
            maps = forward.frozen_features(torch.stack([pixels for _, pixels in batch]))
            flat = [features.permute(0, 2, 3, 1).flatten(1).float() for features in maps]
            rows = torch.cat(flat, dim=1).cpu().numpy()
            with np.errstate(over="ignore"):
                kept = rows.astype(self.store.card.dtype)
            if not np.isfinite(kept).all():
                advice = "--set features.precision=fp32" if np.isfinite(rows).all() else "other weights"
                raise NotFiniteError(f"The features of {self.store.card.backbone} are not finite as they are kept. Use {advice}.")
            self.store.append([name for name, _ in batch], kept)
            progress(len(batch))

    def loader(
        self,
        split: Split,
        *,
        batch_size: int,
        views: Sequence[str] = (PLAIN,),
        per_image: int = 1,
        shuffle_seed: int | None = None,
        limit: int | None = None,
        weights: npt.NDArray[np.float64] | None = None,
        process: tuple[int, int] | None = None,
        drop_last: bool = False,
    ) -> BatchLoader[FeatureBatch]:
        """Return batches as `sadcl_core.data.loader.make_loader` does, with maps in the place of images.

        Of the `views`, `per_image` different ones are drawn for each image of an epoch, where there are so many; in order, it is
        the first. The other arguments are those of `make_loader`.

        Raises:
            KeyError: maps are missing; see `compute`.
        """
        rows = self.rows(split, views)[:limit]
        if (rows < 0).any():
            raise KeyError(f"{int((rows < 0).sum())} maps of {split.name} are not in {self.store.folder}")
        dataset = FeatureDataset(self.store, split, rows, per_image=per_image)
        batches = make_batches(
            len(rows), batch_size, shuffle_seed=shuffle_seed, weights=weights, process=process, drop_last=drop_last
        )
        return BatchLoader(dataset, batch_sampler=batches, collate_fn=_as_it_is)


@contextmanager
def open_stored(model: Model, split: Split, *, limit: int | None = None) -> Iterator[FeatureCache | None]:
    """Yield the features that a run with a frozen backbone has left, if those of a split's plain images are all there."""
    section = _features_of(model)
    if section is None or split.manifest.description.shards is not None:
        yield None
        return
    network, root = model.card.model, cache_folder(section)
    card = feature_card(model.forward, stride=min(network.stride, network.freeze_stride), kept=section.precision)
    if not (root / card.key).is_dir():
        yield None
        return
    with FeatureStore(root, card) as store:
        cache = FeatureCache(store, read=False)
        yield cache if (cache.rows(split)[:limit] >= 0).all() else None


def _features_of(model: Model) -> FeatureSection | None:
    """Return the settings of the features of a model's run; None where they are not frozen, or not known."""
    if model.run is None:
        return None
    try:
        stored = load_config_file(model.run.path / "config.yaml").get("features", {})
        section = FeatureSection.model_validate(stored)
    except (SadclError, ValidationError):
        return None
    return section if section.once and os.access(cache_folder(section), os.W_OK) else None


class FeatureDataset(Dataset[FeatureBatch]):
    """Maps of a split, a whole batch at a time.

    A batch has a tuple of maps (B, D_i, h_i, w_i) in the precision of the disk, or (B, V, D_i, h_i, w_i) for V > 1 views of each
    image, targets (B, K) int8, and indices (B,). The views of `(index, seed)` are drawn from the seed and from nothing else.
    """

    def __init__(self, store: FeatureStore, split: Split, rows: Rows, *, per_image: int = 1) -> None:
        """Take the rows (N, views) of the first N images of a split in a store."""
        self.store, self.rows, self.per_image = store, rows, per_image
        self.targets = torch.from_numpy(split.all_targets()[: len(rows)])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | Key) -> FeatureBatch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[int | Key]) -> FeatureBatch:
        """Return the batch of these images."""
        pairs = [key if isinstance(key, tuple) else (key, None) for key in keys]
        indices = torch.tensor([index for index, _ in pairs])
        rows = self.rows[indices.numpy()[:, None], [self._draw(seed) for _, seed in pairs]]  # (B, V)
        numbers = torch.from_numpy(self.store.read(rows.reshape(-1)))
        shapes = self.store.card.shapes
        leading = rows.shape if self.per_image > 1 else rows.shape[:1]
        parts = numbers.split([height * width * channels for height, width, channels in shapes], dim=1)
        maps = tuple(part.reshape(*leading, *shape).movedim(-1, -3) for part, shape in zip(parts, shapes, strict=True))
        return maps, self.targets[indices], indices

    def _draw(self, seed: int | None) -> list[int]:
        count = self.rows.shape[1]
        if seed is None or count < self.per_image:
            return [0] * self.per_image
        return random.Random(seed).sample(range(count), self.per_image)


def _as_it_is(batch: Any) -> Any:
    return batch
