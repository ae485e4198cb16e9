"""Choices of a person about how label files are read: one set for preparing data, for reading it again, and for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from sadcl_core.data.formats.source import Difficult, Reading
from sadcl_core.data.prepare.groups import is_pattern
from sadcl_core.data.tables import read_as, read_classes


@dataclass(frozen=True)
class ReadingOptions:
    """Options of how label files are read, as texts that can be stored.

    Attributes:
        classes: file of class names in their order, or the names with commas between them.
        delimiter: between the labels of one cell of a table; detected when empty.
        difficult: what VOC's difficult objects count as: unknown, absent or present.
        label_column: of a table; detected when empty.
        long: every row of a table is one label of its image.
        absent: values that mean absent, with commas between them; `blank` for an empty cell.
        unknown: values that mean unknown.
        threshold: fractions from here on are present, those below absent; None to refuse fractions.
        image_column: of a table; detected when empty.
        split_column: of a table; detected when empty; `none` if there is none.
        group_by: column of a table, or pattern on the paths of images, whose values stay in one split.
        encoding: of label files; UTF-8 when empty.
        decimal: mark of the numbers in them.
    """

    classes: str = ""
    delimiter: str = ""
    difficult: Difficult = "ignore"
    label_column: str = ""
    long: bool = False
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
        """Return the options of reading among those that a manifest was prepared with.

        Example:
            >>> ReadingOptions.stored({"absent": "-1", "seed": 3}).absent
            '-1'
        """
        return cls(**{field.name: options[field.name] for field in fields(cls) if field.name in options})

    @property
    def class_file(self) -> Path | None:
        """File of class names; None where there is none."""
        return Path(self.classes) if self.classes and not are_names(self.classes) else None

    def reading(self) -> Reading:
        """Return what a reader of label files is given.

        Raises:
            DataError: the file of class names cannot be read.

        Example:
            >>> ReadingOptions(classes="cat,dog", absent="-1,blank").reading().absent
            ('-1', 'blank')
        """
        options = {field.name: getattr(self, field.name) for field in fields(Reading)}
        return Reading(
            **{
                **options,
                "classes": split_words(self.classes) if self.class_file is None else read_classes(self.class_file),
                "absent": split_words(self.absent),
                "unknown": split_words(self.unknown),
                "group_by": "" if is_pattern(self.group_by) else self.group_by,
            }
        )

    @contextmanager
    def texts(self) -> Iterator[None]:
        """Read texts in their encoding, and numbers with their decimal mark."""
        with read_as(self.encoding, decimal=self.decimal):
            yield

    def changed(self) -> dict[str, Any]:
        """Return the options that are not as they are by default.

        Example:
            >>> ReadingOptions(long=True).changed()
            {'long': True}
        """
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}


def are_names(classes: str) -> bool:
    """Return True if a list of classes is given as names with commas between them, not as a file."""
    return "," in classes and not Path(classes).is_file()


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text between commas."""
    return tuple(word for word in map(str.strip, text.split(",")) if word)


def names_or_file(classes: str | Path | None) -> str:
    """Return names with commas between them as they are, and a file as an absolute path."""
    return str(classes or "") if not classes or are_names(str(classes)) else str(Path(classes).absolute())
