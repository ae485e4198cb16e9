"""Models opened by timm's own loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data.config import resolve_data_config
from torch import nn

from sadcl_core.config.schema import ModelSection
from sadcl_core.exporting.timm_files import write_timm
from sadcl_core.inference.load import Model
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.heads.pooled import PooledHead
from sadcl_core.runs.card import FirstWeights, ModelCard

CLASSES = ("traffic light", "cow", "dog")


def untrained(backbone: str = "test_resnet", *, calibrated: bool = False, img_size: int = 64, **section: Any) -> Model:
    """A model of random weights whose statistics are not those of new layers."""
    torch.manual_seed(0)
    config = ModelSection(backbone=backbone, pretrained=False, **{"head": "pooled", **section})
    classifier = Classifier(config, num_classes=len(CLASSES), img_size=img_size).eval()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("running_mean").uniform_(-1, 1)
            module.get_buffer("running_var").uniform_(0.5, 2)
        if isinstance(module, PooledHead) and module.standardise:
            module.mean.uniform_(-1, 1)
            module.deviation.uniform_(0.5, 2)
    values: dict[str, Any] = {"temperatures": (0.5, 1.0, 2.0), "biases": (-0.5, 0.0, 1.0)} if calibrated else {}
    card = ModelCard(
        classes=CLASSES,
        img_size=img_size,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        model=config,
        first_weights=FirstWeights(licence="cc-by-4.0"),
        **values,
    )
    return Model(classifier, card, Path("pets.safetensors"), device=torch.device("cpu"))


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"calibrated": True},
        {"heads": {"pooled": {"standardise": True, "dropout": 0.5}}, "calibrated": True},
        {"backbone": "test_efficientnet"},  # ends in a wide convolution
        {"backbone": "test_vit", "stride": 16, "img_size": 96},  # built for a size, ends in a norm
        {"backbone": "test_byobnet"},
    ],
    ids=str,
)
def test_timm_gives_the_same_logits(about: dict[str, Any], tmp_path: Path) -> None:
    model = untrained(**about)
    assert write_timm(model, tmp_path) == ""
    network: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    size = model.card.img_size
    images = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        scores = model.card.scores(model.classifier(images).logits)
        torch.testing.assert_close(network(images), scores.logit(), atol=1e-5, rtol=1e-5)
    config = network.pretrained_cfg
    assert (config["label_names"], config["license"]) == (list(CLASSES), "cc-by-4.0")
    data = resolve_data_config(model=network)
    assert data == {
        "input_size": (3, size, size),
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"head": "csra"}, "has another"),
        ({"heads": {"pooled": {"pooling": "max"}}}, "has another"),
        ({"global_branch": "mean"}, "more beside it"),
        ({"second_look": 2}, "more beside it"),
        ({"stride": 16}, "timm's test_resnet has more layers after the map"),
        ({"backbone": "test_convnext"}, "timm's test_convnext has more layers after the map"),
    ],
    ids=str,
)
def test_what_is_not_timms_is_left_out(about: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert reason in write_timm(untrained(**about), tmp_path)
    assert not list(tmp_path.iterdir())
