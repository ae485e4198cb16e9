"""The account of a reading of label files: which files, columns and values were taken, and where the images were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

Role: TypeAlias = Literal["image", "labels", "class", "split", "unknown", "value", "group", "metadata"]


@dataclass(frozen=True)
class Column:
    """A column or key of a label file.

    Attributes:
        name: in the header; `column 3` where there is none.
        role: what it was read as; `metadata` is about the image and no label.
    """

    name: str
    role: Role
    reason: str


@dataclass(frozen=True)
class FileReading:
    """Account of one label file.

    Attributes:
        file: path relative to the folder of the images, else absolute.
        split: of its images; empty where its rows say so, or nothing does.
        columns: with their roles; none in a format without columns.
        separator: between the labels of a cell; `none` where a cell is one label; empty where labels are not in a cell.
        values: `present`, `absent` or `unknown` by each value of the columns of classes that occurs, as written.
    """

    file: str
    split: str = ""
    images: int = 0
    columns: tuple[Column, ...] = ()
    separator: str = ""
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImagePlace:
    """A place where some of the images were found.

    Attributes:
        folder: relative to the root; empty for the root itself.
        dropped: leading folders of their references that are not on this disk.
        extension: that was appended to their references, or took the place of theirs; in formats that name no path, that of
            the images.
    """

    folder: str
    images: int
    dropped: str = ""
    extension: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A thing that is there and was not read.

    Attributes:
        what: file, row or label.
        names: of a few of them.
    """

    what: str
    names: tuple[str, ...]
    reason: str
    count: int


@dataclass(frozen=True)
class Interpretation:
    """The account of one reading of label files; see the parts.

    Attributes:
        classes: order of the classes, and where it comes from: `by name`, `by column`, `as in classes.txt`; empty in accounts of
            before.
    """

    format: str
    files: tuple[FileReading, ...] = ()
    places: tuple[ImagePlace, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    classes: str = ""


def parse_interpretation(stored: Mapping[str, Any]) -> Interpretation:
    """Return the account that `dataclasses.asdict` turned into JSON.

    Raises:
        KeyError, TypeError, ValueError: it is not one.

    Example:
        >>> from dataclasses import asdict
        >>> account = Interpretation("csv", (FileReading("a.csv", columns=(Column("image", "image", "its name"),)),))
        >>> parse_interpretation(asdict(account)) == account
        True
    """
    files = [{**entry, "columns": tuple(Column(**column) for column in entry["columns"])} for entry in stored["files"]]
    unknown = {column.role for entry in files for column in entry["columns"]}.difference(get_args(Role))
    if unknown:
        raise ValueError(f"{unknown.pop()} is no role of a column")
    return Interpretation(
        format=str(stored["format"]),
        files=tuple(FileReading(**entry) for entry in files),
        places=tuple(ImagePlace(**entry) for entry in stored["places"]),
        left_out=tuple(LeftOut(**{**entry, "names": tuple(entry["names"])}) for entry in stored["left_out"]),
        classes=str(stored.get("classes", "")),
    )
