"""Text, JSON and YAML files as people have them, and the usual names of columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS, find_column, read_classes, read_json, read_lines, read_yaml
from sadcl_core.errors import DataError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_the_usual_encodings(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "names.txt"
    file.write_text("Katze\n\nHund é\n", encoding=encoding)
    assert read_classes(file) == ("Katze", "Hund é")
    assert [number for number, _ in read_lines(file)] == [1, 2, 3]


def test_the_line_that_excel_puts_first_is_no_row(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("sep=;\nimage;labels\n")
    assert list(read_lines(file)) == [(2, "image;labels\n")]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"{", "cannot be read as JSON"), (b'{"a": "\xff"}', "is not UTF-8 text"), (b'"a\0"', "NUL bytes")],
)
def test_a_damaged_json_file_is_refused_with_its_path(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "labels.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"labels.json.*{message}"):
        read_json(file)


def test_yaml_keeps_every_value_as_text(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("names: [no, 1.50, on]\nnc: 3\nempty:\n")
    assert read_yaml(file) == {"names": ["no", "1.50", "on"], "nc": "3", "empty": ""}


def test_yaml_with_aliases_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("a: &a [x]\nb: [*a, *a]\n")
    with pytest.raises(DataError, match="aliases"):
        read_yaml(file)


def test_columns_are_found_by_their_usual_names() -> None:
    assert find_column(["", "Image Path", "Tags"], IMAGE_COLUMNS) == 1
    assert find_column(["", "Image Path", "Tags"], LABEL_COLUMNS) == 2
    assert find_column(["x", "y"], LABEL_COLUMNS) is None
