from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sadcl_core.model.layers import Attention, Dropout, FeedForward, sine_position_encoding


def test_by_hand() -> None:
    encoding = sine_position_encoding(2, 3, 8)
    assert encoding.shape == (6, 8)
    row, column = 2, 1  # counted from 1: the second row, first column, which is location 3
    y, x = row / 2 * 2 * math.pi, column / 3 * 2 * math.pi
    expected = [
        math.sin(y),
        math.cos(y),
        math.sin(y / 100),
        math.cos(y / 100),
        math.sin(x),
        math.cos(x),
        math.sin(x / 100),
        math.cos(x / 100),
    ]
    torch.testing.assert_close(encoding[3], torch.tensor(expected), atol=1e-4, rtol=0)


def test_ends_at_two_pi_at_every_size() -> None:
    for size in (7, 14, 18):
        last = sine_position_encoding(size, size, 16)[-1]
        torch.testing.assert_close(last[:2], torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)


def test_refuses_odd_widths() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_position_encoding(2, 2, 6)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_it_says_and_keeps_the_mean(p: float) -> None:
    result = Dropout(p)(torch.ones(999, 1001))
    assert abs(float((result == 0).float().mean()) - p) < 0.003  # six standard deviations
    assert abs(float(result.mean()) - 1) < 0.01
    assert set(result.unique().tolist()) == {0.0, float(result.max())}


def test_what_is_dropped_has_no_gradient_and_the_rest_the_same_factor() -> None:
    x = torch.rand(3, 7, requires_grad=True)
    result = Dropout(0.5)(x)
    result.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, result)
    assert 0 < int((x.grad == 0).sum()) < x.numel()


def test_dropout_depends_on_the_seed_alone_and_only_trains() -> None:
    x, drop = torch.rand(5, 3), Dropout(0.5)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(drop(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(drop.eval()(x), x)
    assert not Dropout(1 - 1e-9)(torch.ones(8)).isnan().any()


@pytest.mark.parametrize("need_attention", [False, True])
def test_attention_is_that_of_torch(need_attention: bool) -> None:
    ours, theirs = Attention(8, 2, dropout=0.0), nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(2, 5, 8), torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    read, shares = ours(*inputs, need_attention=need_attention)
    expected = theirs(*inputs, need_weights=need_attention)
    torch.testing.assert_close(read, expected[0])
    assert (shares is None) == (not need_attention)
    if shares is not None:
        torch.testing.assert_close(shares, expected[1])


@pytest.mark.parametrize(("images", "heads"), [(3, 1), (1, 4)])  # of both the same bits drop the same shares
def test_attention_that_drops_is_the_same_with_and_without_its_shares(images: int, heads: int) -> None:
    attention = Attention(8, heads, dropout=0.4)
    inputs = [torch.randn(images, length, 8, requires_grad=True) for length in (5, 6, 6)]
    results = []
    for need_attention in (False, True):
        torch.manual_seed(1)
        read, _ = attention(*inputs, need_attention=need_attention)
        results.append([read, *torch.autograd.grad(read.square().sum(), [*inputs, *attention.parameters()])])
    torch.testing.assert_close(*results)
    assert not torch.equal(results[0][0], attention(*inputs)[0])


@pytest.mark.parametrize("same", ["query key value", "query key", "key value"])
def test_attention_projects_one_tensor_by_one_product(same: str) -> None:
    attention, first, second = Attention(8, 2, dropout=0.0), torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    inputs = [first if name in same.split() else second for name in ("query", "key", "value")]
    torch.testing.assert_close(attention(*inputs), attention(*(x.clone() for x in inputs)))
    once, _ = attention(first[:1], second, second)
    torch.testing.assert_close(once, attention(first[:1].expand(2, -1, -1), second, second.clone())[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_feed_forward_that_drops_has_the_gradients_of_its_layers(dtype: torch.dtype) -> None:
    layer, x = FeedForward(width=8, hidden=16, dropout=0.4), torch.randn(3, 5, 8, requires_grad=True)
    inner, unit, drop, outer, last = layer.layers
    results = []
    for plain in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            result = layer.norm(x + last(outer(drop(unit(inner(x)))))) if plain else layer(x)
        assert result.dtype == torch.float32
        results.append([result, *torch.autograd.grad(result.square().sum(), [x, *layer.parameters()])])
    exact = dtype == torch.float32
    torch.testing.assert_close(*results, rtol=None if exact else 0.1, atol=None if exact else 0.1)


def test_positions_are_stored_for_training_whoever_asks_first() -> None:
    with torch.inference_mode():
        first = sine_position_encoding(3, 5, 12, device=torch.device("cpu"))
    assert not first.is_inference()
    assert sine_position_encoding(3, 5, 12, device=torch.device("cpu")) is first
    torch.testing.assert_close(first, sine_position_encoding(3, 5, 12))


def test_attention_drops_shares_while_training() -> None:
    attention, x = Attention(4, 1, dropout=0.5), torch.randn(1, 6, 4)
    with torch.no_grad():
        attention.in_proj_weight[:8].zero_()  # every location has the same share
    read, shares = attention(x, x, x, need_attention=True)
    assert shares is not None
    assert {round(share, 6) for share in shares.flatten().tolist()} == {0.0, round(2 / 6, 6)}
    value = nn.functional.linear(x, attention.in_proj_weight[8:], attention.in_proj_bias[8:])
    torch.testing.assert_close(read, attention.out_proj(shares @ value))
    assert not torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])
    assert torch.equal(attention.eval()(x, x, x)[0], attention(x, x, x)[0])
