"""Backbone, head, projection and prototypes put together from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.transforms import Inputs
from sadcl_core.errors import UsageError
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.heads.interface import HeadInputs, HeadOutput
from sadcl_core.model.heads.pooled import PooledHead
from sadcl_core.model.initialise import build
from sadcl_core.model.label_facts import label_facts
from sadcl_core.model.second_look import BRANCH, best_regions, cut
from sadcl_core.model.word_vectors import word_vectors
from sadcl_core.registry import HEADS, resolve, suggest

if TYPE_CHECKING:
    from sadcl_core.data.split import Split


@dataclass(frozen=True)
class ClassifierOutput(HeadOutput):
    """Result for B images: the output of the head, and features of the images as a whole.

    Attributes:
        image_features: (B, D_b), the deepest feature map averaged over its locations.
        maps: (B, D_i, h_i, w_i), what the head read; while training alone.
    """

    image_features: Tensor = field(kw_only=True)
    maps: tuple[Tensor, ...] = field(default=(), kw_only=True)


class Classifier(nn.Module):
    """Images -> logits and label features; projection and prototypes serve the contrastive losses and the figures.

    Example:
        >>> section = ModelSection(backbone="test_resnet", pretrained=False, head="pooled", projection_width=4)
        >>> classifier = Classifier(section, num_classes=3, img_size=64).eval()
        >>> maps = classifier.features(torch.zeros(2, 3, 64, 64))
        >>> [tuple(features.shape) for features in maps]  # (B, D_b, h, w); of the deepest, one location per 32 x 32 pixels
        [(2, 96, 2, 2)]
        >>> output = classifier.classify(maps)  # as classifier(images)
        >>> tuple(output.logits.shape), tuple(output.label_features.shape), tuple(output.image_features.shape)
        ((2, 3), (2, 3, 96), (2, 96))
        >>> tuple(classifier.project(output.label_features).shape)
        (2, 3, 4)
    """

    def __init__(self, config: ModelSection, *, num_classes: int, img_size: int, initialise: bool = True) -> None:
        """Build with random weights; prototypes start at zero.

        Args:
            config: backbone, head and its options.
            num_classes: K.
            img_size: side of the images in pixels, for backbones that are built for one.
            initialise: False leaves the parameters without values where that is possible; give them values with `assign`.

        Raises:
            UsageError: the backbone or the head cannot be built so.
        """
        super().__init__()
        head = resolve(HEADS, config.head, kind="head")
        self.second_look = config.second_look
        self.backbone = Backbone(
            config.backbone,
            stride=config.stride,
            img_size=img_size,
            levels=head.LEVELS,
            freeze_stride=config.freeze_stride,
            freeze_batchnorm=config.freeze_batchnorm,
            freeze_affine=config.freeze_affine,
            initialise=initialise,
        )
        options = head_options(config.head, config.heads.get(config.head, {}))
        make_head = partial(head, channels=self.backbone.channels, num_classes=num_classes, options=options)
        self.head: Any = build(make_head, initialise=initialise)
        self.projection = build(partial(_projection, self.head.width, config.projection_width), initialise=initialise)
        self.prototypes = nn.Parameter(torch.zeros(num_classes, self.head.width))  # (K, D), before the projection
        self.head_is_silent = False  # after `assign`: the weights give the head no part in the logits
        self.global_branch: PooledHead | None = None
        self.gate: nn.Parameter | None = None  # (K,), weights of the head's logits beside those of the branch
        if config.global_branch != "none":
            linear = PooledHead.Options(pooling=config.global_branch, standardise=True)
            make_branch = partial(PooledHead, channels=self.backbone.channels[-1:], num_classes=num_classes, options=linear)
            self.global_branch = build(make_branch, initialise=initialise)
            if not self.head.STARTS_AT_ZERO:
                self.gate = nn.Parameter(torch.empty(num_classes))
            self.silence_head()

    @torch.no_grad()
    def silence_head(self) -> None:
        """Let the head beside a global branch give no logits yet: it learns what the branch leaves.

        The classifier of the head starts at zero, or a gate does by which its logits are multiplied (Bachlechner et al., ReZero,
        UAI 2021).
        """
        for parameter in self._switch:
            parameter.zero_()

    @property
    def _switch(self) -> list[nn.Parameter]:
        """Return the parameters by which the head beside a global branch gives no logits while they are zero."""
        return [self.head.get_parameter(name) for name in self.head.CLASSIFIER] if self.gate is None else [self.gate]

    def assign(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors of a state as parameters and buffers, without copying them.

        If they are those of a head that was never trained beside a global branch, attention is that of the branch from now on.
        """
        own = self.state_dict()
        self.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()}, assign=True)
        self.backbone.set_memory_format(self.backbone.memory_format)
        self.head_is_silent = self.global_branch is not None and not any(bool(one.any()) for one in self._switch)

    @torch.no_grad()
    def prepare_head(self, train_split: Split, *, words: str = "random") -> tuple[str, ...]:
        """Give a head that is built on facts about the labels those of the training split; others are left as they are.

        To be called once, on new weights or after a transfer, and before the weights are copied. A model file needs no data.
        Returned are the classes whose names have no vector in `words`, see `sadcl_core.model.word_vectors.word_vectors`.

        Raises:
            DataError: the word vectors cannot be read.
        """
        if not self.head.NEEDS:
            return ()
        facts = label_facts(train_split)
        missing: tuple[str, ...] = ()
        if "vectors" in self.head.NEEDS:
            vectors, missing = word_vectors(words, facts)
            facts = replace(facts, vectors=vectors)
        self.head.prepare(facts)
        return missing

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the backbone's feature maps (B, D_i, h_i, w_i) of images (B, 3, H, W), shallow to deep; the head reads them."""
        maps: tuple[Tensor, ...] = self.backbone(images)
        return maps

    def classify(
        self, maps: tuple[Tensor, ...], *, need_attention: bool = False, known: Tensor | None = None
    ) -> ClassifierOutput:
        """Return the result for the feature maps of B images (B, D_i, h_i, w_i), shallow to deep, see `features`.

        `known` (B, K) are labels that are given: 1 active, 0 inactive, -1 unknown.

        Raises:
            UsageError: labels are given to a head that cannot use them.
        """
        if known is not None and not self.head.TAKES_KNOWN:
            raise UsageError(f"{type(self.head).__name__} cannot use labels that are given. Leave `known` out.")
        output: HeadOutput = self.head(HeadInputs(maps, known, self.prototypes), need_attention=need_attention)
        logits, attention = output.logits, output.attention
        if self.global_branch is not None:
            gated = logits if self.gate is None else self.gate * logits
            linear = self.global_branch(HeadInputs(maps[-1:]), need_attention=need_attention and self.head_is_silent)
            logits, attention = gated + linear.logits, linear.attention if self.head_is_silent else attention
        return ClassifierOutput(
            logits,
            output.features,
            attention,
            output.auxiliary,
            output.measures,
            image_features=maps[-1].mean(dim=(2, 3)),
            maps=maps if self.training else (),
        )

    @property
    def per_class(self) -> frozenset[str]:
        """Return the names of the tensors with a row per class."""
        branch = PooledHead.PER_CLASS if self.global_branch is not None else ()
        gate = () if self.gate is None else ("gate",)
        return frozenset(
            {
                "prototypes",
                *gate,
                *(f"head.{name}" for name in self.head.PER_CLASS),
                *(f"global_branch.{name}" for name in branch),
            }
        )

    @property
    def linear(self) -> PooledHead | None:
        """The linear layer on the pooled feature: the global branch, or else a pooled head itself; None without either."""
        return self.head if self.global_branch is None and isinstance(self.head, PooledHead) else self.global_branch

    def forward(self, images: Inputs, *, need_attention: bool = False, known: Tensor | None = None) -> ClassifierOutput:
        """Return `classify(features(images))` for images (B, 3, H, W), normalised, or for the maps of its frozen layers.

        Raises:
            UsageError: maps are given to a network that looks at parts of the images again.
        """
        if not self.second_look:
            maps = self.backbone.trained_part(images) if isinstance(images, tuple) else self.features(images)
            return self.classify(maps, need_attention=need_attention, known=known)
        if isinstance(images, tuple):
            raise UsageError("model.second_look needs the images, and features alone are there. Set it to 0.")
        return self._look_twice(images, need_attention=need_attention, known=known)

    def _look_twice(self, images: Tensor, *, need_attention: bool, known: Tensor | None) -> ClassifierOutput:
        """Return the result for images with the logits of their regions as a branch; in use the larger logits count."""
        maps = self.features(images)
        scored = isinstance(self.head, PooledHead) and self.global_branch is None
        output = self.classify(maps, need_attention=need_attention or not scored, known=known)
        regions = self.head.location_scores(maps[-1]).sigmoid() if scored else output.attention
        assert regions is not None, "asked for"
        height, width = images.shape[-2:]
        windows = best_regions(regions.detach(), output.logits.detach(), count=self.second_look, size=(int(height), int(width)))
        count = windows.shape[1]
        repeated = None if known is None else known.repeat_interleave(count, dim=0)
        again = self.classify(self.features(cut(images, windows)), known=repeated)
        local = again.logits.unflatten(0, (-1, count)).amax(dim=1)
        return replace(
            output,
            logits=output.logits if self.training else torch.maximum(output.logits, local),
            attention=output.attention if need_attention else None,
            auxiliary={**output.auxiliary, BRANCH: local},
        )

    def project(self, features: Tensor) -> Tensor:
        """Return embeddings (..., P) of length 1 of label features (..., D); the contrastive losses compare them."""
        return F.normalize(self.projection(features), dim=-1)


def _projection(width: int, embedding_width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, embedding_width))


def head_options(head: str, values: Mapping[str, Any]) -> Any:
    """Return the `Options` of a head, defaults filled in.

    Raises:
        UsageError: the head has no such option, or a value is out of bounds.

    Example:
        >>> head_options("sarl", {"width": 512}).feedforward
        8192
    """
    options = resolve(HEADS, head, kind="head").Options
    for key in values:
        if key not in options.model_fields:
            raise UsageError(f"The head {head} has no option {key!r}. {suggest(key, options.model_fields)}")
    try:
        return options(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, ("model.heads", head, *first["loc"])))
        raise UsageError(f"{name} is not valid: {first['msg'].removeprefix('Value error, ')}.") from None
