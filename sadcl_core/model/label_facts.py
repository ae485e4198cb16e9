"""Facts about the labels of the training images, for heads that are built on them: graphs, priors, word vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LabelFacts:
    """What the training split says about its K labels; no other split may be counted.

    The conditional probability P(j | i) = together[i, j] / known[i, j], which is together[i, j] / active[i] where no label is
    unknown.

    Attributes:
        names: K class names, as shown.
        active: (K,), images in which the label is active.
        together: (K, K), images in which both labels are active; the diagonal is `active`.
        known: (K, K), images in which label i is active and label j is known, whether active or inactive.
        vectors: (K, W), a word vector of each class name, or None where there are none.
    """

    names: tuple[str, ...]
    active: Tensor
    together: Tensor
    known: Tensor
    vectors: Tensor | None = None
