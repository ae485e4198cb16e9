"""The form in which a format of checkpoints gives its tensors, and renaming by a table of patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Rules = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Converted:
    """Tensors of a checkpoint beside its backbone, under the names of a `Classifier`.

    Attributes:
        head: a row of HEADS.
        options: of the head, as far as the file or its paper says them.
        classes: K.
        tensors: under their names here.
        used: names there that `tensors` are made of.
        dropped: names there that nothing here needs, with the reason.
        assumed: what the file does not say and its paper does, by setting.
        settings: of the model beside the head, as `projection_width`.
        map_height: locations of a column of the feature map, where the file says so.
        pixels: mean and standard deviation that the paper gives images, where it does not follow the backbone.
    """

    head: str
    options: dict[str, Any]
    classes: int
    tensors: dict[str, Tensor]
    used: frozenset[str]
    dropped: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    map_height: int | None = None
    pixels: tuple[float, float] | None = None


def rename(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, str]:
    """Return the name here of each tensor that a rule fits, by its name there; the first pattern that fits the whole name counts.

    Example:
        >>> rename({"fc.W": Tensor(), "other": Tensor()}, [("fc[.]W", "head.weight")])
        {'fc.W': 'head.weight'}
    """
    matches = {name: next(((p, new) for p, new in rules if re.fullmatch(p, name)), None) for name in tensors}
    return {name: re.sub(match[0], match[1], name) for name, match in matches.items() if match is not None}


def layers(names: Sequence[str], part: str) -> int:
    """Return how many numbered layers there are below a part.

    Example:
        >>> layers(["decoder.0.norm.weight", "decoder.1.norm.weight", "decoder.1.norm.bias"], "decoder")
        2
    """
    return len({match[1] for name in names if (match := re.match(rf"{re.escape(part)}\.(\d+)\.", name))})
