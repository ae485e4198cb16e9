"""The speed of predicting many images beside what bounds it, and its memory as the images become more.

python benchmarks/predict.py [--images 2000] [--photos DIR] [--backbone mobilenetv2_100] [--img-size 224] [--many 100000]

JPEGs of 500 x 375 are drawn, or those below DIR are linked until there are enough. In one run: the network on tensors that are
ready, the decoder alone, `predict_images` into a Parquet file, and a loop that gives one image after the other to `predict`.
They take turns, `--rounds` times.
With `--many`, the memory of the process after 1,000 and after so many small images. Ratios are what to compare.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.batches import read_batches
from sadcl_core.data.image_stream import ImageStream, open_images
from sadcl_core.inference.load import Model
from sadcl_core.inference.predict_images import predict_images
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import ModelCard
from sadcl_core.runtime.device import choose_device
from sadcl_core.runtime.threads import count_processors

CLASSES = 80
SINGLE = 200  # images of the plain loop


def main() -> None:
    """Everything, as tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option, default in (("--images", 2000), ("--img-size", 224), ("--batch-size", 32), ("--rounds", 5), ("--many", 0)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--stride", type=int, default=32)
    asked = parser.parse_args()
    model = make_model(asked.backbone, asked.img_size, asked.stride)
    with tempfile.TemporaryDirectory() as name:
        if asked.images:
            photos = make_photos(Path(name, "photos"), asked.images, asked.photos)
            report_speed(model, photos, Path(name), asked.batch_size, asked.rounds)
        if asked.many:
            small = make_model("test_resnet", 32, 16)
            report_memory(small, make_photos(Path(name, "many"), asked.many, None, side=64), Path(name), asked.many)


def make_model(backbone: str, img_size: int, stride: int) -> Model:
    """Return a model with random weights."""
    section = ModelSection(backbone=backbone, stride=stride, head="pooled")
    names = tuple(f"class {number}" for number in range(CLASSES))
    card = ModelCard(classes=names, img_size=img_size, mean=(0.5,) * 3, std=(0.25,) * 3, model=section)
    classifier = Classifier(section, num_classes=CLASSES, img_size=img_size)
    return Model(classifier.eval(), card, Path("none"), device=choose_device("cpu"))


def make_photos(folder: Path, count: int, photos: Path | None, *, side: int = 500) -> Path:
    """Link, or draw, so many JPEGs; only 32 are drawn, and the rest are links to them."""
    folder.mkdir()
    originals = sorted(photos.rglob("*.jpg")) if photos is not None else []
    if not originals:
        rng = np.random.default_rng(0)
        for number in range(32):
            pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
            originals.append(folder.with_name(f"{folder.name}-{number}.jpg"))
            picture.save(originals[-1], quality=90)
    for number, original in zip(range(count), itertools.cycle(originals)):
        (folder / f"{number:06d}.jpg").symlink_to(original.resolve())
    return folder


def timed(work: Callable[[], int]) -> tuple[float, float]:
    """Return the seconds of some work for each image that it did, and those of the processors."""
    start, start_of_processors = time.perf_counter(), time.process_time()
    done = work()
    return (time.perf_counter() - start) / done, (time.process_time() - start_of_processors) / done


def report_speed(model: Model, photos: Path, folder: Path, batch_size: int, rounds: int) -> None:
    """Print images per second, milliseconds of processors for an image, and what the processors allow."""
    every = list(open_images([photos]))
    parts = [open_images([photos], part=(number + 1, rounds)) for number in range(rounds)]
    first = next(read_batches(every[:batch_size], model.read, batch_size=batch_size)).images
    model.score(first)
    predict_images(model, open_images([every[0].name]), output=folder / "first.parquet")

    def network(part: ImageStream) -> int:
        batches = -(-(part.count() or 0) // batch_size)
        for _ in range(batches):
            model.score(first)
        return batches * len(first)

    def decoder(part: ImageStream) -> int:
        return sum(len(batch.indices) for batch in read_batches(part, model.read, batch_size=batch_size))

    def predict(part: ImageStream) -> int:
        return predict_images(model, part, output=folder / "a.parquet", batch_size=batch_size, exist_ok=True).images

    def loop(part: ImageStream) -> int:
        return sum(1 for image in itertools.islice(part, SINGLE // rounds) if not model.predict(image).error)

    kinds = {
        "the network alone, on tensors that are ready": network,
        "the decoder alone": decoder,
        "sadcl predict, into Parquet": predict,
        "one image after the other": loop,
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    costs: dict[str, list[float]] = {name: [] for name in kinds}
    for part in parts:  # one after the other, so that other work on the machine meets all of them
        for name, work in kinds.items():
            elapsed, of_processors = timed(partial(work, part))
            seconds[name].append(elapsed)
            costs[name].append(of_processors)
    (network_time, decoder_time, time_, _), (network_cost, decoder_cost, cost, _) = (
        [statistics.median(values) for values in table.values()] for table in (seconds, costs)
    )
    processors, threads = count_processors(), torch.get_num_threads()
    print(f"{len(every):,} photos in {rounds} rounds, {model.card.model.backbone} at {model.card.img_size} px, ", end="")
    print(f"batches of {batch_size}, {processors} processors, {threads} threads of the network\n")
    print("| | images/s | of sadcl predict | processors, ms an image |\n| --- | --- | --- | --- |")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {1 / median:.0f} | {time_ / median:.2f} | {1000 * statistics.median(costs[name]):.2f} |")
    at_best = max(network_cost / threads, decoder_cost / processors)
    together = max(network_cost / threads, (network_cost + decoder_cost) / processors)
    print(f"\npredict is {max(network_time, decoder_time) / time_:.2f} of the slower limit; ", end="")
    print(f"{at_best / together:.2f} is what these processors allow where nothing else runs. ", end="")
    print(f"Of its work on them, {(network_cost + decoder_cost) / cost:.2f} is network and decoder\n")


def report_memory(model: Model, photos: Path, folder: Path, many: int) -> None:
    """Print the memory of the process as images go by."""
    process, sizes = psutil.Process(), {}

    def progress(done: int, total: int) -> None:
        if done in (1000, many // 4, many // 2, many):
            sizes[done] = process.memory_info().rss / 2**20

    images = open_images([photos])
    seconds, _ = timed(lambda: predict_images(model, images, output=folder / "b.parquet", progress=progress).images)
    print("| images | memory, MiB |\n| --- | --- |")
    for done, size in sizes.items():
        print(f"| {done:,} | {size:.0f} |")
    print(f"\n{1 / seconds:.0f} images/s")


if __name__ == "__main__":
    main()
