"""The form of every head: what it is given, what it returns, what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST, Section
from sadcl_core.model.label_facts import LabelFacts
from sadcl_core.model.layers import draw_uniform


@dataclass(frozen=True)
class HeadInputs:
    """Inputs of a head for B images.

    Attributes:
        maps: feature maps (B, D_i, h_i, w_i), shallow to deep; a single one unless `Head.LEVELS` names more.
        known: (B, K), labels that are given: 1 active, 0 inactive, -1 unknown; None where nothing is given.
        prototypes: (K, D) of the classifier, for heads that compare or subtract them.
    """

    maps: tuple[Tensor, ...]
    known: Tensor | None = None
    prototypes: Tensor | None = None


@dataclass(frozen=True)
class HeadOutput:
    """Result of a head for B images.

    Attributes:
        logits: (B, K), before the sigmoid.
        features: the label features (B, K, D), or a function that computes them, where they cost more than the logits. It may be
            called after the pass, so without gradients it uses no parameter that has one; weights must not change before.
        attention: (B, K, h, w), where each label was read from; sums to 1 per label. None unless it was asked for.
        auxiliary: logits (B, K) of further branches, by the names in `Head.AUXILIARY`.
        measures: tensors (B, ...) that a loss of this head reads, one row per image.
    """

    logits: Tensor
    features: Tensor | Callable[[], Tensor]
    attention: Tensor | None = None
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    measures: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def label_features(self) -> Tensor:
        """(B, K, D), one feature per image and label; computed when first asked for."""
        return self.features if isinstance(self.features, Tensor) else self.features()


class Head(nn.Module):
    """From feature maps to logits and label features. A head overrides `Options`, `__init__`, `forward` and what differs here.

    It is built with random weights as `head(channels=..., num_classes=K, options=...)`, where `channels` (D_1, ...) are those of
    the maps in `LEVELS` and `options` an instance of its `Options`. These are enough to build it again from a model file; what
    comes from data is a buffer that starts as zeros, is filled once by `prepare`, and travels in the file.

    Attributes:
        width: D, of the label features.
        Options: settings under `model.heads.NAME`, with defaults and bounds.
        NEEDS: fields of `LabelFacts` that `prepare` reads; facts are computed only for a head that names one.
        LEVELS: strides of the maps it reads, as fractions of the backbone's; (2, 1) asks for the map of half the stride as well.
        TAKES_KNOWN: True if it reads `HeadInputs.known`.
        READS_PROTOTYPES: True if it reads `HeadInputs.prototypes`; they are then built before the second stage.
        SHARED_FEATURES: True if all labels of an image have the same feature, which contrast between labels cannot tell apart.
        AUXILIARY: weight of the classification loss of each branch in `HeadOutput.auxiliary`.
        PER_CLASS: parameters and buffers with a row per class, which a transfer carries over by class name.
        PER_PAIR: the same with a row and a column per class.
        CLASSIFIER: parameters of the linear classifier, which may have a learning rate of their own.
        STARTS_AT_ZERO: False if a step from a CLASSIFIER of zeros makes large logits: beside a linear layer they are then
            multiplied by a gate that starts at zero.
        FROM_DATA: buffers that `prepare` fills; a transfer leaves them out and `prepare` fills them again.
        extendable: True if the logit of a class depends on its own rows of PER_CLASS and on what all share, on no other class,
            so that a class can be added and the others stay as they are.
    """

    Options: ClassVar[type[Section]]
    NEEDS: ClassVar[frozenset[str]] = frozenset()
    LEVELS: ClassVar[tuple[int, ...]] = (1,)
    TAKES_KNOWN: ClassVar[bool] = False
    READS_PROTOTYPES: ClassVar[bool] = False
    SHARED_FEATURES: ClassVar[bool] = False
    AUXILIARY: ClassVar[Mapping[str, float]] = {}
    PER_CLASS: tuple[str, ...] = ()
    PER_PAIR: ClassVar[tuple[str, ...]] = ()
    CLASSIFIER: ClassVar[tuple[str, ...]] = ()
    STARTS_AT_ZERO: ClassVar[bool] = True
    FROM_DATA: ClassVar[tuple[str, ...]] = ()
    extendable: bool = False

    width: int

    @classmethod
    def measured(cls, options: Section) -> frozenset[str]:
        """Return the names in `HeadOutput.measures` of a head with these options, for losses that read them."""
        return frozenset()

    def prepare(self, facts: LabelFacts) -> None:
        """Fill the buffers of `FROM_DATA`, here `words`; called once, before training, and never on a loaded model."""
        if "words" in self.FROM_DATA:
            assert facts.vectors is not None, "asked for by NEEDS"
            self.get_buffer("words").copy_(facts.vectors)

    def precompute(self) -> None:
        """Compute what depends on no image, once, before the network is exported."""

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return the result for one batch, with attention if it is asked for."""
        raise NotImplementedError


class LinearHead(Head):
    """A head that scores the label feature of each class by a linear classifier of this class."""

    CLASSIFIER: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def add_classifier(self, num_classes: int) -> None:
        """Add weights (K, D) and biases (K,), drawn as those of `nn.Linear`."""
        self.weight = nn.Parameter(torch.empty(num_classes, self.width))
        self.bias = nn.Parameter(torch.empty(num_classes))
        draw_uniform(self.weight, self.bias, inputs=self.width)

    def logits_of(self, features: Tensor) -> Tensor:
        """Return logits (B, K) of label features (B, K, D)."""
        return (features * self.weight).sum(dim=-1) + self.bias


class AttentionOptions(Section):
    """Options of a head whose width is cut over parallel attentions."""

    MULTIPLE: ClassVar[int] = 1  # of which the width is one; 4 where positions are encoded

    width: int = Field(ge=1, le=WIDEST, description="D, width of the label features")
    attention_heads: int = Field(4, ge=1, le=WIDEST, description="parallel attentions, each over a part of the width")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.MULTIPLE or self.width % self.attention_heads:
            also = f"{self.MULTIPLE} and of " if self.MULTIPLE > 1 else ""
            raise ValueError(f"width {self.width} must be a multiple of {also}attention_heads ({self.attention_heads})")
        return self


def in_full_precision(tensor: Tensor) -> AbstractContextManager[None]:
    """Return a context in which the device of a tensor computes in the precision of the numbers, without autocast."""
    kind = tensor.device.type  # the meta device, on which memory is counted, has none
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def shares_of_activation(activation: Tensor) -> Tensor:
    """Return the share of each location in the positive part of activations (B, K, h, w); flat where there is none.

    Example:
        >>> shares_of_activation(torch.tensor([[[[1.0, 3.0]], [[-1.0, -2.0]]]])).round(decimals=4)
        tensor([[[[0.2500, 0.7500]],
        <BLANKLINE>
                 [[0.5000, 0.5000]]]])
    """
    positive = activation.relu() + 1e-6
    return positive / positive.sum(dim=(2, 3), keepdim=True)


def activation_maps(feature_map: Tensor, rows: Tensor, *, pooling: Literal["max", "mean"]) -> Tensor:
    """Return attention (B, K, h, w) of a linear classifier with rows (K, D) on the pooled feature of a map (B, D, h, w).

    The class activation map (Zhou et al., CVPR 2016): what each location adds to the logit; of a maximum, the largest ones.
    """
    parts = feature_map.flatten(2)
    if pooling == "max":
        largest, where = parts.max(dim=2, keepdim=True)
        parts = torch.zeros_like(parts).scatter_(2, where, largest)
    return shares_of_activation((rows.to(parts.dtype) @ parts).unflatten(2, feature_map.shape[-2:]))
