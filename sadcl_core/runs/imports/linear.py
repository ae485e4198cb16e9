"""Classifiers of timm and torchvision with a multi-label head, such as ASL's TResNets: one linear layer beside the backbone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sadcl_core.runs.imports.converted import Converted

NAME, METHOD = "a classifier of timm or torchvision", "baseline"


def recognises(tensors: Mapping[str, Tensor], channels: int) -> str:
    """Return why tensors are of this format; empty if they are not."""
    weights = [tensor for tensor in tensors.values() if tensor.dim() == 2]
    biases = [tensor for tensor in tensors.values() if tensor.dim() == 1]
    if len(tensors) != 2 or len(weights) != 1 or len(biases) != 1 or weights[0].shape != (len(biases[0]), channels):
        return ""
    return f"one linear layer of the shape {tuple(weights[0].shape)} beside the backbone"


def convert(tensors: Mapping[str, Tensor], channels: int) -> Converted:
    """Return the pooled head."""
    kinds = {tensor.dim(): tensor for tensor in tensors.values()}
    return Converted(
        head="pooled",
        options={},
        classes=len(kinds[1]),
        tensors={"head.classifier.weight": kinds[2], "head.classifier.bias": kinds[1]},
        used=frozenset(tensors),
    )
