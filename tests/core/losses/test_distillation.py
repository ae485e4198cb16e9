"""Distillation against the loss of CPSD with its two sets of teachers as a naive loop, and what must not change it."""

from __future__ import annotations

import pytest
import torch

from sadcl_core.losses import distillation_loss


def test_two_teachers_of_each_class_teach_what_cpsd_does() -> None:
    torch.manual_seed(0)
    student, together, apart = (torch.randn(4, 6, dtype=torch.float64) for _ in range(3))
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(student, (together + apart) / 2), student)
    for image in range(4):
        for k in range(6):  # the gradient of 0.25 (x - t)^2 + 0.25 (x - a)^2, summed, as CPSD weighs them
            x, t, a = (tensor[image, k].item() for tensor in (student, together, apart))
            summed = 0.5 * (x - t) + 0.5 * (x - a)
            assert gradient[image, k].item() * 24 / 2 == pytest.approx(summed)


def test_golden_values() -> None:
    assert distillation_loss(torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[0.0, -2.0], [2.0, -1.0]])).item() == 5.25
    assert distillation_loss(torch.tensor([[0.5]]), torch.tensor([[-1.0]])).item() == 2.25


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher = torch.full((2, 3), 300.0, dtype=dtype), torch.full((2, 3), -300.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distillation_loss(student.requires_grad_(), teacher)
    assert loss.dtype == torch.float32
    assert loss.item() == 600**2  # more than float16 holds
    assert torch.autograd.grad(loss, student)[0].isfinite().all()
