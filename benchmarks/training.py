"""What a training step costs and where its time goes, and what the real command makes of it.

Run on a GPU: python benchmarks/training.py. That is ResNet-101 at 448, batch 64, bf16, compiled, with all losses of SADCL and a
full memory bank for 80 classes. On a CPU for a look: python benchmarks/training.py --backbone resnet18 --img-size 64
--batch-size 8 --width 64 --steps 3 --images 64 --precision fp32 --no-compile.

The parts (forward and backward of backbone, head and losses; optimiser and EMA) are timed one by one and given as shares of
their sum; `step` is the whole step as training makes it, from images on the device. `data` is the loader alone: JPEG files of
640 x 480, decoded and augmented as in stage 1. The real command then trains one epoch of such files from scratch.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sadcl_core.config.schema import LossSection, ModelSection, OptimSection, RunConfig, StageSection
from sadcl_core.data.loader import make_loader
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.data.transforms import augmentation
from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.runtime.device import choose_device, choose_precision
from sadcl_core.training.optimizer import make_optimizer, set_trainable
from sadcl_core.training.parallel import make_ema, make_ready, start_accelerate, wrap
from sadcl_core.training.terms import LossInputs, TrainingStep, loss_terms, weighted_sum

CLASSES, ACTIVE = 80, 2.9  # of COCO
WEIGHTS = {"asymmetric": 1.0, "sample_to_sample": 0.1, "prototype_to_sample": 0.05}


def main() -> None:
    """Everything, as tables in Markdown."""
    asked = _asked()
    device = choose_device(asked.device)
    precision = choose_precision(asked.precision, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{asked.backbone} at {asked.img_size}, batch {asked.batch_size}, width {asked.width}, {precision}, on {name}\n")
    print("| what | ms | images/s | share of the parts |\n| --- | --- | --- | --- |")
    parts, step, peak = measure(asked, device, precision)
    whole = sum(parts.values())
    for part, seconds in parts.items():
        print(f"| {part} | {1000 * seconds:.1f} | {asked.batch_size / seconds:.0f} | {100 * seconds / whole:.0f} % |")
    print(f"| step | {1000 * step:.1f} | {asked.batch_size / step:.0f} | |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        draw_coco(Path(folder), images=asked.images)
        speed = loader_speed(Path(folder), asked)
        print(f"| data, alone | {1000 * asked.batch_size / speed:.1f} | {speed:.0f} | |")
        if peak:
            print(f"\npeak memory of the device: {peak / 2**30:.1f} GiB")
        real_command(Path(folder), asked)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option, default in (("--img-size", 448), ("--batch-size", 64), ("--width", 2048), ("--steps", 20), ("--images", 2000)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--workers", type=int, default=None)
    for option, word in (("--backbone", "resnet101"), ("--device", "auto"), ("--precision", "auto")):
        parser.add_argument(option, default=word)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    return parser.parse_args()


def measure(asked: argparse.Namespace, device: torch.device, precision: str) -> tuple[dict[str, float], float, int]:
    """Seconds of each part and of the whole step, and the peak of the device's memory in bytes."""
    heads = {"sarl": {"width": asked.width, "feedforward": 4 * asked.width}}
    section = ModelSection(backbone=asked.backbone, pretrained=False, heads=heads, projection_width=asked.width // 2)
    config = RunConfig.model_validate({"model": section.model_dump(), "compute": {"compile": asked.compile}})
    classifier = Classifier(section, num_classes=CLASSES, img_size=asked.img_size).to(device)
    torch.nn.init.normal_(classifier.prototypes)
    set_trainable(classifier, backbone=True, projection=True, prototypes=True)
    ema = make_ema(classifier, config, warmup=False)
    make_ready(classifier, config)
    bank = MemoryBank(slots=16, num_classes=CLASSES, width=asked.width).to(device)
    bank.start_from(classifier.prototypes.detach())
    bank.filled.fill_(True)
    optimizer = make_optimizer(classifier, StageSection(), OptimSection())
    module = TrainingStep(classifier, terms=WEIGHTS, options=LossSection(), bank=bank)
    accelerator = start_accelerate(device, precision)
    model, wrapped = wrap(accelerator, module, optimizer, config=config)
    images = torch.randn(asked.batch_size, 3, asked.img_size, asked.img_size, device=device)
    targets = (torch.rand(asked.batch_size, CLASSES, device=device) < ACTIVE / CLASSES).to(torch.int8)
    classifier.train()

    def whole() -> None:
        terms, *_ = model(images, targets)
        accelerator.backward(weighted_sum(terms, WEIGHTS))
        update()

    def update() -> None:
        wrapped.step()
        wrapped.zero_grad()
        ema.update(classifier)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = seconds(whole, asked.steps, device)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    parts = _parts(classifier, bank, images, targets, accelerator.autocast)
    timed = {name: seconds(work, asked.steps, device) for name, work in parts.items()}

    def last() -> None:
        whole_gradients(classifier)
        update()

    timed["optimiser and EMA"] = seconds(last, asked.steps, device)
    return timed, step, peak


def whole_gradients(classifier: Classifier) -> None:
    """Give every trained weight a gradient, so that the optimiser has its work."""
    for parameter in classifier.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def _parts(
    classifier: Classifier, bank: MemoryBank, images: Tensor, targets: Tensor, autocast: Callable[[], Any]
) -> dict[str, Callable[[], object]]:
    """Forward and backward of backbone, head and losses, each by itself."""
    with torch.no_grad(), autocast():
        (feature_map,) = maps = classifier.features(images)
        output = classifier.classify(maps)
    leaf = feature_map.detach().clone().requires_grad_()
    logits, features = (tensor.detach().float().requires_grad_() for tensor in (output.logits, output.label_features))

    def backbone() -> None:
        with autocast():
            (result,) = classifier.features(images)
        result.backward(torch.ones_like(result))

    def head() -> None:
        with autocast():
            result = classifier.classify((leaf,))
        torch.autograd.backward([result.logits, result.label_features], [torch.ones_like(result.logits), features])

    def losses() -> None:
        with autocast():
            made = ClassifierOutput(logits, features, image_features=features.mean(dim=1))
            terms = loss_terms(LossInputs(classifier, made, targets, bank, LossSection()), WEIGHTS)
        weighted_sum(terms, WEIGHTS).backward()

    return {"backbone": backbone, "head": head, "losses": losses}


def seconds(work: Callable[[], object], steps: int, device: torch.device) -> float:
    """The median of several times, after three that are not counted."""
    taken = []
    for number in range(steps + 3):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 3:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def draw_coco(folder: Path, *, images: int) -> None:
    """Files like COCO's: JPEG of 640 x 480, 80 classes, 2.9 of them in an image."""
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


def loader_speed(folder: Path, asked: argparse.Namespace) -> float:
    """Images per second of the loader alone."""
    from sadcl_core.data.manifest import load_manifest

    split = load_manifest(folder / "prepared" / "coco2017").split("train")
    transform = augmentation("cutout-randaugment", asked.img_size)
    loader = make_loader(split, transform, batch_size=asked.batch_size, workers=asked.workers, shuffle_seed=0)
    count, start = 0, 0.0
    for number, (images, *_) in enumerate(loader.epoch(1)):
        if number == 0:  # the workers are up now
            start = time.perf_counter()
        count += len(images) if number else 0
    return count / max(time.perf_counter() - start, 1e-9)


def real_command(folder: Path, asked: argparse.Namespace) -> None:
    """One epoch of `sadcl train` on the files, and its images per second."""
    command = [
        *(
            sys.executable,
            "-m",
            "sadcl_cli",
            "train",
            "coco2017",
            "--preset",
            "sadcl-r101-448",
            "--no-pretrained",
            "--epochs",
            "1,0",
        ),
        *("--backbone", asked.backbone, "--img-size", str(asked.img_size), "-b", str(asked.batch_size), "--device", asked.device),
        *("--precision", asked.precision, "--compile" if asked.compile else "--no-compile", "-o", "run", "-q"),
        *("--set", f"model.heads.sarl.width={asked.width}", "--set", f"model.heads.sarl.feedforward={4 * asked.width}"),
    ]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True)
    row = next(csv.DictReader((folder / "run" / "results.csv").read_text().splitlines()))
    print(
        f"\nsadcl train, one epoch of {asked.images} images: {float(row['images_per_second']):.0f} images/s in the epoch, "
        f"{time.perf_counter() - start:.0f} s for the command"
    )


if __name__ == "__main__":
    main()
