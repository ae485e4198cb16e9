"""LoRA: train low-rank changes of a transformer's linear layers in the place of the layers (Hu et al., ICLR 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sadcl_core.errors import UsageError
from sadcl_core.model.backbone import ADAPTER, Backbone

ORIGINAL = ".parametrizations.weight.original"  # ends the name that torch gives a weight beside its adapter


class LowRank(nn.Module):
    """Weight W (out, in) -> W + B A, with A (rank, in) random and B (out, rank) zero at first."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        """Make the change of a weight."""
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, weight.shape[1], device=weight.device))
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        return weight + self.up @ self.down


def add_adapters(backbone: Backbone, rank: int) -> None:
    """Give each linear layer that is not frozen an adapter; of the backbone nothing else is trained. Rank 0 changes nothing.

    Raises:
        UsageError: there is no such layer.

    Example:
        >>> backbone = Backbone("test_vit", stride=16, img_size=160)
        >>> add_adapters(backbone, rank=2)
        >>> sum(p.numel() for p in backbone.parameters() if p.requires_grad) < sum(p.numel() for p in backbone.parameters()) / 10
        True
    """
    if not rank:
        return
    frozen = {id(inner) for module in backbone.frozen for inner in module.modules()}
    layers = [module for module in backbone.net.modules() if isinstance(module, nn.Linear) and id(module) not in frozen]
    if not layers:
        raise UsageError(f"{backbone.name} has no linear layer to adapt. Leave optim.lora_rank at 0, or choose a transformer.")
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank), unsafe=True)  # before it has values
    backbone.adapted = True
    backbone.freeze(entirely=backbone.frozen_entirely)


def merge_adapters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a network as one without adapters has it: their changes are added to the weights.

    Example:
        >>> layer = parametrize.register_parametrization(nn.Linear(3, 2), "weight", LowRank(torch.zeros(2, 3), rank=1))
        >>> sorted(merge_adapters(nn.Sequential(layer).state_dict()))
        ['0.bias', '0.weight']
    """
    merged = {}
    for name, tensor in weights.items():
        if name.endswith(ORIGINAL):
            layer = name.removesuffix(ORIGINAL)
            down, up = (weights[f"{layer}{ADAPTER}{part}"] for part in ("down", "up"))
            merged[f"{layer}.weight"] = tensor + up @ down
        elif ADAPTER not in name:
            merged[name] = tensor
    return merged


def beside_adapters(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network without adapters under the names of one with new ones, whose state is `own`."""
    return {name: weights.get(name.replace(ORIGINAL, ".weight"), tensor) for name, tensor in own.items()}
