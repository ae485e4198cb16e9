"""Heads: feature maps (B, D_i, h_i, w_i) -> logits (B, K), label features (B, K, D), attention (B, K, h, w).

A new head is a file here with a subclass of `sadcl_core.model.heads.interface.Head`, a row of HEADS in `sadcl_core.registry` and
a test file. What it needs of the data, which of its parameters belong to classes and which are its linear classifier it says in
class attributes.
"""
