from __future__ import annotations

from typing import Any

from torch import Tensor

from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.registry import HEADS

SMALL: dict[str, dict[str, Any]] = {
    "sarl": {"width": 8, "attention_heads": 2, "feedforward": 16},
    "mulcon": {"token_width": 12, "width": 8, "attention_heads": 2},
    "pooled": {},
    "csra": {},
    "ml_decoder": {"width": 8, "attention_heads": 2, "feedforward": 16},
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
]


def see(feature_map: Tensor) -> HeadInputs:
    """What a head that reads one map sees."""
    return HeadInputs((feature_map,))
