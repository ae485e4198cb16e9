"""Small copies of images, with the attention of one label laid over each."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sadcl_core.data.images import open_image, read_image
from sadcl_core.data.shards import first_row, read_samples, shards_of
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import Transform
from sadcl_core.errors import DataError, SadclError
from sadcl_core.inference.load import Model
from sadcl_core.plots.overlay import attention_over
from sadcl_core.runtime.progress import Progress
from sadcl_core.runtime.threads import map_ahead

Pair = tuple[int, int]  # index of the image in its split, class index
SIZE = 160  # pixels of the longer side
QUALITY = 75  # of the JPEGs


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG of the photo, one with the attention over it (None without a model), and their size in pixels."""

    photo: bytes
    overlay: bytes | None
    width: int
    height: int


@dataclass(frozen=True)
class Thumbnails:
    """The pictures that could be made, by image and label, and a sentence for each image or shard that could not be read."""

    pictures: dict[Pair, Thumbnail]
    notes: tuple[str, ...] = ()


def draw_thumbnails(
    model: Model | None,
    split: Split,
    pairs: Iterable[Pair],
    *,
    size: int = SIZE,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Thumbnails:
    """Return photos with the attention of one label over each; without a model the photos alone.

    Each image is decoded once and goes through the model once, however many of its labels are needed. Of images in shards
    only the shards that hold one are read. Images keep their shape, and smaller ones than `size` are not enlarged.

    Raises:
        IndexError: the split has no such image, or the model no such class.
    """
    labels: defaultdict[int, list[int]] = defaultdict(list)
    for image, label in sorted(set(pairs)):
        labels[image].append(label)
    pictures: dict[Pair, Thumbnail] = {}
    notes: list[str] = []
    decode = partial(_decode, size=size, resize=None if model is None else model.preprocessing.resize)
    decoded = map_ahead(decode, _files(split, list(labels), notes), ahead=2 * batch_size)
    done = 0
    while batch := list(islice(decoded, batch_size)):
        notes += [note for note in batch if isinstance(note, str)]
        photos = [photo for photo in batch if not isinstance(photo, str)]
        maps = None
        if model is not None and photos:
            maps = model.forward(torch.stack([pixels for _, _, pixels in photos]), need_attention=True).attention
        for number, (image, small, _) in enumerate(photos):
            plain = _jpeg(small)
            for label in labels[image]:
                over = None if maps is None else attention_over(small, maps[number, label].float().cpu().numpy())
                pictures[image, label] = Thumbnail(plain, None if over is None else _jpeg(over), *small.size)
        done += len(batch)
        if progress is not None:
            progress(done, len(labels))
    return Thumbnails(pictures, tuple(notes))


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, optimize=True)
    return content.getvalue()


def _decode(
    source: tuple[int, Path | bytes, str], *, size: int, resize: Transform | None
) -> tuple[int, Image.Image, Tensor] | str:
    """Return the index of an image, a small copy, and its pixels (3, S, S) uint8 for the network; or why it cannot be read."""
    image, file, name = source
    try:
        photo = open_image(file, name=name)
    except DataError as error:
        return str(error)
    pixels = torch.empty(0) if resize is None else resize(read_image(photo))
    photo.thumbnail((size, size))
    return image, photo, pixels


def _files(split: Split, images: Sequence[int], notes: list[str]) -> Iterator[tuple[int, Path | bytes, str]]:
    """Yield index, file or content, and name of images; shards without any of them are skipped."""
    if split.manifest.description.shards is None:
        yield from ((image, split.path(image), str(split.path(image))) for image in images)
        return
    needed, first = set(images), first_row(split)
    for shard in shards_of(split, len(split)):
        if needed.isdisjoint(range(shard.first - first, shard.first - first + shard.count)):
            continue
        try:
            for row, name, content in read_samples(split.manifest, [shard]):
                if row - first in needed:
                    yield row - first, content, name
        except SadclError as error:
            notes.append(str(error))
