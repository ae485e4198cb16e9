"""Layers that heads are made of: positions, transformer encoder and decoder, attention between sets.

Encoder and decoder are those of DETR (Carion et al., ECCV 2020) and SADCL (Ma et al., ECAI 2023): post-norm, positions are added
to queries and keys of every layer and never to values, and the decoder's self-attention between class queries is a switch, off
in SADCL. `SetAttention` is MulCon's (Dao et al., Neurocomputing 2023).
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
    if device is None or torch.compiler.is_compiling():
        return _encode_map(height, width, channels, device)
    return _keep_map(height, width, channels, device)


def _encode_map(height: int, width: int, channels: int, device: torch.device | None) -> Tensor:
    rows = _encode(height, channels // 2, device)[:, None, :].expand(height, width, -1)
    columns = _encode(width, channels // 2, device)[None, :, :].expand(height, width, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


@lru_cache(maxsize=16)
def _keep_map(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # training may be next to read it
        return _encode_map(height, width, channels, device)


def _encode(length: int, channels: int, device: torch.device | None) -> Tensor:
    position = torch.arange(1, length + 1, dtype=torch.float32, device=device) / (length + 1e-6) * 2 * math.pi
    pair = torch.arange(channels // 2, dtype=torch.float32, device=device)
    angle = position[:, None] / TEMPERATURE ** (2 * pair / channels)  # (length, channels / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Dropout(nn.Dropout):
    """`nn.Dropout` that draws 16 bits for each number on a CPU, in a fraction of the time that torch takes.

    The probability is rounded to 1/65,536; kept values are divided by exactly the share that is kept.

    Example:
        >>> Dropout(0.25)(torch.ones(100_000)).unique()
        tensor([0.0000, 1.3333])
    """

    def draws(self, x: Tensor) -> bool:
        """Return True while numbers of x are dropped by bits that are drawn here, and not by torch."""
        return self.training and self.p > 0 and x.device.type == "cpu" and not torch.compiler.is_compiling()

    def draw(self, shape: torch.Size) -> tuple[Tensor, int, float]:
        """Return bits (int16), the least value that keeps a number, and the factor of numbers that are kept."""
        dropped, count = min(round(self.p * DRAWS), DRAWS - 1), shape.numel()
        generator = np.random.SFC64(torch.empty(1, dtype=torch.int64).random_().numpy())  # torch takes three times as long
        bits = torch.from_numpy(generator.random_raw(-(-count // 4)).view(np.int16))[:count].view(shape)
        return bits, dropped - DRAWS // 2, DRAWS / (DRAWS - dropped)

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers of the same shape, while training some of them zero and the others larger."""
        if not self.draws(x):
            return super().forward(x)
        bits, least, factor = self.draw(x.shape)
        return x * torch.ge(bits, least, out=torch.empty_like(x)).mul_(factor)

    def add(self, x: Tensor, y: Tensor, *, scale: float = 1.0) -> Tensor:
        """Return x plus the kept values of y times `scale`; where bits are drawn here, in the memory of y."""
        if not self.draws(y):
            return x + super().forward(y * scale if scale != 1 else y)
        bits, least, factor = self.draw(y.shape)
        y = y.mul_(torch.ge(bits, least, out=torch.empty_like(y)).mul_(factor * scale))
        return y.add_(x) if x.dtype == y.dtype else x + y


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
        """Return (B, N, D), and weights averaged over heads (B, N, L) or None, for queries (B or 1, N, D) and keys (B, L, D)."""
        q, k, v = self._projected(query, key, value)
        scale = 1 / math.sqrt(self.head_dim)
        q = q.expand(k.shape[0], -1, -1)
        read, weights = _attend(q, k, v, self.num_heads, scale=scale, dropout=self.drop, need_attention=need_attention)
        result: Tensor = self.out_proj(read)
        return result, weights

    def _projected(self, *inputs: Tensor) -> list[Tensor]:
        """Return the projections of query, key and value, those of one tensor by one product."""
        runs = [list(run) for _, run in groupby(inputs, key=id)]
        sizes = [len(run) * self.embed_dim for run in runs]
        weights, biases = self.in_proj_weight.split(sizes), self.in_proj_bias.split(sizes)
        projected: list[Tensor] = []
        for run, weight, bias in zip(runs, weights, biases, strict=True):
            projected += F.linear(run[0], weight, bias).chunk(len(run), dim=-1)
        return projected


def _attend(
    q: Tensor, k: Tensor, v: Tensor, heads: int, *, scale: float, dropout: Dropout | None = None, need_attention: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return what queries (B, N, D) read from L members (B, L, D), and the weights averaged over heads (B, N, L) or None."""
    drops = dropout.p if dropout is not None and dropout.training else 0.0
    if not need_attention and dropout is not None and dropout.draws(q) and torch.finfo(q.dtype).bits >= 32:
        read: Tensor = _DroppedAttention.apply(q, k, v, heads, scale, dropout)
        return read, None
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, N or L, D / heads)
    if not need_attention and (not drops or q.device.type != "cpu"):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=drops, scale=scale).transpose(1, 2).flatten(2), None
    shares = torch.softmax((q * scale) @ k.transpose(-1, -2), dim=-1)
    if dropout is not None:
        shares = dropout(shares)
    return (shares @ v).transpose(1, 2).flatten(2), shares.mean(dim=1) if need_attention else None


class _DroppedAttention(torch.autograd.Function):
    """Attention that drops shares, for which torch has no fused kernel on a CPU.

    Goes from head to head: products read each where it lies in (B, N, D), scale, and write there, so that nothing is copied.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float, dropout: Dropout) -> Tensor:
        shares = q.new_empty(heads, len(q), q.shape[1], k.shape[1])
        kept, read = torch.empty_like(shares), q.new_empty(q.shape)
        bits, least, factor = dropout.draw(shares.shape)
        parts = zip(*(_heads(x, heads) for x in (q, k, v, read)), shares, kept, bits, strict=True)
        for query, key, value, result, share, keep, bit in parts:
            torch.baddbmm(share, query, key.mT, beta=0, alpha=scale, out=share)
            torch.softmax(share, dim=-1, out=share)
            torch.ge(bit, least, out=keep).mul_(share)
            torch.baddbmm(result, keep, value, beta=0, alpha=factor, out=result)
        ctx.save_for_backward(q, k, v, read, shares, kept)
        ctx.heads, ctx.scale, ctx.factor = heads, scale, factor
        return read

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, read, shares, kept = ctx.saved_tensors
        grads = [x.new_empty(x.shape) for x in (q, k, v)]
        slope = torch.empty_like(shares[0])
        totals = _heads(grad * read, ctx.heads)
        parts = zip(*(_heads(x, ctx.heads) for x in (q, k, v, grad, *grads)), totals, shares, kept, strict=True)
        for query, key, value, above, to_query, to_key, to_value, total, share, keep in parts:
            torch.baddbmm(to_value, keep.mT, above, beta=0, alpha=ctx.factor, out=to_value)
            torch.baddbmm(slope, above, value.mT, beta=0, alpha=ctx.factor, out=slope)
            slope.mul_(keep).addcmul_(share, total.sum(dim=-1, keepdim=True), value=-1)
            torch.baddbmm(to_query, slope, key, beta=0, alpha=ctx.scale, out=to_query)
            torch.baddbmm(to_key, slope.mT, query, beta=0, alpha=ctx.scale, out=to_key)
        return *grads, None, None, None


def _heads(x: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Return the part (B, N, D / heads) of each head."""
    parts: tuple[Tensor, ...] = x.unflatten(2, (heads, -1)).unbind(2)
    return parts


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
        layers: Any = self.layers
        inner, unit, drop, outer, last = layers
        factor = 1.0
        hidden = inner(x)
        if isinstance(unit, nn.ReLU) and drop.draws(hidden):
            bits, least, factor = drop.draw(hidden.shape)
            dropped = torch.lt(bits, least, out=torch.empty_like(hidden))
            hidden = hidden.sub_(dropped, alpha=torch.finfo(hidden.dtype).max).relu_()  # what is dropped is far below zero
            y = F.linear(hidden, outer.weight, outer.bias / factor)  # `last` multiplies by the factor
        else:
            y = outer(drop(unit(hidden)))
        result: Tensor = self.norm(last.add(x, y, scale=factor))
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

    def forward(self, x: Tensor, *, position: Tensor | None = None) -> Tensor:
        """Return (B, L, D) for locations x (B, L, D) with positions (L, D), or without."""
        positioned = x if position is None else x + position
        attended, _ = self.attention(positioned, positioned, x)
        result: Tensor = self.feedforward(self.norm(self.dropout.add(x, attended)))
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
            x: (B, K, D), features of the classes after the layers before; (1, K, D) while they are the same for every image.
            query: (K, D), class embeddings.
            memory: (B, L, D), locations.
            position: (L, D), of the locations.
            need_attention: return the weights as well.

        Returns:
            (B, K, D), and the cross-attention averaged over heads (B, K, L) or None.
        """
        if self.self_attention is not None and self.self_norm is not None:
            if self.training:  # what is dropped differs from image to image
                x = x.expand(memory.shape[0], -1, -1)
            queries = x + query
            attended, _ = self.self_attention(queries, queries, x)
            x = self.self_norm(self.dropout.add(x, attended))
        attended, weights = self.cross_attention(x + query, memory + position, memory, need_attention=need_attention)
        x = self.norm(self.dropout.add(x, attended))
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
        query = self.query(queries).expand(members.shape[0], -1, -1)
        k, v = self.key(members), self.value(members)
        read, weights = _attend(query, k, v, self.attention_heads, scale=self.scale, need_attention=need_attention)
        x = self.norm(query + read)
        result: Tensor = self.layer_norm(x + self.layer(x).relu())
        return result, weights
