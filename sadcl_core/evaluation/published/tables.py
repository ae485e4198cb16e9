"""The result tables of the SADCL paper, chosen by the classes of the data, and tables of a person's own.

Ma et al., "Semantic-Aware Dual Contrastive Learning for Multi-label Image Classification", ECAI 2023 (arXiv 2307.09715), the
comparisons on MS-COCO, NUS-WIDE and VOC 2007. Figures only, in percent; a figure that was not printed is blank. In `voc2007.csv`
`starred` is a model that was pre-trained on COCO or reproduced by the authors. `others.csv` has the ablation of the paper, and
what other papers and their authors' pages print, with backbone, sizes, the kind of AP and the source of each row.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from sadcl_core.data.class_names import match_classes
from sadcl_core.data.formats import coco, nuswide, voc
from sadcl_core.data.tables import read_lines, readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import from_cell

Cell = str | float | None
Row = dict[str, Cell]

METHOD = "method"
SIZES = ("train_size", "test_size")  # pixels
VALUES = ("CP", "CR", "CF1", "OP", "OR", "OF1")
COLUMNS = (METHOD, *SIZES, "mAP", *VALUES, *(f"top3_{name}" for name in VALUES))  # of COCO's table, and of data without one
CLASSES: dict[str, tuple[str, ...]] = {"coco": coco.CLASSES, "voc2007": tuple(voc.CLASSES), "nuswide": nuswide.CLASSES}
VOC_COLUMNS = "aero bike bird boat bottle bus car cat chair cow table dog horse motor person plant sheep sofa train tv"
PRINTED_AS = {
    "baseline": ("resnet101", "resnet-101"),
    "baseline-max": ("resnet-101: maximum",),
    "ccd": ("ccd-r101",),
    "sarl": ("sadcl: sarl",),
    "sarl-no-encoder": ("sadcl: sarl without encoder",),
    "sarl-s2s": ("sadcl: sarl and s2s",),
    "sarl-p2s": ("sadcl: sarl and p2s",),
}  # methods whose rows have another name than theirs
NOTHING = ("", "-", "\u2013", "\u2014")  # how tables say that a figure was not printed


@dataclass(frozen=True)
class Table:
    """A result table.

    Attributes:
        name: `coco`, `nuswide`, `voc2007`, or of a person's own file.
        columns: in their order; `method` is one of them.
        rows: the cells by column: text, a number (of figures in percent), or None for a blank.
        class_columns: column -> the class whose AP it holds, under the name that the data set's own labels have.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    class_columns: dict[str, str]


def published_table(classes: Sequence[str]) -> Table | None:
    """Return the printed table of the data set whose classes these are, in any order and usual spelling; else None."""
    for name, own in CLASSES.items():
        matched = match_classes(own, classes)
        if len(own) == len(classes) and set(matched.values()) == set(classes):
            with as_file(files("sadcl_core.evaluation.published") / f"{name}.csv") as path:
                return read_table(path)
    return None


def other_rows(name: str) -> tuple[Row, ...]:
    """Return the rows about a data set that its printed table does not have, with `backbone`, `AP` and `source`.

    Example:
        >>> [row["method"] for row in other_rows("nuswide")][-1]
        'ASL'
    """
    with as_file(files("sadcl_core.evaluation.published") / "others.csv") as path:
        return tuple(row for row in read_table(path).rows if row["data"] == name)


def rows_of_method(method: str, classes: Sequence[str]) -> tuple[str, tuple[Row, ...]]:
    """Return the data set of whose printed table these are the classes, and the rows of a method with an mAP on it.

    Example:
        >>> data, rows = rows_of_method("ml-gcn", coco.CLASSES)
        >>> data, [row["mAP"] for row in rows]
        ('coco', [83.0])
        >>> rows_of_method("ml-gcn", ("cat", "dog"))
        ('', ())
    """
    table = published_table(classes)
    if table is None:
        return "", ()
    names = PRINTED_AS.get(method, (method,))
    rows = (row for row in (*table.rows, *other_rows(table.name)) if str(row[METHOD]).lower() in names)
    return table.name, tuple(row for row in rows if row.get("mAP") is not None)


def read_table(path: Path) -> Table:
    """Read a CSV table with the column `method`; columns of figures that are known hold percent, others are texts.

    Known are the columns of the printed tables, VOC's short names of its classes among them.

    Raises:
        DataError: it cannot be read, has no method or no figure, or a figure is not in 0..100.
    """
    with readable(path, "a table"):
        rows = list(csv.reader((line for _, line in read_lines(path)), skipinitialspace=True))
        rows = [row for row in rows if any(cell.strip() for cell in row)]
    columns = tuple(from_cell(cell.strip()) for cell in rows[0]) if rows else ()
    voc_columns = dict(zip(VOC_COLUMNS.split(), CLASSES["voc2007"], strict=True))  # both in the order of the data set
    class_columns = voc_columns if set(voc_columns) <= set(columns) else {}
    figures = {*COLUMNS[1:], *class_columns} & set(columns)
    if METHOD not in columns or not figures - set(SIZES) or len(set(columns)) != len(columns):
        raise DataError(
            f"{path} needs a header with a column 'method' and columns such as {', '.join(COLUMNS[3:7])}, each once. Add it."
        )
    read = tuple(_read_row(row, columns, figures, f"{path}, row {k}") for k, row in enumerate(rows[1:], start=2))
    return Table(path.stem, columns, read, class_columns)


def _read_row(cells: Sequence[str], columns: Sequence[str], figures: set[str], where: str) -> Row:
    if len(cells) != len(columns):
        raise DataError(f"{where} has {len(cells)} cells where the header has {len(columns)}. Mend the row.")
    row: Row = {}
    for name, text in zip(columns, (from_cell(cell.strip()) for cell in cells), strict=True):
        row[name] = None if text in NOTHING else _figure(text, name, where) if name in figures else text
    if row[METHOD] is None:
        raise DataError(f"{where} names no method. Fill it in.")
    return row


def _figure(text: str, name: str, where: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    limit = 1e5 if name in SIZES else 100
    if not 0 <= value <= limit:
        raise DataError(f"{where}, {name}: {text[:60]!r} is not a number in 0..{limit:g}. Give percent, or leave it blank.")
    return value
