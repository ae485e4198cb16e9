"""Find the text of each image: beside it, or in a folder beside the one of the images.

a.jpg, a.txt                     images/a.jpg, labels/a.txt
a.jpg, a.jpg.txt                 train/img/a.jpg, train/boxes/a.txt
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.walk import folders_in, is_folder

LOOKED_AT = 200  # images from which the folders of the texts are found


class Texts:
    """Texts of images, all found by the same folders."""

    def __init__(
        self, root: Path, images: Sequence[str], suffixes: Sequence[str], folders: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Find the folders of the texts.

        Args:
            root: folder that the paths of images start from.
            images: some of them are looked at.
            suffixes: of texts, the likeliest first.
            folders: names of a folder of images and of the one beside it with their texts, which come before texts beside images.
        """
        self.root, self.suffixes, self.first = root, suffixes, folders
        self.last: tuple[tuple[str, str], ...] = ()
        self._folders: dict[Path, list[str]] = {}  # that may hold texts, by the folder they are in
        some = images[:: max(1, len(images) // LOOKED_AT)]
        if not any(map(self.of, some)):
            self.last = tuple(dict.fromkeys(pair for image in some for pair in self._pairs(image)))

    def of(self, image: str) -> str:
        """Return the path of an image's text; empty if there is none."""
        return next(self.all_of(image), "")

    def all_of(self, image: str) -> Iterator[str]:
        """Yield the paths of all texts of an image, the likeliest first."""
        whole = f"/{image}"
        stem = os.path.splitext(whole)[0]  # noqa: PTH122 - many
        for name, other in self.first:
            yield from self._there(_replaced(stem, name, other))
        yield from self._there(stem)
        yield from self._there(whole)
        for name, other in self.last:
            yield from self._there(_replaced(stem, name, other))

    def _there(self, stem: str) -> Iterator[str]:
        for suffix in self.suffixes if stem else ():
            if os.path.isfile(path := f"{self.root}{stem}{suffix}"):  # noqa: PTH113 - many
                yield path

    def _pairs(self, image: str) -> Iterator[tuple[str, str]]:
        """Yield names of folders above an image and of those beside them with its text; a blank and one in its own folder."""
        stem = os.path.splitext(f"/{image}")[0]  # noqa: PTH122
        parts = image.split("/")
        for k, part in enumerate((*parts[:-1], "")):
            above = self.root.joinpath(*parts[:k])
            if above not in self._folders:
                self._folders[above] = [folder.name for folder in folders_in(above) if self._may_hold(folder)]
            for name in self._folders[above]:
                if name != part and any(self._there(_replaced(stem, part, name))):
                    yield part, name

    def _may_hold(self, folder: Path) -> bool:
        """Return True if there are texts or folders among the first entries of a folder, and not images alone."""
        with os.scandir(folder) as entries:
            return any(entry.name.endswith(tuple(self.suffixes)) or is_folder(entry) for entry in islice(entries, LOOKED_AT))


def _replaced(stem: str, name: str, other: str) -> str:
    """Return a path with another folder in place of the last one of a name, or with one more where that is blank; else empty."""
    if not name:
        return f"/{other}/".join(stem.rsplit("/", 1))
    before, found, after = stem.rpartition(f"/{name}/")
    return f"{before}/{other}/{after}" if found else ""
