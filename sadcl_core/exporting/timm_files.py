"""A model in the files of timm, which `timm.create_model` opens from the hub or a folder: where its head is timm's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from sadcl_core.inference.load import Model
from sadcl_core.model.backbone import plain
from sadcl_core.model.heads.pooled import PooledHead

CONFIG, WEIGHTS = "config.json", "model.safetensors"  # names that timm looks for
OF_THE_FIRST_WEIGHTS = ("tag", "origin_url", "paper_ids", "description", "notes")  # in timm's description
VARIANTS: tuple[dict[str, Any], ...] = ({}, {"fc_norm": False})  # a vision transformer has its last norm after pooling, or before
TOLERANCE = 1e-4  # of logits, far above rounding, and far below what another network gives


def write_timm(model: Model, folder: Path) -> str:
    """Write `config.json` and `model.safetensors` for timm, and return why they are not written; empty where they are.

    The calibration is in the linear layer: the sigmoid of timm's logits are the scores of `Model.predict`. Labels, size, mean and
    deviation of the images are in the configuration, from which `timm.data.create_transform` makes the same preprocessing.
    """
    classifier, name = model.classifier, model.card.model.backbone
    if not isinstance(classifier.head, PooledHead) or classifier.head.pooling != "mean":
        return "timm's head is global average pooling and one linear layer, and this model has another"
    if classifier.global_branch is not None or classifier.second_look:
        return "timm's head is one linear layer, and this model has more beside it"
    network = next((network for options in VARIANTS if (network := _convert(model, options)) is not None), None)
    if network is None:
        return f"timm's {name} has more layers after the map at stride {model.card.model.stride}, which this model pools"
    source = dict.fromkeys(OF_THE_FIRST_WEIGHTS)
    network.pretrained_cfg = {**network.pretrained_cfg, **source, "license": model.card.first_weights.licence}
    size = (3, model.card.img_size, model.card.img_size)
    save_for_hf(
        network,
        str(folder),
        model_config={"label_names": list(model.classes)},
        safe_serialization=True,
        data_config={
            "input_size": size,
            "mean": model.card.mean,
            "std": model.card.std,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
        },
    )
    return ""


@torch.inference_mode()
def _convert(model: Model, options: dict[str, Any]) -> Any:
    """Return timm's network with the weights of a model; None if it cannot take them all, or answers otherwise."""
    backbone, classes = model.classifier.backbone, len(model.classes)
    if not backbone.any_size:
        options = {**options, "img_size": model.card.img_size}
    try:
        network: Any = timm.create_model(backbone.name, num_classes=classes, global_pool="avg", **options).eval()
        last = network.get_classifier()
        (layer,) = [name for name, module in network.named_modules() if module is last and isinstance(module, nn.Linear)]
        stored = {plain(name): tensor for name, tensor in backbone.net.state_dict().items()}
        linear = dict(zip((f"{layer}.weight", f"{layer}.bias"), _linear(model), strict=True))
        network.load_state_dict({name: linear[name] if name in linear else stored[plain(name)] for name in network.state_dict()})
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):  # of its many constructors
        return None
    images = torch.randn(2, 3, model.card.img_size, model.card.img_size, generator=torch.Generator().manual_seed(0))
    expected = model.classifier(images).logits / _per_class(model.card.temperatures, 1, classes)
    expected += _per_class(model.card.biases, 0, classes)
    return network if torch.allclose(network(images).double(), expected, rtol=TOLERANCE, atol=TOLERANCE) else None


def _linear(model: Model) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,) of one linear layer on the pooled feature: standardisation and calibration are in it."""
    head = model.classifier.head
    weight, bias = head.classifier.weight.double(), head.classifier.bias.double()
    if head.standardise:
        weight = weight / head.deviation
        bias = bias - weight @ head.mean.double()
    temperatures = _per_class(model.card.temperatures, 1, len(bias))
    return (weight / temperatures[:, None]).float(), (bias / temperatures + _per_class(model.card.biases, 0, len(bias))).float()


def _per_class(values: tuple[float, ...], default: float, classes: int) -> Tensor:
    return torch.tensor(values or [default] * classes, dtype=torch.float64)
