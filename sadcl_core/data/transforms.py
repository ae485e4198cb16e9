"""Turn a decoded image into the network's input: resizing, the augmentations of both stages, normalisation.

Images stay uint8 until they are on the device, where `Preprocessing.normalise` does the rest. The aspect ratio is not kept, as in
the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import Tensor, nn

from sadcl_core.registry import AUGMENTATIONS, resolve
from sadcl_core.runtime.seeds import seed_of

CROP_SIDES = (1.0, 0.875, 0.75, 0.66, 0.5)  # of the resized side
SQUARE_SIDES = (1.0, 576 / 640, 512 / 640, 384 / 640, 320 / 640)  # of the resized side, of `square_crops`
SQUARE_LARGER = 640 / 576
CROP_LARGER = 512 / 448  # the image is resized to this multiple of the final size before a crop

Transform = Callable[[Tensor], Tensor]
Inputs = Tensor | tuple[Tensor, ...]  # images, or in their place the maps that a frozen backbone made of them


@dataclass(frozen=True)
class Preprocessing:
    """Size and normalisation of a model's images; stored in the model file.

    Attributes:
        img_size: side of the square, pixels.
        mean: of each channel, in 0..1.
        std: of each channel, in 0..1.
        resized: side of a larger square whose centre is the image; 0: the image is resized as a whole.

    Example:
        >>> preprocessing = Preprocessing(img_size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> image = preprocessing.resize(torch.full((3, 20, 30), 255, dtype=torch.uint8))
        >>> preprocessing.normalise(image[None])[0, :, 0, 0]
        tensor([2., 2., 2.])
    """

    img_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resized: int = 0

    def resize(self, image: Tensor) -> Tensor:
        """Resize (3, H, W) uint8 to (3, S, S) uint8 with antialiasing, or cut that out; the aspect ratio is not kept."""
        side = self.resized or self.img_size
        resized: Tensor = TF.resize(image, [side, side], antialias=True)
        return TF.center_crop(resized, [self.img_size, self.img_size]) if self.resized else resized

    def normalise(self, images: Tensor) -> Tensor:
        """Return (B, 3, S, S) uint8 as float32, less the mean and over the standard deviation, on the same device."""
        mean, std = _statistics(self.mean, self.std, images.device)
        return (images.float() / 255 - mean) / std

    def convert(self, images: Tensor, other: Preprocessing) -> Tensor:
        """Return normalised images (B, 3, S, S) in the size and normalisation of another model."""
        if (self.mean, self.std) != (other.mean, other.std):
            mean, std = _statistics(self.mean, self.std, images.device)
            images = other.normalise(255 * (images * std + mean))
        if images.shape[-1] == other.img_size:
            return images
        return nn.functional.interpolate(images, size=(other.img_size,) * 2, mode="bilinear", antialias=True)


@cache
def _statistics(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and std, (3, 1, 1) each, on the device; copied there once and not for every batch."""
    with torch.inference_mode(mode=False):
        return torch.tensor(mean, device=device).view(3, 1, 1), torch.tensor(std, device=device).view(3, 1, 1)


def no_views(images: Tensor) -> tuple[Tensor, ...]:
    """Return no view of images beside themselves."""
    return ()


def mirrored_view(images: Tensor) -> tuple[Tensor, ...]:
    """Return the mirror images of images (B, 3, S, S).

    Example:
        >>> mirrored_view(torch.tensor([[[[1.0, 2.0]]]]))[0].tolist()
        [[[[2.0, 1.0]]]]
    """
    return (images.flip(-1),)


def cropped_views(images: Tensor) -> tuple[Tensor, ...]:
    """Return five crops of images (B, 3, S, S), at the corners and the centre, 7/8 of the side and enlarged to it.

    Example:
        >>> [tuple(view.shape) for view in cropped_views(torch.zeros(2, 3, 16, 16))] == [(2, 3, 16, 16)] * 5
        True
    """
    size = images.shape[-1]
    side = max(1, size * 7 // 8)
    room = size - side
    corners = [(0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)]
    crops = [images[..., top : top + side, left : left + side] for top, left in corners]
    return tuple(nn.functional.interpolate(crop, size=(size, size), mode="bilinear", align_corners=False) for crop in crops)


def augmentation(name: str, img_size: int) -> Transform:
    """Build a training transform, (3, H, W) uint8 -> (3, S, S) uint8, which draws from torch's global generator.

    Args:
        name: one of `sadcl_core.registry.AUGMENTATIONS`.
        img_size: S, side of the square in pixels.

    Raises:
        UsageError: there is no augmentation of this name.

    Example:
        >>> augmentation("fixed-crops", 32)(torch.zeros(3, 40, 60, dtype=torch.uint8)).shape
        torch.Size([3, 32, 32])
    """
    transform: Transform = resolve(AUGMENTATIONS, name, kind="augmentation")(img_size)
    return transform


def no_augmentation(img_size: int) -> Transform:
    """Only resize."""
    return _compose(T.Resize([img_size, img_size], antialias=True))


def _compose(*steps: torch.nn.Module) -> Transform:
    chain: Transform = T.Compose(steps)
    return chain


class InPillow(torch.nn.Module):
    """Apply a transform of colours or shapes in Pillow, which takes a quarter of the time that it takes on a tensor."""

    def __init__(self, transform: torch.nn.Module) -> None:
        """`transform` is one that torchvision applies to pictures as well."""
        super().__init__()
        self.transform = transform

    def forward(self, image: Tensor) -> Tensor:
        """Return an image (3, H, W) uint8."""
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        result: Tensor = TF.pil_to_tensor(self.transform(picture))
        return result


def shift_and_turn(img_size: int) -> Transform:
    """Move, turn and scale a little, for signs that mean something else when mirrored."""
    return _compose(
        T.Resize([img_size, img_size], antialias=True),
        T.RandomAffine(degrees=8, translate=(0.06, 0.06), scale=(0.9, 1.1), interpolation=T.InterpolationMode.BILINEAR),
    )


def flip_and_crop(img_size: int) -> Transform:
    """Cut out most of the image, flip it half the time, change colours a little: mild, for fine-tuning on few images."""
    return _compose(
        T.RandomResizedCrop(img_size, scale=(0.5, 1.0), ratio=(0.75, 1.333), antialias=True),
        T.RandomHorizontalFlip(),
        InPillow(T.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)),
    )


def cutout_randaugment(img_size: int) -> Transform:
    """Apply Cutout (DeVries and Taylor, 2017; a hole of half the side) and RandAugment (Cubuk et al., 2020): stage 1 of SADCL."""
    return _compose(
        T.Resize([img_size, img_size], antialias=True),
        T.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0)),
        InPillow(T.RandAugment()),
    )


def clipped_cutout_randaugment(img_size: int) -> Transform:
    """Apply Cutout, clipped at the border and of any colour, and two of 15 operations, each half the time: stage 1 of SADCL."""
    return _compose(T.Resize([img_size, img_size], antialias=True), ClippedCutout(), TwoOperations())


class ClippedCutout(torch.nn.Module):
    """Fill a hole of a random colour around any pixel, clipped at the border (DeVries and Taylor, 2017).

    Half a side covers 19 % of the area on average, and 25 % at most.
    """

    def __init__(self, share: float = 0.5) -> None:
        """`share` is of the side."""
        super().__init__()
        self.share = share

    def forward(self, image: Tensor) -> Tensor:
        """Return a copy of an image (3, H, W) uint8 with a hole."""
        spans = []
        for length in image.shape[-2:]:
            side, centre = round(self.share * length), int(torch.randint(length, ()))
            first = centre - side // 2
            spans.append(slice(max(0, first), max(0, first + side)))
        result = image.clone()
        result[:, spans[0], spans[1]] = torch.randint(256, (3, 1, 1), dtype=image.dtype)
        return result


class TwoOperations(torch.nn.Module):
    """Draw two of 15 operations, of any strength in their range, and apply each half the time.

    RandAugment (Cubuk et al., 2020) as the published recipe has it; the operations and their ranges are those of AutoAugment
    (Cubuk et al., CVPR 2019, table of the appendix), in shares of the side.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Return an image (3, H, W) uint8."""
        for number in torch.randint(len(OPERATIONS), (2,)).tolist():
            applied, strength = torch.rand(2).tolist()
            if applied < 0.5:
                image = OPERATIONS[number](image, strength)
        return image


def _spread(strength: float, most: float) -> float:
    """Return a number from -most to most for a strength in 0..1."""
    return (2 * strength - 1) * most


def _shear(image: Tensor, *, x: float = 0.0, y: float = 0.0) -> Tensor:
    degrees = [math.degrees(math.atan(part)) for part in (x, y)]
    sheared: Tensor = TF.affine(image, 0.0, [0, 0], 1.0, degrees, interpolation=T.InterpolationMode.BILINEAR)
    return sheared


def _move(image: Tensor, *, x: float = 0.0, y: float = 0.0) -> Tensor:
    moved: Tensor = TF.affine(image, 0.0, [round(x * image.shape[-1]), round(y * image.shape[-2])], 1.0, [0.0, 0.0])
    return moved


OPERATIONS: tuple[Callable[[Tensor, float], Tensor], ...] = (
    lambda image, strength: _shear(image, x=_spread(strength, 0.3)),
    lambda image, strength: _shear(image, y=_spread(strength, 0.3)),
    lambda image, strength: _move(image, x=_spread(strength, 0.45)),
    lambda image, strength: _move(image, y=_spread(strength, 0.45)),
    lambda image, strength: TF.rotate(image, _spread(strength, 30.0), interpolation=T.InterpolationMode.BILINEAR),
    lambda image, strength: TF.autocontrast(image),
    lambda image, strength: TF.invert(image),
    lambda image, strength: TF.equalize(image),
    lambda image, strength: TF.solarize(image, threshold=255 * strength),
    lambda image, strength: TF.posterize(image, bits=4 + round(4 * strength)),
    lambda image, strength: TF.adjust_contrast(image, 1 + _spread(strength, 0.9)),
    lambda image, strength: TF.adjust_saturation(image, 1 + _spread(strength, 0.9)),
    lambda image, strength: TF.adjust_brightness(image, 1 + _spread(strength, 0.9)),
    lambda image, strength: TF.adjust_sharpness(image, 1 + _spread(strength, 0.9)),
    lambda image, strength: ClippedCutout(0.2 * strength)(image),
)


def random_resized(img_size: int) -> Transform:
    """Cut out 70 to 100 % of the image, flip it half the time: CSRA (Zhu and Wu, ICCV 2021) and SpliceMix."""
    return _compose(T.RandomResizedCrop(img_size, scale=(0.7, 1.0), antialias=True), T.RandomHorizontalFlip())


def square_crops(img_size: int) -> Transform:
    """Resize to 10/9, cut out a square of one of five sizes, flip it half the time: C-Tran."""
    return _square_crops(img_size, T.RandomHorizontalFlip())


def square_crops_unflipped(img_size: int) -> Transform:
    """Resize to 10/9, cut out a square of one of five sizes: SSGRL."""
    return _square_crops(img_size)


def _square_crops(img_size: int, *further: torch.nn.Module) -> Transform:
    larger = round(img_size * SQUARE_LARGER)
    crops = [T.RandomCrop(round(larger * side)) for side in SQUARE_SIDES]
    return _compose(
        T.Resize([larger, larger], antialias=True),
        T.RandomChoice(crops),
        T.Resize([img_size, img_size], antialias=True),
        *further,
    )


def fixed_crops(img_size: int) -> Transform:
    """Cut a window of one of several sizes at one of 13 fixed positions, flip it half the time: stage 2 of SADCL."""
    larger = round(img_size * CROP_LARGER)
    return _compose(
        T.Resize([larger, larger], antialias=True),
        FixedPositionCrop(),
        T.Resize([img_size, img_size], antialias=True),
        T.RandomHorizontalFlip(),
    )


class FixedPositionCrop(torch.nn.Module):
    """Cut a window at one of 13 positions, its sides in `CROP_SIDES`, at most two steps apart (Wang et al., TSN, ECCV 2016)."""

    def forward(self, image: Tensor) -> Tensor:
        """Return a window (3, h, w) of an image (3, H, W)."""
        height, width = image.shape[-2:]
        pairs = [(a, b) for i, a in enumerate(CROP_SIDES) for j, b in enumerate(CROP_SIDES) if abs(i - j) <= 2]
        tall, wide = pairs[int(torch.randint(len(pairs), ()))]
        crop_height, crop_width = round(height * tall), round(width * wide)
        quarter_y, quarter_x = (height - crop_height) / 4, (width - crop_width) / 4
        y, x = POSITIONS[int(torch.randint(len(POSITIONS), ()))]
        window: Tensor = TF.crop(image, round(y * quarter_y), round(x * quarter_x), crop_height, crop_width)
        return window


# in quarters of the free space: corners and centre, middles of the sides, and halfway between centre and corner
POSITIONS = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3))


PLAIN, MIRROR, CROP, SHIFT = "plain", "mirror", "crop", "shift"  # the kinds of views that are kept


def kept_views(augment: str, count: int) -> tuple[str, ...]:
    """Return the names of the views of an image that stand for an augmentation where features are computed once.

    The first is the image as it is evaluated, the only one of `none`. Photos have their mirror image and mild crops, signs are
    shifted and turned.

    Example:
        >>> kept_views("flip-and-crop", 4), kept_views("shift-and-turn", 2), kept_views("none", 4)
        (('plain', 'mirror', 'crop-1', 'crop-2'), ('plain', 'shift-1'), ('plain',))
    """
    if augment == "none":
        return (PLAIN,)
    shifts = [f"{SHIFT}-{number}" for number in range(1, count)]
    crops = [MIRROR, *(f"{CROP}-{number}" for number in range(1, count - 1))]
    return (PLAIN, *(shifts if augment == "shift-and-turn" else crops)[: count - 1])


def kept_view(image: Tensor, name: str, img_size: int, *, content: bytes) -> Tensor:
    """Return a view of an image, (3, H, W) uint8 -> (3, S, S) uint8, drawn from nothing but its name and the hash of the image.

    Example:
        >>> image = torch.arange(3 * 40 * 60, dtype=torch.uint8).view(3, 40, 60)
        >>> one, again, other = (kept_view(image, "crop-1", 32, content=content) for content in (b"1", b"1", b"2"))
        >>> tuple(one.shape), torch.equal(one, again), torch.equal(one, other)
        ((3, 32, 32), True, False)
    """
    kind, size = name.partition("-")[0], [img_size, img_size]
    rng = np.random.default_rng(seed_of("view", content.hex(), name))
    if kind == CROP:  # as `flip_and_crop`
        height, width = image.shape[-2:]
        area, form = rng.uniform(0.5, 1), np.exp(rng.uniform(np.log(0.75), np.log(1.333)))
        tall, wide = (
            max(1, round(side * min(1, part))) for side, part in ((height, (area / form) ** 0.5), (width, (area * form) ** 0.5))
        )
        top, left, mirrored = rng.integers(height - tall + 1), rng.integers(width - wide + 1), rng.random() < 0.5
        view: Tensor = TF.resized_crop(image, int(top), int(left), tall, wide, size, antialias=True)
        return view.flip(-1) if mirrored else view
    view = TF.resize(image, size, antialias=True)
    if kind == MIRROR:
        return view.flip(-1)
    if kind == SHIFT:  # as `shift_and_turn`
        angle, scale = rng.uniform(-8, 8), rng.uniform(0.9, 1.1)
        shift = [round(float(part) * img_size) for part in rng.uniform(-0.06, 0.06, 2)]
        view = TF.affine(view, float(angle), shift, float(scale), [0.0, 0.0], interpolation=T.InterpolationMode.BILINEAR)
    return view
