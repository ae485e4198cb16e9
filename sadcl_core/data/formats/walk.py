"""The images below a folder, in a fixed order, for formats whose label files lie beside images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import DESCRIPTION, ROWS

OURS = ({DESCRIPTION, ROWS}, {"run.json", "config.yaml"})


def images_under(folder: Path) -> Iterator[str]:
    """Yield the paths of all image files below a folder, as `files_under` does."""
    return files_under(folder, EXTENSIONS)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return True for a folder, and False for a link in circles, for which `is_dir` raises an error."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, by name."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if is_folder(entry) and not entry.name.startswith("."))


def files_under(folder: Path, suffixes: str | tuple[str, ...]) -> Iterator[str]:
    """Yield the paths of all files with these suffixes below a folder, relative to it, by name; links are followed once.

    Hidden folders and what this program writes, prepared data and runs, are left out.
    """
    seen: set[tuple[int, int]] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        state = Path(where).stat()
        if (state.st_dev, state.st_ino) in seen or any(ours <= set(files) for ours in OURS):  # a link to a folder above it
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(where).relative_to(folder).as_posix()
        for name in sorted(files):
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield name if below == "." else f"{below}/{name}"
