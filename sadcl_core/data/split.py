"""One split of a manifest: a sequence of image paths, with their targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sadcl_core.data.rows import Box

if TYPE_CHECKING:
    from sadcl_core.data.manifest import Manifest

HELD_OUT = ("val", "test")  # usual names, in the order in which one is taken where none is named
ALL = "all"  # the name of every row together, unless a split has that name
BLOCK = 1 << 16  # images whose labels are in an array at a time

Counts = npt.NDArray[np.int64]
Item = TypeVar("Item")


def spaced(items: Sequence[Item], count: int) -> Sequence[Item]:
    """Return at most `count` items at equal distances, the first and the last among them: items may be in order of their labels.

    Example:
        >>> spaced("abcdefghij", 4), spaced("ab", 4)
        (['a', 'd', 'g', 'j'], 'ab')
    """
    return items if len(items) <= count else [items[place] for place in np.linspace(0, len(items) - 1, count).astype(int)]


class Split(Sequence[str]):
    """The images of one split: a sequence of relative paths, with their targets.

    Example:
        >>> from sadcl_core.data.manifest import Description, Manifest
        >>> from sadcl_core.data.rows import Record
        >>> records = [Record("a.jpg", "train", (0, 1)), Record("b.jpg", "train", (1,), unknown=(0,))]
        >>> split = Manifest.from_records(Description("pets", Path("photos"), ("cat", "dog")), records).split("train")
        >>> list(split), split.all_targets().tolist(), split.class_counts().tolist()
        (['a.jpg', 'b.jpg'], [[1, 1], [-1, 1]], [1, 2])
    """

    def __init__(self, manifest: Manifest, name: str) -> None:
        """Select rows; rows that lie together, as after `prepare-data`, are not copied."""
        self.manifest = manifest
        self.name = name
        if name not in manifest.splits:
            self._rows = manifest.rows
            return
        rows = np.flatnonzero(pc.equal(manifest.rows["split"], name).to_numpy())
        contiguous = len(rows) == rows[-1] - rows[0] + 1
        self._rows = manifest.rows.slice(rows[0], len(rows)) if contiguous else manifest.rows.take(rows)

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __getitem__(self, index: Any) -> Any:
        """Return the relative path of image `index`."""
        return self._rows["image"][index].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows["image"].to_pylist())

    def __reduce__(self) -> tuple[Any, ...]:
        return (Split, (self.manifest, self.name))

    def path(self, index: int) -> Path:
        """Return the absolute path of image `index`."""
        return self.manifest.description.root / str(self[index])

    def targets(self, index: int) -> npt.NDArray[np.int8]:
        """Return the targets (K,) of image `index`: 1, 0 and -1 for unknown."""
        target = np.zeros(len(self.manifest.classes), dtype=np.int8)
        target[self._rows["unknown"][index].as_py()] = -1
        target[self._rows["active"][index].as_py()] = 1
        return target

    def all_targets(self, *, block: int = BLOCK) -> npt.NDArray[np.int8]:
        """Return (N, K) targets of every image: 1, 0 and -1 for unknown; `block` images are read at a time."""
        targets = np.zeros((len(self), len(self.manifest.classes)), dtype=np.int8)
        start = 0
        for active, unknown in self.label_blocks(block):
            for lists, value in ((unknown, -1), (active, 1)):
                rows = np.repeat(np.arange(start, start + len(lists)), lists.value_lengths().to_numpy())
                targets[rows, lists.flatten().to_numpy()] = value
            start += len(active)
        return targets

    def label_blocks(self, block: int = BLOCK) -> Iterator[tuple[pa.ListArray, pa.ListArray]]:
        """Yield the active and the unknown labels of `block` images at a time, a list of class indices per image."""
        for batch in self._rows.select(["active", "unknown"]).to_batches(max_chunksize=block):
            yield batch.column("active"), batch.column("unknown")

    def active(self, index: int) -> list[int]:
        """Return the class indices that are active in image `index`."""
        return list(self._rows["active"][index].as_py())

    def boxes(self, index: int) -> list[Box] | None:
        """Return the objects of image `index`, or None if the source has no boxes."""
        boxes = self._rows["boxes"][index].as_py()
        return None if boxes is None else [Box(**box) for box in boxes]

    def class_counts(self) -> Counts:
        """Return (K,) images in which each class is active."""
        return np.bincount(pc.list_flatten(self._rows["active"]).to_numpy(), minlength=len(self.manifest.classes))

    def unknown_counts(self) -> Counts:
        """Return (K,) images in which each class is unknown."""
        return np.bincount(pc.list_flatten(self._rows["unknown"]).to_numpy(), minlength=len(self.manifest.classes))

    def inactive_counts(self) -> Counts:
        """Return (K,) images in which each class is known to be inactive."""
        return len(self) - self.class_counts() - self.unknown_counts()

    def active_shares(self) -> npt.NDArray[np.float32]:
        """Return (K,) the share of the active among the known labels of each class; 0 where none is known."""
        active = self.class_counts()
        return np.asarray(active / np.maximum(active + self.inactive_counts(), 1), np.float32)

    def labels_per_image(self) -> Counts:
        """Return (N,) numbers of active labels."""
        return np.asarray(pc.list_value_length(self._rows["active"]).to_numpy(), dtype=np.int64)
