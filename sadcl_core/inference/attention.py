"""Attention maps of single images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image

from sadcl_core.data.transforms import Preprocessing
from sadcl_core.errors import UsageError
from sadcl_core.inference.forward import Forward
from sadcl_core.registry import suggest
from sadcl_core.runs.checkpoint import LoadedModel


@dataclass(frozen=True)
class AttentionMaps:
    """Maps (n, h, w) of n chosen labels, with their class indices and scores in 0..1, the most certain first."""

    labels: tuple[int, ...]
    scores: tuple[float, ...]
    maps: npt.NDArray[np.float32]


@torch.inference_mode()
def attention_maps(
    model: LoadedModel,
    image: Image.Image,
    *,
    device: torch.device,
    precision: str = "fp32",
    names: Sequence[str] = (),
    most: int = 3,
) -> AttentionMaps:
    """Where the model read labels from.

    Args:
        model: from `load_model`, on `device`.
        image: RGB.
        device: where the model is.
        precision: fp32, bf16 or fp16.
        names: the classes wanted; empty for those scored highest.
        most: how many of those.

    Raises:
        UsageError: a name is no class of the model.
    """
    classes = model.card.classes
    for name in names:
        if name not in classes:
            raise UsageError(f"The model has no class {name!r}. {suggest(name, classes)}")
    preprocessing: Preprocessing = model.card.preprocessing
    pixels = TF.pil_to_tensor(image)
    forward = Forward(model.classifier, preprocessing, device=device, precision=precision)
    output = forward(preprocessing.resize(pixels)[None], need_attention=True)
    assert output.attention is not None, "asked for"
    scores = model.card.scores(output.logits)[0].cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    chosen = [classes.index(name) for name in names] or list(order[:most])
    maps = output.attention[0, chosen].float().cpu().numpy()
    return AttentionMaps(tuple(map(int, chosen)), tuple(float(scores[k]) for k in chosen), maps)
