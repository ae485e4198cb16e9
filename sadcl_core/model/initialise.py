"""Build a network without drawing the random weights that a file replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

Network = TypeVar("Network", bound=nn.Module)


def build(make: Callable[[], Network], *, initialise: bool) -> Network:
    """Return the module that `make` builds.

    Args:
        make: called without arguments; twice where the first module cannot be used.
        initialise: False gives parameters a shape but no memory and no values, which are to come from
            `module.load_state_dict(tensors, assign=True)`; buffers are as always. A module that computes other tensors where its
            parameters are, as Swin does, is initialised all the same.

    Example:
        >>> layer = build(lambda: nn.BatchNorm1d(3), initialise=False)
        >>> layer.weight.device.type, layer.running_var.tolist()
        ('meta', [1.0, 1.0, 1.0])
    """
    if initialise:
        return make()

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter) -> Any:  # torch's annotation knows of no return value
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)
    try:
        network = make()
        complete = not any(_has_tensor_on_meta(module) for module in network.modules())
    except RuntimeError:  # a value was read from the meta device
        complete = False
    finally:
        handle.remove()
    return network if complete else make()


def _has_tensor_on_meta(module: nn.Module) -> bool:
    """Return True if a buffer has no values yet."""
    tensors = [*module.buffers(recurse=False), *vars(module).values()]
    return any(isinstance(tensor, Tensor) and tensor.is_meta for tensor in tensors)


@contextmanager
def draw_on_meta() -> Iterator[None]:
    """Draw the random numbers that the initialisation of modules on the meta device would take on the CPU.

    So a seed gives a network the same weights whether or not another one was built before it, only to be asked about its layers.

    Example:
        >>> state = torch.manual_seed(0).get_state()
        >>> with torch.device("meta"), draw_on_meta():
        ...     layer = nn.Linear(3, 2)
        >>> drawn = torch.get_rng_state()
        >>> layer = torch.manual_seed(0) and nn.Linear(3, 2)
        >>> torch.equal(drawn, torch.get_rng_state())
        True
    """
    with _DrawOnMeta():  # type: ignore[no-untyped-call]
        yield


class _DrawOnMeta(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator; one that draws runs on the CPU first, and its result is thrown away."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            on_cpu = tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device="cpu"), args)
            func(*on_cpu, **{**kwargs, "device": torch.device("cpu")} if "device" in kwargs else kwargs)
        return func(*args, **kwargs)
