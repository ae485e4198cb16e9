"""The cost of features that are computed once: filling the cache, an epoch from it, and what the disk could do at most.

python benchmarks/features.py [--backbone resnet18] [--img-size 224] [--images 256] [--views 2] [--weights FILE]

Photos of 640 x 480 are drawn, their features computed as `train --frozen` does, and epochs of a linear layer and of SARL trained
on them. Everything is given beside what it is held against in the same run: an epoch with the backbone, the batches alone, and
reading the bytes of the file in order. Times are the best of several epochs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sadcl_core.config.flags import flag_layers
from sadcl_core.config.presets import configure
from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.rows import Record
from sadcl_core.inference.feature_cache import FeatureCache
from sadcl_core.inference.feature_store import FeatureStore, stored_features
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.listeners.events import EpochDone, Event, FeaturesComputed
from sadcl_core.training.run import start_run

CLASSES = 20
EPOCHS = 4


def main() -> None:
    """Everything, as a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option, default in (("--img-size", 224), ("--images", 256), ("--views", 2), ("--batch-size", 16)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report(draw(folder, images=asked.images), folder, asked)


def draw(folder: Path, *, images: int) -> Manifest:
    """Draw JPEG files of 640 x 480 with labels at random, an eighth of them held out."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(images + images // 8):
        small = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg")
        labels = tuple(int(label) for label in np.flatnonzero(rng.random(CLASSES) < 0.1))
        records.append(Record(f"{number:06d}.jpg", "train" if number < images else "val", labels))
    description = Description("drawn", folder, tuple(f"class {number}" for number in range(CLASSES)))
    Manifest.from_records(description, records).save(folder / "prepared")
    return load_manifest(folder / "prepared")


def report(manifest: Manifest, folder: Path, asked: argparse.Namespace) -> None:
    """Train with and without features, and show the times side by side."""
    images = len(manifest.split("train"))
    print(f"{asked.backbone} at {asked.img_size} px, {images} images, {asked.views} views, {torch.get_num_threads()} threads\n")
    filled, linear, _ = train(manifest, folder, asked, method="baseline", frozen=True)
    _, sarl, _ = train(manifest, folder, asked, method="sarl", frozen=True)
    _, slow, _ = train(manifest, folder, asked, method="baseline", frozen=False)
    entry = stored_features(folder / "cache")[0]
    path = folder / "cache" / entry.key / "rows.bin"
    read = images * best(path.read_bytes) / entry.rows
    with FeatureStore(folder / "cache", entry.card) as store:
        loader = FeatureCache(store).loader(manifest.split("train"), batch_size=asked.batch_size, shuffle_seed=0)
        batches = best(lambda: [[part.float() for part in maps] and None for maps, _, _ in loader.epoch(1)])
    print("| what | seconds | images/s | of an epoch with the backbone |\n| --- | --- | --- | --- |")
    rows = {
        "an epoch of fine-tuning, linear layer": slow,
        "an epoch from features, linear layer": linear,
        "an epoch from features, SARL": sarl,
        "the batches alone, in float32": batches,
        "reading as many bytes of the file, in order": read,
    }
    for what, seconds in rows.items():
        print(f"| {what} | {seconds:.3f} | {images / seconds:,.0f} | {seconds / slow:.4f} |")
    print(f"\nfilling: {filled.rows:,} views in {filled.seconds:.1f} s, {filled.rows / filled.seconds:.1f} views/s")
    print(f"on the disk: {entry.card.row_bytes:,} bytes a view, {entry.bytes:,} in all")


def train(
    manifest: Manifest, folder: Path, asked: argparse.Namespace, *, method: str, frozen: bool
) -> tuple[FeaturesComputed, float, int]:
    """Return what computing features took, the seconds of the fastest epoch, and the number of epochs."""
    events: list[Event] = []
    layers = flag_layers(
        backbone=asked.backbone,
        no_pretrained=not asked.weights,
        pretrained=asked.weights or None,
        img_size=asked.img_size,
        batch_size=asked.batch_size,
        method=method,
        epochs=f"{EPOCHS if frozen else 1},0",
        frozen=frozen,
        cache=folder / "cache",
        device="cpu",
        set=[f"features.views={asked.views}", "model.stride=32", "stages.classification.augment=flip-and-crop"],
    )
    made = configure(layers, dataset="drawn", split_sizes=manifest.split_sizes)
    run = RunDirectory(folder / f"{method}-{frozen}")
    start_run(made.config, made.sources, manifest, run, listen=events.append)
    seconds = [float(event.row["seconds"]) for event in events if isinstance(event, EpochDone)]
    filled = next((event for event in events if isinstance(event, FeaturesComputed)), FeaturesComputed(0, 0.0))
    return filled, min(seconds), len(seconds)


def best(work: Callable[[], object]) -> float:
    """Return the shortest of a few times in seconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
