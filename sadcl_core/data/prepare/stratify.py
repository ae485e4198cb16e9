"""Images divided into train, val and test so that every class keeps its share in each of them.

Iterative stratification: Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011. The
class with the fewest images left hands them out first, to the splits that still want most of that class. The library
`iterative-stratification` does the same on the dense N x K matrix of targets and goes over all of it once per class, which
a million images with a thousand classes do not allow. Here an image is the list of its labels: the work grows with the
number of labels, plus K steps over K numbers. Added to the paper's method: the splits have exactly the sizes requested; which
images of a class go where is decided by their other classes; what rounding takes from a split in one class it gets back in later
ones; images that belong together stay together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sadcl_core.errors import UsageError
from sadcl_core.runtime.words import counted

NAMES = ("train", "val", "test")
HOW = "Write 0.8,0.1,0.1 for train, val and test, 0.8,0.2 for train and val, or one name such as test for all images."

CARRY = 0.2  # of the images that a split lacks, when it is decided who gets the last images of a class

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def parse_fractions(text: str) -> dict[str, float]:
    """Read how images are to be divided.

    Args:
        text: two or three numbers that sum to 1 or to 100, for train, val and test; or the name of the one split.

    Returns:
        The fraction of every split; they sum to 1.

    Raises:
        UsageError: the text is neither.

    Example:
        >>> parse_fractions("80,20"), parse_fractions("test")
        ({'train': 0.8, 'val': 0.2}, {'test': 1.0})
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [_number(part) for part in parts]
    if numbers == [None] and re.fullmatch(r"[A-Za-z0-9_-]+", parts[0]):
        return {parts[0]: 1.0}
    if not 2 <= len(parts) <= len(NAMES):
        raise UsageError(f"{text!r} does not say how to divide the images. {HOW}")
    fractions = [number for number in numbers if number is not None and 0 < number < math.inf]
    if len(fractions) < len(parts):
        raise UsageError(f"{text!r} has a part that is not a number above 0. {HOW}")
    for whole in (1, 100):
        if math.isclose(sum(fractions), whole, rel_tol=1e-6):
            return {name: fraction / whole for name, fraction in zip(NAMES, fractions, strict=False)}
    raise UsageError(f"The parts of {text!r} sum to {sum(fractions):g} and not to 1. {HOW}")


def stratify(
    labels: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int64],
    fractions: Sequence[float],
    *,
    seed: int,
    groups: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int8]:
    """Divide N images into splits by iterative stratification.

    A unit is an image, or all images of a group. What holds:

    - The splits have the sizes that the fractions ask for, within one image; with groups, as nearly as these allow.
    - No split with a fraction above 0 is empty, even where its fraction is less than one image.
    - Every class has its fraction in each split, as nearly as the greedy order gets it; so have images without a label.
    - A rare class may miss a split by one image: of five images, one goes to val or to test where each is to get a tenth.

    Args:
        labels: class indices, those of image i being `labels[ends[i]:ends[i + 1]]`.
        ends: (N + 1,) starts with 0.
        fractions: (S,) relative sizes of the splits, none below 0.
        seed: of the choice among equals; the same seed gives the same result.
        groups: (N,) images of the same number from 0 on go to the same split; -1 stands alone.

    Returns:
        (N,) the number of every image's split.

    Raises:
        UsageError: there are fewer units than splits with a fraction above 0.

    Example:
        >>> labels, ends = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 4, 5, 6])
        >>> split = stratify(labels, ends, (0.5, 0.5), seed=0)
        >>> np.bincount(split[:4]).tolist(), np.bincount(split[4:]).tolist()
        ([2, 2], [1, 1])
    """
    present = np.flatnonzero(np.asarray(fractions) > 0)
    shares = np.asarray(fractions, np.float64)[present] / np.sum(fractions)
    unit = _number_units(len(ends) - 1, groups)
    sizes = np.bincount(unit)
    if len(sizes) < len(present):
        images = counted(len(sizes), "different image")
        if len(sizes) < len(unit):
            images += f", or groups of images that stay together ({counted(len(unit), 'image')}),"
        raise UsageError(f"{images} cannot be divided into {len(present)} splits. Ask for fewer splits or add images.")
    if len(present) == 1:
        return np.full(len(unit), present[0], np.int8)
    classes = int(labels.max(initial=-1)) + 2  # the last one is that of units without a label
    owner = np.repeat(unit, np.diff(ends))
    bare = np.flatnonzero(np.bincount(owner, minlength=len(sizes)) == 0)
    pairs = np.unique(np.concatenate([owner * classes + labels, (bare + 1) * classes - 1]))  # each unit and class once
    return present.astype(np.int8)[_hand_out(*np.divmod(pairs, classes), sizes, shares, np.random.default_rng(seed))][unit]


def stratify_rows(
    rows: pa.Table, fractions: Sequence[float], *, seed: int, groups: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int8]:
    """Divide N rows of a manifest by their active labels; see `stratify`."""
    active = rows["active"].combine_chunks()
    return stratify(active.flatten().to_numpy(), starts(active.value_lengths().to_numpy()), fractions, seed=seed, groups=groups)


def _hand_out(
    owners: Integers, labels: Integers, sizes: Integers, shares: Floats, rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Return (U,) the split of every unit: the class with the fewest units left has its turn, until none is left."""
    counts = np.bincount(labels)
    by_class, places = owners[np.argsort(labels, kind="stable")], starts(counts)
    by_unit = starts(np.bincount(owners))
    images = np.bincount(labels, sizes[owners])
    room: list[int] = _apportion(int(sizes.sum()), shares).tolist()  # images that each split still takes
    want: list[list[float]] = np.outer(shares, images).tolist()  # (S, K) images of each class that each split still wants
    left: list[int] = counts.tolist()  # units of each class
    empty = set(range(len(room)))  # splits without a unit
    splits = np.full(len(sizes), -1, np.int8)
    units_left = len(sizes)
    while units_left:
        turn = int(np.where(np.array(left) > 0, left, len(sizes) + 1).argmin())
        units = by_class[places[turn] : places[turn + 1]]
        units = rng.permutation(units[splits[units] < 0])
        for unit in units[np.argsort(-sizes[units], kind="stable")].tolist():
            size, own = int(sizes[unit]), labels[by_unit[unit] : by_unit[unit + 1]].tolist()
            fitting = [split for split, places_left in enumerate(room) if places_left >= size] or [room.index(max(room))]
            fitting = list(empty) if units_left <= len(empty) else fitting
            wishing = [split for split in fitting if want[split][turn] >= size]
            if wishing:  # those that also want its other classes, relative to what is left of them and to the split's size
                scores = {
                    split: (room[split] / units_left + sum(want[split][label] / left[label] for label in own)) / shares[split]
                    for split in wishing
                }
            else:  # what rounding takes from a split in one class it gets back in a later one
                total = sum(room)
                scores = {split: want[split][turn] + CARRY * (room[split] - shares[split] * total) for split in fitting}
            split = max(scores, key=scores.__getitem__)
            splits[unit] = split
            units_left -= 1
            room[split] -= size
            empty.discard(split)
            for label in own:
                want[split][label] -= size
                left[label] -= 1
    return splits


def rounded(exact: Floats) -> Integers:
    """Return (S,) whole numbers of the same sum, each within one of its own."""
    sizes = np.floor(exact).astype(np.int64)
    sizes[np.argsort(sizes - exact, kind="stable")[: round(exact.sum()) - sizes.sum()]] += 1
    return sizes


def _apportion(count: int, shares: Floats) -> Integers:
    """Return (S,) whole numbers that sum to `count`, within one of their shares except that none is 0."""
    sizes = rounded(count * shares)
    while not sizes.all():
        sizes[sizes.argmax()] -= 1
        sizes[sizes.argmin()] += 1
    return sizes


def starts(lengths: Integers) -> Integers:
    """Return where each of several lists starts that lie one after the other, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _number_units(count: int, groups: Integers | None) -> Integers:
    """Return (N,) the unit of every image, from 0."""
    if groups is None:
        return np.arange(count)
    alone = groups < 0
    names = np.where(alone, groups.max(initial=-1) + np.cumsum(alone), groups)
    return np.unique(names, return_inverse=True)[1]


def _number(text: str) -> float | None:
    """Return the number that a text is, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None
