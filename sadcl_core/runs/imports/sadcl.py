"""SADCL's checkpoints (Ma et al., ECAI 2023): Query2Label's network with a projection and prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from sadcl_core.runs.imports import query2label
from sadcl_core.runs.imports.converted import Converted, Rules

NAME, METHOD = "SADCL", "sadcl"

RULES: Rules = (
    *query2label.RULES,
    (r"proj_head\.layers\.0\.(.+)", r"projection.0.\1"),
    (r"proj_head\.layers\.1\.(.+)", r"projection.2.\1"),
    (r"prototype", "prototypes"),
)
BANK = "memorybank"


def recognises(tensors: Mapping[str, Tensor], channels: int) -> str:
    """Return why tensors are of this format; empty if they are not."""
    needed = {*query2label.NEEDED, "prototype", "proj_head.layers.1.weight"}
    return "a transformer with query_embed and fc.W, prototypes and a projection" if needed <= set(tensors) else ""


def convert(tensors: Mapping[str, Tensor], channels: int) -> Converted:
    """Return head, projection and prototypes."""
    converted = query2label.convert(tensors, channels, rules=RULES)
    dropped = {BANK: "the memory bank serves training alone"} if BANK in tensors else {}
    width = converted.tensors["projection.2.weight"].shape[0]
    return replace(converted, dropped={**converted.dropped, **dropped}, settings={"projection_width": width})
