"""Any timm model as a feature map at a chosen stride, with hub or local weights, frozen where asked.

Weights follow timm's names. A local file is read without running pickled code; a file that fits nowhere is an error
and not a fresh start.
"""

from __future__ import annotations

import difflib
import logging
import pickle
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import timm
import torch
from safetensors import SafetensorError
from timm.models import group_parameters, load_state_dict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sadcl_core.errors import DataError, MachineError, UsageError


@dataclass(frozen=True)
class LoadedWeights:
    """What came of loading pretrained weights.

    Attributes:
        source: file or hub name.
        matched: tensors of the backbone that were found.
        missing: those that were not.
        unused: tensors of the file that the backbone has no use for.
    """

    source: str
    matched: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]


class Backbone(nn.Module):
    """Images (B, 3, H, W) -> feature map (B, D_b, H / stride, W / stride)."""

    def __init__(self, name: str, *, stride: int, img_size: int, freeze_stride: int = 0, freeze_batchnorm: bool = False) -> None:
        """Build with random weights.

        Raises:
            UsageError: timm has no such model, it gives no feature maps, none at this stride, or not at this image size.
        """
        super().__init__()
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "See timm.list_models()."
            raise UsageError(f"timm has no model {name!r}. {hint}")
        try:
            info: Any = timm.create_model(name, pretrained=False, features_only=True).feature_info
        except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
            raise UsageError(f"{name} gives no feature maps ({error}). Choose a backbone such as resnet50.") from None
        strides = info.reduction()
        if stride not in strides:
            known = ", ".join(map(str, sorted(set(strides))))
            raise UsageError(f"{name} has no feature map at stride {stride}, only at: {known}. Choose with --set model.stride=N.")
        index = -1 - strides[::-1].index(stride)  # the deepest at this stride, counted from the end
        size = _size(name, img_size)
        self.any_size = not size
        options: dict[str, Any] = {"out_indices": (index,), **size}
        whole = _whole(name, info) if index == -1 else None
        try:
            self.net: Any = whole or timm.create_model(name, pretrained=False, features_only=True, **options)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"{name} cannot be built for images of {img_size} px ({error}). Choose another --img-size."
            ) from None
        self.name = name
        self.whole = whole is not None
        net: Any = self.net
        self.channels: int = net.num_features if self.whole else net.feature_info.channels()[-1]
        self.channels_last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")
        self.memory_format = torch.channels_last  # a convolution is up to twice as fast in it
        self.to(memory_format=self.memory_format)
        self.freeze_batchnorm = freeze_batchnorm
        self.frozen_whole = False
        frozen = [self.net] if freeze_stride >= stride else self._modules_up_to(freeze_stride, info)
        self.frozen_names = [name for name, module in self.net.named_modules() if any(module is other for other in frozen)]
        self.freeze(whole=False)

    @property
    def frozen(self) -> list[nn.Module]:
        """The parts that stay as they were loaded; by name, since SyncBatchNorm takes the place of modules."""
        return [self.net.get_submodule(name) for name in self.frozen_names]

    def freeze(self, *, whole: bool) -> None:
        """Take the whole backbone out of training, or only the layers that are frozen by the configuration."""
        self.frozen_whole = whole
        self.net.requires_grad_(not whole)
        for module in self.frozen:
            module.requires_grad_(False)

    @property
    def pretrained_config(self) -> dict[str, Any]:
        """Timm's description of the weights: mean, std, hub name."""
        config = timm.get_pretrained_cfg(self.name, allow_unregistered=True)
        return {} if config is None else dict(config.to_dict())

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D_b, h, w)."""
        images = images.contiguous(memory_format=self.memory_format)
        feature_map: Tensor = self.net.forward_features(images) if self.whole else self.net(images)[-1]
        return feature_map.permute(0, 3, 1, 2) if self.channels_last else feature_map

    def train(self, mode: bool = True) -> Backbone:
        """Frozen parts stay in evaluation mode."""
        super().train(mode and not self.frozen_whole)
        if self.training:
            for module in self.frozen:
                module.eval()
            if self.freeze_batchnorm:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def lay_out(self, *, channels_last: bool) -> None:
        """Choose the memory layout of images and convolutions; the numbers stay the same up to rounding."""
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def checkpoint_gradients(self) -> None:
        """Compute features a second time in the backward pass instead of keeping them: less memory, a third more time.

        Raises:
            UsageError: timm cannot do that for this model.
        """
        network = self.net if hasattr(self.net, "set_grad_checkpointing") else getattr(self.net, "model", None)
        try:
            assert network is not None
            network.set_grad_checkpointing(True)
        except (AssertionError, AttributeError):
            raise UsageError(
                f"timm has no gradient checkpointing for {self.name}. Leave compute.gradient_checkpointing off, and "
                "cut the batch with --accumulate."
            ) from None

    def depths(self) -> dict[str, int]:
        """How many layers each parameter of the network is below the last one, by its name; as timm counts layers.

        Raises:
            UsageError: timm does not say what the layers of this model are.
        """
        whole: Any = self.net if self.whole else timm.create_model(self.name, pretrained=False, num_classes=0)
        if not hasattr(whole, "group_matcher"):
            raise UsageError(f"timm does not say what the layers of {self.name} are. Leave layer_decay at 1.")
        layers = {_plain(name): layer for name, layer in group_parameters(whole, whole.group_matcher(), reverse=True).items()}
        names = {name: layers.get(_plain(name)) for name, _ in self.net.named_parameters()}
        top = max((layer for layer in names.values() if layer is not None), default=0)
        return {name: 0 if layer is None else top - layer for name, layer in names.items()}

    def _modules_up_to(self, stride: int, info: Any) -> list[nn.Module]:
        """The modules up to the deepest feature of at most this stride, as they are registered; none when all are deeper."""
        reached = [name for name, reduction in zip(info.module_name(), info.reduction(), strict=True) if reduction <= stride]
        if not reached:
            return []
        names = dict(self.net.named_modules())
        spellings = (reached[-1], reached[-1].replace(".", "_"), f"model.{reached[-1]}")
        end = next((name for name in spellings if name in names), None)
        if end is None:
            raise UsageError(f"{self.name} cannot be frozen up to stride {stride}. Freeze nothing: --set model.freeze_stride=0.")
        before = list(names.values())[: list(names).index(end)]
        return [module for module in before if not _contains(module, names[end])] + [names[end]]

    def load_file(self, path: Path) -> LoadedWeights:
        """Load a .safetensors or .pth file with timm's names.

        Raises:
            DataError: the file is missing, is no weights file, or fits nowhere.
        """
        if not path.is_file():
            raise DataError(f"There is no weights file {path}. Check --pretrained.")
        try:
            stored = load_state_dict(str(path), use_ema=False, weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, SafetensorError, pickle.UnpicklingError):
            raise DataError(
                f"{path} holds no weights that can be loaded safely. Give a .safetensors file or a .pth of tensors."
            ) from None
        return self._load(stored, str(path))

    def load_from_hub(self) -> LoadedWeights:
        """Load timm's default weights, from the cache or the hub.

        Raises:
            MachineError: they are not in the cache and the hub cannot be reached; the message names the file to fetch.
        """
        config = self.pretrained_config
        hub_name = str(config.get("hf_hub_id") or "")
        if not hub_name:
            raise UsageError(
                f"timm has no pretrained weights for {self.name}. Train with --no-pretrained or choose another backbone."
            )
        advice = (
            f"Fetch model.safetensors of {hub_name} from the Hugging Face hub on another machine "
            "and pass it with --pretrained FILE, or start from random weights with --no-pretrained."
        )
        if not _hub_reachable() and not _in_cache(hub_name):
            raise MachineError(
                f"The pretrained weights of {self.name} are not on this machine and the hub cannot be reached. {advice}"
            )
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            weights = timm.create_model(self.name, pretrained=True).state_dict()
        except (OSError, RuntimeError, ValueError) as error:
            raise MachineError(
                f"The pretrained weights of {self.name} could not be fetched ({type(error).__name__}). {advice}"
            ) from None
        return self._load(weights, hub_name)

    def _load(self, stored: dict[str, Tensor], source: str) -> LoadedWeights:
        stored = self.converted(stored)
        own = self.net.state_dict()
        spelt = {_plain(name): name for name in stored}
        fitting: dict[str, Tensor] = {}
        for key, tensor in own.items():
            found = stored.get(spelt.get(_plain(key), ""))
            if isinstance(found, Tensor) and found.shape == tensor.shape:
                fitting[key] = found
        counted = [key for key in own if not key.endswith("num_batches_tracked")]
        missing = tuple(key for key in counted if key not in fitting)
        frozen = {id(tensor) for module in self.frozen for tensor in module.parameters()}
        random = [key for key, tensor in self.net.named_parameters() if key in missing and id(tensor) in frozen]
        if len(missing) == len(counted):
            raise DataError(
                f"{source} has no tensor that fits {self.name}. Give weights of this backbone, or choose theirs with --backbone."
            )
        if random:
            raise DataError(
                f"{source} lacks {random[0]} of the layers that are frozen. Give weights of {self.name}, "
                "or freeze nothing: --set model.freeze_stride=0."
            )
        self.net.load_state_dict({**own, **fitting})
        used = {spelt[_plain(key)] for key in fitting}
        return LoadedWeights(source, len(counted) - len(missing), missing, tuple(sorted(set(stored) - used)))

    def converted(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """As timm itself would convert them: positions of a vision transformer are resampled to this image size."""
        whole = self.net if self.whole else getattr(self.net, "model", None)
        convert = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
        converted: dict[str, Tensor] = stored if whole is None or convert is None else convert(stored, whole)
        return converted


def _whole(name: str, info: Any) -> Any:
    """The network up to its pooling, where it goes on beyond its last feature map, else None.

    MobileNetV2 and EfficientNet end with a wide 1x1 convolution, which has learned most of what their classifiers use.
    """
    whole: Any = timm.create_model(name, pretrained=False, num_classes=0)
    return None if getattr(whole, "num_features", 0) == info.channels()[-1] else whole


def _plain(name: str) -> str:
    """One spelling for a tensor of the whole model and of its feature extractor, in which timm flattens stages.0 to stages_0."""
    return name.removeprefix("model.").replace(".", "_")


def _contains(outer: nn.Module, inner: nn.Module) -> bool:
    return any(module is inner for module in outer.modules())


def _size(name: str, img_size: int) -> dict[str, int]:
    """Vision transformers are built for one image size; convolutional networks take any."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {"img_size": img_size} if config is not None and config.fixed_input_size else {}


def _hub_reachable() -> bool:
    from huggingface_hub import constants

    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _in_cache(hub_name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(hub_name, name), str) for name in ("model.safetensors", "pytorch_model.bin"))
