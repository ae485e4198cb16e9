"""The rows of a manifest: what one holds, and flat columns in which a million of them fit while they are read."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BOX = pa.struct(
    [("label", pa.int32()), ("x", pa.float32()), ("y", pa.float32()), ("width", pa.float32()), ("height", pa.float32())]
)
SCHEMA = pa.schema(
    [
        ("image", pa.string()),  # relative to the root, forward slashes
        ("split", pa.dictionary(pa.int32(), pa.string())),
        ("active", pa.list_(pa.int32())),  # class indices, ascending
        ("unknown", pa.list_(pa.int32())),
        ("boxes", pa.list_(BOX)),  # pixels of the image as stored on disk; null where the source has no boxes
    ]
)


class Box(NamedTuple):
    """One object, in pixels from the top left corner."""

    label: int
    x: float
    y: float
    width: float
    height: float


class Record(NamedTuple):
    """One image as a reader of label files hands it over."""

    image: str
    split: str
    active: tuple[int, ...]
    unknown: tuple[int, ...] = ()
    boxes: tuple[Box, ...] | None = None


class Rows:
    """Rows in the making: flat columns, so that a million images fit while they are read."""

    def __init__(self) -> None:
        """Start without a row."""
        self.images: list[str] = []
        self.splits: dict[str, int] = {}
        self.split_codes = array("i")
        self.active = Lists()
        self.unknown = Lists()
        self.boxes: list[tuple[Box, ...] | None] | None = None  # from the first row on that has boxes

    def __len__(self) -> int:
        return len(self.images)

    def add(self, record: Record) -> None:
        """Append a row; labels are sorted and an active label wins over an unknown one."""
        active = set(record.active)
        self.images.append(record.image)
        self.split_codes.append(self.splits.setdefault(record.split, len(self.splits)))
        self.active.add(sorted(active))
        self.unknown.add(sorted(set(record.unknown) - active) if record.unknown else ())
        if record.boxes is not None and self.boxes is None:
            self.boxes = [None] * (len(self.images) - 1)
        if self.boxes is not None:
            self.boxes.append(record.boxes)

    def table(self, order: npt.NDArray[np.int32] | None = None, unknown: Mapping[int, Sequence[int]] | None = None) -> pa.Table:
        """Return the rows as SCHEMA has them.

        `order` gives the final index of each class, where classes were numbered as they came up; `unknown` has, by row, lists of
        unknown labels that replace those that were added.
        """
        if unknown:
            lists = Lists()
            for row in range(len(self)):
                lists.add(unknown.get(row, self.unknown[row]))
            self.unknown = lists
        split = pa.DictionaryArray.from_arrays(
            np.frombuffer(self.split_codes, np.int32), pa.array(list(self.splits), pa.string())
        )
        columns = [
            pa.array(self.images, pa.string()),
            split,
            self.active.column(order),
            self.unknown.column(order),
            box_lists(self.boxes, order) if self.boxes is not None else pa.nulls(len(self.images), SCHEMA.field("boxes").type),
        ]
        return pa.table(columns, schema=SCHEMA)


class Lists:
    """Lists of class indices, one after the other."""

    def __init__(self) -> None:
        """Start without a list."""
        self.values = array("i")
        self.ends = array("i", [0])

    def add(self, labels: Iterable[int]) -> None:
        """Append one list."""
        self.values.extend(labels)
        self.ends.append(len(self.values))

    def __getitem__(self, row: int) -> array[int]:
        return self.values[self.ends[row] : self.ends[row + 1]]

    def column(self, order: npt.NDArray[np.int32] | None) -> pa.ListArray:
        """Return an Arrow column of ascending lists, each index k replaced by order[k]."""
        ends, values = np.array(self.ends, np.int32), np.array(self.values, np.int32)
        if order is not None:
            values = order[values]
            values = values[np.lexsort((values, np.repeat(np.arange(len(ends) - 1), np.diff(ends))))]
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(values, pa.int32()))


def with_labels(rows: pa.Table, place: npt.NDArray[np.integer], count: int) -> pa.Table:
    """Return rows of a manifest whose class k is now class place[k] of `count`, or none where that is -1.

    Classes may become one: it is active where one of its parts is, and unknown where none is and one of them is unknown.
    """
    before = np.zeros(0, np.int64)  # row times the number of classes plus the class, of each active label
    for name in ("active", "unknown"):
        lists = rows[name].combine_chunks()
        row = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
        labels = place[lists.flatten().to_numpy()]
        codes = np.setdiff1d(row[labels >= 0] * count + labels[labels >= 0], before)
        before = codes
        new = lists_of(*np.divmod(codes, max(count, 1)), len(rows))
        rows = rows.set_column(rows.column_names.index(name), SCHEMA.field(name), new)
    boxes = [
        None
        if row is None
        else tuple(Box(**{**box, "label": int(place[box["label"]])}) for box in row if place[box["label"]] >= 0)
        for row in rows["boxes"].to_pylist()
    ]
    if any(row is not None for row in boxes):
        rows = rows.set_column(rows.column_names.index("boxes"), SCHEMA.field("boxes"), box_lists(boxes))
    return rows


def lists_of(rows: npt.NDArray[np.integer], labels: npt.NDArray[np.integer], count: int) -> pa.ListArray:
    """Return an Arrow column of `count` lists of labels, from the row of each label, ascending.

    Example:
        >>> lists_of(np.array([0, 0, 2]), np.array([1, 5, 3]), 3).to_pylist()
        [[1, 5], [], [3]]
    """
    ends = np.searchsorted(rows, np.arange(count + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(labels.astype(np.int32)))


def box_lists(rows: list[tuple[Box, ...] | None], order: npt.NDArray[np.int32] | None = None) -> pa.ListArray:
    """Return the boxes of each image as an Arrow column, null where they are not known."""
    boxes = [box for row in rows for box in row or ()]
    labels, *sides = (np.fromiter(map(itemgetter(k), boxes), np.float32 if k else np.int32, len(boxes)) for k in range(len(BOX)))
    columns = [pa.array(column) for column in (labels if order is None else order[labels], *sides)]
    values = pa.StructArray.from_arrays(columns, fields=list(BOX))
    ends = np.cumsum([0, *(len(row or ()) for row in rows)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), values, mask=pa.array([row is None for row in rows]))
