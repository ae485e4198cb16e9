"""Turn network, EMA, optimiser and bank into named tensors, put together from shards, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from sadcl_core.model.classifier import Classifier
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.runs.state import add_prefix, strip_prefix
from sadcl_core.training.parallel import full_state_dict, full_tensor, load_full_state_dict, shard_like


def state_tensors(classifier: Classifier, ema: Classifier, optimizer: Optimizer, bank: MemoryBank | None) -> dict[str, Tensor]:
    """Return the tensors of network, EMA, optimiser and bank; every process must call it.

    Names begin with `model.`, `ema.`, `optimizer.` and `bank.`; those of the optimiser end in `/` and its own name for them.
    """
    names = parameter_names(classifier, optimizer)
    moments = {
        f"{names[number]}/{key}": full_tensor(value)
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }
    return {
        **add_prefix("model", full_state_dict(classifier)),
        **add_prefix("ema", full_state_dict(ema)),
        **add_prefix("optimizer", moments),
        **add_prefix("bank", {} if bank is None else bank.state_dict()),
    }


@torch.no_grad()
def load_state_tensors(
    tensors: Mapping[str, Tensor], classifier: Classifier, ema: Classifier, optimizer: Optimizer, bank: MemoryBank | None
) -> None:
    """Give network, EMA, optimiser and bank what `state_tensors` returned.

    Raises:
        RuntimeError, KeyError, ValueError: the tensors are of others.
    """
    load_full_state_dict(classifier, strip_prefix("model", tensors))
    load_full_state_dict(ema, strip_prefix("ema", tensors))
    if bank is not None:
        bank.load_state_dict(strip_prefix("bank", tensors))
    parameters = dict(classifier.named_parameters())
    numbers = {name: number for number, name in enumerate(parameter_names(classifier, optimizer))}
    moments: dict[int, dict[str, Tensor]] = {}
    for label, tensor in strip_prefix("optimizer", tensors).items():
        name, _, key = label.rpartition("/")
        if key != "step":
            tensor = shard_like(tensor, parameters[name])
            if not isinstance(tensor, DTensor):  # in the memory layout of its parameter, which the optimiser is fast in
                tensor = torch.empty_like(parameters[name]).copy_(tensor)
        moments.setdefault(numbers[name], {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def parameter_names(classifier: Classifier, optimizer: Optimizer) -> list[str]:
    """Return the names of the parameters in the order in which the optimiser numbers them."""
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
