"""Scenes of four photos, a data set of more labels an image: python benchmarks/scenes.py DATA FOLDER [SCENES].

DATA is a prepared folder with photos. Each scene of 224 px shows four of its photos, 112 px each, drawn at random within a split,
and has the labels of all four; a label that is unknown in one and active in none is unknown. Half as many are drawn to be held
out as to train on (1,000 unless said otherwise). The same scenes are drawn each time. FOLDER is then a prepared data set:
sadcl train FOLDER.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.rows import Record
from sadcl_core.data.split import Split

SIDE = 112  # px of a photo in a scene


def draw(photos: Split, count: int, split: str, folder: Path) -> Iterator[Record]:
    """Draw scenes into a folder, and yield their records."""
    rng = np.random.default_rng(len(photos))
    for number in range(count):
        scene, chosen = Image.new("RGB", (2 * SIDE, 2 * SIDE)), rng.choice(len(photos), 4, replace=False)
        for place, index in enumerate(chosen):
            photo = Image.open(photos.path(index)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            scene.paste(photo, (place % 2 * SIDE, place // 2 * SIDE))
        targets = np.stack([photos.targets(index) for index in chosen])
        active = np.flatnonzero((targets == 1).any(axis=0))
        unknown = np.setdiff1d(np.flatnonzero((targets == -1).any(axis=0)), active)
        name = f"{split}/{number:05}.jpg"
        scene.save(folder / name, quality=92)
        yield Record(name, split, tuple(active.tolist()), unknown=tuple(unknown.tolist()))


def main(data: str, target: str, scenes: str = "1000") -> None:
    """Draw both splits and write the manifest."""
    photos, folder = load_manifest(Path(data)), Path(target).resolve()
    sizes = {"train": int(scenes), "val" if "val" in photos.splits else "test": int(scenes) // 2}
    records: list[Record] = []
    for split, size in sizes.items():
        (folder / split).mkdir(parents=True)
        records += draw(photos.split(split), size, split, folder)
    manifest = Manifest.from_records(Description("scenes", folder, photos.classes), records).save(folder)
    labels = float(np.mean([split.labels_per_image().mean() for split in map(manifest.split, sizes)]))
    print(f"{manifest.split_sizes}, {len(manifest.classes)} classes, {labels:.1f} labels an image")


if __name__ == "__main__":
    main(*sys.argv[1:])
