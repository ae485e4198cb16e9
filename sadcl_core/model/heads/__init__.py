"""Heads: feature map (B, D_b, h, w) -> logits (B, K), label features (B, K, D), attention (B, K, h, w).

A new head is a new file here with a class and its `Options`, a row of HEADS in `sadcl_core.registry` and a test file. The class
names its parameters with a row per class (PER_CLASS, which are carried over by class name) and those of its linear classifier
(CLASSIFIER).
"""
