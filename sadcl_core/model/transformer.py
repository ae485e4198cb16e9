"""Transformer encoder and decoder layers with positions added to queries and keys, as in DETR and SADCL (ECAI 2023).

Post-norm; positions go to queries and keys of every layer and never to values. The decoder's self-attention between
class queries is a switch, off in SADCL.
"""

from __future__ import annotations

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Linear - ReLU - Linear with residual and LayerNorm after it."""

    def __init__(self, *, width: int, hidden: int, dropout: float) -> None:
        """`hidden` is the inner width."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        result: Tensor = self.norm(x + self.layers(x))
        return result


class EncoderLayer(nn.Module):
    """Self-attention among locations."""

    def __init__(self, *, width: int, attention_heads: int, feedforward: int, dropout: float) -> None:
        """`width` must be a multiple of `attention_heads`."""
        super().__init__()
        self.attention = nn.MultiheadAttention(width, attention_heads, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width=width, hidden=feedforward, dropout=dropout)

    def forward(self, x: Tensor, *, position: Tensor) -> Tensor:
        """Locations x (B, L, D) and their position (L, D) -> (B, L, D)."""
        placed = x + position
        attended, _ = self.attention(placed, placed, x, need_weights=False)
        result: Tensor = self.feedforward(self.norm(x + self.dropout(attended)))
        return result


class DecoderLayer(nn.Module):
    """Each class query reads from the locations."""

    def __init__(self, *, width: int, attention_heads: int, feedforward: int, dropout: float, self_attention: bool) -> None:
        """`self_attention` lets the classes look at each other first, as in DETR and Query2Label."""
        super().__init__()
        self.self_attention = (
            nn.MultiheadAttention(width, attention_heads, dropout=dropout, batch_first=True) if self_attention else None
        )
        self.self_norm = nn.LayerNorm(width) if self_attention else None
        self.cross_attention = nn.MultiheadAttention(width, attention_heads, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width=width, hidden=feedforward, dropout=dropout)

    def forward(
        self, x: Tensor, *, query: Tensor, memory: Tensor, position: Tensor, need_attention: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One layer.

        Args:
            x: (B, K, D), what the classes have read so far.
            query: (K, D), class embeddings.
            memory: (B, L, D), locations.
            position: (L, D), of the locations.
            need_attention: whether to return the weights.

        Returns:
            (B, K, D), and the cross-attention averaged over heads (B, K, L) or None.
        """
        if self.self_attention is not None and self.self_norm is not None:
            placed = x + query
            attended, _ = self.self_attention(placed, placed, x, need_weights=False)
            x = self.self_norm(x + self.dropout(attended))
        attended, weights = self.cross_attention(x + query, memory + position, memory, need_weights=need_attention)
        x = self.norm(x + self.dropout(attended))
        return self.feedforward(x), weights
