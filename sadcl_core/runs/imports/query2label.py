"""Query2Label's checkpoints (Liu et al., 2021): a transformer whose decoder has no self-attention between classes by default.

Where a later layer alone has one, the first layer's is filled with zeros, which adds nothing to the zeros it starts from.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sadcl_core.runs.imports.converted import Converted, Rules, layers, rename

NAME, METHOD = "Query2Label", "query2label"

LAYER = r"transformer\.(encoder|decoder)\.layers\.(\d+)\."
RULES: Rules = (
    (r"input_proj\.(.+)", r"head.input_projection.\1"),
    (r"transformer\.encoder\.layers\.(\d+)\.self_attn\.(.+)", r"head.encoder.\1.attention.\2"),
    (r"transformer\.encoder\.layers\.(\d+)\.norm1\.(.+)", r"head.encoder.\1.norm.\2"),
    (r"transformer\.encoder\.layers\.(\d+)\.norm2\.(.+)", r"head.encoder.\1.feedforward.norm.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.self_attn\.(.+)", r"head.decoder.\1.self_attention.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.norm1\.(.+)", r"head.decoder.\1.self_norm.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.multihead_attn\.(.+)", r"head.decoder.\1.cross_attention.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.norm2\.(.+)", r"head.decoder.\1.norm.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.norm3\.(.+)", r"head.decoder.\1.feedforward.norm.\2"),
    (LAYER + r"linear1\.(.+)", r"head.\1.\2.feedforward.layers.0.\3"),
    (LAYER + r"linear2\.(.+)", r"head.\1.\2.feedforward.layers.3.\3"),
    (r"transformer\.decoder\.norm\.(.+)", r"head.decoder_norm.\1"),
    (r"query_embed\.weight", "head.class_embedding"),
    (r"fc\.W", "head.weight"),
    (r"fc\.b", "head.bias"),
)
POSITIONS = "backbone.1.pe"
STACKED = ("fc.W", "fc.b", "prototype")  # with a first axis of 1
NEEDED = ("query_embed.weight", "fc.W", "fc.b", "transformer.decoder.norm.weight")


def recognises(tensors: Mapping[str, Tensor], channels: int) -> str:
    """Return why tensors are of this format; empty if they are not."""
    return "a transformer with query_embed and fc.W, no prototypes" if set(NEEDED) <= set(tensors) else ""


def convert(tensors: Mapping[str, Tensor], channels: int, *, rules: Rules = RULES) -> Converted:
    """Return the head; widths, layers and self-attention follow from names and shapes."""
    names = rename(tensors, rules)
    ours = {new: tensors[name][0] if name in STACKED else tensors[name] for name, new in names.items()}
    classes, width = ours["head.class_embedding"].shape
    decoder_layers = layers(list(ours), "head.decoder")
    with_self = [name for name in ours if ".self_attention." in name or ".self_norm." in name]
    for name in with_self:
        inner = name.split(".", 3)[3]
        for number in range(decoder_layers):
            ours.setdefault(f"head.decoder.{number}.{inner}", torch.zeros_like(ours[name]))
    positions = tensors.get(POSITIONS)
    return Converted(
        head="sarl",
        options={
            "width": width,
            "feedforward": ours["head.decoder.0.feedforward.layers.0.weight"].shape[0],
            "encoder_layers": layers(list(ours), "head.encoder"),
            "decoder_layers": decoder_layers,
            "self_attention": bool(with_self),
        },
        classes=classes,
        tensors=ours,
        used=frozenset(names),
        dropped={} if positions is None else {POSITIONS: "positions are computed"},
        assumed={"model.heads.sarl.attention_heads": "4, as published"},
        map_height=None if positions is None else int(positions.shape[-2]),
    )
