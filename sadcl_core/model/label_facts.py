"""Facts about the labels of the training images, for heads that are built on them: graphs, priors, word vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sadcl_core.data.split import Split


@dataclass(frozen=True)
class LabelFacts:
    """Facts of the training split about its K labels; no other split may be counted.

    The conditional probability P(j | i) = together[i, j] / known[i, j], which is together[i, j] / active[i] where no label is
    unknown.

    Attributes:
        names: K class names, as shown.
        active: (K,), images in which the label is active.
        together: (K, K), images in which both labels are active; the diagonal is `active`.
        known: (K, K), images in which label i is active and label j is known, whether active or inactive.
        vectors: (K, W), a word vector of each class name, or None without word vectors.
    """

    names: tuple[str, ...]
    active: Tensor
    together: Tensor
    known: Tensor
    vectors: Tensor | None = None


def label_facts(split: Split) -> LabelFacts:
    """Count the labels of a split with K classes, which has to be the training split; without word vectors.

    Example:
        >>> from pathlib import Path
        >>> from sadcl_core.data.manifest import Description, Manifest
        >>> from sadcl_core.data.rows import Record
        >>> records = [Record("a.jpg", "train", (0, 1)), Record("b.jpg", "train", (0,), unknown=(1,))]
        >>> facts = label_facts(Manifest.from_records(Description("pets", Path(), ("cat", "dog")), records).split("train"))
        >>> facts.names, facts.active.tolist(), facts.together.tolist(), facts.known.tolist()
        (('cat', 'dog'), [2, 1], [[2, 1], [1, 1]], [[2, 1], [1, 1]])
    """
    from sadcl_core.data.statistics import label_statistics  # a loaded model counts nothing and needs none of its imports

    counts = label_statistics(split)
    active, together, known = (torch.from_numpy(table) for table in (counts.active, counts.together, counts.known))
    return LabelFacts(split.manifest.classes, active, together, known)
