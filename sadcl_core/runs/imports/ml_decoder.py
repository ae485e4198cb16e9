"""ML-Decoder's checkpoints (Ridnik et al., WACV 2023), of timm's form of it as well.

Layers of torch have torch's own names; the others are known by their shapes: queries (N, D), group weights (N, D, g), a bias for
each class and a projection (D, D_b).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from sadcl_core.runs.imports.converted import Converted, Rules, rename

NAME, METHOD = "ML-Decoder", "ml-decoder"

RULES: Rules = (
    (r"(?:.+\.)?multihead_attn\.(.+)", r"head.attention.\1"),
    (r"(?:.+\.)?norm1\.(.+)", r"head.query_norm.\1"),
    (r"(?:.+\.)?norm2\.(.+)", r"head.norm.\1"),
    (r"(?:.+\.)?norm3\.(.+)", r"head.feedforward.norm.\1"),
    (r"(?:.+\.)?linear1\.(.+)", r"head.feedforward.layers.0.\1"),
    (r"(?:.+\.)?linear2\.(.+)", r"head.feedforward.layers.3.\1"),
)


def recognises(tensors: Mapping[str, Tensor], channels: int) -> str:
    """Return why tensors are of this format; empty if they are not."""
    groups = [tensor for tensor in tensors.values() if tensor.dim() == 3]
    attentions = [name for name in tensors if re.search(r"(^|\.)multihead_attn\.in_proj_weight$", name)]
    if len(groups) != 1 or len(attentions) != 1:
        return ""
    return f"one cross-attention and group weights of the shape {tuple(groups[0].shape)}"


def convert(tensors: Mapping[str, Tensor], channels: int) -> Converted:
    """Return the head; of the group weights the row of each class, and where a query has several classes, which has which."""
    names = rename(tensors, RULES)
    ours = {new: tensors[name] for name, new in names.items()}
    rest = {name: tensor for name, tensor in tensors.items() if name not in names}
    slots = {name: "weight" for name, tensor in rest.items() if tensor.dim() == 3}
    count, width, size = rest[next(iter(slots))].shape
    for name, tensor in rest.items():
        bias = f"{name.removesuffix('.weight')}.bias"
        if tensor.shape == (width, channels) and bias in rest:
            slots |= {name: "input_projection.weight", bias: "input_projection.bias"}
    for name, tensor in rest.items():
        if name not in slots and tensor.shape == (count, width):
            slots[name] = "queries"
        elif name not in slots and tensor.dim() == 1:
            slots[name] = "bias"
    ours |= {f"head.{slot}": rest[name] for name, slot in slots.items()}
    classes = len(ours.get("head.bias", range(count * size)))
    ours["head.weight"] = ours["head.weight"].transpose(1, 2).reshape(-1, width)[:classes]  # those left over are cut off
    if count < classes:
        ours["head.group"] = torch.arange(classes) // size
    return Converted(
        head="ml_decoder",
        options={"width": width, "feedforward": ours["head.feedforward.layers.0.weight"].shape[0], "groups": count},
        classes=classes,
        tensors=ours,
        used=frozenset([*names, *slots]),
        assumed={"model.heads.ml_decoder.attention_heads": "8, as published"},
    )
