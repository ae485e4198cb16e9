"""The manifest: the one form in which the rest of the project sees a labelled data set.

On disk it is a folder with `manifest.parquet`, a row per image, and `dataset.json`, a description one can read.
Images stay where they are; their paths are relative to the root that the description names. Columns live in Arrow
memory, so a million images cost tens of megabytes, workers share the pages they were forked with, and a pickled
manifest carries the folder's path and not its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sadcl_core.errors import DataError
from sadcl_core.files import replacing, write_json

SCHEMA_VERSION = 1
DESCRIPTION = "dataset.json"
ROWS = "manifest.parquet"

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


@dataclass(frozen=True)
class Box:
    """One object, in pixels from the top left corner."""

    label: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Record:
    """One image as a reader of label files hands it over."""

    image: str
    split: str
    active: tuple[int, ...]
    unknown: tuple[int, ...] = ()
    boxes: tuple[Box, ...] | None = None


@dataclass(frozen=True)
class Description:
    """What `dataset.json` says.

    Attributes:
        name: of the data set.
        root: absolute folder the image paths start from.
        classes: K names; a label is an index into them.
        superclasses: one name per class, or none.
        source: the format and the annotation files it was read from, with size and time, to see when they change.
        notes: sentences for the person who prepared it.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    superclasses: tuple[str, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise DataError(f"{self.name}: the class name {twice[0]!r} appears twice. Rename one of them.")
        if self.superclasses and len(self.superclasses) != len(self.classes):
            raise DataError(f"{self.name}: {len(self.superclasses)} superclasses for {len(self.classes)} classes.")


class Manifest:
    """A description and its rows."""

    def __init__(self, description: Description, rows: pa.Table, folder: Path | None = None) -> None:
        """`folder` is where the manifest is stored, when it is."""
        self.description = description
        self.rows = rows
        self.folder = folder

    @classmethod
    def from_records(cls, description: Description, records: Iterable[Record]) -> Manifest:
        """Build a manifest; labels are sorted and an active label wins over an unknown one.

        Raises:
            DataError: a label is not an index into the classes, an image is listed twice in a split, or there is none.
        """
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        count = len(description.classes)
        seen: set[tuple[str, str]] = set()
        for record in records:
            key = (record.split, record.image)
            if key in seen:
                raise DataError(f"{description.name}: {record.image} is listed twice in split {record.split}. Remove one row.")
            seen.add(key)
            active = sorted(set(record.active))
            unknown = sorted(set(record.unknown) - set(active))
            for label in (*active, *unknown):
                if not 0 <= label < count:
                    raise DataError(f"{description.name}: {record.image} has label {label}, but there are {count} classes.")
            columns["image"].append(record.image)
            columns["split"].append(record.split)
            columns["active"].append(active)
            columns["unknown"].append(unknown)
            columns["boxes"].append(None if record.boxes is None else [vars(box) for box in record.boxes])
        if not seen:
            raise DataError(f"{description.name}: no image is listed. Check the annotation files in {description.root}.")
        return cls(description, pa.table(columns, schema=SCHEMA))

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is None:
            return (Manifest, (self.description, self.rows))
        return (load_manifest, (self.folder, self.description.root))

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names."""
        return self.description.classes

    @property
    def splits(self) -> list[str]:
        """Names of the splits, in the order they first appear."""
        return list(pc.unique(self.rows["split"]).to_pylist())

    @property
    def split_sizes(self) -> dict[str, int]:
        """Images of each split."""
        counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(self.rows["split"]).to_pylist()}
        return {name: counts[name] for name in self.splits}

    def split(self, name: str) -> Split:
        """The rows of one split.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits:
            raise DataError(f"{self.description.name} has no split {name!r}. It has: {', '.join(self.splits)}.")
        return Split(self, name)

    def save(self, folder: Path) -> Manifest:
        """Write `manifest.parquet` and `dataset.json` into a folder, each in one piece; return the stored manifest."""
        with replacing(folder / ROWS) as temporary:
            pq.write_table(self.rows, temporary, compression="zstd")
        write_json(
            folder / DESCRIPTION,
            {
                "schema_version": SCHEMA_VERSION,
                "name": self.description.name,
                "root": str(self.description.root),
                "images": len(self),
                "splits": self.split_sizes,
                "classes": list(self.description.classes),
                "superclasses": list(self.description.superclasses),
                "source": self.description.source,
                "notes": list(self.description.notes),
            },
        )
        return load_manifest(folder)


def load_manifest(folder: Path, root: Path | None = None) -> Manifest:
    """Open a stored manifest.

    Args:
        folder: where `prepare-data` wrote it.
        root: where the images are now, when they moved since.

    Raises:
        DataError: the folder is no manifest, or one of its files is damaged.
    """
    description = load_description(folder)
    try:
        rows = pq.read_table(folder / ROWS, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{folder / ROWS} cannot be read ({error}). Run sadcl prepare-data again.") from None
    if rows.schema.names != SCHEMA.names:
        raise DataError(f"{folder / ROWS} has other columns than a manifest. Run sadcl prepare-data again.")
    if root is not None:
        description = replace(description, root=root)
    return Manifest(description, rows.combine_chunks(), folder)


def load_with_images(folder: Path, root: Path | None = None) -> Manifest:
    """`load_manifest`, for work that opens the images.

    Raises:
        DataError: also when the folder of the images is gone.
    """
    manifest = load_manifest(folder, root=root and root.resolve())
    where = manifest.description.root
    if not where.is_dir():
        raise DataError(f"The images of {manifest.description.name} are not in {where}. Say where they are with --data DIR.")
    return manifest


def load_description(folder: Path) -> Description:
    """Read `dataset.json` alone.

    Raises:
        DataError: the file is missing, damaged, or of a later version.
    """
    path = folder / DESCRIPTION
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        version = stored["schema_version"]
        description = Description(
            name=str(stored["name"]),
            root=Path(stored["root"]),
            classes=tuple(map(str, stored["classes"])),
            superclasses=tuple(map(str, stored["superclasses"])),
            source=dict(stored["source"]),
            notes=tuple(map(str, stored["notes"])),
        )
    except FileNotFoundError:
        raise DataError(f"{folder} is not a prepared data set (no {DESCRIPTION}). Run sadcl prepare-data first.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}). Run sadcl prepare-data again.") from None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}. Run sadcl prepare-data again."
        )
    return description


class Split(Sequence[str]):
    """The images of one split: a sequence of paths, with their targets."""

    def __init__(self, manifest: Manifest, name: str) -> None:
        """Rows that lie together, as they do after `prepare-data`, are looked at in place and not copied."""
        self.manifest = manifest
        self.name = name
        places = np.flatnonzero(pc.equal(manifest.rows["split"], name).to_numpy())
        together = len(places) == places[-1] - places[0] + 1
        rows = manifest.rows.slice(places[0], len(places)) if together else manifest.rows.take(places)
        self._rows = rows

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __getitem__(self, index: Any) -> Any:
        """Relative path of image `index`."""
        return self._rows["image"][index].as_py()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Split, (self.manifest, self.name))

    def path(self, index: int) -> Path:
        """Absolute path of image `index`."""
        return self.manifest.description.root / str(self[index])

    def targets(self, index: int) -> npt.NDArray[np.int8]:
        """(K,) with 1, 0 and -1 for unknown."""
        target = np.zeros(len(self.manifest.classes), dtype=np.int8)
        target[self._rows["unknown"][index].as_py()] = -1
        target[self._rows["active"][index].as_py()] = 1
        return target

    def active(self, index: int) -> list[int]:
        """Class indices that are active in image `index`."""
        return list(self._rows["active"][index].as_py())

    def boxes(self, index: int) -> list[Box] | None:
        """Objects of image `index`, or None where the source has no boxes."""
        boxes = self._rows["boxes"][index].as_py()
        return None if boxes is None else [Box(**box) for box in boxes]

    def class_counts(self) -> npt.NDArray[np.int64]:
        """(K,) images in which each class is active."""
        labels = pc.list_flatten(self._rows["active"]).to_numpy()
        return np.bincount(labels, minlength=len(self.manifest.classes))

    def unknown_counts(self) -> npt.NDArray[np.int64]:
        """(K,) images in which each class is unknown."""
        labels = pc.list_flatten(self._rows["unknown"]).to_numpy()
        return np.bincount(labels, minlength=len(self.manifest.classes))

    def labels_per_image(self) -> npt.NDArray[np.int64]:
        """(N,) number of active labels."""
        return np.asarray(pc.list_value_length(self._rows["active"]).to_numpy(), dtype=np.int64)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows["image"].to_pylist())
