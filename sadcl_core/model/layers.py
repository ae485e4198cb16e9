"""Layers that heads are made of: positions, transformer encoder and decoder, attention between sets.

Encoder and decoder are those of DETR (Carion et al., ECCV 2020) and SADCL (Ma et al., ECAI 2023): post-norm, positions are added
to queries and keys of every layer and never to values, and the decoder's self-attention between class queries is a switch, off
in SADCL. `SetAttention` is MulCon's (Dao et al., Neurocomputing 2023).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE = 10000.0
DRAWS = 2**16  # values of the bits that decide whether a number is dropped
Activation = Literal["relu", "gelu"]


def draw_uniform(*parameters: Tensor, inputs: int) -> None:
    """Draw parameters as `nn.Linear` of so many inputs does: uniform within 1 / sqrt(inputs) of zero.

    Example:
        >>> weight = nn.Parameter(torch.empty(3, 4))
        >>> draw_uniform(weight, inputs=4)
        >>> bool(weight.abs().max() <= 0.5)
        True
    """
    bound = 1 / math.sqrt(inputs)
    for parameter in parameters:
        nn.init.uniform_(parameter, -bound, bound)


def sine_position_encoding(height: int, width: int, channels: int, *, device: torch.device | None = None) -> Tensor:
    """Encode the h x w locations of a feature map.

    The row fills the first half of the channels, the column the second. Positions count from 1 and are scaled to end
    at 2 pi, whatever the size of the map, so that a model can be tested at another size than it was trained at. Sine
    and cosine alternate.

    Args:
        height: h, locations.
        width: w, locations.
        channels: D of the features that it is added to.
        device: to make it on.

    Returns:
        (h * w, D), row by row.

    Raises:
        ValueError: `channels` is not a multiple of 4.

    Example:
        >>> sine_position_encoding(1, 2, 4).round().tolist()  # sine and cosine of the row, then of the column
        [[-0.0, 1.0, 0.0, -1.0], [-0.0, 1.0, -0.0, 1.0]]
    """
    if channels % 4:
        raise ValueError(f"the position encoding needs a width that is a multiple of 4, got {channels}")
    rows = _encode(height, channels // 2, device)[:, None, :].expand(height, width, -1)
    columns = _encode(width, channels // 2, device)[None, :, :].expand(height, width, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _encode(length: int, channels: int, device: torch.device | None) -> Tensor:
    position = torch.arange(1, length + 1, dtype=torch.float32, device=device) / (length + 1e-6) * 2 * math.pi
    pair = torch.arange(channels // 2, dtype=torch.float32, device=device)
    angle = position[:, None] / TEMPERATURE ** (2 * pair / channels)  # (length, channels / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Dropout(nn.Dropout):
    """`nn.Dropout` that draws 16 bits for each number on a CPU, an eighth of the time in which torch draws from its distribution.

    The probability is rounded to 1/65,536; what is kept is divided by exactly the share that is kept.

    Example:
        >>> Dropout(0.25)(torch.ones(100_000)).unique()
        tensor([0.0000, 1.3333])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers of the same shape, while training some of them zero and the others larger."""
        if not self.training or not self.p or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        dropped, count = min(round(self.p * DRAWS), DRAWS - 1), x.numel()
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count].view(x.shape)
        kept = torch.ge(bits, dropped - DRAWS // 2, out=torch.empty_like(x))
        return x * kept.mul_(DRAWS / (DRAWS - dropped))


class Attention(nn.MultiheadAttention):
    """`nn.MultiheadAttention`, batch first and with `Dropout`.

    Example:
        >>> attention = Attention(8, 2, dropout=0.1)
        >>> read, shares = attention(torch.randn(2, 5, 8), torch.randn(2, 6, 8), torch.randn(2, 6, 8), need_attention=True)
        >>> read.shape, shares.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5, 6]))
    """

    def __init__(self, width: int, attention_heads: int, *, dropout: float) -> None:
        """Build; `width` must be a multiple of `attention_heads`."""
        super().__init__(width, attention_heads, batch_first=True)
        self.drop = Dropout(dropout)

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, *, need_attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, N, D), and weights averaged over heads (B, N, L) or None, for queries (B, N, D) and keys (B, L, D)."""
        projections = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (_split(F.linear(x, weight, bias), self.num_heads) for x, weight, bias in projections)
        scale = 1 / math.sqrt(self.head_dim)
        read, weights = _attend(q, k, v, scale=scale, dropout=self.drop, need_attention=need_attention)
        result: Tensor = self.out_proj(read.transpose(1, 2).flatten(2))
        return result, weights


def _split(x: Tensor, attention_heads: int) -> Tensor:
    parts: Tensor = x.unflatten(2, (attention_heads, -1))
    return parts.transpose(1, 2)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, dropout: Dropout | None = None, need_attention: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return what queries (B, heads, N, d) read from L members, and the weights averaged over heads (B, N, L) or None."""
    drops = dropout.p if dropout is not None and dropout.training else 0.0
    if not need_attention and (not drops or q.device.type != "cpu"):  # on a CPU torch has no fused attention that drops
        return F.scaled_dot_product_attention(q, k, v, dropout_p=drops, scale=scale), None
    shares = torch.softmax((q * scale) @ k.transpose(-1, -2), dim=-1)
    if dropout is not None:
        shares = dropout(shares)
    return shares @ v, shares.mean(dim=1) if need_attention else None


class FeedForward(nn.Module):
    """Linear - ReLU or GELU - Linear with residual and LayerNorm after it."""

    def __init__(self, *, width: int, hidden: int, dropout: float, activation: Activation = "relu") -> None:
        """Build; `hidden` is the inner width."""
        super().__init__()
        unit = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.layers = nn.Sequential(nn.Linear(width, hidden), unit, Dropout(dropout), nn.Linear(hidden, width), Dropout(dropout))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N, D) for tokens (B, N, D)."""
        result: Tensor = self.norm(x + self.layers(x))
        return result


class EncoderLayer(nn.Module):
    """Self-attention among locations.

    Example:
        >>> layer = EncoderLayer(width=8, attention_heads=2, feedforward=16, dropout=0.1)
        >>> layer(torch.randn(2, 6, 8), position=sine_position_encoding(2, 3, 8)).shape
        torch.Size([2, 6, 8])
    """

    def __init__(
        self, *, width: int, attention_heads: int, feedforward: int, dropout: float, activation: Activation = "relu"
    ) -> None:
        """Build; `width` must be a multiple of `attention_heads`."""
        super().__init__()
        self.attention = Attention(width, attention_heads, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width=width, hidden=feedforward, dropout=dropout, activation=activation)

    def forward(self, x: Tensor, *, position: Tensor) -> Tensor:
        """Return (B, L, D) for locations x (B, L, D) with positions (L, D)."""
        positioned = x + position
        attended, _ = self.attention(positioned, positioned, x)
        result: Tensor = self.feedforward(self.norm(x + self.dropout(attended)))
        return result


class DecoderLayer(nn.Module):
    """Cross-attention of class queries to the locations.

    Example:
        >>> layer = DecoderLayer(width=8, attention_heads=2, feedforward=16, dropout=0.1, self_attention=False)
        >>> position, query = sine_position_encoding(2, 3, 8), torch.randn(5, 8)
        >>> x, attention = layer(
        ...     torch.zeros(2, 5, 8), query=query, memory=torch.randn(2, 6, 8), position=position, need_attention=True
        ... )
        >>> x.shape, attention.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5, 6]))
    """

    def __init__(self, *, width: int, attention_heads: int, feedforward: int, dropout: float, self_attention: bool) -> None:
        """Build; `self_attention` lets the classes look at each other first, as in DETR and Query2Label."""
        super().__init__()
        self.self_attention = Attention(width, attention_heads, dropout=dropout) if self_attention else None
        self.self_norm = nn.LayerNorm(width) if self_attention else None
        self.cross_attention = Attention(width, attention_heads, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width=width, hidden=feedforward, dropout=dropout)

    def forward(
        self, x: Tensor, *, query: Tensor, memory: Tensor, position: Tensor, need_attention: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Run the layer.

        Args:
            x: (B, K, D), features of the classes after the layers before; zeros at first.
            query: (K, D), class embeddings.
            memory: (B, L, D), locations.
            position: (L, D), of the locations.
            need_attention: return the weights as well.

        Returns:
            (B, K, D), and the cross-attention averaged over heads (B, K, L) or None.
        """
        if self.self_attention is not None and self.self_norm is not None:
            queries = x + query
            attended, _ = self.self_attention(queries, queries, x)
            x = self.self_norm(x + self.dropout(attended))
        attended, weights = self.cross_attention(x + query, memory + position, memory, need_attention=need_attention)
        x = self.norm(x + self.dropout(attended))
        return self.feedforward(x), weights


class SetAttention(nn.Module):
    """Attention of each member of one set to the members of another, or of its own.

    The multihead attention block of the Set Transformer (Lee et al., ICML 2019): the residual is the projected query, not the
    query itself, so that the width may change, no positions are added, since a set has no order, and products are divided by the
    root of the whole width and not of that of a head, unless `scale_heads` is True.

    Example:
        >>> block = SetAttention(query_width=4, key_width=6, width=8, attention_heads=2)
        >>> features, attention = block(torch.randn(2, 5, 4), torch.randn(2, 7, 6), need_attention=True)
        >>> features.shape, attention.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5, 7]))
    """

    def __init__(self, *, query_width: int, key_width: int, width: int, attention_heads: int, scale_heads: bool = False) -> None:
        """Build; `width` must be a multiple of `attention_heads`."""
        super().__init__()
        self.attention_heads = attention_heads
        self.scale = 1 / math.sqrt(width // attention_heads if scale_heads else width)
        self.query = nn.Linear(query_width, width)
        self.key = nn.Linear(key_width, width)
        self.value = nn.Linear(key_width, width)
        self.norm = nn.LayerNorm(width)
        self.layer = nn.Linear(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, members: Tensor, *, need_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return (B, N, D), and weights averaged over heads (B, N, L) or None, for queries (B, N, Dq) and members (B, L, Dk)."""
        query = self.query(queries)
        # (B, heads, N or L, D / heads)
        q, k, v = (_split(x, self.attention_heads) for x in (query, self.key(members), self.value(members)))
        read, weights = _attend(q, k, v, scale=self.scale, need_attention=need_attention)
        x = self.norm(query + read.transpose(1, 2).flatten(2))
        result: Tensor = self.layer_norm(x + self.layer(x).relu())
        return result, weights
