"""Attention between two sets, the building block of MulCon's head (Dao et al., Neurocomputing 2023).

The multihead attention block of the Set Transformer (Lee et al., ICML 2019): the residual is the projected query, not the
query itself, so that the width may change, and no positions are added: a set has no order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SetAttention(nn.Module):
    """Each member of one set reads from the members of another, or of its own."""

    def __init__(self, *, query_width: int, key_width: int, width: int, attention_heads: int) -> None:
        """`width` must be a multiple of `attention_heads`."""
        super().__init__()
        self.attention_heads = attention_heads
        self.query = nn.Linear(query_width, width)
        self.key = nn.Linear(key_width, width)
        self.value = nn.Linear(key_width, width)
        self.norm = nn.LayerNorm(width)
        self.layer = nn.Linear(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, members: Tensor, *, need_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Queries (B, N, Dq) and members (B, L, Dk) -> (B, N, D), and the weights averaged over heads (B, N, L) or None."""
        query = self.query(queries)
        q, k, v = (self._split(x) for x in (query, self.key(members), self.value(members)))  # (B, heads, N or L, D / heads)
        weights = None
        if need_attention:
            shares = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
            weights, read = shares.mean(dim=1), shares @ v
        else:
            read = nn.functional.scaled_dot_product_attention(q, k, v)
        x = self.norm(query + read.transpose(1, 2).flatten(2))
        result: Tensor = self.layer_norm(x + self.layer(x).relu())
        return result, weights

    def _split(self, x: Tensor) -> Tensor:
        parts: Tensor = x.unflatten(2, (self.attention_heads, -1))
        return parts.transpose(1, 2)
