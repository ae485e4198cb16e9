"""What an exported file costs and gives, beside the network that it is made from and beside a plain export.

python benchmarks/export.py [--backbone tf_efficientnet_lite0] [--img-size 224] [--images 16] [--heads pooled,sarl]

One thread of torch and of onnxruntime. `sadcl` writes the file with everything inside, resizing included, and gives images of
640 x 480 to it; a user of timm would write the network alone with torch.onnx.export and give it tensors that are ready. Both take
turns with torch on the same input. The difference is the largest of the probabilities, and of the logits of the network alone.
Memory is by how much the peak of the process rises.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import timm
import torch
from predict import CLASSES
from training import seconds

from sadcl_core.config.schema import ModelSection
from sadcl_core.exporting.network import WholeModel
from sadcl_core.exporting.onnx_writer import silent
from sadcl_core.exporting.targets import write_file
from sadcl_core.inference.load import Model
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import ModelCard
from sadcl_core.runtime.device import choose_device

REPEATS = 5


def main() -> None:
    """Everything, as one table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--heads", default="pooled,sarl")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    choose_device("cpu")  # memory as of every command
    print(f"{asked.backbone} at {asked.img_size} px, {CLASSES} classes, {asked.images} images in a batch, 1 thread\n")
    print("| file | CPU s to write | MiB more | MiB | weights, MiB | images/s, torch | images/s, onnxruntime | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        for head in asked.heads.split(","):
            options = {"sarl": {"width": 256, "feedforward": 1024}}
            section = ModelSection(backbone=asked.backbone, stride=32, head=head, heads=options)
            classifier = Classifier(section, num_classes=CLASSES, img_size=asked.img_size).eval()
            names = tuple(f"class {number}" for number in range(CLASSES))
            card = ModelCard(classes=names, img_size=asked.img_size, mean=(0.5,) * 3, std=(0.25,) * 3, model=section)
            model = Model(classifier, card, Path("none"), device=torch.device("cpu"))
            pixels = torch.randint(0, 256, (asked.images, 480, 640, 3), dtype=torch.uint8)
            whole = WholeModel(model)
            report(f"sadcl export onnx, {head}", whole, pixels, path, partial(write_file, model, path))
        network = timm.create_model(asked.backbone, num_classes=CLASSES).eval()
        ready = torch.randn(asked.images, 3, asked.img_size, asked.img_size)
        report("torch.onnx.export of the network alone", network, ready, path, partial(plain, network, ready, path))


def plain(network: torch.nn.Module, ready: torch.Tensor, path: Path) -> None:
    """Export as torch's own examples do, for batches of any size."""
    with silent():
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        torch.onnx.export(network, (ready,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False)


def report(name: str, network: Any, images: torch.Tensor, path: Path, write: Callable[[], object]) -> None:
    """Print the row of one file."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    write()
    spent, rise = time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    first, given = session.get_outputs()[0].name, {session.get_inputs()[0].name: images.numpy()}

    @torch.inference_mode()
    def with_torch() -> Any:
        result = network(images)
        return result[0].numpy() if isinstance(result, tuple) else result.numpy()

    def exported() -> Any:
        return session.run([first], given)[0]

    speeds = [len(images) / each for each in seconds([with_torch, exported], REPEATS, images.device)]
    sizes = path.stat().st_size / 2**20, sum(tensor.nbytes for tensor in network.state_dict().values()) / 2**20
    difference = np.abs(with_torch() - exported()).max()
    cells = (f"{spent:.1f}", f"{rise:.0f}", *(f"{size:.1f}" for size in sizes), *(f"{speed:.1f}" for speed in speeds))
    print(f"| {name} | {' | '.join(cells)} | {difference:.1e} |", flush=True)


if __name__ == "__main__":
    main()
