"""What holds of every head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sadcl_core.errors import UsageError
from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.interface import AttentionOptions, Head, HeadInputs
from sadcl_core.registry import HEADS, TAKES_KNOWN, resolve
from tests.core.model.heads.by_hand import BY_HAND
from tests.core.model.heads.inputs import CHANNELS, KINDS, SMALL, facts_of, inputs_of

every_head = pytest.mark.parametrize(("name", "options"), KINDS, ids=lambda value: str(value))


def make(name: str, options: dict[str, Any], *, classes: int = 3) -> Head:
    torch.manual_seed(0)
    values = head_options(name, {**SMALL.get(name, {}), **options})
    kind = resolve(HEADS, name, kind="head")
    head: Head = kind(channels=CHANNELS[len(kind.LEVELS)], num_classes=classes, options=values)
    head.prepare(facts_of(list(range(classes))))
    with torch.no_grad():
        for parameter in head.parameters():
            if not parameter.any():  # what starts at zero would hide what it does
                parameter.normal_(std=0.5)
    return head.eval()


def all_inputs_of(head: Head, feature_map: Tensor, order: list[int] | None = None) -> HeadInputs:
    """What a head sees of a deepest map (B, 6, h, w), with labels that are known and prototypes if it reads them."""
    inputs = inputs_of(head, feature_map)
    if not (head.TAKES_KNOWN or head.READS_PROTOTYPES):
        return inputs
    classes = order or list(range(len(head.state_dict()[head.PER_CLASS[0]])))
    known = torch.tensor([1, -1, 0, -1, -1])[classes].expand(len(feature_map), -1)
    prototypes = torch.linspace(-3, 3, 5 * head.width).sin().view(5, -1)[classes]
    return replace(inputs, known=known if head.TAKES_KNOWN else None, prototypes=prototypes if head.READS_PROTOTYPES else None)


@every_head
def test_shapes_at_any_size(name: str, options: dict[str, Any]) -> None:
    head = make(name, options)
    for height, width in ((4, 4), (3, 5), (1, 2)):
        output = head(all_inputs_of(head, torch.randn(2, 6, height, width)), need_attention=True)
        assert output.logits.shape == (2, 3)
        assert output.label_features.shape == (2, 3, head.width)
        assert output.attention is not None
        assert output.attention.shape == (2, 3, height, width)
        torch.testing.assert_close(output.attention.sum(dim=(2, 3)), torch.ones(2, 3))
        assert set(output.auxiliary) == set(head.AUXILIARY)


@every_head
def test_it_is_its_equations(name: str, options: dict[str, Any]) -> None:
    head = make(name, options)
    inputs = all_inputs_of(head, torch.randn(2, 6, 6, 8))
    output = head(inputs, need_attention=True)
    with torch.no_grad():
        expected = BY_HAND[name](head, inputs)
    parts = {"auxiliary": output.auxiliary, "measures": output.measures}
    actual = {key: parts[key.split(".")[0]][key.split(".")[1]] if "." in key else getattr(output, key) for key in expected}
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@every_head
def test_golden_output(name: str, options: dict[str, Any]) -> None:
    """With weights that no random generator has drawn, logits are what they were when this was written."""
    head = make(name, options)
    with torch.no_grad():
        for number, parameter in enumerate(head.parameters()):
            parameter.copy_(torch.linspace(-3, 2, parameter.numel()).sin().view(parameter.shape) * (0.3 + 0.01 * number))
    logits = head(all_inputs_of(head, torch.linspace(-2, 2, 6 * 16).view(1, 6, 4, 4))).logits
    golden = GOLDEN[" ".join([name, *(f"{key}={value}" for key, value in options.items())])]
    torch.testing.assert_close(logits, torch.tensor([golden]), atol=1e-4, rtol=1e-4)


GOLDEN = {
    "sarl": [-1.17465, 0.13242, 1.32469],
    "mulcon": [-1.31654, 0.12422, 1.46933],
    "pooled": [-0.66179, 0.69946, 0.57308],
    "csra": [-1.22796, 2.16452, 0.53069],
    "ml_decoder": [-0.76464, -0.06398, 0.97526],
    "generated": [0.13823, 0.06149, 0.19274],
    "add_gcn": [-6.05001, 3.69293, 7.45275],
    "ssgrl": [-0.2703, 0.62774, 0.23621],
    "c_tran": [-1.23812, -0.02907, 1.44835],
    "tdrg": [-14.57714, 5.1517, 14.20539],
    "adahgnn": [-0.39579, 0.0008, 0.60524],
    "sst": [-2.13743, -0.14299, 2.65476],
    "p_gcn": [-0.5926, 1.84422, 0.46105],
    "ms_cma": [-0.16838, -0.03214, 0.37575],
    "debiased": [-6.3634, 15.09896, 2.81706],
    "cpcl": [-0.06854, 0.03549, 0.06342],
    "rnn_att": [-0.35916, -0.12933, 0.59379],
    "sarl self_attention=True": [-1.36472, 0.18062, 1.49861],
    "sarl encoder_layers=0": [-0.98436, 0.08445, 1.15049],
    "mulcon token_blocks=0": [-0.9294, 0.0452, 1.10875],
    "mulcon label_blocks=0": [-1.1229, 0.08409, 1.28806],
    "pooled pooling=max": [-1.04562, 0.46009, 1.04916],
    "pooled pooling=gem": [-0.96786, -0.09172, 1.18406],
    "csra attention_heads=4": [-1.43795, 4.00836, 1.00223],
    "ml_decoder groups=2": [-0.76464, -0.06465, 0.97438],
    "generated generator=dictionary pooling=mean": [0.26155, 0.15874, 0.55373],
    "add_gcn norm=layer": [-6.95177, 3.86168, 7.81304],
    "ssgrl pool=1 classifier_rounds=1": [-0.79461, 1.1644, 5.55139],
}


@every_head
def test_asking_for_attention_changes_no_logit(name: str, options: dict[str, Any]) -> None:
    head, feature_map = make(name, options), torch.randn(2, 6, 4, 4)
    with_attention, without = head(all_inputs_of(head, feature_map), need_attention=True), head(all_inputs_of(head, feature_map))
    assert without.attention is None
    torch.testing.assert_close(with_attention.logits, without.logits)


@every_head
def test_batch_is_the_same_as_one_by_one(name: str, options: dict[str, Any]) -> None:
    head, feature_map = make(name, options), torch.randn(3, 6, 4, 4)
    single = torch.cat([head(all_inputs_of(head, image[None])).logits for image in feature_map])
    torch.testing.assert_close(head(all_inputs_of(head, feature_map)).logits, single, atol=1e-6, rtol=1e-5)


@every_head
def test_label_features_are_to_be_had_after_the_pass(name: str, options: dict[str, Any]) -> None:
    """Heads may compute them when they are asked for: the same, whatever the gradients and the precision then are."""
    head, feature_map = make(name, options), torch.randn(2, 6, 4, 4)
    expected = head(all_inputs_of(head, feature_map)).label_features
    assert expected.requires_grad or name in ("pooled", "csra", "generated", "debiased")
    with torch.inference_mode():
        output = head(all_inputs_of(head, feature_map))
    torch.testing.assert_close(output.label_features, expected)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(all_inputs_of(head, feature_map))
    torch.testing.assert_close(output.label_features.float(), expected, atol=0.05, rtol=0.05)


@every_head
def test_permuting_the_classes_permutes_the_logits(name: str, options: dict[str, Any]) -> None:
    head, feature_map, order = make(name, options), torch.randn(2, 6, 4, 4), torch.tensor([2, 0, 1])
    before = head(all_inputs_of(head, feature_map), need_attention=True)
    features = before.label_features  # of these weights
    state = {key: tensor[order] if key in head.PER_CLASS else tensor for key, tensor in head.state_dict().items()}
    head.load_state_dict({key: tensor[order][:, order] if key in head.PER_PAIR else tensor for key, tensor in state.items()})
    head.prepare(facts_of(order.tolist()))
    after = head(all_inputs_of(head, feature_map, order.tolist()), need_attention=True)
    torch.testing.assert_close(after.logits, before.logits[:, order])
    torch.testing.assert_close(after.label_features, features[:, order])
    assert before.attention is not None
    assert after.attention is not None
    torch.testing.assert_close(after.attention, before.attention[:, order])


@every_head
def test_every_parameter_that_is_per_class_has_a_row_for_each(name: str, options: dict[str, Any]) -> None:
    state, other = (make(name, options, classes=classes).state_dict() for classes in (3, 5))
    head = make(name, options)
    different = {key for key in state if state[key].shape != other[key].shape}
    assert different == {*head.PER_CLASS, *head.PER_PAIR, *head.FROM_DATA}
    assert all(tensor.shape[:2] == (3, 3) for key, tensor in state.items() if key in head.PER_PAIR)
    assert set(head.CLASSIFIER) <= {key for key, _ in head.named_parameters()}
    assert set(head.FROM_DATA) <= {key for key, _ in head.named_buffers()}


@every_head
def test_it_learns_from_a_single_image(name: str, options: dict[str, Any]) -> None:
    head = make(name, options).train()
    output = head(all_inputs_of(head, torch.randn(1, 6, 4, 4)))
    torch.stack([output.logits, *output.auxiliary.values()]).square().sum().backward()
    untrained = {key for key, parameter in head.named_parameters() if parameter.grad is None}
    assert untrained <= {"states", "second", "context.weight", "context.bias"}  # of labels, and of prototypes, that are given


@pytest.mark.parametrize("name", [x for x in HEADS if issubclass(resolve(HEADS, x, kind="head").Options, AttentionOptions)])
def test_refuses_a_width_that_no_attention_divides(name: str) -> None:
    with pytest.raises(UsageError, match=rf"heads.{name} is not valid: width 9 must be a multiple of .*attention_heads"):
        head_options(name, {"width": 9})


def test_heads_that_take_known_labels_are_those_that_the_registry_names() -> None:
    assert {name for name in HEADS if resolve(HEADS, name, kind="head").TAKES_KNOWN} == TAKES_KNOWN


@every_head
def test_one_class(name: str, options: dict[str, Any]) -> None:
    head = make(name, options, classes=1)
    output = head(all_inputs_of(head, torch.randn(2, 6, 2, 2)), need_attention=True)
    assert output.logits.shape == (2, 1)
    assert output.attention is not None
    parts = (output.logits, output.label_features, output.attention, *output.auxiliary.values(), *output.measures.values())
    assert all(part.isfinite().all() for part in parts)


@every_head
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_near_float32(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    head, feature_map = make(name, options), torch.randn(2, 6, 4, 4)
    expected: Tensor = head(all_inputs_of(head, feature_map)).logits
    with torch.autocast("cpu", dtype=dtype):
        output = head(all_inputs_of(head, feature_map), need_attention=True)
    torch.testing.assert_close(output.logits.float(), expected, atol=0.05, rtol=0.05)


@every_head
def test_a_class_more_changes_no_other_logit_of_heads_that_can_be_extended(name: str, options: dict[str, Any]) -> None:
    head, larger = make(name, options), make(name, options, classes=4)
    grown = larger.state_dict()
    state = {
        key: torch.cat([tensor, grown[key][3:]]) if key in head.PER_CLASS else tensor for key, tensor in head.state_dict().items()
    }
    alike = all(state[key].shape == tensor.shape for key, tensor in grown.items())
    if alike and not head.FROM_DATA:
        larger.load_state_dict(state)
        inputs, prototypes = inputs_of(head, torch.randn(2, 6, 4, 4)), torch.randn(4, head.width)
        before = head(replace(inputs, prototypes=prototypes[:3])).logits
        after = larger(replace(inputs, prototypes=prototypes)).logits[:, :3]
        same = torch.allclose(before, after, atol=1e-6)
        assert same is head.extendable or name == "ml_decoder"  # with shared queries there is no row for the query of a class
        assert same or not head.extendable
    else:
        assert not head.extendable
