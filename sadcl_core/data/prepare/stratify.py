"""Images divided into train, val and test so that every class keeps its share in each of them.

Iterative stratification: Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011. The
class with the fewest images left hands them out first, to the splits that still want most of that class. The library
`iterative-stratification` does the same on the dense N x K matrix of targets and goes over all of it once per class, which
a million images with a thousand classes do not allow. Here an image is the list of its labels: the work grows with the
number of labels, plus K steps over K numbers. Added to the paper's method: the splits have exactly the sizes asked for;
which images of a class go where is decided by their other classes; a rare class reaches every split where there is room;
what rounding takes from a split in one class it gets back in later ones; images that belong together stay together.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import UsageError

NAMES = ("train", "val", "test")
HOW = "Write 0.8,0.1,0.1 for train, val and test, 0.8,0.2 for train and val, or one name such as test for all images."

ROUNDS = 20  # of fitting the wishes to the classes and to the splits in turn; the rest is less than an image
CARRY = 0.2  # of what a split is owed from earlier classes, when it is decided who gets the last images of a class
TINY = 1e-9

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


def parse_fractions(text: str) -> dict[str, float]:
    """Read how images are to be divided.

    Args:
        text: two or three numbers that sum to 1 or to 100, for train, val and test; or the name of the one split.

    Returns:
        The fraction of every split; they sum to 1.

    Raises:
        UsageError: it is neither.
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
    - Every class has its fraction in each split, as nearly as the greedy order gets it. Images without a label come last,
      into the places that are left, which are again about the fractions.
    - A class with fewer units than splits gives one to the largest split (the first of several as large) and one to each of
      the next in size, at random among equals. Any other class gives every split at least one, unless the split is full or
      the last units of the class are claimed by a rarer class that they share.
    - Where more classes claim a place in a split than it has room for labels (its fraction of all labels), that rule is
      dropped for this split, and rare classes have their fraction there together, each rounded up or down.

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
    """
    chosen = np.flatnonzero(np.asarray(fractions) > 0)
    shares = np.asarray(fractions, np.float64)[chosen] / np.sum(fractions)
    unit = _number_units(len(ends) - 1, groups)
    sizes = np.bincount(unit)
    if len(sizes) < len(chosen):
        images = f"{len(sizes)} different image{'s' if len(sizes) != 1 else ''}"
        raise UsageError(f"{images} cannot be divided into {len(chosen)} splits. Ask for fewer splits or add images.")
    if len(chosen) == 1:
        return np.full(len(unit), chosen[0], np.int8)
    rng = np.random.default_rng(seed)
    pairs = _pair(labels, ends, unit, rng)
    return chosen.astype(np.int8)[_hand_out(pairs, sizes, shares, rng)][unit]


@dataclass(frozen=True)
class _Pairs:
    """Which unit has which class, each pair once; a unit without a label has the extra class of those.

    Attributes:
        labels: (P,) classes, numbered by how many units have them, the rarest first; those of unit u are
            `labels[starts[u]:starts[u + 1]]`, ascending.
        starts: (U + 1,).
        units: (P,) units, those of class k being `units[places[k]:places[k + 1]]`.
        places: (K + 1,).
    """

    labels: Integers
    starts: Integers
    units: Integers
    places: Integers

    def of(self, units: Integers) -> Iterator[list[int]]:
        """The classes of each of these units."""
        lengths = self.starts[units + 1] - self.starts[units]
        ends = np.cumsum(lengths)
        flat = self.labels[np.arange(ends[-1]) + np.repeat(self.starts[units] - ends + lengths, lengths)].tolist()
        return (flat[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True))


@dataclass(frozen=True)
class _State:
    """What is still to be had while units are handed out; a list's last entry (K) stands for units of whatever class.

    Attributes:
        shares: (S,) fractions.
        room: (S,) images that each split still takes.
        want: (S, K) images of each class that each split still wants.
        owed: (S,) what earlier classes have left unfulfilled of each split's wishes.
        left: (K + 1,) units that are not handed out yet.
        missing: (K + 1,) a bit for every split that is due a unit of the class and has none yet.
    """

    shares: list[float]
    room: list[int]
    want: list[list[float]]
    owed: list[float]
    left: array[int]
    missing: list[int]

    def choose(self, turn: int, labels: list[int], size: int) -> int:
        """The split for a unit of `size` images with these classes, of which `turn` is the one that hands it out."""
        splits = [split for split, room in enumerate(self.room) if room >= size] or [_largest(self.room)]
        if self.left[-1] <= self.missing[-1].bit_count():
            splits = [split for split in range(len(self.room)) if self.missing[-1] >> split & 1]
        for label in labels:
            missing = self.missing[label]
            if missing and self.left[label] <= missing.bit_count():
                splits = [split for split in splits if missing >> split & 1] or splits
        if len(splits) == 1:
            return splits[0]
        wishing = [split for split in splits if self.want[split][turn] >= size]
        if wishing:
            return max(wishing, key=lambda split: self.need(split, labels))
        return max(splits, key=lambda split: (self.want[split][turn] + CARRY * self.owed[split], self.room[split]))

    def need(self, split: int, labels: list[int]) -> float:
        """How much a split of this size wants an image and each of its classes, relative to what is left of them."""
        want, left = self.want[split], self.left
        return (self.room[split] / left[-1] + sum(want[label] / left[label] for label in labels)) / self.shares[split]

    def give(self, split: int, labels: list[int], size: int) -> None:
        """A unit goes to a split."""
        self.room[split] -= size
        want, left, missing, others = self.want[split], self.left, self.missing, ~(1 << split)
        for label in labels:
            want[label] -= size
            left[label] -= 1
            missing[label] &= others
        left[-1] -= 1
        missing[-1] &= others


def _hand_out(pairs: _Pairs, sizes: Integers, shares: Floats, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """(U,) the split of every unit: the class with the fewest units left has its turn, until none is left."""
    state = _begin(pairs, sizes, shares, rng)
    left = np.frombuffer(state.left, np.int64)[:-2]  # of the true classes
    lengths = np.diff(pairs.starts)
    splits = np.full(len(sizes), -1, np.int8)
    while state.left[-1]:
        turn = int(np.where(left > 0, left, len(sizes) + 1).argmin()) if left.any() else len(left)
        units = pairs.units[pairs.places[turn] : pairs.places[turn + 1]]
        units = rng.permutation(units[splits[units] < 0])
        many = lengths[units] * (state.missing[turn] > 0)  # where splits miss the class, they may miss the image's others
        units = units[np.lexsort((-many, -sizes[units]))]
        given = []
        for labels, size in zip(pairs.of(units), sizes[units].tolist(), strict=True):
            split = state.choose(turn, labels, size)
            state.give(split, labels, size)
            given.append(split)
        splits[units] = given
        state.owed[:] = [owed + want[turn] for owed, want in zip(state.owed, state.want, strict=True)]
    return splits


def _begin(pairs: _Pairs, sizes: Integers, shares: Floats, rng: np.random.Generator) -> _State:
    """Nothing is handed out yet."""
    units, lengths = np.diff(pairs.places), np.diff(pairs.starts)
    images = np.bincount(pairs.labels, np.repeat(sizes, lengths), len(units)).astype(np.float64)
    due = _ranks(len(units), shares, rng) < units[:, None]
    least = due & (due.sum(axis=0) <= shares * len(pairs.labels))
    alone = (np.count_nonzero(lengths == 1) - units[-1]) / len(pairs.labels)
    return _State(
        shares=shares.tolist(),
        room=_apportion(int(sizes.sum()), shares).tolist(),
        want=_wishes(images, shares, due, least, alone).T.tolist(),
        owed=[0.0] * len(shares),
        left=array("q", [*units.tolist(), len(sizes)]),
        missing=[*(least @ (1 << np.arange(len(shares)))).tolist(), (1 << len(shares)) - 1],
    )


def _wishes(images: Floats, shares: Floats, due: Booleans, least: Booleans, alone: float) -> Floats:
    """How many images of each class each split is to get.

    Where a split gets more of the rare classes than its fraction, it has less room for the common ones: all of these yield
    in proportion, the more so the more labels are their image's only one.

    Args:
        images: (K,) of each class, to which its wishes sum.
        shares: (S,) fractions.
        due: (K, S) whether a split gets any.
        least: (K, S) whether it gets one at least.
        alone: the fraction of labels that are their image's only one.

    Returns:
        (K, S).
    """
    largest = int(shares.argmax())
    want = _complete(images[:, None] * shares * due, images, least, largest)
    columns = alone * shares * images.sum() + (1 - alone) * want.sum(axis=0)
    for _ in range(ROUNDS):
        want = np.maximum(want * (columns / np.maximum(want.sum(axis=0), TINY)), least)
        want *= (images / np.maximum(want.sum(axis=1), TINY))[:, None]
    return _complete(want, images, least, largest)


def _complete(want: Floats, images: Floats, least: Booleans, largest: int) -> Floats:
    """Raise wishes to the least and let the largest split have the rest of every class."""
    want = np.maximum(want, least)
    want[:, largest] += images - want.sum(axis=1)
    return want


def _ranks(count: int, shares: Floats, rng: np.random.Generator) -> Integers:
    """(K, S) the place of every split when a class fills the largest first, equals at random but for the first largest."""
    first = np.where(np.arange(len(shares)) == shares.argmax(), 0, 1)
    keys = np.broadcast_to(np.stack([-shares, first])[:, None], (2, count, len(shares)))
    return np.lexsort((rng.random((count, len(shares))), keys[0], keys[1])).argsort()


def rounded(exact: Floats) -> Integers:
    """(S,) whole numbers of the same sum, each within one of its own."""
    sizes = np.floor(exact).astype(np.int64)
    sizes[np.argsort(sizes - exact, kind="stable")[: round(exact.sum()) - sizes.sum()]] += 1
    return sizes


def _apportion(count: int, shares: Floats) -> Integers:
    """(S,) whole numbers that sum to `count`, within one of their shares except that none is 0."""
    sizes = rounded(count * shares)
    while not sizes.all():
        sizes[sizes.argmax()] -= 1
        sizes[sizes.argmin()] += 1
    return sizes


def _pair(labels: npt.NDArray[np.int32], ends: Integers, unit: Integers, rng: np.random.Generator) -> _Pairs:
    """Every unit with each of its classes once; classes that equally many units have are numbered at random."""
    classes = int(labels.max(initial=-1)) + 2  # the last one is that of units without a label
    owner = np.repeat(unit, np.diff(ends))
    bare = np.flatnonzero(np.bincount(owner, minlength=int(unit.max()) + 1) == 0)
    keys = np.unique(np.concatenate([owner * classes + labels, (bare + 1) * classes - 1]))
    counts = np.bincount(keys % classes, minlength=classes)
    order = np.lexsort((rng.random(classes), counts, np.arange(classes) == classes - 1))
    number = np.argsort(order)
    owner, numbers = np.divmod(np.sort(keys - keys % classes + number[keys % classes]), classes)
    return _Pairs(
        labels=numbers,
        starts=starts(np.bincount(owner)),
        units=owner[np.argsort(numbers, kind="stable")],
        places=starts(counts[order]),
    )


def starts(lengths: Integers) -> Integers:
    """Where each of several lists starts that lie one after the other, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _number_units(count: int, groups: Integers | None) -> Integers:
    """(N,) the unit of every image, from 0."""
    if groups is None:
        return np.arange(count)
    alone = groups < 0
    names = np.where(alone, groups.max(initial=-1) + np.cumsum(alone), groups)
    return np.unique(names, return_inverse=True)[1]


def _largest(numbers: Sequence[int]) -> int:
    """Where the largest number is."""
    return max(range(len(numbers)), key=numbers.__getitem__)


def _number(text: str) -> float | None:
    """The number that a text is, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None
