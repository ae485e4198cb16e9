from __future__ import annotations

import pytest
import torch

from sadcl_core.errors import UsageError
from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.mulcon import MulConHead
from sadcl_core.model.layers import Dropout, SetAttention
from tests.core.model.heads.inputs import see

SMALL = {"token_width": 12, "width": 8, "attention_heads": 2}


def make_head(channels: int = 6, classes: int = 3, **options: object) -> MulConHead:
    torch.manual_seed(0)
    return MulConHead(channels=(channels,), num_classes=classes, options=head_options("mulcon", {**SMALL, **options})).eval()


def test_set_attention_by_hand() -> None:
    """Two heads: each half of the query looks at its half of the keys; the root is that of the whole width."""
    torch.manual_seed(1)
    block = SetAttention(query_width=5, key_width=7, width=4, attention_heads=2)
    queries, members = torch.randn(1, 3, 5), torch.randn(1, 6, 7)
    query, key, value = block.query(queries)[0], block.key(members)[0], block.value(members)[0]
    read, weights = [], []
    for half in (slice(0, 2), slice(2, 4)):
        share = (query[:, half] @ key[:, half].T / 4**0.5).softmax(dim=-1)
        weights.append(share)
        read.append(share @ value[:, half])
    x = block.norm(query + torch.cat(read, dim=-1))
    expected = block.layer_norm(x + block.layer(x).relu())
    for need_attention in (False, True):
        result, attention = block(queries, members, need_attention=need_attention)
        torch.testing.assert_close(result[0], expected)
    assert attention is not None
    torch.testing.assert_close(attention[0], (weights[0] + weights[1]) / 2)


def test_a_set_has_no_order() -> None:
    head, feature_map = make_head(), torch.randn(1, 6, 2, 3)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    permuted = feature_map.flatten(2)[..., order].view(1, 6, 2, 3)
    torch.testing.assert_close(head(see(feature_map)).logits, head(see(permuted)).logits)


def test_labels_look_at_each_other_in_the_last_block_alone() -> None:
    feature_map = torch.randn(1, 6, 4, 4)

    def others_move(head: MulConHead) -> bool:
        before = head(see(feature_map)).logits
        with torch.no_grad():
            head.label_tokens[0] += 1
        return not torch.allclose(before[:, 1:], head(see(feature_map)).logits[:, 1:])

    assert others_move(make_head())
    assert not others_move(make_head(label_blocks=0))


def test_dropout_is_off_unless_asked_for_and_draws_nothing() -> None:
    assert head_options("mulcon", {}).dropout == 0
    head, feature_map = make_head(), torch.randn(2, 6, 4, 4)
    state = torch.get_rng_state()
    assert torch.equal(head.train()(see(feature_map)).logits, head.eval()(see(feature_map)).logits)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(head.state_dict()) == list(make_head(dropout=0.5).state_dict())


def test_dropout_is_of_the_label_features_before_the_linear_units_and_in_training_alone() -> None:
    head, feature_map = make_head(dropout=0.25), torch.randn(8, 6, 4, 4)
    whole = head(see(feature_map))
    torch.testing.assert_close(whole.logits, make_head()(see(feature_map)).logits)
    torch.manual_seed(1)
    output = head.train()(see(feature_map))
    torch.manual_seed(1)
    dropped = Dropout(0.25)(whole.label_features)
    assert 0.1 < float((dropped == 0).float().mean()) < 0.4
    torch.testing.assert_close(output.label_features, whole.label_features)  # what is contrasted is whole
    torch.testing.assert_close(output.logits, (dropped * head.weight).sum(dim=-1) + head.bias)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "dropout is not valid"),
        ({"width": 9}, "multiple of attention_heads"),
        ({"token_width": 9}, "token_width 9"),
        ({"widht": 8}, "Did you mean 'width'"),
    ],
)
def test_refuses_impossible_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        head_options("mulcon", options)


def test_defaults_are_the_published_widths() -> None:
    options = head_options("mulcon", {})
    assert (options.token_width, options.width, options.attention_heads) == (2048, 1024, 4)
    assert (options.token_blocks, options.label_blocks) == (2, 1)
