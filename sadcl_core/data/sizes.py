"""How large the images of a split are, from the headers of some of them."""

from __future__ import annotations

from statistics import median

from sadcl_core.data.images import image_size
from sadcl_core.data.manifest import Split
from sadcl_core.errors import DataError

LOOKED_AT = 100  # images; the median moves by a few percent at most with more


def median_short_side(split: Split, *, sample: int = LOOKED_AT) -> int | None:
    """Median of the shorter sides in pixels.

    Args:
        split: whose images are looked at, evenly spread over it.
        sample: how many, at most.

    Returns:
        None when none of them can be opened, or when they are in shards, which are not worth fetching for this.
    """
    if split.manifest.description.shards is not None:
        return None
    count = min(sample, len(split))
    sides = []
    for number in range(count):
        try:
            sides.append(min(image_size(split.path(number * len(split) // count))))
        except DataError:  # the loader says so when its turn comes
            continue
    return round(median(sides)) if sides else None
