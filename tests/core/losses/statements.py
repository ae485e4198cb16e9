"""What is stated of several losses: the naive loop gives the same, nothing to learn is a zero, half precision is not used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Loss = Callable[..., Tensor]


def same_with_gradients(ours: Loss, naive: Loss, *inputs: Tensor, rel: float = 1e-9) -> None:
    results = []
    for function in (ours, naive):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        loss = function(*leaves)
        results.append((loss.item(), torch.autograd.grad(loss, leaves)))
    (value, gradients), (expected, naive_gradients) = results
    assert value == pytest.approx(expected, rel=rel, abs=1e-9)
    torch.testing.assert_close(gradients, naive_gradients, atol=1e-9, rtol=max(1e-6, 10 * rel))


def zero_with_a_gradient(loss_of: Loss, *shape: int) -> None:
    inputs = torch.randn(shape, requires_grad=True)
    loss = loss_of(inputs)
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, inputs)[0] == 0).all()


def computed_in_float32(loss_of: Loss, *inputs: Tensor, dtype: torch.dtype, rel: float = 1e-5) -> None:
    half = [tensor.to(dtype) for tensor in inputs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(*half)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(loss_of(*(tensor.double() for tensor in half)).item(), rel=rel)
