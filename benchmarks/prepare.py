"""What large label files cost: python benchmarks/prepare.py [SHARE].

Generates annotations of COCO's size (118,000 images, 860,000 boxes, 80 classes), a table of 1,000,000 rows with 1,000 classes
and 500,000 JSON lines, or a SHARE of each, reads, divides and stores them, opens what was stored and loads a first batch; and
looks at what another loader worker takes. Each step runs in a process of its own, so that peaks are its own. Times are also given
as ratios to the time that reading the same file with the standard library alone (json, csv) takes, in the same run.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sadcl_core.data.formats.detect import detect, reader
from sadcl_core.data.formats.source import Source
from sadcl_core.data.manifest import ROWS, load_manifest
from sadcl_core.data.prepare.assignment import assign_splits

BATCH = 64
FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def write_coco(folder: Path, images: int, boxes: int, classes: int = 80) -> Path:
    """Instances JSON with about as many bytes a box as COCO's own without its outlines."""
    rng = np.random.default_rng(0)
    owners, labels = rng.integers(0, images, boxes), np.minimum(rng.zipf(1.3, boxes) - 1, classes - 1)
    corners = rng.random((boxes, 4)) * 300
    document = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in range(images)],
        "annotations": [
            {
                "id": j,
                "image_id": int(owners[j]),
                "category_id": int(labels[j]) + 1,
                "bbox": [round(float(v), 2) for v in corners[j]],
                "area": 100.0,
                "iscrowd": 0,
            }
            for j in range(boxes)
        ],
        "categories": [{"id": k + 1, "name": f"class {k}", "supercategory": "thing"} for k in range(classes)],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(document))
    write_images(folder, [f"{i:012d}.jpg" for i in range(images)])
    return path


def write_csv(folder: Path, rows: int, classes: int = 1000) -> Path:
    """A table with one to five labels a row."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, rows)
    labels = np.minimum(rng.zipf(1.3, counts.sum()) - 1, classes - 1)
    ends = np.concatenate([[0], np.cumsum(counts)])
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels"])
        for i in range(rows):
            names = dict.fromkeys(f"class_{k}" for k in labels[ends[i] : ends[i + 1]])
            writer.writerow([f"{i // 1000:05d}/{i:09d}.jpg", ";".join(names)])
    write_images(folder, [f"{i // 1000:05d}/{i:09d}.jpg" for i in range(rows)])
    return path


def write_jsonl(folder: Path, rows: int, classes: int = 1000) -> Path:
    """JSON lines with one to five labels each, in a list."""
    rng = np.random.default_rng(0)
    names = [f"{i // 1000:05d}/{i:09d}.jpg" for i in range(rows)]
    path = folder / "labels.jsonl"
    with path.open("w") as file:
        for name in names:
            labels = np.unique(np.minimum(rng.zipf(1.3, rng.integers(1, 6)) - 1, classes - 1))
            file.write(json.dumps({"image": name, "labels": [f"class_{k}" for k in labels]}) + "\n")
    write_images(folder, names)
    return path


def write_images(folder: Path, names: list[str]) -> None:
    """The images of a first batch, and some that the rule of paths is found by."""
    rng = np.random.default_rng(0)
    for name in {*names[: 4 * BATCH], *names[:: max(1, len(names) // 20)]}:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / name)


def plain(path: Path) -> dict[str, float]:
    """The file read with the standard library."""
    start = time.perf_counter()
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".jsonl":
        with path.open() as file:
            for line in file:
                json.loads(line)
    else:
        with path.open(newline="") as file:
            for _ in csv.reader(file):
                pass
    return {"plain": time.perf_counter() - start}


def read_and_store(path: Path) -> dict[str, float]:
    """From the label file to a stored manifest."""
    start = time.perf_counter()
    found = detect(path)
    manifest = reader(found.format).read(Source("generated", path.parent, found.files))
    read = time.perf_counter()
    divided, _ = assign_splits(manifest, FRACTIONS, seed=0)
    split = time.perf_counter()
    stored = divided.save(path.parent / "prepared")
    saved = time.perf_counter()
    size = (path.parent / "prepared" / ROWS).stat().st_size / 2**20
    return {"read": read - start, "divide": split - read, "store": saved - split, "MiB": size, "images": len(stored)}


def open_and_load(path: Path) -> dict[str, float]:
    """From the stored manifest to a first batch of images that are there."""
    from sadcl_core.data.loader import make_loader  # torch, whose import is no part of this
    from sadcl_core.data.transforms import Preprocessing

    transform = Preprocessing(img_size=64, mean=(0, 0, 0), std=(1, 1, 1)).resize
    start = time.perf_counter()
    split = load_manifest(path.parent / "prepared").split("train")
    opened = time.perf_counter()
    next(iter(make_loader(split, transform, batch_size=BATCH, workers=0, limit=BATCH)))
    return {"open": opened - start, "first batch": time.perf_counter() - opened}


def another_worker(path: Path) -> dict[str, float]:
    """Memory of its own, in MiB, of a worker that reads every label: from the mapped file, and from a list of Python objects."""
    split = load_manifest(path.parent / "prepared").split("train")
    mapped = private_of(lambda: sum(len(split.active(i)) for i in range(len(split))))
    rows = [split.active(i) for i in range(len(split))]
    return {"mapped": mapped, "list": private_of(lambda: sum(len(row) for row in rows))}


def private_of(work: Callable[[], int]) -> float:
    """MiB that a forked process has for itself after some work."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def child() -> None:
        import gc

        gc.collect()  # a collection touches the counts of every object, as one does sooner or later
        work()
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        theirs.send(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024)

    process = context.Process(target=child)
    process.start()
    value = float(ours.recv())
    process.join()
    return value


def in_a_process(work: Callable[[Path], dict[str, float]], path: Path) -> dict[str, float]:
    """A step in a new process, with its peak of memory above that of the imports, in MiB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, path).result()


def _measured(work: Callable[[Path], Any], path: Path) -> dict[str, float]:
    before = peak()
    result: dict[str, float] = work(path)
    return {**result, "peak": peak() - before}


def peak() -> float:
    """Highest resident memory of this process so far, in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def report(path: Path) -> None:
    """Measure one label file and print."""
    base = in_a_process(plain, path)["plain"]
    made, opened, worker = (in_a_process(work, path) for work in (read_and_store, open_and_load, another_worker))
    print(f"\n{path.name}: {made['images']:,.0f} images, {path.stat().st_size / 2**20:,.0f} MiB; standard library {base:.2f} s")
    for step in ("read", "divide", "store"):
        print(f"  {step:12} {made[step]:8.2f} s  {made[step] / base:6.2f} of the standard library")
    print(f"  peak memory  {made['peak']:8.0f} MiB; manifest {made['MiB']:.1f} MiB")
    print(f"  open         {opened['open']:8.3f} s; first batch of {BATCH}: {opened['first batch']:.3f} s")
    print(f"  one more worker that reads every label: {worker['mapped']:.1f} MiB mapped, {worker['list']:.1f} MiB from a list")


def main(share: float) -> None:
    """Generate, measure, print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("coco", "csv", "jsonl"):
            (folder / part).mkdir()
        report(write_coco(folder / "coco", round(118_000 * share), round(860_000 * share)))
        report(write_csv(folder / "csv", round(1_000_000 * share)))
        report(write_jsonl(folder / "jsonl", round(500_000 * share)))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
