from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sadcl_core.model.heads.interface import Head, HeadInputs
from sadcl_core.model.label_facts import LabelFacts
from sadcl_core.model.word_vectors import random_vector
from sadcl_core.registry import HEADS

SMALL: dict[str, dict[str, Any]] = {
    "sarl": {"width": 8, "attention_heads": 2, "feedforward": 16},
    "mulcon": {"token_width": 12, "width": 8, "attention_heads": 2},
    "pooled": {},
    "csra": {},
    "ml_decoder": {"width": 8, "attention_heads": 2, "feedforward": 16},
    "generated": {"width": 8},
    "add_gcn": {"width": 8},
    "ssgrl": {"width": 8, "inner": 4},
    "c_tran": {"width": 8, "attention_heads": 2, "feedforward": 16},
    "tdrg": {"width": 8, "attention_heads": 2, "feedforward": 16, "layers": 1},
    "adahgnn": {"width": 8, "inner": 4, "edges": 5},
    "sst": {"width": 8, "attention_heads": 2, "feedforward": 16, "layers": 1, "grid": 3},
    "p_gcn": {"width": 8},
    "ms_cma": {"width": 8},
    "debiased": {"parts": 2},
    "cpcl": {"width": 8},
    "rnn_att": {"width": 8, "inner": 4, "grid": 4, "steps": 2},
}
KINDS = [
    *((name, {}) for name in HEADS),
    ("sarl", {"self_attention": True}),
    ("sarl", {"encoder_layers": 0}),
    ("mulcon", {"token_blocks": 0}),
    ("mulcon", {"label_blocks": 0}),
    ("pooled", {"pooling": "max"}),
    ("pooled", {"pooling": "gem"}),
    ("csra", {"attention_heads": 4}),
    ("ml_decoder", {"groups": 2}),
    ("generated", {"generator": "dictionary", "pooling": "mean"}),
    ("add_gcn", {"norm": "layer"}),
    ("ssgrl", {"pool": 1, "classifier_rounds": 1}),
]
NAMES = ("cat", "dog", "bowl", "boat", "cow")
ACTIVE = torch.tensor([9, 8, 4, 6, 2])
TOGETHER = torch.tensor([[9, 2, 4, 0, 1], [2, 8, 1, 0, 0], [4, 1, 4, 0, 0], [0, 0, 0, 6, 1], [1, 0, 0, 1, 2]])
CHANNELS = {1: (6,), 2: (4, 6)}  # by the number of maps


def facts_of(order: list[int]) -> LabelFacts:
    """Facts of some of five classes, with an unknown label of each."""
    known = (ACTIVE[:, None] - 1 + torch.eye(5, dtype=torch.int64))[order][:, order]
    names = tuple(NAMES[k] for k in order)
    vectors = torch.stack([random_vector(name) for name in names])
    return LabelFacts(names, ACTIVE[order], TOGETHER[order][:, order], known, vectors)


def inputs_of(head: Head, feature_map: Tensor) -> HeadInputs:
    """What a head sees of a deepest map (B, 6, h, w): the finer one, where it reads one, is made of it."""
    if len(head.LEVELS) == 1:
        return HeadInputs((feature_map,))
    return HeadInputs((feature_map[:, :4].repeat_interleave(2, 2).repeat_interleave(2, 3).sin(), feature_map))


def see(feature_map: Tensor) -> HeadInputs:
    """What a head that reads one map sees."""
    return HeadInputs((feature_map,))


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    """A linear layer as a sum of products."""
    result = (layer.weight * x[..., None, :]).sum(dim=-1)
    return result if layer.bias is None else result + layer.bias
