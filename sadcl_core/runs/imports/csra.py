"""CSRA's checkpoints (Zhu and Wu, ICCV 2021): beside the backbone, convolutions of one pixel without bias, one a head.

They are known by their shapes, (K, D_b, 1, 1); lambda, which weighs the attention, is not in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from sadcl_core.model.heads.csra import TEMPERATURES
from sadcl_core.runs.imports.converted import Converted

NAME, METHOD = "CSRA", "csra"
LAMBDA = "model.heads.csra.attention_weight"


def recognises(tensors: Mapping[str, Tensor], channels: int) -> str:
    """Return why tensors are of this format; empty if they are not."""
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    if len(shapes) != 1 or len(tensors) not in TEMPERATURES:
        return ""
    (shape,) = shapes
    return f"{len(tensors)} classifiers of locations of the shape {shape}, no bias" if shape[1:] == (channels, 1, 1) else ""


def convert(tensors: Mapping[str, Tensor], channels: int) -> Converted:
    """Return the head; the classifiers are numbered in their names."""
    names = sorted(tensors, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
    weight = torch.stack([tensors[name][:, :, 0, 0] for name in names], dim=1)  # (K, heads, D_b)
    return Converted(
        head="csra",
        options={"attention_heads": len(names)},
        classes=weight.shape[0],
        tensors={"head.weight": weight},
        used=frozenset(names),
        pixels=(0.0, 1.0),
    )
