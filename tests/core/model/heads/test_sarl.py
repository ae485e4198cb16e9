from __future__ import annotations

import pytest
import torch
from torch import nn

from sadcl_core.errors import UsageError
from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.sarl import SARLHead
from tests.core.model.heads.inputs import see

SMALL = {"width": 8, "attention_heads": 2, "feedforward": 16}


def make_head(channels: int = 6, classes: int = 3, **options: object) -> SARLHead:
    torch.manual_seed(0)
    return SARLHead(channels=(channels,), num_classes=classes, options=head_options("sarl", {**SMALL, **options})).eval()


def test_every_matrix_of_the_transformer_is_initialised_as_published_where_asked() -> None:
    head, usual = (make_head(initialisation=kind, width=32, feedforward=64) for kind in ("xavier", "torch"))
    names = [name for name, tensor in head.named_parameters() if tensor.ndim > 1 and name.startswith(("encoder", "decoder."))]
    assert len(names) == 3 * 4  # of three layers: the input and output of their attention, and both of their feed-forward
    beyond = []
    for name in names:
        largest, bound = head.get_parameter(name).abs().max().item(), sum(head.get_parameter(name).shape) / 6
        assert 0.95 < largest * bound**0.5 <= 1, name
        beyond.append(usual.get_parameter(name).abs().max().item() * bound**0.5)
    assert sum(share < 0.95 for share in beyond) == 3 * 3  # by torch all but the input of an attention are narrower


def test_classes_do_not_look_at_each_other_unless_asked() -> None:
    feature_map = torch.randn(1, 6, 4, 4)

    def others_move(head: SARLHead) -> bool:
        before = head(see(feature_map)).logits
        with torch.no_grad():
            head.class_embedding[0] += 1
        after = head(see(feature_map)).logits
        assert not torch.allclose(before[:, 0], after[:, 0])
        return not torch.allclose(before[:, 1:], after[:, 1:])

    assert not others_move(make_head())
    assert others_move(make_head(self_attention=True))


def test_projection_is_the_identity_for_equal_widths() -> None:
    assert isinstance(make_head(channels=8).input_projection, nn.Identity)
    assert isinstance(make_head(channels=6).input_projection, nn.Conv2d)


def test_without_encoder_there_is_no_encoder() -> None:
    assert len(make_head(encoder_layers=0).encoder) == 0
    assert make_head(encoder_layers=0)(see(torch.randn(1, 6, 2, 2))).logits.shape == (1, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 10}, "multiple of 4"), ({"widht": 8}, "Did you mean 'width'"), ({"dropout": 1.5}, "less than 1")],
)
def test_refuses_impossible_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        head_options("sarl", options)
