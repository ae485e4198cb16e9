"""Feature maps on the disk, computed once for all runs; imports no torch.

    DIR/contents.sqlite        the content hash of every image file seen, by path, size and time of modification
    DIR/KEY/about.json         the backbone, its weights, the image size and all else that the maps depend on; KEY is its hash
    DIR/KEY/rows.bin           the maps: a row of fixed length for every image and view
    DIR/KEY/index.bin          the content and the view of each row
    DIR/KEY/users/*.lock       held by the processes that use the folder

Rows are only ever added. They are written and flushed before the index names them, so whatever ends a process loses a batch at
most, and what is named is whole. A row is found by the content of its image, wherever the file lies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from sadcl_core.data.images import explained_image
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.runtime.files import explained, regular, write_json
from sadcl_core.runtime.threads import map_ahead
from sadcl_core.runtime.words import gigabytes

ABOUT, ROWS, INDEX, LOCK, USERS, CONTENTS = "about.json", "rows.bin", "index.bin", ".lock", "users", "contents.sqlite"
DIGEST = 16  # bytes of the hash of a content
RECORD = 32  # bytes of the index for a row: the hash, and the name of the view filled up with zeros
OPTION = "--cache"  # that chooses another folder
MAX_ABOUT = 2**20  # bytes of ABOUT that are read
SPARE = 2**28  # bytes that stay free on the disk

Rows = npt.NDArray[np.int64]


class FeatureCard(BaseModel):
    """All that maps depend on, beside the image.

    Attributes:
        backbone: its name in timm.
        weights: hash of its tensors.
        img_size: side of the images in pixels.
        stride: image pixels per location of the deepest map.
        shapes: (h, w, D) of each map, shallow to deep.
        mean: that images are normalised with.
        std: that images are normalised with.
        computed: precision of the forward pass.
        kept: precision on the disk.
        timm: its version.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    backbone: str
    weights: str
    img_size: int
    stride: int
    shapes: tuple[tuple[int, int, int], ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    computed: str
    kept: Literal["fp16", "fp32"]
    timm: str

    @cached_property
    def key(self) -> str:
        """Return the name of the folder."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @cached_property
    def numbers(self) -> int:
        """Return how many numbers a row has."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the numbers on the disk."""
        return np.dtype(np.float16 if self.kept == "fp16" else np.float32)

    @property
    def row_bytes(self) -> int:
        """Return the size of a row."""
        return self.numbers * self.dtype.itemsize


@dataclass(frozen=True)
class StoredFeatures:
    """A folder of maps.

    Attributes:
        key: its name.
        card: what its maps depend on.
        images: different contents.
        rows: of images and views.
        bytes: on the disk.
        last_used: seconds since 1970.
        in_use: by a process, now.
    """

    key: str
    card: FeatureCard
    images: int
    rows: int
    bytes: int
    last_used: float
    in_use: bool


def default_folder() -> Path:
    """Return the user's folder of feature maps, as the XDG base directory specification places it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sadcl" / "features"


def record(content: bytes, view: str) -> bytes:
    """Return what the index says of a row.

    Example:
        >>> len(record(bytes(16), "plain")), record(bytes(16), "plain")[16:21]
        (32, b'plain')
    """
    return content + view.encode().ljust(RECORD - DIGEST, b"\0")


class FeatureStore:
    """The maps under one key; used as a context, in which nobody removes them.

    Attributes:
        folder: where they are.
        card: what they depend on.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> facts = {"backbone": "test_resnet", "weights": "", "img_size": 64, "stride": 32, "shapes": ((2, 2, 3),)}
        >>> card = FeatureCard(**facts, mean=(0.5,) * 3, std=(0.5,) * 3, computed="fp32", kept="fp16", timm="1.0")
        >>> with TemporaryDirectory() as folder, FeatureStore(Path(folder), card) as store:
        ...     with store.writing():
        ...         store.append([record(b"the same content", "plain")], np.ones((1, card.numbers), np.float16))
        ...     rows = store.find([record(b"the same content", "plain"), record(b"the same content", "mirror")])
        ...     rows.tolist(), store.read(rows[:1]).sum().item()
        ([0, -1], 12.0)
    """

    def __init__(self, root: Path, card: FeatureCard) -> None:
        """Make the folder of the key, unless it is there.

        Raises:
            UsageError: it cannot be written to.
        """
        self.root, self.card, self.folder = root, card, root / card.key
        with explained(self.folder, OPTION):
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / LOCK):  # not while it is being removed
                (self.folder / USERS).mkdir(parents=True, exist_ok=True)
                self._user = FileLock(self.folder / USERS / f"{os.getpid()}-{uuid.uuid4().hex}.lock")
                self._user.acquire()
                if not (self.folder / ABOUT).is_file():
                    write_json(self.folder / ABOUT, card.model_dump(), OPTION)
                for name in (ABOUT, ROWS, INDEX):  # the first to note the time
                    (self.folder / name).touch()
                    regular(self.folder / name)
        self._count = 0
        self._numbers: dict[bytes, int] = {}  # record -> row
        self._rows: npt.NDArray[Any] = np.empty((0, card.numbers), card.dtype)
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Note the time, and let others remove the folder."""
        if self._user.is_locked:
            with contextlib.suppress(OSError):
                (self.folder / ABOUT).touch()
                Path(self._user.lock_file).unlink(missing_ok=True)
            self._user.release()

    def __len__(self) -> int:
        return self._count

    def refresh(self) -> None:
        """See the rows that other processes have added."""
        count = self._count
        with (self.folder / INDEX).open("rb") as file:
            file.seek(count * RECORD)
            new = file.read()
        fitting = (self.folder / ROWS).stat().st_size // self.card.row_bytes
        total = min(count + len(new) // RECORD, fitting)
        for row in range(count, total):
            start = (row - count) * RECORD
            self._numbers[new[start : start + RECORD]] = row
        if total > count:
            self._count, shape = total, (total, self.card.numbers)
            self._rows = np.memmap(self.folder / ROWS, dtype=self.card.dtype, mode="r", shape=shape)

    def find(self, records: Sequence[bytes]) -> Rows:
        """Return the row of each record, -1 where it is missing."""
        return np.array([self._numbers.get(name, -1) for name in records], dtype=np.int64)

    def read(self, rows: Rows) -> npt.NDArray[Any]:
        """Return rows (n, numbers), copied from the file."""
        return np.asarray(self._rows[rows])

    @contextmanager
    def writing(self, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Be the only process that adds rows in the block; `waits` is called once if another one is."""
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waits()
            lock.acquire()
        try:
            self.refresh()
            whole = len(self)
            with explained(self.folder, OPTION):  # what a process that was killed left half-written
                os.truncate(self.folder / INDEX, whole * RECORD)
                os.truncate(self.folder / ROWS, whole * self.card.row_bytes)
            yield
        finally:
            lock.release()

    def append(self, records: Sequence[bytes], rows: npt.NDArray[Any]) -> None:
        """Add rows (n, numbers), in a block of `writing`.

        Raises:
            MachineError: the disk is full.
        """
        for name, content in ((ROWS, np.ascontiguousarray(rows, self.card.dtype).data), (INDEX, b"".join(records))):
            with explained(self.folder / name, OPTION), (self.folder / name).open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        self.refresh()

    def make_room(self, new: int, own: int, *, limit: int) -> tuple[str, ...]:
        """Remove what was used longest ago until new rows fit, and return the keys of what was removed.

        In bytes: `new` will be added, the run needs `own` in all, and the folder of all keys may hold `limit`.

        Raises:
            UsageError: they do not fit under the limit.
            MachineError: they do not fit on the disk.
        """
        advice = "Lower features.views or --img-size, keep features.precision fp16"
        if own > limit:
            raise UsageError(
                f"The feature maps of this run take {gigabytes(own)}, more than features.limit_gb allows. {advice}, or raise the "
                f"limit: --set features.limit_gb={-(-own * 1.1 // 1e9):.0f}."
            )
        removed = []
        with FileLock(self.root / LOCK):
            stored = sorted(stored_features(self.root), key=lambda entry: entry.last_used)
            total = sum(entry.bytes for entry in stored) + new
            for entry in stored:
                if total > limit and not entry.in_use:
                    shutil.rmtree(self.root / entry.key, ignore_errors=True)
                    removed.append(entry.key)
                    total -= entry.bytes
        if total > limit:
            raise UsageError(
                f"{self.root} holds {gigabytes(total - new)} of feature maps in use, and features.limit_gb leaves no room for "
                f"{gigabytes(new)} more. Raise the limit: --set features.limit_gb={-(-total * 1.1 // 1e9):.0f}, or remove some: "
                f"sadcl cache --clear KEY."
            )
        free = shutil.disk_usage(self.folder).free
        if new + SPARE > free:
            raise MachineError(
                f"The feature maps to compute take {gigabytes(new)}, and the disk of {self.root} has {gigabytes(free)} free. "
                f"{advice}, or choose another folder with {OPTION}."
            )
        return tuple(removed)


def stored_features(root: Path | None = None) -> tuple[StoredFeatures, ...]:
    """Return the undamaged features in a folder, the user's own unless given, last used first.

    Example:
        >>> stored_features(Path("a-folder-that-is-new"))
        ()
    """
    root = default_folder() if root is None else root
    entries = []
    for path in sorted(root.glob(f"*/{ABOUT}")):
        try:
            card = FeatureCard.model_validate(json.loads(regular(path, most=MAX_ABOUT).read_text(encoding="utf-8")))
            content = regular(path.parent / INDEX).read_bytes()
            size = sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
            last_used = path.stat().st_mtime
        except (OSError, ValueError, RecursionError):
            continue
        rows = len(content) // RECORD
        images = len({content[row * RECORD : row * RECORD + DIGEST] for row in range(rows)})
        entries.append(StoredFeatures(path.parent.name, card, images, rows, size, last_used, in_use(path.parent)))
    return tuple(sorted(entries, key=lambda entry: -entry.last_used))


def in_use(folder: Path) -> bool:
    """Return True if a process uses a folder of a key; the marks of processes that died are removed."""
    for path in (folder / USERS).glob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        path.unlink(missing_ok=True)
        lock.release()
    return False


def clear_features(root: Path | None = None, key: str | None = None) -> tuple[StoredFeatures, ...]:
    """Remove feature maps of one key, or its beginning, else all that are not in use, and return what was removed.

    They lie in the folder `root`, the user's own unless given.

    Raises:
        UsageError: there is no such key, or a process uses it.
    """
    root = default_folder() if root is None else root
    if not root.is_dir() and key is None:
        return ()
    removed = []
    with explained(root, OPTION), contextlib.ExitStack() as stack:
        if root.is_dir():
            stack.enter_context(FileLock(root / LOCK))
        matches = [entry for entry in stored_features(root) if entry.key.startswith(key or "")]
        if key is not None and len(matches) != 1:
            raise UsageError(f"{root} holds {len(matches) or 'no'} feature maps under {key!r}. List them: sadcl cache.")
        for entry in matches:
            if not entry.in_use:
                shutil.rmtree(root / entry.key)
                removed.append(entry)
            elif key is not None:
                raise UsageError(f"The feature maps {entry.key} are in use by another process. Wait for it.")
    return tuple(removed)


def content_hashes(root: Path, paths: Sequence[Path], *, read: bool = True) -> list[bytes]:
    """Return the hash of each file's content, read only where path, size or time of modification are new to the folder.

    Without `read` the hash of a file that is new is empty.

    Raises:
        DataError: a file cannot be read.
    """
    states = []
    for path in paths:
        with explained_image(path):
            states.append(path.stat())
    names = [str(path.absolute()) for path in paths]
    known = _remembered(root, names)
    now = {name: (state.st_size, state.st_mtime_ns) for name, state in zip(names, states, strict=True)}
    digests = {name: known[name][2] for name in now if name in known and known[name][:2] == now[name]}
    new = [name for name in now if name not in digests] if read else []
    digests.update(zip(new, map_ahead(_hash, new), strict=True))
    _remember(root, [(name, *now[name], digests[name]) for name in new])
    return [digests.get(name, b"") for name in names]


def _hash(path: str) -> bytes:
    try:
        content = regular(Path(path)).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    return hashlib.blake2b(content, digest_size=DIGEST).digest()


def _remembered(root: Path, names: Sequence[str]) -> dict[str, tuple[int, int, bytes]]:
    """Return size, time and hash by path, of known files; nothing from a damaged list."""
    found: dict[str, tuple[int, int, bytes]] = {}
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(root / CONTENTS, timeout=30)) as memo:
        for start in range(0, len(names), 500):
            part = names[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = memo.execute(f"SELECT path, size, modified, digest FROM contents WHERE path IN ({marks})", part)
            found.update({path: (size, modified, digest) for path, size, modified, digest in rows})
    return found


def _remember(root: Path, rows: Sequence[tuple[str, int, int, bytes]]) -> None:
    """Note hashes; where that cannot be done they are computed again next time."""
    if not rows:
        return
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(root / CONTENTS, timeout=30)) as memo:
        memo.execute("CREATE TABLE IF NOT EXISTS contents (path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, digest BLOB)")
        memo.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", rows)
        memo.commit()
