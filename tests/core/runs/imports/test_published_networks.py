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
    for key, images in inputs.items():
        output = head(HeadInputs((net(images.to(dtype)),)), need_attention=True)
        for what in ("logits", "label_features", "attention"):
            result = getattr(output, what)
            torch.testing.assert_close(result, expected[f"{key.split('.')[0]}.{what}"].to(dtype), atol=tolerance, rtol=0)


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
