"""Choices of a person about how data are prepared; those of how label files are read are also of evaluation."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any, Literal, Self

from sadcl_core.data.formats.source import Difficult, Reading
from sadcl_core.data.prepare.groups import is_pattern
from sadcl_core.data.tables import read_as, read_classes
from sadcl_core.errors import UsageError

DIVISION = "0.8,0.1,0.1"  # of data that come without splits


@dataclass(frozen=True)
class ReadingOptions:
    """Options of how label files are read, each as the argument of `sadcl_core.prepare` of this name, as it can be stored."""

    classes: str = ""
    delimiter: str = ""
    difficult: Difficult = "ignore"
    label_column: str = ""
    long: bool = False
    present: str = ""
    absent: str = ""
    unknown: str = ""
    threshold: float | None = None
    image_column: str = ""
    split_column: str = ""
    group_by: str = ""
    encoding: str = ""
    decimal: Literal[".", ","] = "."

    @classmethod
    def stored(cls, options: Mapping[str, Any]) -> Self:
        """Return the options of reading from all that a manifest was prepared with.

        Example:
            >>> ReadingOptions.stored({"absent": "-1", "seed": 3}).absent
            '-1'
        """
        return cls(**{field.name: options[field.name] for field in fields(cls) if field.name in options})

    def reading(self) -> Reading:
        """Return the options in the form that readers of label files take.

        Raises:
            UsageError: the threshold is not above 0 and at most 1.
            DataError: the file of class names cannot be read.

        Example:
            >>> ReadingOptions(classes="cat,dog", absent="-1,blank").reading().absent
            ('-1', 'blank')
        """
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(
                f"--threshold {self.threshold:g} is not above 0 and at most 1. Say from which fraction on a class counts."
            )
        options = {field.name: getattr(self, field.name) for field in fields(Reading)} | {
            "classes": class_names(self.classes),
            "delimiter": self.delimiter.replace(r"\t", "\t").replace(r"\n", "\n"),  # as a shell passes them
            "present": split_words(self.present),
            "absent": split_words(self.absent),
            "unknown": split_words(self.unknown),
            "group_by": "" if is_pattern(self.group_by) else self.group_by,
        }
        return Reading(**options)

    def texts(self) -> AbstractContextManager[None]:
        """Read texts in their encoding, and numbers with their decimal mark."""
        return read_as(self.encoding, decimal=self.decimal)

    def changed(self) -> dict[str, Any]:
        """Return the options that are not as they are by default.

        Example:
            >>> ReadingOptions(long=True).changed()
            {'long': True}
        """
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}


@dataclass(frozen=True)
class Options(ReadingOptions):
    """Options of `prepare`, by the names of its arguments; stored with the manifest, to prepare the data the same way again.

    Attributes:
        division: as `split`, for data that come without splits when that is empty.
        decode: read the pixels of every image; otherwise only check that the files exist.
    """

    format: str = ""
    split: str = ""
    division: str = DIVISION
    seed: int = 0
    merge: Sequence[str] = ()
    drop: Sequence[str] = ()
    keep: str = ""
    min_positives: int = 0
    limit: int = 0
    resize: int = 0
    skip_broken: bool = False
    decode: bool = True


def are_names(classes: str) -> bool:
    """Return True if classes are given as names with commas between them, or not at all; False if as a file.

    A single word is a name unless it looks like the path of a file.

    Example:
        >>> are_names("cat,dog"), are_names("cat"), are_names("classes.txt")
        (True, True, False)
    """
    path = Path(classes)
    is_file = os.path.isfile(classes)  # noqa: PTH113 # pathlib raises for a long text
    return not is_file and ("," in classes or not (path.suffix or len(path.parts) > 1))


def class_names(classes: str) -> tuple[str, ...]:
    """Return a list of classes that is given as names with commas between them, or as a file of them.

    Raises:
        DataError: the file cannot be read.

    Example:
        >>> class_names("cat, dog"), class_names("")
        (('cat', 'dog'), ())
    """
    return split_words(classes) if are_names(classes) else read_classes(Path(classes))


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text between commas; a word with a comma stands in double quotes.

    Example:
        >>> split_words('cat, "bowl, plate"')
        ('cat', 'bowl, plate')
    """
    return tuple(word.strip() for row in csv.reader([text], skipinitialspace=True) for word in row if word.strip())


def join_names(names: Iterable[str]) -> str:
    """Return the text that `split_words` takes apart into some names.

    Example:
        >>> join_names(["cat", "bowl, plate"])
        'cat,"bowl, plate"'
    """
    text = StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()


def names_or_file(classes: str | Path | None) -> str:
    """Return names with commas between them as they are, and a file as an absolute path."""
    text = str(classes or "")
    return text if are_names(text) else str(Path(text).absolute())
