"""A YAML file with the labels of each image, and perhaps a description beside it.

annotations.yaml    a.jpg: [cat, dog]
                    b.jpg: []
metadata.yaml       annotations: annotations.yaml
                    labels: [cat, dog, car]
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.tables import looks_like_image, read_yaml
from sadcl_core.errors import DataError

SUFFIXES = (".yaml", ".yml")
NAMES = ("labels", "classes", "names")  # of the list of classes in a description


def recognises(path: Path) -> bool:
    """Return True if the keys of a file are images."""
    return _is_list(read_yaml(path))


def _listing(path: Path) -> Listing:
    document = read_yaml(path)
    if not _is_list(document):
        raise DataError(f"{path} is not a list of images with their labels. Write a.jpg: [cat, dog].")
    return Listing(_classes(path), map(partial(_entry, path), document.items()))


def _is_list(document: Any) -> bool:
    return isinstance(document, dict) and bool(document) and all(map(looks_like_image, document))


def _entry(path: Path, item: tuple[str, Any]) -> Entry:
    image, labels = item
    names = labels if isinstance(labels, list) else [] if labels in (None, "") else [labels]
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: the labels of {image[:60]} are not a list of names. Write {image[:60]}: [cat, dog].")
    return Entry(image, [name for name in names if name])


def _classes(path: Path) -> list[str]:
    """Return the classes that a description beside the file lists, which names it."""
    for other in sorted(path.parent.glob("*.y*ml")):
        document = read_yaml(other) if other != path else None
        if isinstance(document, dict) and document.get("annotations") == path.name:
            names: list[Any] = next((document[name] for name in NAMES if isinstance(document.get(name), list)), [])
            return [str(name) for name in names]
    return []


read = partial(read_listing, kind="yaml", parse=_listing, content="a list of images in YAML", paths="near")
