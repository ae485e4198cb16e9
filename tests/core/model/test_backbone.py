from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from sadcl_core.errors import UsageError
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.weights import load_file, load_tensors


def make(name: str = "test_resnet", *, stride: int = 32, **options: object) -> Backbone:
    return Backbone(name, stride=stride, img_size=64, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_feature_map_of_each_kind_of_backbone(name: str) -> None:
    stride = 16 if name == "test_vit" else 32
    backbone = make(name, stride=stride)
    (feature_map,) = backbone(torch.zeros(2, 3, 64, 64))
    assert feature_map.shape == (2, *backbone.channels, 64 // stride, 64 // stride)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_chosen_stride(stride: int) -> None:
    assert make(stride=stride)(torch.zeros(1, 3, 64, 64))[0].shape[-1] == 64 // stride


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_100", "convnext_atto", "swin_s3_tiny_224"])
def test_a_map_of_half_the_stride_beside_the_deepest(name: str) -> None:
    img_size = 224 if "swin" in name else 64
    backbone = Backbone(name, stride=32, img_size=img_size, levels=(2, 1)).eval()
    images = torch.randn(2, 3, img_size, img_size)
    shallow, deep = backbone(images)
    assert shallow.shape == (2, backbone.channels[0], img_size // 16, img_size // 16)
    assert deep.shape == (2, backbone.channels[1], img_size // 32, img_size // 32)
    single = Backbone(name, stride=32, img_size=img_size).eval()
    single.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(single(images)[0], deep)


def test_a_backbone_of_one_stride_has_no_map_of_half_of_it() -> None:
    with pytest.raises(UsageError, match=r"test_vit has no feature map at stride 8, which the head reads beside the one at 16"):
        make("test_vit", stride=16, levels=(2, 1))


@pytest.mark.parametrize(
    ("name", "stride"), [("test_resnet", 16), ("test_resnet", 32), ("mobilenetv2_100", 32), ("test_vit", 16)]
)
def test_a_seed_gives_the_weights_that_it_gave_when_networks_were_built_to_be_asked(name: str, stride: int) -> None:
    """The first network drew to be asked for its strides, the second for its width; what followed began where they ended."""
    torch.manual_seed(0)
    backbone = make(name, stride=stride)
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    timm.create_model(name, features_only=True)
    size: dict[str, Any] = {"img_size": 64} if name == "test_vit" else {}
    if stride == 32 or name == "test_vit":
        expected = timm.create_model(name, num_classes=0)
    if name == "test_vit":
        expected = timm.create_model(name, img_size=64)  # with its last norm
    elif name != "mobilenetv2_100":
        expected = timm.create_model(name, features_only=True, out_indices=(-1 if stride == 32 or size else -2,), **size)
    assert torch.equal(torch.get_rng_state(), drawn)
    state = expected.state_dict()
    assert all(torch.equal(tensor, state[key.removeprefix("model.")]) for key, tensor in backbone.net.state_dict().items())


@pytest.mark.parametrize(
    ("name", "stride", "img_size", "lacks"),
    [
        ("test_vit", 16, 160, set()),
        ("vit_small_patch16_dinov3", 16, 64, set()),
        ("eva02_tiny_patch14_224", 14, 56, {"fc_norm.weight", "fc_norm.bias"}),  # of the mean over the locations
        ("swin_s3_tiny_224", 32, 224, set()),
        ("test_convnext", 32, 64, {"head.norm.weight", "head.norm.bias"}),  # likewise
        ("resnetv2_18", 32, 64, set()),
        ("hgnetv2_b0", 32, 64, {"head.last_conv.0.weight", "head.last_conv.2.scale", "head.last_conv.2.bias"}),  # likewise
    ],
)
def test_the_map_is_what_timm_pools(name: str, stride: int, img_size: int, lacks: set[str]) -> None:
    """At the size of these images, with the last norm: the features that timm's own classifier has at each location."""
    torch.manual_seed(0)
    size: dict[str, Any] = {} if "conv" in name or "net" in name else {"img_size": img_size}
    whole: Any = timm.create_model(name, num_classes=0, **size).eval()
    for parameter in whole.parameters():  # a norm that does nothing would not be missed
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    backbone = Backbone(name, stride=stride, img_size=img_size).eval()
    loaded = load_tensors(backbone, whole.state_dict(), source="timm")
    assert loaded.missing == ()
    assert set(loaded.unused) == lacks
    images = torch.randn(2, 3, img_size, img_size)
    (feature_map,) = backbone(images)
    assert feature_map.shape == (2, *backbone.channels, img_size // stride, img_size // stride)
    expected = whole.forward_features(images)
    if expected.ndim == 3:  # tokens, behind that of the class
        expected = expected[:, whole.num_prefix_tokens :].transpose(1, 2).unflatten(2, feature_map.shape[2:])
    elif name.startswith("swin"):
        expected = expected.permute(0, 3, 1, 2)
    torch.testing.assert_close(feature_map, expected, atol=1e-4, rtol=1e-3)
    if not lacks and getattr(whole, "global_pool", "") == "avg":
        torch.testing.assert_close(feature_map.mean(dim=(2, 3)), whole(images), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "stride"), [("crossvit_9_240", 12), ("crossvit_9_240", 17), ("efficientvim_m1", 32)])
def test_a_network_that_classifies_several_maps_together_is_refused(name: str, stride: int) -> None:
    with pytest.raises(UsageError, match=rf"{name} classifies several maps together, and a head reads one"):
        make(name, stride=stride)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "efficientnet_b0"])
def test_the_deepest_map_is_what_the_own_classifier_would_see(name: str, tmp_path: Path) -> None:
    """These networks go on beyond their last stage; the feature map is the one before their pooling, with all its weights."""
    torch.manual_seed(0)
    whole: Any = timm.create_model(name).eval()
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    backbone = make(name, freeze_stride=4).eval()
    loaded = load_file(backbone, tmp_path / "w.pth")
    assert loaded.missing == ()
    assert set(loaded.unused) == {"classifier.weight", "classifier.bias"}
    assert backbone.channels == (1280,)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images)[0], whole.forward_features(images), atol=1e-4, rtol=1e-3)
    assert not backbone.net.conv_stem.weight.requires_grad
    assert backbone.net.conv_head.weight.requires_grad


def test_unknown_backbone_and_stride() -> None:
    with pytest.raises(UsageError, match="Did you mean 'resnet50'"):
        make("resnet_50")
    with pytest.raises(UsageError, match=r"no feature map at stride 5, only at: .*--set model.stride"):
        make(stride=5)


def test_freezing_up_to_a_stride() -> None:
    backbone = make("resnet18", freeze_stride=4, freeze_batchnorm=True)
    frozen = {name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    backbone.train()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers() if "running" in name}
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(before[name], dict(backbone.named_buffers())[name]) for name in before)


@pytest.mark.parametrize("levels", [(1,), (2, 1), (4, 2, 1)])
@pytest.mark.parametrize(
    ("name", "stride"),
    [("resnet18", 16), ("mobilenetv2_050", 8), ("tf_efficientnet_lite0", 16), ("convnext_atto", 16), ("hgnetv2_b0", 16)],
)
def test_frozen_and_trained_part_together_are_the_network(name: str, stride: int, levels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    backbone = make(name, freeze_stride=stride, levels=levels).eval()
    images = torch.randn(2, 3, 64, 64)
    kept = backbone.frozen_part(images)
    assert kept[-1].shape[-1] == 64 // stride
    torch.testing.assert_close(backbone.trained_part(kept), backbone(images), rtol=1e-5, atol=1e-5)
    frozen = {name for name, parameter in backbone.net.named_parameters() if not parameter.requires_grad}
    assert frozen == set(backbone.frozen_tensors()) & set(dict(backbone.net.named_parameters()))


def test_the_frozen_part_of_a_whole_frozen_network_is_its_maps() -> None:
    backbone = make("test_vit", stride=16, freeze_stride=64).eval()
    images = torch.randn(1, 3, 64, 64)
    kept = backbone.frozen_part(images)
    torch.testing.assert_close(kept, backbone(images))
    assert backbone.trained_part(kept) is kept
    assert set(backbone.frozen_tensors()) == {f".{name}" for name in backbone.net.state_dict()}


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 0), ("test_vit", 8)])
def test_a_network_without_a_frozen_beginning_says_so(name: str, stride: int) -> None:
    backbone = make(name, stride=16, freeze_stride=stride)
    with pytest.raises(UsageError, match=r"freeze all of it with --frozen"):
        backbone.frozen_part(torch.zeros(1, 3, 64, 64))


def test_freezing_at_or_beyond_its_own_stride_is_freezing_everything() -> None:
    assert not any(p.requires_grad for p in make("resnet18", stride=8, freeze_stride=32).parameters())


def test_a_backbone_that_cannot_be_frozen_in_part_says_so() -> None:
    with pytest.raises(UsageError, match=r"Freeze nothing: --set model\.freeze_stride=0"):
        make("legacy_xception", freeze_stride=4)


def test_freezing_everything_and_back() -> None:
    backbone = make("resnet18", freeze_stride=4)
    backbone.freeze(entirely=True)
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not backbone.train().training
    backbone.freeze(entirely=False)
    assert backbone.net.layer4[0].conv1.weight.requires_grad
    assert not backbone.net.layer1[0].conv1.weight.requires_grad
