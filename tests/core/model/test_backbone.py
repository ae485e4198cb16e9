from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.model import backbone as backbone_module
from sadcl_core.model.backbone import Backbone


def make(name: str = "test_resnet", *, stride: int = 32, **options: object) -> Backbone:
    return Backbone(name, stride=stride, img_size=64, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_feature_map_of_each_kind_of_backbone(name: str) -> None:
    stride = 16 if name == "test_vit" else 32
    backbone = make(name, stride=stride)
    feature_map = backbone(torch.zeros(2, 3, 64, 64))
    assert feature_map.shape == (2, backbone.channels, 64 // stride, 64 // stride)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_chosen_stride(stride: int) -> None:
    assert make(stride=stride)(torch.zeros(1, 3, 64, 64)).shape[-1] == 64 // stride


@pytest.mark.parametrize("name", ["mobilenetv2_100", "efficientnet_b0"])
def test_the_deepest_map_is_what_the_own_classifier_would_see(name: str, tmp_path: Path) -> None:
    """These networks go on beyond their last stage; the feature map is the one before their pooling, with all its weights."""
    torch.manual_seed(0)
    whole: Any = timm.create_model(name).eval()
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    backbone = make(name, freeze_stride=4).eval()
    loaded = backbone.load_file(tmp_path / "w.pth")
    assert loaded.missing == ()
    assert set(loaded.unused) == {"classifier.weight", "classifier.bias"}
    assert backbone.channels == 1280
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images), whole.forward_features(images), atol=1e-4, rtol=1e-3)
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


def test_freezing_at_or_beyond_its_own_stride_is_freezing_everything() -> None:
    assert not any(p.requires_grad for p in make("resnet18", stride=8, freeze_stride=32).parameters())


def test_a_backbone_that_cannot_be_frozen_in_part_says_so() -> None:
    with pytest.raises(UsageError, match=r"Freeze nothing: --set model\.freeze_stride=0"):
        make("legacy_xception", freeze_stride=4)


def test_weights_without_a_frozen_layer_are_refused(tmp_path: Path) -> None:
    weights = timm.create_model("resnet18").state_dict()
    weights.pop("conv1.weight")
    torch.save(weights, tmp_path / "part.pth")
    with pytest.raises(DataError, match=r"lacks conv1\.weight of the layers that are frozen"):
        make("resnet18", freeze_stride=4).load_file(tmp_path / "part.pth")


def test_freezing_the_whole_and_back() -> None:
    backbone = make("resnet18", freeze_stride=4)
    backbone.freeze(whole=True)
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not backbone.train().training
    backbone.freeze(whole=False)
    assert backbone.net.layer4[0].conv1.weight.requires_grad
    assert not backbone.net.layer1[0].conv1.weight.requires_grad


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_loads_weights_of_the_whole_model(tmp_path: Path, name: str, suffix: str) -> None:
    torch.manual_seed(0)
    weights = timm.create_model(name).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": weights}, path)
    else:
        safetensors.torch.save_file(weights, path)
    backbone = make(name, stride=16)
    loaded = backbone.load_file(path)
    assert loaded.missing == ()
    assert loaded.matched > 0
    assert any("head" in key or "fc" in key for key in loaded.unused)
    first = next(iter(backbone.net.state_dict()))
    stored = next(
        value for key, value in weights.items() if key.replace(".", "_") == first.removeprefix("model.").replace(".", "_")
    )
    assert torch.equal(backbone.net.state_dict()[first], stored)


def test_reports_what_is_missing(tmp_path: Path) -> None:
    weights = timm.create_model("test_resnet").state_dict()
    weights.pop("conv1.0.weight")
    torch.save(weights, tmp_path / "part.pth")
    assert make().load_file(tmp_path / "part.pth").missing == ("conv1.0.weight",)


def test_refuses_files_that_hold_no_fitting_weights(tmp_path: Path) -> None:
    torch.save({"something": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    for name, message in [
        ("other.pth", "no tensor that fits"),
        ("text.pth", "loaded safely"),
        ("text.safetensors", "loaded safely"),
    ]:
        with pytest.raises(DataError, match=message):
            make().load_file(tmp_path / name)
    with pytest.raises(DataError, match="no weights file"):
        make().load_file(tmp_path / "none.pth")


class Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("exploited").touch, ())


def test_runs_no_pickled_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Exploit()}, "evil.pth")
    with pytest.raises(DataError, match="loaded safely"):
        make().load_file(Path("evil.pth"))
    assert not Path("exploited").exists()


def test_hub_out_of_reach_names_the_file_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "_hub_reachable", lambda: False)
    monkeypatch.setattr(backbone_module, "_in_cache", lambda name: False)
    with pytest.raises(MachineError, match=r"model.safetensors of timm/resnet18.*--pretrained FILE.*--no-pretrained"):
        make("resnet18").load_from_hub()


def test_hub_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the download: timm's own loader is asked, and what it returns is used."""
    torch.manual_seed(3)
    whole = timm.create_model("test_resnet")
    asked = {}

    def stand_in(name: str, **options: object) -> torch.nn.Module:
        asked[name] = options
        return whole

    backbone = make()
    monkeypatch.setattr(backbone_module, "_hub_reachable", lambda: True)
    monkeypatch.setattr(timm, "create_model", stand_in)
    loaded = backbone.load_from_hub()
    assert asked == {"test_resnet": {"pretrained": True}}
    assert loaded.missing == ()
    assert torch.equal(backbone.net.state_dict()["conv1.0.weight"], whole.state_dict()["conv1.0.weight"])


def test_failed_download_is_a_machine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = make()

    def fail(name: str, **options: object) -> torch.nn.Module:
        raise ConnectionError("connection reset")

    monkeypatch.setattr(backbone_module, "_hub_reachable", lambda: True)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(MachineError, match="could not be fetched"):
        backbone.load_from_hub()
