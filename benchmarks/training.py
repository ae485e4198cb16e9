"""What a training step costs and where its time goes, beside its limits and a plain loop with timm.

Run on a GPU: python benchmarks/training.py. That is ResNet-101 at 448, batch 64, bf16, compiled, with all losses of SADCL and a
full memory bank for 80 classes. On a CPU for a look: python benchmarks/training.py --backbone resnet18
--img-size 224 --batch-size 16 --width 256 --steps 5 --images 64 --precision fp32 --no-compile --published 2.

The parts (forward and backward of backbone, head and losses; optimiser and EMA) are timed one by one and given as shares of
their sum; `stage 1` and `stage 2` are whole steps as training makes them, from images on the device, which take turns. The limit
of optimiser and EMA is the memory: AdamW reads weight, gradient and two moments of each number and writes three of them, the EMA
reads two and writes one. `data` is the loader alone: JPEG files of 640 x 480, decoded and augmented as in stage 1.

Then `sadcl train --method baseline` takes turns, epoch by epoch, with what a user of timm would write, on the same files with the
same backbone, both reading in their own process; and, where it is installed, lightly-train trains on them. With `--published B`
the losses of a batch of 32 are held against the step of the published network, ResNet-101 at 448, width 2048, on B images,
without its optimiser. On a CPU with one thread, times are those of the processor.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from limits import bandwidth
from PIL import Image
from timm.data.transforms_factory import create_transform
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sadcl_core.config.schema import LossSection, ModelSection, OptimSection, RunConfig, StageSection
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import augmentation
from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.runtime.device import choose_device, choose_precision
from sadcl_core.training.listeners.events import EpochDone, Event, StepDone
from sadcl_core.training.optimizer import make_optimizer, set_trainable
from sadcl_core.training.parallel import make_ema, make_ready, start_accelerate, wrap
from sadcl_core.training.terms import LossInputs, TrainingStep, loss_terms, weighted_sum
from sadcl_core.training.train import train

CLASSES, ACTIVE = 80, 2.9  # of COCO
EPOCHS = 3  # of each loop
LOSS_BATCH = 32  # images that the losses are measured on beside the published network
WEIGHTS = {"asymmetric": 1.0, "sample_to_sample": 0.1, "prototype_to_sample": 0.05}


@dataclass(frozen=True)
class Setup:
    """A network with all that training makes for it.

    Attributes:
        step: takes a whole step.
        update: takes the last part of it, optimiser and EMA, with gradients that are there.
        trained: numbers that the optimiser and the EMA change.
        numbers: all of the network.
    """

    classifier: Classifier
    bank: MemoryBank
    autocast: Callable[[], Any]
    step: Callable[[Tensor, Tensor], None]
    update: Callable[[], None]
    trained: int
    numbers: int


def main() -> None:
    """Everything, as tables in Markdown."""
    asked = _asked()
    device = choose_device(asked.device)
    precision = choose_precision(asked.precision, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{asked.backbone} at {asked.img_size}, batch {asked.batch_size}, width {asked.width}, {precision}, on {name}\n")
    report_parts(asked, device, precision)
    with tempfile.TemporaryDirectory() as folder:
        manifest = draw_coco(Path(folder), images=asked.images)
        speed = loader_speed(manifest, asked)
        print(f"| data, alone | {1000 * asked.batch_size / speed:.1f} | {speed:.0f} | | |\n", flush=True)
        report_loops(Path(folder), manifest, asked)
    if asked.published:
        report_published(asked.published, device, precision)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option, default in (("--img-size", 448), ("--batch-size", 64), ("--width", 2048), ("--steps", 20), ("--images", 2000)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--published", type=int, default=0, metavar="B", help="images of the published network's step")
    parser.add_argument("--workers", type=int, default=None)
    for option, word in (("--backbone", "resnet101"), ("--device", "auto"), ("--precision", "auto")):
        parser.add_argument(option, default=word)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    return parser.parse_args()


def report_parts(asked: argparse.Namespace, device: torch.device, precision: str) -> None:
    """Print the parts of a step, the steps of both stages and the memory of the second."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    second = set_up(asked, device, precision, WEIGHTS)
    images, targets = draw_batch(asked.batch_size, asked.img_size, device)
    second.step(images, targets)
    second.step(images, targets)
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else rise
    first = set_up(asked, device, precision, {"asymmetric": 1.0})
    steps = [partial(setup.step, images, targets) for setup in (first, second)]
    stage1, stage2 = seconds(steps, asked.steps, device)
    parts = dict(_parts(second, images, targets))
    names, works = (*parts, "optimiser and EMA"), (*parts.values(), second.update)
    timed = dict(zip(names, seconds(works, asked.steps, device), strict=True))
    limit = 4 * (7 + 3) * second.trained / bandwidth() if device.type == "cpu" else 0.0
    print("| what | ms | images/s | share of the parts | its limit, ms |\n| --- | --- | --- | --- | --- |")
    for part, spent in timed.items():
        share, least = 100 * spent / sum(timed.values()), f"{1000 * limit:.1f}" if limit and part == names[-1] else ""
        print(f"| {part} | {1000 * spent:.1f} | {asked.batch_size / spent:.0f} | {share:.0f} % | {least} |")
    print(f"| stage 1, a step | {1000 * stage1:.1f} | {asked.batch_size / stage1:.0f} | | |")
    print(f"| stage 2, {stage2 / stage1:.3f} of it | {1000 * stage2:.1f} | {asked.batch_size / stage2:.0f} | | |")
    state = 4 * (3 * second.trained + 2 * second.numbers) / 2**20
    print(f"| memory of stage 2, MiB; its limit: weights, gradients, moments, EMA | {peak:.0f} | | | {state:.0f} |", flush=True)


def set_up(asked: argparse.Namespace, device: torch.device, precision: str, terms: dict[str, float]) -> Setup:
    """Make a network, with what a stage of these losses trains and keeps."""
    contrast = len(terms) > 1
    heads = {"sarl": {"width": asked.width, "feedforward": 4 * asked.width}}
    section = ModelSection(backbone=asked.backbone, pretrained=False, heads=heads, projection_width=asked.width // 2)
    config = RunConfig.model_validate({"model": section.model_dump(), "compute": {"compile": asked.compile}})
    classifier = Classifier(section, num_classes=CLASSES, img_size=asked.img_size).to(device).train()
    nn.init.normal_(classifier.prototypes)
    set_trainable(classifier, backbone=True, projection=contrast, prototypes=contrast)
    ema = make_ema(classifier, config, warmup=False)
    make_ready(classifier, config)
    bank = MemoryBank(slots=16, num_classes=CLASSES, width=asked.width).to(device)
    bank.start_from(classifier.prototypes.detach())
    bank.filled.fill_(True)
    optimizer = make_optimizer(classifier, StageSection(), OptimSection())
    options = LossSection.model_validate({"sample_to_sample": {"bank_min_score": 0.0}})  # all are remembered: the most work
    module = TrainingStep(classifier, terms=terms, options=options, bank=bank if contrast else None)
    accelerator = start_accelerate(device, precision)
    model, wrapped = wrap(accelerator, module, optimizer, config=config)
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    gradients = [torch.zeros_like(parameter) for parameter in trained]

    def step(images: Tensor, targets: Tensor) -> None:
        values, features, places = model(images, targets)
        accelerator.backward(weighted_sum(values, terms))
        finish()
        if contrast:
            bank.write(features, places)

    def finish() -> None:
        wrapped.step()
        wrapped.zero_grad()
        ema.update(classifier)

    def update() -> None:
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        finish()

    counts = [sum(parameter.numel() for parameter in some) for some in (trained, classifier.parameters())]
    return Setup(classifier, bank, accelerator.autocast, step, update, *counts)


def draw_batch(count: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw normalised images and targets."""
    targets = torch.rand(count, CLASSES, device=device) < ACTIVE / CLASSES
    return torch.randn(count, 3, side, side, device=device), targets.to(torch.int8)


def _parts(setup: Setup, images: Tensor, targets: Tensor) -> dict[str, Callable[[], object]]:
    """Return forward and backward of backbone, head and losses, each by itself."""
    classifier = setup.classifier
    with torch.no_grad(), setup.autocast():
        (feature_map,) = maps = classifier.features(images)
        output = classifier.classify(maps)
    leaf = feature_map.detach().clone().requires_grad_()
    features = output.label_features.float()

    def backbone() -> None:
        with setup.autocast():
            (result,) = classifier.features(images)
        result.backward(torch.ones_like(result))
        classifier.zero_grad()

    def head() -> None:
        with setup.autocast():
            result = classifier.classify((leaf,))
        torch.autograd.backward([result.logits, result.label_features], [torch.ones_like(result.logits), features])
        classifier.zero_grad()

    return {"backbone": backbone, "head": head, "losses": losses(setup, features, targets)}


def losses(setup: Setup, features: Tensor, targets: Tensor) -> Callable[[], None]:
    """Return forward and backward of all losses, of label features (B, K, D) as they come from the head."""
    leaf, logits = features.detach().requires_grad_(), torch.randn(features.shape[:2], device=features.device).requires_grad_()

    def work() -> None:
        with setup.autocast():
            made = ClassifierOutput(logits, leaf, image_features=leaf.mean(dim=1))
            terms = loss_terms(LossInputs(setup.classifier, made, targets, setup.bank, LossSection()), WEIGHTS)
        weighted_sum(terms, WEIGHTS).backward()
        setup.classifier.zero_grad()

    return work


def seconds(works: Sequence[Callable[[], object]], steps: int, device: torch.device, *, uncounted: int = 2) -> list[float]:
    """Return the median seconds of each work; they take turns, and the first ones are not counted."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(uncounted + steps):
        for work, times in zip(works, taken, strict=True):
            start = clock()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(clock() - start)
    return [statistics.median(times[uncounted:]) for times in taken]


def report_published(batch: int, device: torch.device, precision: str) -> None:
    """Print the losses of 32 images as a share of the published network's step."""
    shape = argparse.Namespace(backbone="resnet101", img_size=448, width=2048, compile=False)
    setup = set_up(shape, device, precision, WEIGHTS)
    parts = _parts(setup, *draw_batch(batch, shape.img_size, device))
    backbone, head = (spent / batch for spent in seconds([parts["backbone"], parts["head"]], 2, device, uncounted=1))
    features, targets = torch.randn(LOSS_BATCH, CLASSES, shape.width, device=device), draw_batch(LOSS_BATCH, 1, device)[1]
    projected = losses(setup, features, targets)
    (whole,) = seconds([projected], 3, device, uncounted=1)
    setup.classifier.projection = nn.Sequential()  # none
    (alone,) = seconds([losses(setup, features, targets)], 3, device, uncounted=1)
    step = backbone + head + whole / LOSS_BATCH
    print(f"\n| {shape.backbone} at {shape.img_size}, width {shape.width} | ms an image | of the step |\n| --- | --- | --- |")
    rows = {
        f"backbone, batch {batch}": backbone,
        f"head, batch {batch}": head,
        f"losses, batch {LOSS_BATCH}, with the projection of label features, bank and prototypes": whole / LOSS_BATCH,
        "the losses themselves, on features of that width": alone / LOSS_BATCH,
    }
    for name, spent in rows.items():
        print(f"| {name} | {1000 * spent:.2f} | {100 * spent / step:.2f} % |")


def draw_coco(folder: Path, *, images: int) -> Manifest:
    """Draw files like COCO's: JPEG of 640 x 480, 80 classes, 2.9 of them in an image."""
    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("val", max(images // 20, 8))):
        (folder / f"{split}2017").mkdir()
        (folder / "annotations").mkdir(exist_ok=True)
        for number in range(count):
            small = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
            Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(
                folder / f"{split}2017" / f"{number:06d}.jpg"
            )
        rows = [(number, label) for number in range(count) for label in rng.permutation(CLASSES)[: max(1, rng.poisson(ACTIVE))]]
        document = {
            "images": [{"id": n, "file_name": f"{n:06d}.jpg", "width": 640, "height": 480} for n in range(count)],
            "categories": [{"id": k + 1, "name": f"class {k}", "supercategory": "thing"} for k in range(CLASSES)],
            "annotations": [
                {"id": i, "image_id": n, "category_id": int(k) + 1, "bbox": [10, 10, 99, 99], "area": 9801, "iscrowd": 0}
                for i, (n, k) in enumerate(rows)
            ],
        }
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(document))
    prepare("coco2017", data=folder, output=folder / "prepared" / "coco2017")
    return load_manifest(folder / "prepared" / "coco2017")


def loader_speed(manifest: Manifest, asked: argparse.Namespace) -> float:
    """Images per second of the loader alone."""
    split = manifest.split("train")
    transform = augmentation("cutout-randaugment", asked.img_size)
    loader = make_loader(split, transform, batch_size=asked.batch_size, workers=asked.workers, shuffle_seed=0)
    count, start = 0, 0.0
    for number, (images, *_) in enumerate(loader.epoch(1)):
        if number == 0:  # the workers are up now
            start = time.perf_counter()
        count += len(images) if number else 0
    return count / max(time.perf_counter() - start, 1e-9)


class Photos(Dataset[tuple[Tensor, Tensor]]):
    """Photos and labels of a split, read as torchvision's data sets read them."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        """Take the split and a transform of timm."""
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        """The number of photos."""
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """An image (3, S, S) and its targets (K,)."""
        with Image.open(self.split.path(index)) as image:
            return self.transform(image.convert("RGB")), torch.from_numpy(self.split.targets(index)).float()


def timm_epoch(manifest: Manifest, asked: argparse.Namespace, device: torch.device) -> Callable[[], list[float]]:
    """Return an epoch of a plain loop, which gives the seconds of each step."""
    network = timm.create_model(asked.backbone, num_classes=CLASSES).to(device).train()
    ema, criterion = ModelEmaV3(network, decay=0.9998), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-2)
    photos = Photos(manifest.split("train"), create_transform(asked.img_size, is_training=True))
    loader = DataLoader(photos, asked.batch_size, shuffle=True)

    def epoch() -> list[float]:
        ends = [time.process_time()]
        for images, targets in loader:
            loss = criterion(network(images.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(network)
            loss.item()
            ends.append(time.process_time())
        return np.diff(ends).tolist()

    return epoch


def report_loops(folder: Path, manifest: Manifest, asked: argparse.Namespace) -> None:
    """Print the images per second of `sadcl train --method baseline` and of what a user would otherwise run."""
    other = timm_epoch(manifest, asked, choose_device(asked.device))
    ends: list[float] = []
    ours: list[float] = []
    theirs: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone):
            theirs.extend(other()[1:])  # the first step of an epoch is left out of both
            ends.clear()
        if isinstance(event, StepDone):
            ends.append(time.process_time())
            ours.extend(np.diff(ends[-2:]))

    settings = ["model.stride=32", "stages.classification.augment=flip-and-crop", "data.drop_last=true"]
    flags = {"backbone": asked.backbone, "img_size": asked.img_size, "batch_size": asked.batch_size, "precision": asked.precision}
    train(
        manifest,
        output=folder / "run",
        listen=listen,
        method="baseline",
        no_pretrained=True,
        epochs=f"{EPOCHS},0",
        workers=0,
        device=asked.device,
        compile=asked.compile,
        set=settings,
        **flags,
    )
    rows = {"sadcl train --method baseline": ours, "a plain loop with timm": theirs}
    missing = "is not installed"
    if importlib.util.find_spec("lightly_train"):
        try:
            with redirect_stdout(sys.stderr):
                rows["lightly-train"] = [lightly_train_step(folder, manifest, asked)]
        except RuntimeError as error:  # of a backbone whose last map has another width than timm says
            missing = f"cannot train {asked.backbone}: {error}"
    print("| training, reading included | ms a step | images/s | of the plain loop |\n| --- | --- | --- | --- |")
    for name, times in rows.items():
        step = statistics.median(times)
        cells = f"{1000 * step:.1f} | {asked.batch_size / step:.1f} | {statistics.median(theirs) / step:.2f}"
        print(f"| {name} | {cells} |", flush=True)
    if "lightly-train" not in rows:
        print(f"| lightly-train {missing} | | | |")


def lightly_train_step(folder: Path, manifest: Manifest, asked: argparse.Namespace) -> float:
    """Return the seconds of a step of lightly-train: what a run of four more steps takes longer than a short one."""
    from lightly_train import train_image_classification

    split = manifest.split("train")
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = [(split.path(n), ",".join(map(str, np.flatnonzero(split.targets(n) == 1)))) for n in range(len(split))]
        csv.writer(file).writerows([("image_path", "label"), *rows])
    labels = str(folder / "labels.csv")
    data = {"train": labels, "val": labels, "csv_label_type": "id", "classes": dict(enumerate(manifest.classes))}
    spent = []
    for steps in (2, 6):
        start = time.process_time()
        train_image_classification(
            out=str(folder / f"lightly-{steps}"),
            data=data,
            model=f"timm/{asked.backbone}",
            classification_task="multilabel",
            steps=steps,
            batch_size=asked.batch_size,
            num_workers=0,
            accelerator="cpu",
            precision="32-true",
            transform_args={"image_size": (asked.img_size, asked.img_size)},
        )
        spent.append(time.process_time() - start)
    return (spent[1] - spent[0]) / 4


if __name__ == "__main__":
    main()
