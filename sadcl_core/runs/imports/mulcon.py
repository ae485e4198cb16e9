"""MulCon's checkpoints (Dao et al., Neurocomputing 2023): blocks of set attention, a linear unit for each class."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from sadcl_core.runs.imports.converted import Converted, layers

NAME, METHOD = "MulCon", "mulcon"

BLOCKS = {"sab1.mab": "token_blocks.0", "sab2.mab": "token_blocks.1", "mab": "label_attention", "sab3.mab": "label_blocks.0"}
LAYERS = {"fc_q": "query", "fc_k": "key", "fc_v": "value", "ln0": "norm", "fc_o": "layer", "ln1": "layer_norm"}
TOKENS = "A.I"
UNIT = r"C_(\d+)\.(weight|bias)"


def recognises(tensors: Mapping[str, Tensor], channels: int) -> str:
    """Return why tensors are of this format; empty if they are not."""
    return "label tokens A.I and a linear unit C_0, C_1 ... for each class" if {TOKENS, "C_0.weight"} <= set(tensors) else ""


def convert(tensors: Mapping[str, Tensor], channels: int) -> Converted:
    """Return the head; the units of the classes are stacked in the order of their numbers."""
    names = {
        name: f"head.{BLOCKS[match[1]]}.{LAYERS[match[2]]}.{match[3]}"
        for name in tensors
        if (match := re.fullmatch(r"A\.((?:sab[123]\.)?mab)\.(fc_[qkvo]|ln[01])\.(weight|bias)", name))
    }
    units = [name for name in tensors if re.fullmatch(UNIT, name)]
    _, classes, width = tensors[TOKENS].shape
    ours = {new: tensors[name] for name, new in names.items()}
    ours["head.label_tokens"] = tensors[TOKENS][0]
    for kind in ("weight", "bias"):
        ours[f"head.{kind}"] = torch.cat([tensors[f"C_{number}.{kind}"] for number in range(classes)])
    return Converted(
        head="mulcon",
        options={
            "width": width,
            "attention_scale": "whole-width",
            "token_width": ours["head.label_attention.key.weight"].shape[1],
            "token_blocks": layers(list(ours), "head.token_blocks"),
            "label_blocks": layers(list(ours), "head.label_blocks"),
        },
        classes=classes,
        tensors=ours,
        used=frozenset([*names, *units, TOKENS]),
        assumed={"model.heads.mulcon.attention_heads": "4, as published"},
    )
