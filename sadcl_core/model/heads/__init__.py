"""Heads: feature map (B, D_b, h, w) -> logits (B, K), label features (B, K, D), attention (B, K, h, w).

A new head is a new file here with a class and its `Options`, a row in HEADS and a test file. The class names its
parameters with a row per class (PER_CLASS, which are carried over by class name) and those of its linear classifier
(CLASSIFIER).
"""

HEADS: dict[str, str] = {
    "sarl": "sadcl_core.model.heads.sarl:SARLHead",
    "mulcon": "sadcl_core.model.heads.mulcon:MulConHead",
    "pooled": "sadcl_core.model.heads.pooled:PooledHead",
}
