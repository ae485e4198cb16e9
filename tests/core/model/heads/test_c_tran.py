from __future__ import annotations

from typing import Any

import pytest
import torch

from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.c_tran import CTranHead
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.model.known_labels import reveal, reveal_of_images
from tests.core.model.heads.inputs import see

SMALL = {"width": 8, "attention_heads": 1, "feedforward": 16, "layers": 2}


def make_head(**options: Any) -> CTranHead:
    torch.manual_seed(0)
    return CTranHead(channels=(8,), num_classes=3, options=head_options("c_tran", {**SMALL, **options})).eval()


def test_what_is_known_changes_the_other_labels_and_nothing_known_changes_none() -> None:
    head, feature_map = make_head(), torch.randn(2, 8, 2, 2)
    before = head(see(feature_map)).logits
    nothing = head(HeadInputs((feature_map,), torch.full((2, 3), -1))).logits
    assert torch.equal(before, nothing)
    told = head(HeadInputs((feature_map,), torch.tensor([[1, -1, -1], [-1, -1, -1]]))).logits
    assert not torch.allclose(told[0, 1:], before[0, 1:])
    torch.testing.assert_close(told[1], before[1])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_revealed_labels_are_told_and_not_learned(share: float) -> None:
    targets = torch.tensor([[1.0, 0.0, -1.0, 0.4]]).repeat(400, 1)
    known, rest = reveal(targets, share=share, generator=torch.Generator().manual_seed(0))
    revealed = known >= 0
    assert torch.equal(torch.where(revealed, known, rest), targets)
    assert not revealed[:, 2:].any()  # unknown, or mixed
    assert (rest[revealed] == -1).all()
    counts = revealed[:, :2].sum(dim=1).bincount(minlength=3)
    assert (counts > 0).tolist() == [True, share > 0, share > 0]


def test_a_share_of_the_labels_of_each_image_is_revealed_the_same_in_any_batch() -> None:
    targets = torch.tensor([[1, 0, 0, -1, 0, 1, 0, 0, 0], [-1] * 9, [0] * 9])
    known, rest = reveal_of_images(targets, torch.tensor([4, 5, 6]), share=0.5)
    assert (known >= 0).sum(dim=1).tolist() == [4, 0, 4]
    assert torch.equal(torch.where(known >= 0, known, rest), targets)
    assert not ((known >= 0) & (rest >= 0)).any()
    assert torch.equal(reveal_of_images(targets[2:], torch.tensor([6]), share=0.5)[0], known[2:])
    assert not torch.equal(reveal_of_images(targets[2:], torch.tensor([7]), share=0.5)[0], known[2:])
