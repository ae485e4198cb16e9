from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch

from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.weights import WeightsSource, load_file, load_from_hub, load_pretrained, weights_source


def make(name: str = "test_resnet", *, stride: int = 32, **options: Any) -> Backbone:
    return Backbone(name, stride=stride, img_size=64, **options)


def test_weights_without_a_frozen_layer_are_refused(tmp_path: Path) -> None:
    weights = timm.create_model("resnet18").state_dict()
    weights.pop("conv1.weight")
    torch.save(weights, tmp_path / "part.pth")
    with pytest.raises(DataError, match=r"lacks conv1\.weight of the layers that are frozen"):
        load_file(make("resnet18", freeze_stride=4), tmp_path / "part.pth")


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
    loaded = load_file(backbone, path)
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
    assert load_file(make(), tmp_path / "part.pth").missing == ("conv1.0.weight",)


@pytest.mark.parametrize(("name", "stride", "other"), [("resnet34", 32, "resnet34"), ("resnet18", 32, ""), ("resnet18", 16, "")])
def test_weights_of_a_larger_model_are_called_so(tmp_path: Path, name: str, stride: int, other: str) -> None:
    path = tmp_path / f"{name}_mine.safetensors"
    safetensors.torch.save_file(timm.create_model(name).state_dict(), path)
    loaded = load_file(make("resnet18", stride=stride), path)
    assert (loaded.missing, loaded.other) == ((), other)


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
            load_file(make(), tmp_path / name)
    with pytest.raises(DataError, match="no weights file"):
        load_file(make(), tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("name", "description", "likely"),
    [
        ("resnet34_a1-14fe96d1.pth", "", "resnet34"),
        ("model.pth", '{"architecture": "resnet34"}', "resnet34"),
        ("mine.pth", "", "another backbone"),
    ],
)
def test_refuses_weights_of_another_backbone_of_which_a_few_tensors_fit(
    tmp_path: Path, name: str, description: str, likely: str
) -> None:
    weights = timm.create_model("resnet34").state_dict()
    torch.save(weights, tmp_path / name)
    if description:
        (tmp_path / "config.json").write_text(description)
    with pytest.raises(
        DataError, match=rf"seems to hold the weights of {likely}: \d+ of the \d+ tensors of resnet50 are not in it"
    ):
        load_file(make("resnet50"), tmp_path / name)


class Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("exploited").touch, ())


def test_runs_no_pickled_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Exploit()}, "evil.pth")
    with pytest.raises(DataError, match="loaded safely"):
        load_file(make(), Path("evil.pth"))
    assert not Path("exploited").exists()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and a hub that cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")
    return tmp_path


def put(cache: Path, hub_name: str, content: bytes) -> None:
    """Store a file of weights as the hub's own client does."""
    folder = cache / f"models--{hub_name.replace('/', '--')}"
    (folder / "snapshots" / "1").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1")
    (folder / "snapshots" / "1" / "model.safetensors").write_bytes(content)


@pytest.mark.usefixtures("cache")
def test_hub_out_of_reach_names_the_file_to_fetch() -> None:
    message = r"model.safetensors of timm/resnet18.* \(https://hub.invalid/timm/resnet18.*--pretrained FILE.*--no-pretrained"
    with pytest.raises(MachineError, match=message):
        load_from_hub(make("resnet18"))


def test_weights_from_the_cache_of_the_hub(cache: Path) -> None:
    torch.manual_seed(3)
    weights = timm.create_model("test_resnet").state_dict()
    backbone = make()
    put(cache, backbone.pretrained_config["hf_hub_id"], safetensors.torch.save(weights))
    loaded = load_pretrained(backbone, True)
    assert loaded is not None
    assert loaded.missing == ()
    assert torch.equal(backbone.net.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])


def test_source_and_licence_of_weights_before_they_are_fetched(cache: Path) -> None:
    backbone = make()
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    hub = {"hub": "timm/test_resnet.r160_in1k", "licence": "apache-2.0"}
    assert weights_source(backbone, False) == WeightsSource("test_resnet", parameters)
    assert weights_source(backbone, "w.pth") == WeightsSource("test_resnet", parameters, file="w.pth")
    assert weights_source(backbone, True) == WeightsSource("test_resnet", parameters, **hub)  # type: ignore[arg-type]
    put(cache, hub["hub"], b"weights")
    assert weights_source(backbone, True).cached
    assert weights_source(make("mobilenetv2_035"), True).hub == ""


def test_damaged_weights_of_the_hub_are_a_machine_error(cache: Path) -> None:
    backbone = make()
    put(cache, backbone.pretrained_config["hf_hub_id"], b"half of a file")
    with pytest.raises(MachineError, match="could not be fetched"):
        load_from_hub(backbone)


def test_a_model_of_which_the_hub_has_no_weights() -> None:
    with pytest.raises(UsageError, match="no pretrained weights for mobilenetv2_035"):
        load_from_hub(make("mobilenetv2_035"))


def test_no_weights_asked_for() -> None:
    assert load_pretrained(make(), False) is None
