"""How often each image is drawn so that rare classes are seen more: repeat factor sampling.

Gupta, Dollár and Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019:

    r(c) = max(1, sqrt(t / f(c))),    r(image) = max of r(c) over its active classes c

with f(c) the share of all images in which class c is active. Above the threshold t nothing changes. LVIS takes t = 0.001 for its
1,203 classes; here it is the median of f over the classes that occur unless said otherwise, so that the rarer half of
the classes is repeated whatever the data set. Unknown labels are not active, as in LVIS, and count for nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sadcl_core.data.manifest import Split

Floats = npt.NDArray[np.float64]


def repeat_factors(split: Split, *, threshold: float | None = None) -> Floats:
    """Probability with which each image of a split is drawn.

    The labels are read in blocks of the manifest's lists; no array of images times classes is made.

    Args:
        split: which images.
        threshold: t in (0, 1], the share of images below which a class is rare; None: the median over the classes that occur.

    Returns:
        (N,) repeat factors, 1 for an image without an active label, divided by their sum.

    Raises:
        ValueError: the threshold is out of range.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"need a threshold above 0 and up to 1, got {threshold}")
    of_class = class_repeat_factors(split.class_counts(), len(split), threshold=threshold)
    factors = np.ones(len(split))
    start = 0
    for labels, lengths in split.active_blocks():
        starts = np.cumsum(lengths) - lengths  # place of each image's first label
        some = np.flatnonzero(lengths)
        if len(some):
            factors[start + some] = np.maximum.reduceat(of_class[labels], starts[some])
        start += len(lengths)
    return factors / float(factors.sum())


def class_repeat_factors(counts: npt.NDArray[np.int64], images: int, *, threshold: float | None = None) -> Floats:
    """(K,) numbers of images in which each class is active, of `images` -> (K,) r(c); 1 for a class that does not occur."""
    factors = np.ones(len(counts))
    occurs = counts > 0
    frequency = counts[occurs] / images
    if len(frequency):
        rare = float(np.median(frequency)) if threshold is None else threshold
        factors[occurs] = np.maximum(1.0, np.sqrt(rare / frequency))
    return factors
