"""Tensors that went through the published networks, where they are at hand, against the same weights here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.registry import HEADS, resolve
from sadcl_core.runs.imports.import_checkpoint import recognise

FOLDER = Path(__file__).parents[5] / "shared" / "golden"
NETWORKS = {
    "sadcl-head": "SADCL",
    "query2label-head": "Query2Label",
    "query2label-head-self-attention": "Query2Label",
    "query2label-head-later-self-attention": "Query2Label",
    "sadcl-tiny-resnet": "SADCL",
    "mulcon-head": "MulCon",
}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the tensors of the published networks are not at hand")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_published_network_gives_these_numbers(name: str, dtype: torch.dtype) -> None:
    inputs, expected, stored = (load_file(FOLDER / name / f"{part}.safetensors") for part in ("input", "expected", "weights"))
    stored = {key.removeprefix("module."): tensor for key, tensor in stored.items()}
    body = {key.removeprefix("backbone.0.body."): tensor for key, tensor in stored.items() if key.startswith("backbone.0.body.")}
    rest = {key: tensor for key, tensor in stored.items() if not key.startswith("backbone.0.body.")}
    channels = 32 if body else 96
    form, _ = recognise(rest, channels, Path(name))
    assert NETWORKS[name] == form.NAME
    converted = form.convert(rest, channels)
    assert set(rest) == converted.used | set(converted.dropped)
    options = head_options(converted.head, converted.options)
    head: Any = resolve(HEADS, converted.head, kind="head")(channels=(channels,), num_classes=converted.classes, options=options)
    head.load_state_dict(part(converted.tensors, "head."))
    head.to(dtype).eval()
    net = tiny_resnet(body).to(dtype) if body else nn.Identity()
    tolerance = 1e-12 if dtype is torch.float64 else 1e-4 if body else 1e-5
    projection = None
    if "prototypes" in converted.tensors:
        projection = project(part(converted.tensors, "projection.")).to(dtype)
        expected_prototypes = next(tensor for key, tensor in expected.items() if key.endswith(".projected_prototypes"))
        close(projection(converted.tensors["prototypes"].to(dtype)), expected_prototypes, tolerance)
    for key, images in inputs.items():
        output = head(HeadInputs((net(images.to(dtype)),)), need_attention=True)
        for what in ("logits", "label_features", "attention"):
            close(getattr(output, what), expected[f"{key.split('.')[0]}.{what}"], tolerance)
        if projection is not None:
            close(projection(output.label_features), expected[f"{key.split('.')[0]}.projected"], tolerance)


def close(result: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(result, expected.to(result.dtype), atol=tolerance, rtol=0)


def project(tensors: dict[str, Tensor]) -> nn.Module:
    widths = tensors["0.weight"].shape[0], tensors["2.weight"].shape[0]
    layers = nn.Sequential(nn.Linear(widths[0], widths[0]), nn.ReLU(), nn.Linear(*widths))
    layers.load_state_dict(tensors)
    return layers


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def tiny_resnet(tensors: dict[str, Tensor]) -> nn.Module:
    from timm.models.resnet import BasicBlock, ResNet

    block: Any = BasicBlock
    net: nn.Module = ResNet(block, (1, 1, 1, 1), channels=(8, 12, 16, 32), num_classes=0, global_pool="").eval()
    loaded = net.load_state_dict(tensors, strict=False)
    assert not loaded.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in loaded.missing_keys)
    return net
