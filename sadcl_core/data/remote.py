"""Files at addresses such as s3://bucket/photos, gs://, hf:// and https://, through fsspec."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from sadcl_core.data.tables import readable
from sadcl_core.errors import DataError, MachineError, SadclError

ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
GLOB = re.compile(r"[*?\[]")


def is_remote(text: str) -> bool:
    """Return True if a text is an address of this module, and no path.

    Example:
        >>> is_remote("s3://bucket/a.jpg"), is_remote("photos/a.jpg")
        (True, False)
    """
    return bool(ADDRESS.match(text))


def read_remote(address: str) -> bytes:
    """Return the content of a file.

    Raises:
        DataError: it cannot be read.
        MachineError: the package for such addresses is missing.
    """
    with _explained(address):
        system, path = _open_system(address)
        return cast("bytes", system.cat_file(path))


def is_remote_folder(address: str) -> bool:
    """Return True for a folder, False for a file.

    Raises:
        DataError: there is neither, or it cannot be seen.
        MachineError: the package for such addresses is missing.
    """
    with _explained(address):
        system, path = _open_system(address)
        return bool(system.info(path)["type"] == "directory")


def files_under(address: str, *, recursive: bool = True) -> Iterator[str]:
    """Yield the addresses of all files below a folder, or that match a pattern with `*`, folder by folder in a fixed order.

    Raises:
        DataError: the folder cannot be seen.
        MachineError: the package for such addresses is missing.

    Example:
        >>> import fsspec
        >>> fsspec.filesystem("memory").pipe("/example/b/1.jpg", b"1")
        >>> list(files_under("memory://example")), list(files_under("memory://example/*/*.jpg"))
        (['memory:///example/b/1.jpg'], ['memory:///example/b/1.jpg'])
    """
    with _explained(address):
        system, path = _open_system(address, use_listings_cache=False)  # of folders without end
        if GLOB.search(path):
            yield from (system.unstrip_protocol(match) for match in sorted(system.glob(path)))
            return
        for above, folders, files in system.walk(path, maxdepth=None if recursive else 1, on_error="raise"):
            folders.sort()
            yield from (system.unstrip_protocol(f"{above.rstrip('/')}/{name}") for name in sorted(files) if name)


@contextmanager
def open_binary(place: str) -> Iterator[IO[bytes]]:
    """Open a file on the disk or at an address for reading, in which one can seek.

    Raises:
        DataError: it cannot be opened.
        MachineError: the package for such addresses is missing.
    """
    if not is_remote(place):
        with ExitStack() as stack:
            with readable(Path(place), "a file"):
                file = stack.enter_context(Path(place).open("rb"))
            yield file
        return
    with _explained(place):
        system, path = _open_system(place)
        remote = system.open(path, "rb")
    with remote:
        yield remote


@contextmanager
def local_copy(place: str) -> Iterator[Path]:
    """Yield the path of a file, which for an address is a copy that is removed afterwards."""
    if not is_remote(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, place.rpartition("/")[2] or "file")
        path.write_bytes(read_remote(place))
        yield path


def _open_system(address: str, **options: Any) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    import fsspec

    system, path = fsspec.core.url_to_fs(address, **options)
    return system, path


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn whatever a file system raises into one sentence."""
    try:
        yield
    except SadclError:
        raise
    except ImportError as error:
        package = f" ({error.name})" if error.name else ""
        raise MachineError(f"{address} needs a package{package}. Install it: pip install 'sadcl[cloud]'.") from None
    except FileNotFoundError:
        raise DataError(f"{address}: no such file.") from None
    except Exception as error:  # those of every cloud, of its network and of its credentials
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise DataError(f"{address}: cannot be read ({reason}).") from None
