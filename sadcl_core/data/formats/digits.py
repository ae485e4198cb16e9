"""The built-in data set: scenes composed from real handwritten digits, so that everything can be tried with nothing to download.

The originals are the 1,797 digits of 8 x 8 pixels that come with scikit-learn (Alpaydin and Kaynak, UCI 1998). A
scene is 64 x 64 pixels and shows one to four of them, 16 to 26 pixels high, in any colour and place, partly over each
other, on a coloured background among strokes and cut pieces of digits without a label. Training and test scenes use
different originals. The same files come out every time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from sadcl_core.data.formats.locate import inside
from sadcl_core.data.formats.source import Source, describe_source
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Box, Record
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import explained, write_json

SUFFIXES = ()
VERSION = 1  # of the drawing below; another number means other scenes
LISTING = "digits.json"
SIDE = 64
SCENES = {"train": 2000, "test": 500}
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SUPERCLASSES = ("loop", "straight", "curve", "curve", "straight", "curve", "loop", "straight", "loop", "loop")
DIGIT_SIDES = (16, 26)  # pixels, both included
MAX_OVERLAP = 0.2  # share of the smaller box

Grey = npt.NDArray[np.float64]


def read(source: Source, *, scenes: Mapping[str, int] = SCENES) -> Manifest:
    """Draw so many scenes of each split into the root of the source, unless they are there, and return their manifest.

    Raises:
        DataError: the folder holds something else.
    """
    folder = source.root
    listing = folder / LISTING
    if not listing.is_file():
        _draw_all(folder, listing, scenes)
    try:
        stored = json.loads(listing.read_text(encoding="utf-8"))
        version = stored["version"]
        records = [
            Record(
                image=inside(os.path.normpath(row["image"]), folder, str(listing)),
                split=row["split"],
                active=tuple(box["label"] for box in row["boxes"]),
                boxes=tuple(Box(**box) for box in row["boxes"]),
            )
            for row in stored["scenes"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{listing} cannot be read ({type(error).__name__}). Delete {folder} to have it drawn again.") from None
    if version != VERSION:
        raise DataError(f"{folder} was drawn by another version of this program. Delete it to have it drawn again.")
    description = Description(
        name=source.name,
        root=folder.resolve(),
        classes=CLASSES,
        superclasses=SUPERCLASSES,
        source=describe_source("digits", [listing]),
        notes=("scenes composed from scikit-learn's handwritten digits",),
    )
    return Manifest.from_records(description, records)


def _draw_all(folder: Path, listing: Path, scenes: Mapping[str, int]) -> None:
    """Draw every scene of every split, then list them."""
    if (folder / "images").exists():
        raise DataError(
            f"{folder} holds images that were not drawn completely. Delete {folder / 'images'} to have them drawn again."
        )
    drawing = folder / f".images.{os.getpid()}.tmp"
    rows: list[dict[str, object]] = []
    try:
        with explained(folder):
            for split, digits in originals().items():
                (drawing / split).mkdir(parents=True)
                for number in range(scenes[split]):
                    picture, boxes = draw_scene(digits, np.random.default_rng([VERSION, len(split), number]))
                    image = f"{split}/{number:05d}.png"
                    Image.fromarray(picture).save(drawing / image)
                    rows.append({"image": f"images/{image}", "split": split, "boxes": [box._asdict() for box in boxes]})
            drawing.replace(folder / "images")
    finally:
        shutil.rmtree(drawing, ignore_errors=True)
    write_json(listing, {"version": VERSION, "scenes": rows})


def originals() -> dict[str, list[tuple[int, Grey]]]:
    """Return label and strokes (8 x 8, 0..1) of the digits of each split; two thirds are for training."""
    digits = load_digits()
    order = np.random.default_rng(VERSION).permutation(len(digits.target))
    pairs = [(int(digits.target[i]), digits.images[i] / 16.0) for i in order]
    return {"train": pairs[:1200], "test": pairs[1200:]}


def draw_scene(digits: list[tuple[int, Grey]], rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], list[Box]]:
    """Draw one scene: (64, 64, 3) uint8 and the boxes of its digits."""
    canvas = _background(rng)
    canvas = _clutter(canvas, digits, rng)
    boxes: list[Box] = []
    for _ in range(int(rng.integers(1, 5))):
        label, strokes = digits[int(rng.integers(len(digits)))]
        box = _free_place(boxes, label, rng)
        if box is not None:
            _paint(canvas, strokes, box, rng)
            boxes.append(box)
    canvas += rng.normal(0, 0.02, canvas.shape)
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8), boxes


def _background(rng: np.random.Generator) -> Grey:
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    return smooth * 0.25 + rng.random(3) * 0.3


def _clutter(canvas: Grey, digits: list[tuple[int, Grey]], rng: np.random.Generator) -> Grey:
    image = Image.fromarray((canvas * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        colour = tuple(int(c) for c in rng.integers(64, 192, 3))
        draw.line([tuple(int(v) for v in rng.integers(0, SIDE, 2)) for _ in range(2)], fill=colour, width=int(rng.integers(1, 3)))
    canvas = np.asarray(image, dtype=np.float64) / 255
    for _ in range(int(rng.integers(1, 4))):  # pieces of strokes, too small to be a digit
        strokes = digits[int(rng.integers(len(digits)))][1]
        top, left = rng.integers(0, 5, 2)
        side = int(rng.integers(5, 10))
        x, y = rng.integers(0, SIDE - side, 2)
        _paint(canvas, strokes[top : top + 4, left : left + 4], Box(-1, x, y, side, side), rng)
    return canvas


def _free_place(boxes: list[Box], label: int, rng: np.random.Generator) -> Box | None:
    """Return a place that leaves the other digits readable; None if 20 draws give none."""
    for _ in range(20):
        height = int(rng.integers(DIGIT_SIDES[0], DIGIT_SIDES[1] + 1))
        width = round(height * rng.uniform(0.8, 1.0))
        x, y = int(rng.integers(0, SIDE - width + 1)), int(rng.integers(0, SIDE - height + 1))
        box = Box(label, x, y, width, height)
        if all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
            return box
    return None


def _overlap(a: Box, b: Box) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(width, 0) * max(height, 0) / min(a.width * a.height, b.width * b.height)


def _paint(canvas: Grey, strokes: Grey, box: Box, rng: np.random.Generator) -> None:
    """Lay strokes in a light colour over a part of the canvas."""
    x, y, width, height = int(box.x), int(box.y), int(box.width), int(box.height)
    mask = Image.fromarray((strokes * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    alpha = np.asarray(mask, dtype=np.float64)[..., None] / 255
    place = canvas[y : y + height, x : x + width]
    place[:] = place * (1 - alpha) + rng.uniform(0.55, 1.0, 3) * alpha
