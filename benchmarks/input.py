"""What it costs to get images into a network, beside decoding alone and beside what a user would otherwise write.

python benchmarks/input.py [--images 64] [--img-size 448]

Milliseconds of one core for an image, the least of several passes: JPEGs of 640 x 480, the same as `prepare-data --resize` stores
them, and photos of 12 megapixels. Decoding alone is by the three decoders of this environment. A user would otherwise open files
with PIL, resize, augment, and make tensors of them, as torchvision's own examples do. The last table is the difference in pixels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torchvision.io import decode_jpeg, read_file

from sadcl_core.data.images import read_image
from sadcl_core.data.transforms import Preprocessing, Transform, augmentation
from sadcl_core.training.batches import DECODED

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {"640 x 480": (640, 480), "12 megapixels": (4000, 3000)}


def main() -> None:
    """Everything, as tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--img-size", type=int, default=448)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = {label: draw(folder, size, asked.images if size[0] < 1000 else 8) for label, size in SIZES.items()}
        sets[f"resized to {asked.img_size} before"] = [shrink(path, asked.img_size) for path in sets["640 x 480"]]
        for label, paths in sets.items():
            report(label, paths, asked.img_size)
        difference(sets, asked.img_size)


def draw(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Draw JPEGs with edges, ramps and noise at every scale."""
    rng = np.random.default_rng(size[0])
    paths = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        fine = rng.normal(0, 8, (size[1] // 2, size[0] // 2, 1)).repeat(2, axis=0).repeat(2, axis=1)
        pixels = np.asarray(coarse).astype(np.float32) + fine
        paths.append(folder / f"{size[0]}-{number}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def shrink(path: Path, side: int) -> Path:
    """Store a copy as `sadcl prepare-data --resize` does."""
    target = path.with_name(f"small-{path.name}")
    with Image.open(path) as image:
        image.resize((side, side), Image.Resampling.BILINEAR).save(target, quality=95)
    return target


def cost(work: Callable[[Path], object], paths: Sequence[Path], *, passes: int = 3) -> float:
    """Milliseconds of a core for an image: the least of several passes."""
    spent = []
    for _ in range(passes):
        start = time.process_time()
        for path in paths:
            work(path)
        spent.append(time.process_time() - start)
    return 1000 * min(spent) / len(paths)


def with_pil(path: Path) -> Image.Image:
    """Open as torchvision's data sets do."""
    with Image.open(path) as image:
        return image.convert("RGB")


def report(label: str, paths: list[Path], side: int) -> None:
    """Print the costs of one kind of files."""
    resize = Preprocessing(img_size=side, mean=MEAN, std=STD).resize
    to_tensor = (T.PILToTensor(), T.ToDtype(torch.float32, scale=True), T.Normalize(MEAN, STD))
    plain = T.Compose([T.Resize([side, side]), *to_tensor])
    crops = T.Compose(
        [T.RandomResizedCrop(side, scale=(0.5, 1.0)), T.RandomHorizontalFlip(), T.ColorJitter(0.2, 0.2, 0.2), *to_tensor]
    )
    strong = T.Compose([T.Resize([side, side]), T.RandAugment(), *to_tensor, T.RandomErasing(p=1.0, scale=(0.25, 0.25))])
    decoders: dict[str, Callable[[Path], object]] = {
        "simplejpeg": lambda path: simplejpeg.decode_jpeg(path.read_bytes()),
        "torchvision": lambda path: decode_jpeg(read_file(str(path))),
        "PIL to an array": lambda path: np.asarray(with_pil(path)),
    }
    decoding = {name: cost(work, paths) for name, work in decoders.items()}
    least = min(decoding.values())
    print(f"### {label}\n\n| | ms | of the fastest decoder | PIL and torchvision, ms | times faster |")
    print("| --- | --- | --- | --- | --- |")
    for name, spent in decoding.items():
        print(f"| decoding alone, {name} | {spent:.2f} | {spent / least:.2f} | | |")

    def train(transform: Transform) -> Callable[[Path], object]:
        return lambda path: transform(read_image(path, at_least=DECODED * side))

    def usual(transform: Callable[[Image.Image], object]) -> Callable[[Path], object]:
        return lambda path: transform(with_pil(path))

    rows: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
        "`read_image`": (read_image, with_pil),
        "for evaluation": (lambda path: resize(read_image(path)), usual(plain)),
        "for training, flip-and-crop": (train(augmentation("flip-and-crop", side)), usual(crops)),
        "for training, stage 1": (train(augmentation("cutout-randaugment", side)), usual(strong)),
    }
    for name, (ours, theirs) in rows.items():
        spent, other = cost(ours, paths), cost(theirs, paths)
        print(f"| {name} | {spent:.2f} | {spent / least:.2f} | {other:.2f} | {other / spent:.1f} |", flush=True)
    print()


def difference(sets: dict[str, list[Path]], side: int) -> None:
    """Print how far the network's input is from that of PIL, and of whole images where training decodes smaller ones."""
    resize = Preprocessing(img_size=side, mean=MEAN, std=STD).resize
    print("| difference of pixels, of 255 | mean | largest mean of an image |\n| --- | --- | --- |")
    for label, paths in sets.items():
        from_pil, smaller = [], []
        for path in paths[:8]:
            whole = resize(read_image(path)).float()
            picture = with_pil(path).resize((side, side), Image.Resampling.BILINEAR)
            from_pil.append((whole - TF.pil_to_tensor(picture)).abs().mean().item())
            smaller.append((whole - resize(read_image(path, at_least=DECODED * side))).abs().mean().item())
        for name, values in (("resized by PIL", from_pil), ("decoded smaller, for training", smaller)):
            print(f"| {label}: {name} | {np.mean(values):.3f} | {max(values):.3f} |")


if __name__ == "__main__":
    main()
