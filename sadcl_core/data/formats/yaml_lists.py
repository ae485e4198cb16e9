"""A YAML file with the labels of each image, and perhaps a description beside it.

annotations.yaml    a.jpg: [cat, dog]
                    b.jpg: []
metadata.yaml       annotations: annotations.yaml
                    labels: [cat, dog, car]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sadcl_core.data.formats.jsonl import opened_mapping
from sadcl_core.data.formats.source import Source
from sadcl_core.data.formats.table import OPTIONS, Opened, read_tables
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import looks_like_image, read_yaml
from sadcl_core.errors import DataError

__all__ = ["OPTIONS", "SUFFIXES", "read", "recognises"]

SUFFIXES = (".yaml", ".yml")
NAMES = ("labels", "classes", "names")  # of the list of classes in a description


def recognises(path: Path) -> bool:
    """Return True if the keys of a file are images."""
    return _is_list(read_yaml(path))


def read(source: Source) -> Manifest:
    """Read one file per split, or one of all.

    Raises:
        DataError: a file is not a list of images with their labels.
    """
    return read_tables(source, "yaml", _open, words="a list of images in YAML")


def _open(path: Path) -> Opened:
    document = read_yaml(path)
    if not _is_list(document):
        raise DataError(f"{path} is not a list of images with their labels. Write a.jpg: [cat, dog].")
    return opened_mapping(document, _classes(path))


def _is_list(document: Any) -> bool:
    return isinstance(document, dict) and bool(document) and all(map(looks_like_image, document))


def _classes(path: Path) -> list[str]:
    """Return the classes that a description beside the file lists, which names it."""
    for other in sorted(path.parent.glob("*.y*ml")):
        document = read_yaml(other) if other != path else None
        if isinstance(document, dict) and document.get("annotations") == path.name:
            names: list[Any] = next((document[name] for name in NAMES if isinstance(document.get(name), list)), [])
            return [str(name) for name in names]
    return []
