"""Any timm model as feature maps at chosen strides, frozen where asked."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import timm
import torch
from timm.models import FeatureListNet, group_parameters
from timm.models._features import FeatureGetterNet
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sadcl_core.errors import UsageError
from sadcl_core.model.initialise import build, draw_on_meta

ADAPTER = ".parametrizations.weight.0."  # in the names of parameters that `sadcl_core.model.lora` adds
STEM, TOP = ("conv_stem", "bn1"), ("conv_head", "bn2")  # before and after the blocks of an EfficientNet


class Backbone(nn.Module):
    """Images (B, 3, H, W) -> feature maps (B, D_i, H / stride_i, W / stride_i).

    Attributes:
        net: timm's network.
        channels: (D_1, ...), of each map.
        any_size: True if it takes images of any size; a vision transformer is built for one.
        adapted: True if adapters are trained in the place of its weights, see `sadcl_core.model.lora`.

    Example:
        >>> backbone = Backbone("test_resnet", stride=32, img_size=64, levels=(2, 1))
        >>> backbone.channels
        (192, 96)
        >>> [tuple(features.shape) for features in backbone(torch.zeros(1, 3, 64, 64))]
        [(1, 192, 4, 4), (1, 96, 2, 2)]
    """

    def __init__(
        self,
        name: str,
        *,
        stride: int,
        img_size: int,
        levels: tuple[int, ...] = (1,),
        freeze_stride: int = 0,
        freeze_batchnorm: bool = False,
        freeze_affine: bool = False,
        initialise: bool = True,
    ) -> None:
        """Build with random weights.

        Args:
            name: of timm.
            stride: of the deepest map, image pixels per location.
            img_size: side of the images in pixels.
            levels: a map of the stride divided by each of these, shallow to deep: (2, 1) gives the one of half the stride too.
            freeze_stride: layers up to this stride are not trained.
            freeze_batchnorm: keep the statistics of BatchNorm as they are.
            freeze_affine: keep its weights and biases as they are.
            initialise: False leaves the parameters without values where that is possible, for a state that is assigned.

        Raises:
            UsageError: timm has no such model, it gives no feature maps, none at these strides, or not at this image size.
        """
        super().__init__()
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "See timm.list_models()."
            raise UsageError(f"timm has no model {name!r}. {hint}")
        try:
            info: Any = _outline(name, draw=initialise, features_only=True).feature_info
        except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
            raise UsageError(f"{name} gives no feature maps ({error}). Choose a backbone such as resnet50.") from None
        self.name = name
        self._indices = _indices(name, info.reduction(), stride, levels)
        self._taken = [info.module_name()[index] for index in self._indices]  # names of the layers that give the maps
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        self.any_size = config is None or not config.fixed_input_size
        size: dict[str, Any] = {} if self.any_size else {"img_size": img_size}
        # MobileNetV2 and EfficientNet go on beyond their last stage, with a wide 1x1 convolution that has learned most of what
        # their classifiers use: they are kept up to their pooling. ViT, Swin and others end in a norm that timm's features lack.
        state = torch.get_rng_state()
        to_the_end = self._indices[-1] == -1
        whole = _outline(name, draw=initialise and to_the_end, num_classes=0)
        if isinstance(getattr(whole, "norm", None), nn.ModuleList):
            raise UsageError(f"{name} classifies several maps together, and a head reads one. Choose another backbone.")
        self.goes_on = to_the_end and _width(whole) != info.channels()[-1]
        make: Callable[[], nn.Module]
        if self.goes_on:
            torch.set_rng_state(state)  # this is the network that is kept
            make = partial(timm.create_model, name, pretrained=False, num_classes=0)
        elif to_the_end and not isinstance(getattr(whole, "norm", nn.Identity()), nn.Identity):
            make = partial(_with_norm, name, self._indices, size)
        else:
            make = partial(timm.create_model, name, pretrained=False, features_only=True, out_indices=self._indices, **size)
        try:
            self.net: Any = build(make, initialise=initialise)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"{name} cannot be built for images of {img_size} px ({error}). Choose another --img-size."
            ) from None
        widths = [info.channels()[index] for index in self._indices]
        self.channels: tuple[int, ...] = (*widths[:-1], _width(self.net)) if self.goes_on else tuple(widths)
        self.channels_last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")
        self.set_memory_format(torch.channels_last)  # a convolution is up to twice as fast in it
        self.freeze_batchnorm, self.freeze_affine = freeze_batchnorm, freeze_affine
        self.frozen_entirely = self.adapted = False
        frozen = [self.net] if freeze_stride >= stride else self._modules_up_to(freeze_stride, info)
        self.frozen_names = [name for name, module in self.net.named_modules() if any(module is other for other in frozen)]
        self.freeze(entirely=False)

    @property
    def frozen(self) -> list[nn.Module]:
        """The modules that stay as they were loaded; by name, since SyncBatchNorm takes the place of modules."""
        return [self.net.get_submodule(name) for name in self.frozen_names]

    def frozen_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the frozen layers by their names."""
        return {
            f"{name}.{inner}": tensor
            for name in self.frozen_names
            for inner, tensor in self.net.get_submodule(name).state_dict().items()
        }

    def freeze(self, *, entirely: bool) -> None:
        """Take the whole backbone out of training, or only the layers that are frozen by the configuration."""
        self.frozen_entirely = entirely
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(not entirely and (not self.adapted or ADAPTER in name))
        for module in (*self.frozen, *(self.batchnorms() if self.freeze_affine else ())):
            module.requires_grad_(False)

    def batchnorms(self) -> list[nn.Module]:
        """Return its layers of batch normalisation."""
        return [module for module in self.modules() if isinstance(module, _BatchNorm)]

    @property
    def pretrained_config(self) -> dict[str, Any]:
        """Timm's description of the weights: mean, std, hub name."""
        config = timm.get_pretrained_cfg(self.name, allow_unregistered=True)
        return {} if config is None else dict(config.to_dict())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps (B, D_i, h_i, w_i) of images (B, 3, H, W), shallow to deep."""
        images = images.contiguous(memory_format=self.memory_format)
        if not self.goes_on:
            maps = self.net(images)
        elif len(self._indices) == 1:
            maps = [self.net.forward_features(images)]
        else:
            last, earlier = self.net.forward_intermediates(images, indices=[*self._indices[:-1]])
            maps = [*earlier, last]
        return tuple(features.permute(0, 3, 1, 2) for features in maps) if self.channels_last else tuple(maps)

    def frozen_part(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the layers frozen by the configuration give for images (B, 3, H, W): maps (B, D, h, w).

        The last one is where training begins; before it stand the maps of earlier levels, where the head reads several.

        Raises:
            UsageError: nothing is frozen, or the network is not a chain of layers that could be cut there.
        """
        if self.frozen_names == [""]:
            maps: tuple[Tensor, ...] = self(images)
            return maps
        layers, ends, frozen = self._chain()
        if not frozen:
            raise UsageError(
                f"{self.name} has no frozen layers at its beginning whose output could be kept: freeze all of it with --frozen, "
                "or its first layers with --set model.freeze_stride=N if it has a feature map at that stride."
            )
        features = images.contiguous(memory_format=self.memory_format)
        kept = []
        for number, layer in enumerate(layers[:frozen], start=1):
            features = layer(features)
            if number in ends or number == frozen:
                kept.append(features)
        return tuple(kept)

    def trained_part(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return `forward(images)` for the maps that `frozen_part(images)` gave."""
        if self.frozen_names == [""]:
            return maps
        layers, ends, frozen = self._chain()
        result = list(maps if frozen in ends else maps[:-1])
        features = maps[-1].contiguous(memory_format=self.memory_format)
        for number, layer in enumerate(layers[frozen:], start=frozen + 1):
            features = layer(features)
            if number in ends:
                result.append(features)
        return tuple(features.permute(0, 3, 1, 2) for features in result) if self.channels_last else tuple(result)

    def _chain(self) -> tuple[list[nn.Module], list[int], int]:
        """Return the layers in their order, after how many of them each map is taken, and how many are frozen.

        There are none if they do not follow one another.
        """
        if self.goes_on and isinstance(self.net, EfficientNet):  # MobileNetV2 as well
            blocks = [f"blocks.{name}" for name, _ in self.net.blocks.named_children()]
            names = [*STEM, *blocks, *TOP]
            taken = [*self._taken[:-1], TOP[-1]]
        elif type(self.net) is FeatureListNet:
            taken = list(self.net.return_layers)
            names = list(self.net)
            names = names[: names.index(taken[-1]) + 1]
        else:
            return [], [], 0
        frozen = next((number for number, name in enumerate(names) if name not in self.frozen_names), len(names))
        return [self.net.get_submodule(name) for name in names], [names.index(name) + 1 for name in taken], frozen

    def train(self, mode: bool = True) -> Backbone:
        """Set training mode; frozen modules stay in evaluation mode."""
        super().train(mode and not self.frozen_entirely)
        if self.training:
            for module in self.frozen:
                module.eval()
            if self.freeze_batchnorm:
                for module in self.batchnorms():
                    module.eval()
        return self

    def set_memory_format(self, memory_format: torch.memory_format) -> None:
        """Choose the memory format of images and convolutions; the numbers stay the same up to rounding."""
        self.memory_format = memory_format
        self.to(memory_format=memory_format)

    def checkpoint_gradients(self) -> None:
        """Compute features a second time in the backward pass instead of keeping them: less memory, a third more time.

        Raises:
            UsageError: timm cannot do that for this model.
        """
        network: Any = self.net if hasattr(self.net, "set_grad_checkpointing") else getattr(self.net, "model", None)
        try:
            supported = hasattr(network, "set_grad_checkpointing")
            if supported:
                network.set_grad_checkpointing(True)
        except (AssertionError, AttributeError):  # as timm refuses
            supported = False
        if not supported:
            raise UsageError(
                f"timm has no gradient checkpointing for {self.name}. Leave compute.gradient_checkpointing off, and "
                "cut the batch with --accumulate."
            )

    def depths(self) -> dict[str, int]:
        """Return how many layers each parameter of the network is below the last one, by its name; as timm counts layers.

        Raises:
            UsageError: timm does not say what the layers of this model are.
        """
        full: Any = self.net if self.goes_on else _outline(self.name, draw=True, num_classes=0)
        if not hasattr(full, "group_matcher"):
            raise UsageError(f"timm does not say what the layers of {self.name} are. Leave layer_decay at 1.")
        layers = {plain(name): layer for name, layer in group_parameters(full, full.group_matcher(), reverse=True).items()}
        names = {name: layers.get(plain(name)) for name, _ in self.net.named_parameters()}
        top = max((layer for layer in names.values() if layer is not None), default=0)
        return {name: 0 if layer is None else top - layer for name, layer in names.items()}

    def convert(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights as timm itself would convert them: positions of a vision transformer are resampled to this size."""
        full = self.net if self.goes_on else getattr(self.net, "model", None)
        convert = getattr(sys.modules[type(full).__module__], "checkpoint_filter_fn", None)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"timm\.layers\.interpolate")  # of slow and old ways to index
            converted: dict[str, Tensor] = stored if full is None or convert is None else convert(stored, full)
        return converted

    def _modules_up_to(self, stride: int, info: Any) -> list[nn.Module]:
        """Return the modules up to the deepest feature of at most this stride, as registered; none when all are deeper."""
        reached = [name for name, reduction in zip(info.module_name(), info.reduction(), strict=True) if reduction <= stride]
        if not reached:
            return []
        names = dict(self.net.named_modules())
        spellings = (reached[-1], reached[-1].replace(".", "_"), f"model.{reached[-1]}")
        end = next((name for name in spellings if name in names), None)
        if end is None:
            raise UsageError(f"{self.name} cannot be frozen up to stride {stride}. Freeze nothing: --set model.freeze_stride=0.")
        before = list(names.values())[: list(names).index(end)]
        last = names[end]
        return [module for module in before if all(inner is not last for inner in module.modules())] + [last]


def plain(name: str) -> str:
    """Return one spelling for a tensor of the full model and of its feature extractor, where timm writes stages.0 as stages_0."""
    return name.removeprefix("model.").replace(".", "_")


def _outline(name: str, *, draw: bool, **options: Any) -> Any:
    """Return a model of timm without weights, to be asked about its layers; `draw` what they would be initialised with."""
    if not draw:
        return _kept_on_meta(name, **options)
    with draw_on_meta():
        return _on_meta(name, **options)


def _on_meta(name: str, **options: Any) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, **options)


_kept_on_meta = lru_cache(maxsize=4)(_on_meta)  # reading a model file asks for each of two twice


def _with_norm(name: str, indices: tuple[int, ...], size: dict[str, Any]) -> FeatureGetterNet:
    """Return a network that gives the maps at these places, the last norm included."""
    return FeatureGetterNet(timm.create_model(name, pretrained=False, **size), out_indices=indices, norm=True)


def _width(network: Any) -> int:
    return int(getattr(network, "num_features", 0))


def _indices(name: str, strides: list[int], stride: int, levels: tuple[int, ...]) -> tuple[int, ...]:
    """Return the place of the deepest map at each of the strides that the levels ask for, counted from the end."""
    requested = [stride // level for level in levels]
    missing = next((number for number in requested if number not in strides), None)
    if missing is not None:
        what = f"{name} has no feature map at stride {missing}"
        available = f"only at: {', '.join(map(str, sorted(set(strides))))}"
        if missing == stride:
            raise UsageError(f"{what}, {available}. Choose with --set model.stride=N.")
        raise UsageError(
            f"{what}, which the head reads beside the one at {stride}, {available}. Choose another backbone or another head."
        )
    return tuple(-1 - strides[::-1].index(number) for number in requested)
