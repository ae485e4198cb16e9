"""Numbers about the labels and images of one split: co-occurrence, repeat factors, image sizes.

What a model learns from must be counted in the training split alone; callers pass it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csr_matrix

from sadcl_core.data.images import image_size
from sadcl_core.data.split import BLOCK, Split
from sadcl_core.errors import DataError

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelStatistics:
    """Counts of the images of a split, by class and by pair of classes.

    Attributes:
        active: (K,) images in which class i is active.
        together: (K, K) images in which i and j are both active; the diagonal is `active`.
        known: (K, K) images in which i is active and j is known, that is, active or inactive: the denominator of P(j | i).
    """

    active: Counts
    together: Counts
    known: Counts

    def conditional(self) -> Floats:
        """Return (K, K) P(j | i), the share of images with class i that also show j; 0 on the diagonal and where it is undefined.

        Example:
            >>> counts = np.array([[4, 1], [1, 1]])
            >>> LabelStatistics(active=np.diag(counts), together=counts, known=np.array([[4, 2], [1, 1]])).conditional()
            array([[0. , 0.5],
                   [1. , 0. ]])
        """
        shares = np.divide(self.together, self.known, out=np.zeros(self.known.shape), where=self.known > 0)
        np.fill_diagonal(shares, 0)
        return shares


def label_statistics(split: Split) -> LabelStatistics:
    """Count classes and pairs of classes in a split.

    Labels are read in blocks as sparse matrices; no array of images times classes is made. An unknown label is not active, and
    the image leaves the denominator of P(j | i) where j is unknown.

    Args:
        split: N images with K classes.

    Returns:
        int64 counts: `active` (K,), `together` (K, K) and `known` (K, K).

    Example:
        >>> from pathlib import Path
        >>> from sadcl_core.data.manifest import Description, Manifest
        >>> from sadcl_core.data.rows import Record
        >>> labels = [((0, 1), ()), ((0,), (1,)), ((0,), ())]  # active and unknown ones of three images
        >>> records = [Record(f"{i}.jpg", "train", active, unknown) for i, (active, unknown) in enumerate(labels)]
        >>> manifest = Manifest.from_records(Description("pets", Path("."), ("cat", "dog")), records)
        >>> counts = label_statistics(manifest.split("train"))
        >>> counts.active.tolist(), counts.together.tolist(), counts.known.tolist()
        ([3, 1], [[3, 1], [1, 1]], [[3, 2], [1, 1]])
    """
    together = co_occurrence(split).toarray().astype(np.int64)
    unknown = co_occurrence(split, "unknown").toarray().astype(np.int64)
    active = np.diagonal(together).copy()
    return LabelStatistics(active=active, together=together, known=active[:, None] - unknown)


def co_occurrence(split: Split, other: Literal["active", "unknown"] = "active", *, block: int = 1 << 14) -> csr_matrix:
    """Return the sparse (K, K) number of images in which class i is active and class j is active, or unknown.

    Where both are active, the diagonal counts each class. The labels of `block` images are in memory at a time.

    Example:
        >>> from pathlib import Path
        >>> from sadcl_core.data.manifest import Description, Manifest
        >>> from sadcl_core.data.rows import Record
        >>> records = [Record("a.jpg", "train", (0, 1)), Record("b.jpg", "train", (0,), unknown=(1,))]
        >>> split = Manifest.from_records(Description("pets", Path("."), ("cat", "dog")), records).split("train")
        >>> co_occurrence(split).toarray().tolist(), co_occurrence(split, "unknown").toarray().tolist()
        ([[2, 1], [1, 1]], [[0, 1], [0, 0]])
    """
    classes = len(split.manifest.classes)
    total = csr_matrix((classes, classes), dtype=np.int64)
    for active, unknown in split.label_blocks(block):
        first = _indicators(active, classes)
        second = first if other == "active" else _indicators(unknown, classes)
        total = total + first.T @ second
    return total.tocsr()


def _indicators(lists: pa.ListArray, classes: int) -> csr_matrix:
    """Return a sparse (n, K) matrix with 1 where a label is listed."""
    labels = lists.flatten().to_numpy()
    ends = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())])
    return csr_matrix((np.ones(len(labels), np.int64), labels, ends), shape=(len(lists), classes))


def repeat_factors(split: Split, *, threshold: float | None = None, block: int = BLOCK) -> Floats:
    """Return the probability with which each image of a split is drawn, so that rare classes are seen more often.

    Repeat factor sampling of Gupta, Dollár and Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019:

        r(c) = max(1, sqrt(t / f(c))),    r(image) = max of r(c) over its active classes c

    with f(c) the share of all images in which class c is active. LVIS uses t = 0.001 for its 1,203 classes; the default here is
    the median of f over the classes that occur, so that the rarer half of the classes is repeated in every data set. Unknown
    labels are not active.

    Args:
        split: N images.
        threshold: t in (0, 1], the share of images below which a class is rare; None: the median over the classes that occur.
        block: images whose labels are in memory at a time.

    Returns:
        (N,) repeat factors, 1 for an image without an active label, divided by their sum.

    Raises:
        ValueError: the threshold is out of range.

    Example:
        >>> from pathlib import Path
        >>> from sadcl_core.data.manifest import Description, Manifest
        >>> from sadcl_core.data.rows import Record
        >>> records = [Record(f"{i}.jpg", "train", (int(i == 4),)) for i in range(5)]
        >>> manifest = Manifest.from_records(Description("pets", Path("."), ("cat", "dog")), records)
        >>> factors = repeat_factors(manifest.split("train"), threshold=0.8)
        >>> (factors / factors[0]).tolist()
        [1.0, 1.0, 1.0, 1.0, 2.0]
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"need a threshold above 0 and up to 1, got {threshold}")
    of_class = class_repeat_factors(split.class_counts(), len(split), threshold=threshold)
    factors = np.ones(len(split))
    start = 0
    for active, _ in split.label_blocks(block):
        lengths = active.value_lengths().to_numpy().astype(np.int64)
        nonempty = np.flatnonzero(lengths)
        if len(nonempty):
            offsets = (np.cumsum(lengths) - lengths)[nonempty]
            factors[start + nonempty] = np.maximum.reduceat(of_class[active.flatten().to_numpy()], offsets)
        start += len(active)
    return factors / float(factors.sum())


def class_repeat_factors(counts: Counts, images: int, *, threshold: float | None = None) -> Floats:
    """Return (K,) repeat factors r(c) of classes, see `repeat_factors`; 1 for a class that does not occur.

    Each class is active in `counts` (K,) of the images.

    Example:
        >>> class_repeat_factors(np.array([1000, 25, 0]), 100_000, threshold=0.001).tolist()
        [1.0, 2.0, 1.0]
    """
    factors = np.ones(len(counts))
    occurs = counts > 0
    frequency = counts[occurs] / images
    if len(frequency):
        rare = float(np.median(frequency)) if threshold is None else threshold
        factors[occurs] = np.maximum(1.0, np.sqrt(rare / frequency))
    return factors


def median_short_side(split: Split, *, sample: int = 100) -> int | None:
    """Return the median of the shorter sides of images in pixels, read from the headers of a sample spread evenly.

    None if no image can be opened, or if the images are in shards, which are not fetched for this. More than 100 images move
    the median by a few percent at most.
    """
    if split.manifest.description.shards is not None:
        return None
    count = min(sample, len(split))
    sides = []
    for number in range(count):
        try:
            sides.append(min(image_size(split.path(number * len(split) // count))))
        except DataError:  # reported when the image is loaded
            continue
    return round(median(sides)) if sides else None
