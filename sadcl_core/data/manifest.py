"""The manifest: the one form in which the rest of the project sees a labelled data set.

On disk it is a folder with `manifest.arrow`, a row per image, and `dataset.json`, a description one can read.
Images stay where they are; their paths are relative to the root that the description names. The rows are an
uncompressed Arrow file that is mapped and never decoded: every process that opens it looks at the same pages, so a
loader worker or another training process adds next to nothing, and a pickled manifest carries the folder's path alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sadcl_core.data.rows import SCHEMA, Box, Record, Rows, box_lists, renumbered
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import replacing, write_json

SCHEMA_VERSION = 2
DESCRIPTION = "dataset.json"
ROWS = "manifest.arrow"
STAMP, DIVIDED = b"stamp", b"divided"  # what the rows say of themselves
WEB = re.compile(r"(https?|s3|gs)://[\w.~:/@%+=-]+/")  # an address that a file may name: it says nothing but a place
CHUNK = 1 << 16  # images whose labels are put into an array at a time
ALL = "all"  # a split of this name is every row, unless the data set has one that is called so


@dataclass(frozen=True)
class Shards:
    """Tar files that hold the images: names and numbers of images by split, under an address or (empty) the manifest's folder."""

    base: str
    files: dict[str, tuple[tuple[str, int], ...]]


@dataclass(frozen=True)
class Description:
    """What `dataset.json` says.

    Attributes:
        name: of the data set.
        root: absolute folder the image paths start from.
        classes: K names; a label is an index into them.
        superclasses: one name per class, or none.
        source: the format and the annotation files it was read from, with size and time, to see when they change.
        options: what the person said about how it is to be read, so that it can be read the same way again.
        notes: sentences for the person who prepared it.
        shards: where the images are instead of under the root, when they are in tar files.
        stamp: of the preparation that wrote it.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    superclasses: tuple[str, ...] = ()
    source: dict[str, Any] = field(default_factory=lambda: {"files": {}})
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shards: Shards | None = None
    stamp: str = field(default="", compare=False)

    @property
    def place(self) -> str:
        """Where the images are, for people."""
        return str(self.root) if self.shards is None else f"shards at {self.shards.base}"

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            twice = next(name for name, count in Counter(self.classes).items() if count > 1)
            raise DataError(f"{self.name}: the class name {twice!r} appears twice. Rename one of them.")
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
        rows, count = Rows(), len(description.classes)
        seen: set[tuple[str, str]] = set()
        for record in records:
            key = (record.split, record.image)
            if key in seen:
                raise DataError(f"{description.name}: {record.image} is listed twice in split {record.split}. Remove one row.")
            seen.add(key)
            for label in (*record.active, *record.unknown):
                if not 0 <= label < count:
                    raise DataError(f"{description.name}: {record.image} has label {label}, but there are {count} classes.")
            rows.add(record)
        if not seen:
            raise DataError(f"{description.name}: no image is listed. Check the annotation files in {description.root}.")
        return cls(description, rows.table())

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is None:
            return (Manifest, (self.description, self.rows))
        return (_open_again, (self.folder.resolve(), self.description))

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
        """The rows of one split, or with `all` every row.

        Raises:
            DataError: there is no such split.
        """
        if name not in (*self.splits, ALL):
            raise DataError(f"{self.description.name} has no split {name!r}. It has: {', '.join(self.splits)}.")
        return Split(self, name)

    def with_classes(self, classes: tuple[str, ...], superclasses: tuple[str, ...] = ()) -> Manifest:
        """The same images with their labels numbered by other classes, which hold all of its own."""
        number = {name: k for k, name in enumerate(classes)}
        order = np.array([number[name] for name in self.classes], np.int32)
        rows = self.rows
        for name in ("active", "unknown"):
            lists = renumbered(rows[name].combine_chunks(), order)
            rows = rows.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), lists)
        boxes = [
            None if row is None else tuple(Box(**{**box, "label": int(order[box["label"]])}) for box in row)
            for row in rows["boxes"].to_pylist()
        ]
        if any(row is not None for row in boxes):
            rows = rows.set_column(SCHEMA.get_field_index("boxes"), SCHEMA.field("boxes"), box_lists(boxes))
        return Manifest(replace(self.description, classes=classes, superclasses=superclasses), rows)

    def fingerprint(self) -> str:
        """A hash of every path, split and label."""
        sink = pa.BufferOutputStream()
        rows = self.rows.drop_columns("boxes").replace_schema_metadata(None)
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        return hashlib.sha256(sink.getvalue()).hexdigest()

    def save(self, folder: Path) -> Manifest:
        """Write `manifest.arrow` and `dataset.json` into a folder, each in one piece; return the stored manifest.

        Both carry the same new stamp, so that one is never taken for the other's.
        """
        stamp = uuid4().hex
        divided = json.dumps(self.description.options.get("divided"))
        rows = self.rows.combine_chunks().replace_schema_metadata({STAMP: stamp, DIVIDED: divided})
        with replacing(folder / ROWS) as temporary, pa.ipc.new_file(str(temporary), rows.schema) as writer:
            writer.write_table(rows)
        write_json(
            folder / DESCRIPTION,
            {
                "schema_version": SCHEMA_VERSION,
                "stamp": stamp,
                "name": self.description.name,
                "root": str(self.description.root),
                "images": len(self),
                "splits": self.split_sizes,
                "classes": list(self.description.classes),
                "superclasses": list(self.description.superclasses),
                "source": self.description.source,
                "options": self.description.options,
                "notes": list(self.description.notes),
                "shards": None if self.description.shards is None else vars(self.description.shards),
            },
        )
        return load_manifest(folder)


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a manifest; not as far as can be seen, when it may not be looked into."""
    try:
        return (folder / DESCRIPTION).is_file() and (folder / ROWS).is_file()
    except OSError:
        return False


def load_manifest(folder: Path, root: Path | None = None, address: str = "") -> Manifest:
    """Open a stored manifest.

    Args:
        folder: where `prepare-data` wrote it.
        root: where the images are now, when they moved since.
        address: where its shards are, as a person said; else what the file says, if that is no more than an address.

    Raises:
        DataError: the folder is no manifest, or one of its files is damaged or not of the same preparation.
    """
    description = load_description(folder)
    try:
        rows = pa.ipc.open_file(pa.memory_map(str(folder / ROWS))).read_all()
        if rows.schema != SCHEMA:
            raise DataError(f"{folder / ROWS} has other columns than a manifest. Run sadcl prepare-data again.")
        rows.validate(full=True)  # offsets and texts that a damaged file could lead astray with
        _check_rows(rows, description, folder)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{folder / ROWS} cannot be read ({error}). Run sadcl prepare-data again.") from None
    if root is not None:
        description = replace(description, root=root)
    if description.shards is not None:
        _check_shards(description.shards, Manifest(description, rows), folder)
        base = address or description.shards.base or f"{folder.resolve()}/"
        description = replace(description, shards=replace(description.shards, base=base))
    return Manifest(description, rows, folder)


def _open_again(folder: Path, description: Description) -> Manifest:
    """A manifest in another process; it must still be the same one."""
    shards = description.shards
    manifest = load_manifest(folder, root=description.root, address="" if shards is None else shards.base)
    if manifest.description.stamp != description.stamp:
        raise DataError(f"{folder} was prepared anew while it was in use. Start again.")
    return manifest


def _check_rows(rows: pa.Table, description: Description, folder: Path) -> None:
    """Refuse rows that are not those of the description."""
    stamp = (rows.schema.metadata or {}).get(STAMP, b"").decode(errors="replace")
    labels = [pc.min_max(pc.list_flatten(rows[name])).as_py() for name in ("active", "unknown")]
    inside = all(pair["min"] is None or (pair["min"] >= 0 and pair["max"] < len(description.classes)) for pair in labels)
    if stamp != description.stamp or not inside:
        raise DataError(f"{folder / ROWS} and {DESCRIPTION} are not of one preparation. Run sadcl prepare-data again.")


def _check_shards(shards: Shards, manifest: Manifest, folder: Path) -> None:
    """Refuse a description whose files are not plain names, which could lead elsewhere, or that lacks images."""
    sizes = {split: sum(count for _, count in files) for split, files in shards.files.items()}
    names = [name for files in shards.files.values() for name, _ in files]
    if sizes != manifest.split_sizes or not all(re.fullmatch(r"[\w-]+\.tar", name) for name in names):
        raise DataError(f"{folder / DESCRIPTION} and {ROWS} do not fit its shards. Write or fetch them again.")


def load_with_images(folder: Path, root: Path | None = None) -> Manifest:
    """`load_manifest`, for work that opens the images.

    Raises:
        DataError: also when the folder of the images is gone.
    """
    manifest = load_manifest(folder, root=root and root.resolve())
    where = manifest.description.root
    shards = manifest.description.shards
    if shards is None and not where.is_dir():
        raise DataError(f"The images of {manifest.description.name} are not in {where}. Say where they are with --data DIR.")
    if shards is not None and shards.base == f"{folder.resolve()}/":
        missing = next((name for files in shards.files.values() for name, _ in files if not (folder / name).is_file()), None)
        if missing is not None:
            raise DataError(f"The shard {missing} is not in {folder}. Give the address of the shards instead of the name.")
    return manifest


def load_description(folder: Path) -> Description:
    """Read `dataset.json` alone.

    Raises:
        DataError: the file is missing, damaged, or of a later version.
    """
    path = folder / DESCRIPTION
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{folder} is not a prepared data set (no {DESCRIPTION}). Run sadcl prepare-data first.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Run sadcl prepare-data again.") from None
    return parse_description(content, str(path))


def parse_description(content: bytes, where: str) -> Description:
    """A description from the content of `dataset.json`; `where` it is from is for errors.

    Raises:
        DataError: it is damaged, or of another version.
    """
    try:
        stored = json.loads(content)
        version, shards = stored["schema_version"], stored.get("shards")
        description = Description(
            name=str(stored["name"]),
            root=Path(stored["root"]),
            classes=tuple(map(str, stored["classes"])),
            superclasses=tuple(map(str, stored["superclasses"])),
            source={**stored["source"], "files": dict(stored["source"].get("files", {}))},
            options=dict(stored.get("options", {})),
            stamp=str(stored.get("stamp", "")),
            notes=tuple(map(str, stored["notes"])),
            shards=None if shards is None else _shards(shards, where),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where} cannot be read ({type(error).__name__}). Run sadcl prepare-data again.") from None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}. Run sadcl prepare-data again."
        )
    return description


def _shards(stored: dict[str, Any], where: str) -> Shards:
    files = {str(split): tuple((str(name), int(count)) for name, count in pairs) for split, pairs in stored["files"].items()}
    base = str(stored["base"])
    if base and not WEB.fullmatch(base):
        raise DataError(f"{where} says that its shards are at {base[:60]!r}, which is no web address. Do not trust it.")
    return Shards(base, files)


class Split(Sequence[str]):
    """The images of one split: a sequence of paths, with their targets."""

    def __init__(self, manifest: Manifest, name: str) -> None:
        """Rows that lie together, as they do after `prepare-data`, are looked at in place and not copied."""
        self.manifest = manifest
        self.name = name
        if name not in manifest.splits:
            self._rows = manifest.rows
            return
        places = np.flatnonzero(pc.equal(manifest.rows["split"], name).to_numpy())
        together = len(places) == places[-1] - places[0] + 1
        self._rows = manifest.rows.slice(places[0], len(places)) if together else manifest.rows.take(places)

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

    def all_targets(self, *, block: int = CHUNK) -> npt.NDArray[np.int8]:
        """Return (N, K) targets of every image: 1, 0 and -1 for unknown; `block` images are read at a time."""
        targets = np.zeros((len(self), len(self.manifest.classes)), dtype=np.int8)
        start = 0
        for active, unknown in self.label_blocks(block):
            for lists, value in ((unknown, -1), (active, 1)):
                rows = np.repeat(np.arange(start, start + len(lists)), lists.value_lengths().to_numpy())
                targets[rows, lists.flatten().to_numpy()] = value
            start += len(active)
        return targets

    def active(self, index: int) -> list[int]:
        """Class indices that are active in image `index`."""
        return list(self._rows["active"][index].as_py())

    def boxes(self, index: int) -> list[Box] | None:
        """Objects of image `index`, or None where the source has no boxes."""
        boxes = self._rows["boxes"][index].as_py()
        return None if boxes is None else [Box(**box) for box in boxes]

    def label_blocks(self, block: int = CHUNK) -> Iterator[tuple[pa.ListArray, pa.ListArray]]:
        """Yield the active and the unknown labels of `block` images at a time, a list of class indices per image."""
        for batch in self._rows.select(["active", "unknown"]).to_batches(max_chunksize=block):
            yield batch.column("active"), batch.column("unknown")

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
