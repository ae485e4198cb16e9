"""The manifest: the one form in which the rest of the project sees a labelled data set.

On disk it is a folder with `manifest.arrow`, a row per image, and `dataset.json`, a readable description. Images stay where they
are. The rows are an uncompressed Arrow file that is mapped, so that all processes share its pages, and a pickled manifest carries
the path of its folder alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sadcl_core.data.interpretation import Interpretation, parse_interpretation
from sadcl_core.data.rows import SCHEMA, Record, Rows, with_labels
from sadcl_core.data.split import ALL, Split
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import regular, replacing, write_json

SCHEMA_VERSION = 2
DESCRIPTION = "dataset.json"
ROWS = "manifest.arrow"
STAMP, DIVIDED = b"stamp", b"divided"  # metadata of the rows
WEB = re.compile(r"(https?|s3|gs)://[\w.~:/@%+=-]+/")  # an address that a file may name: nothing in it can be run


@dataclass(frozen=True)
class Shards:
    """Tar files that hold the images.

    Attributes:
        base: address they are under; empty: the folder of the manifest.
        files: split -> (name, number of images) of each file.
    """

    base: str
    files: dict[str, tuple[tuple[str, int], ...]]


@dataclass(frozen=True)
class Description:
    """The content of `dataset.json`.

    Attributes:
        root: absolute folder of the image paths.
        classes: K names; a label is an index into them.
        superclasses: one name per class, or none.
        source: format and annotation files it was read from, with size and time, to see when they change.
        options: of the command that prepared it, to prepare it the same way again.
        notes: sentences for the person who prepared it.
        shards: of the images, if they are in tar files instead of under the root.
        interpretation: how the label files were read; None in manifests of earlier versions and of data that are drawn.
        stamp: of the preparation that wrote it.
        home: absolute folder that it was written to; empty where it is not stored, or was by an earlier version.

    Raises:
        DataError: a class name appears twice, or there is another number of superclasses.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    superclasses: tuple[str, ...] = ()
    source: dict[str, Any] = field(default_factory=lambda: {"files": {}})
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shards: Shards | None = None
    interpretation: Interpretation | None = None
    stamp: str = field(default="", compare=False)
    home: str = field(default="", compare=False)

    @property
    def location(self) -> str:
        """Place of the images, for people."""
        return str(self.root) if self.shards is None else f"shards at {self.shards.base}"

    def with_notes(self, *notes: str) -> Description:
        """Return the same description with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            twice = next(name for name, count in Counter(self.classes).items() if count > 1)
            raise DataError(f"{self.name}: the class name {twice!r} appears twice. Rename one of them.")
        if self.superclasses and len(self.superclasses) != len(self.classes):
            raise DataError(f"{self.name}: {len(self.superclasses)} superclasses for {len(self.classes)} classes.")


class Manifest:
    """A labelled data set: its description and a row per image.

    Example:
        >>> records = [Record("a.jpg", "train", (0, 1)), Record("b.jpg", "test", (1,), unknown=(0,))]
        >>> manifest = Manifest.from_records(Description("pets", Path("photos"), ("cat", "dog")), records)
        >>> manifest.split_sizes, manifest.split("test").targets(0).tolist()
        ({'train': 1, 'test': 1}, [-1, 1])
    """

    def __init__(self, description: Description, rows: pa.Table, folder: Path | None = None) -> None:
        """`folder` holds the manifest, if it is stored."""
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
        """K class names."""
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
        """Return one split, or with `all` every row.

        Raises:
            DataError: there is no such split.
        """
        if name not in (*self.splits, ALL):
            raise DataError(f"{self.description.name} has no split {name!r}. It has: {', '.join(self.splits)}.")
        return Split(self, name)

    def with_classes(self, classes: tuple[str, ...], superclasses: tuple[str, ...] = ()) -> Manifest:
        """Return the same images with labels numbered by other classes, which include all of the manifest's own."""
        number = {name: k for k, name in enumerate(classes)}
        place = np.array([number[name] for name in self.classes], np.int32)
        description = replace(self.description, classes=classes, superclasses=superclasses)
        return Manifest(description, with_labels(self.rows, place, len(classes)))

    def fingerprint(self) -> str:
        """Return a hash of every path, split and label."""
        sink = pa.BufferOutputStream()
        rows = self.rows.drop_columns("boxes").replace_schema_metadata(None)
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        return hashlib.sha256(sink.getvalue()).hexdigest()

    def save(self, folder: Path) -> Manifest:
        """Write `manifest.arrow` and `dataset.json` into a folder, each in one piece; return the stored manifest.

        Both carry the same new stamp, which tells files of two preparations apart.
        """
        stamp = uuid4().hex
        divided = json.dumps(self.description.options.get("divided"))
        account = self.description.interpretation
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
                "home": str(folder.resolve()),
                "images": len(self),
                "splits": self.split_sizes,
                "classes": list(self.description.classes),
                "superclasses": list(self.description.superclasses),
                "source": self.description.source,
                "options": self.description.options,
                "notes": list(self.description.notes),
                "shards": None if self.description.shards is None else vars(self.description.shards),
                "interpretation": None if account is None else asdict(account),
            },
        )
        return load_manifest(folder)


def is_prepared(folder: Path) -> bool:
    """Return True if the folder holds a manifest; False if it does not, or cannot be read.

    Example:
        >>> is_prepared(Path("nowhere"))
        False
    """
    try:
        return (folder / DESCRIPTION).is_file() and (folder / ROWS).is_file()
    except OSError:
        return False


def load_manifest(folder: Path, root: Path | None = None, address: str = "") -> Manifest:
    """Open a stored manifest.

    Args:
        folder: written by `prepare-data`.
        root: of the images, if they have moved.
        address: of its shards, from the command line; by default that of the file, which must be a plain web address.

    Raises:
        DataError: the folder holds no manifest, or one of its files is damaged or of another preparation.

    Example:
        >>> import tempfile
        >>> manifest = Manifest.from_records(Description("pets", Path("photos"), ("cat",)), [Record("a.jpg", "train", (0,))])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = manifest.save(Path(folder))
        ...     load_manifest(Path(folder), root=Path("moved")).split("train").path(0).parts
        ('moved', 'a.jpg')
    """
    description = load_description(folder)
    try:
        rows = pa.ipc.open_file(pa.memory_map(str(regular(folder / ROWS)))).read_all()
        if rows.schema != SCHEMA:
            raise DataError(f"{folder / ROWS} has other columns than a manifest. Run sadcl prepare-data again.")
        rows.validate(full=True)  # offsets and texts, which a damaged file may have beyond its end
        _check_rows(rows, description, folder)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{folder / ROWS} cannot be read ({error}). Run sadcl prepare-data again.") from None
    if root is not None:
        description = replace(description, root=root)
    elif description.shards is None and rows.num_rows:
        along = moved_along(description.root, description.home, folder)
        if along != description.root and (along / rows["image"][0].as_py()).is_file():
            description = replace(description, root=along)
    if description.shards is not None:
        _check_shards(description.shards, Manifest(description, rows), folder)
        base = address or description.shards.base or f"{folder.resolve()}/"
        description = replace(description, shards=replace(description.shards, base=base))
    return Manifest(description, rows, folder)


def moved_along(path: Path, home: str, folder: Path) -> Path:
    """Return where a path is now, if it moved or was copied together with the folder of a manifest.

    The path and `home`, the folder of the manifest then, or empty where that is not known, are absolute.

    Example:
        >>> moved_along(Path("/home/me/pets/photos"), "/home/me/pets/prepared/pets", Path("/mnt/pets/prepared/pets")).as_posix()
        '/mnt/pets/photos'
    """
    here = folder.resolve()
    if not home or Path(home) == here:
        return path
    return Path(os.path.normpath(here / os.path.relpath(path, home)))


def find_prepared(folder: Path, run: Path) -> Path:
    """Return the folder of a manifest, or the one of the same name in the project of a run that was copied with its data.

    The run is PROJECT/runs/NAME; the manifest then is PROJECT/prepared/NAME.
    """
    beside = run.resolve().parent.parent / folder.parent.name / folder.name
    return beside if not is_prepared(folder) and is_prepared(beside) else folder


def _open_again(folder: Path, description: Description) -> Manifest:
    """Open a pickled manifest in another process."""
    shards = description.shards
    manifest = load_manifest(folder, root=description.root, address="" if shards is None else shards.base)
    if manifest.description.stamp != description.stamp:
        raise DataError(f"{folder} was prepared again while it was in use. Start again.")
    return manifest


def _check_rows(rows: pa.Table, description: Description, folder: Path) -> None:
    """Raise DataError if the rows do not belong to the description."""
    stamp = (rows.schema.metadata or {}).get(STAMP, b"").decode(errors="replace")
    labels = [pc.min_max(pc.list_flatten(rows[name])).as_py() for name in ("active", "unknown")]
    inside = all(pair["min"] is None or (pair["min"] >= 0 and pair["max"] < len(description.classes)) for pair in labels)
    if stamp != description.stamp or not inside:
        raise DataError(f"{folder / ROWS} and {DESCRIPTION} are not of one preparation. Run sadcl prepare-data again.")


def _check_shards(shards: Shards, manifest: Manifest, folder: Path) -> None:
    """Raise DataError if files are not plain names, which could lead elsewhere, or hold other numbers of images than the rows."""
    sizes = {split: sum(count for _, count in files) for split, files in shards.files.items()}
    names = [name for files in shards.files.values() for name, _ in files]
    if sizes != manifest.split_sizes or not all(re.fullmatch(r"[\w-]+\.tar", name) for name in names):
        raise DataError(f"{folder / DESCRIPTION} and {ROWS} do not fit its shards. Write or fetch them again.")


def load_with_images(folder: Path, root: Path | None = None) -> Manifest:
    """Open a stored manifest, like `load_manifest`, for work that opens the images.

    Raises:
        DataError: also if the folder of the images, or a shard, is missing.
    """
    manifest = load_manifest(folder, root=root and root.resolve())
    description = manifest.description
    shards = description.shards
    if shards is None and not description.root.is_dir():
        raise DataError(f"The images of {description.name} are not in {description.root}. Give their folder: --data DIR.")
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
        content = regular(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{folder} is not a prepared data set (no {DESCRIPTION}). Run sadcl prepare-data first.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Run sadcl prepare-data again.") from None
    return parse_description(content, str(path))


def parse_description(content: bytes, where: str) -> Description:
    """Parse the content of `dataset.json`.

    Raises:
        DataError: it is damaged, or of another version.
    """
    try:
        stored = json.loads(content)
        version, shards, account = stored["schema_version"], stored.get("shards"), stored.get("interpretation")
        description = Description(
            name=str(stored["name"]) or "data",
            root=Path(stored["root"]),
            classes=tuple(map(str, stored["classes"])),
            superclasses=tuple(map(str, stored["superclasses"])),
            source={**stored["source"], "files": dict(stored["source"].get("files", {}))},
            options=dict(stored.get("options", {})),
            stamp=str(stored.get("stamp", "")),
            home=str(stored.get("home", "")),
            notes=tuple(map(str, stored["notes"])),
            shards=None if shards is None else _parse_shards(shards, where),
            interpretation=None if account is None else parse_interpretation(account),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where} cannot be read ({type(error).__name__}). Run sadcl prepare-data again.") from None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}. Run sadcl prepare-data again."
        )
    return description


def _parse_shards(stored: dict[str, Any], where: str) -> Shards:
    """Read the shards of a description, which may name a web address and nothing that could be run."""
    files = {str(split): tuple((str(name), int(count)) for name, count in pairs) for split, pairs in stored["files"].items()}
    base = str(stored["base"])
    if base and not WEB.fullmatch(base):
        raise DataError(f"{where} says that its shards are at {base[:60]!r}, which is no web address. Do not trust it.")
    return Shards(base, files)
