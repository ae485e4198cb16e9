"""Find the backbone inside a checkpoint: below which prefix its tensors are, and which model of timm has them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from sadcl_core.errors import DataError, SadclError
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.weights import likely_backbone

CANDIDATES = ("resnet101", "resnet50", "resnet152", "resnet34", "resnet18", "tresnet_l", "tresnet_m", "tresnet_xl")
COUNTER = "num_batches_tracked"
DEPTH = 4  # parts of a prefix
SHARE = 0.1  # of the tensors that are below it
STRIDES = (32, 16, 14, 8)


@dataclass(frozen=True)
class FoundBackbone:
    """The backbone of a checkpoint.

    Attributes:
        stride: of its deepest map.
        channels: D_b of it.
        tensors: under timm's names.
        rest: the other tensors, under their names in the file, or timm's where they are timm's.
    """

    name: str
    stride: int
    channels: int
    tensors: dict[str, Tensor]
    rest: dict[str, Tensor]


def find_backbone(stored: Mapping[str, Tensor], name: str, file: Path) -> FoundBackbone:
    """Return the backbone that most tensors belong to.

    Without a name of timm, the ResNets, TResNets and what the file's name says are tried.

    Raises:
        DataError: no model that was tried is in the file as a whole.
    """
    counts = Counter(".".join(key.split(".")[:depth]) for key in stored for depth in range(DEPTH))
    prefixes = [prefix for prefix, count in counts.items() if count >= SHARE * len(stored)]
    guess = likely_backbone(str(file))
    names = (name,) if name else tuple(dict.fromkeys([*([guess] if timm.is_model(guess) else []), *CANDIDATES]))
    matches = [match for one in names for prefix in prefixes if (match := _match(stored, one, f"{prefix}." if prefix else ""))]
    if not matches:
        tried = f"all tensors of {name}" if name else "the whole of a ResNet or TResNet of timm"
        raise DataError(f"{file} does not hold {tried}. Name its backbone: --backbone NAME, a model of timm.")
    return max(matches, key=lambda match: len(match.tensors))


def _match(stored: Mapping[str, Tensor], name: str, prefix: str) -> FoundBackbone | None:
    """Return the backbone below a prefix if the file has it as a whole."""
    own = _shapes(name)
    inside = {key.removeprefix(prefix): tensor for key, tensor in stored.items() if key.startswith(prefix)}
    outside = {key: tensor for key, tensor in stored.items() if not key.startswith(prefix)}
    if len(inside) < len(own):
        return None
    convert = getattr(sys.modules[timm.models.model_entrypoint(name).__module__], "checkpoint_filter_fn", None)
    if convert is not None and not own.keys() <= inside.keys():
        try:
            inside = convert(inside, _outline(name))
        except Exception:  # of names that are another network's
            return None
    if any(key not in inside or inside[key].shape != shape for key, shape in own.items()):
        return None
    taken = {key: tensor for key, tensor in inside.items() if key in own or key.endswith(COUNTER)}
    left = {key: tensor for key, tensor in inside.items() if key not in taken}
    rest = outside | {(f"{prefix}{key}" if f"{prefix}{key}" in stored else key): tensor for key, tensor in left.items()}
    return FoundBackbone(name, *_deepest(name), taken, rest)


def pools_by_mean(backbone: Backbone, source: FoundBackbone, img_size: int) -> bool:
    """Return True if timm's network reads its classifier's input from the mean of the feature map."""
    size: dict[str, Any] = {} if backbone.any_size else {"img_size": img_size}
    whole = timm.create_model(source.name, pretrained=False, num_classes=0, **size).eval()
    whole.load_state_dict(source.tensors, strict=False)
    side = min(img_size, 2 * source.stride) if backbone.any_size else img_size
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, mean = whole(images), backbone.eval()(images)[-1].mean(dim=(2, 3))
    return expected.shape == mean.shape and torch.allclose(expected, mean, rtol=1e-3, atol=1e-4)


def _outline(name: str) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=0)


@cache
def _shapes(name: str) -> dict[str, torch.Size]:
    """Return the shapes of all tensors of a model of timm without its classifier, counters of batches left out."""
    if not timm.is_model(name):
        raise DataError(f"timm has no model {name!r}. See timm.list_models().")
    return {key: tensor.shape for key, tensor in _outline(name).state_dict().items() if not key.endswith(COUNTER)}


def _deepest(name: str) -> tuple[int, int]:
    """Return the stride and the channels of the deepest map."""
    for stride in STRIDES:
        try:
            with torch.device("meta"):
                return stride, Backbone(name, stride=stride, img_size=224, initialise=False).channels[-1]
        except SadclError:
            continue
    raise DataError(f"{name} gives no feature map at a stride of {', '.join(map(str, STRIDES))}. Choose another --backbone.")
