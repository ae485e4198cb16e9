"""What a head costs, forward and backward, beside its matrix products alone and beside its backbone.

python benchmarks/heads.py [--heads sarl,csra] [--classes 80,374,1000,5000] [--backbone tf_efficientnet_lite0]

One thread, eight images of 224 px, one for heads that compare classes where there are more than 1,000, a width of 256;
gradients are cleared, as in training. The products (of matrices, convolutions, attention) are recorded in a step, and made
again by themselves, in turn with the step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sadcl_core.config.schema import ModelSection
from sadcl_core.model.classifier import Classifier
from sadcl_core.registry import HEADS, resolve
from sadcl_core.runtime.device import keep_freed_memory

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
ATTENTION = "_scaled_dot_product"
PAIRWISE = ("mulcon", "add_gcn", "c_tran")  # memory or time grow with the square of the classes
SIZES = {"width": 256, "feedforward": 1024, "token_width": 256}  # of the heads that have such an option


class Recorder(TorchDispatchMode):
    """Keep the matrix products of what is called, so that they can be made again."""

    products: list[Callable[[], object]]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and keep it if it is a product."""
        name = func.overloadpacket.__name__
        if name in PRODUCTS or name.startswith(ATTENTION):
            self.products.append(partial(func, *args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def main() -> None:
    """Everything, as one table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--heads", default="pooled,csra,sarl,mulcon,ml_decoder,add_gcn,c_tran")
    parser.add_argument("--classes", default="80,374,1000,5000")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as every command on a CPU
    torch.manual_seed(0)
    print("| head | classes | ms an image | its products alone | ratio | its backbone | parameters, millions |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for head in asked.heads.split(","):
        for classes in map(int, asked.classes.split(",")):
            options = {
                name: size for name, size in SIZES.items() if name in resolve(HEADS, head, kind="head").Options.model_fields
            }
            section = ModelSection(backbone=asked.backbone, pretrained=False, head=head, heads={head: options})
            images = 1 if head in PAIRWISE and classes > 1000 else asked.images
            print(f"| {head} | {classes} | {row(section, classes, images, asked.steps)} |", flush=True)


def row(section: ModelSection, classes: int, images: int, steps: int) -> str:
    """The cells of one head."""
    classifier = Classifier(section, num_classes=classes, img_size=224).train()
    pixels = torch.randn(images, 3, 224, 224)
    maps = tuple(one.detach() for one in classifier.features(pixels))

    def head() -> Tensor:
        classifier.zero_grad()
        leaves = tuple(one.clone().requires_grad_() for one in maps)
        logits = classifier.classify(leaves).logits
        logits.sum().backward()
        return logits

    recorder = Recorder()  # type: ignore[no-untyped-call]
    recorder.products = []
    with recorder:
        head()

    def products() -> None:
        with torch.no_grad():
            for product in recorder.products:
                product()

    def backbone() -> None:
        torch.autograd.backward(classifier.features(pixels), [torch.ones_like(one) for one in maps])

    spent = [[1000 / images * seconds(work) for work in (head, products, backbone)] for _ in range(steps + 1)][1:]
    whole, alone, before = (statistics.median(times) for times in zip(*spent, strict=True))
    count = sum(p.numel() for p in classifier.parameters()) - sum(p.numel() for p in classifier.backbone.parameters())
    return f"{whole:.1f} | {alone:.1f} | {whole / alone:.2f} | {before:.1f} | {count / 1e6:.1f}"


def seconds(work: Callable[[], object]) -> float:
    """Seconds of the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
