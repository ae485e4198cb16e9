from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sadcl_core.errors import DataError
from sadcl_core.evaluation.published import Row, Table, ap_convention, cf1_meaning, published_table, read_table, tables
from sadcl_core.evaluation.published_rows import render

PRINTED = Path(tables.__file__).parent
SHARED = Path(__file__).parents[5] / "shared" / "paper"


def table_of(name: str) -> Table:
    found = published_table(tables.CLASSES[name])
    assert found is not None
    return found


def row(name: str, method: str, test_size: int | None = None) -> Row:
    return next(
        row for row in table_of(name).rows if row["method"] == method and (test_size is None or row["test_size"] == test_size)
    )


@pytest.mark.parametrize(("name", "count", "rows"), [("coco", 80, 21), ("voc2007", 20, 15), ("nuswide", 81, 10)])
def test_a_table_is_found_by_the_classes_in_any_order(name: str, count: int, rows: int) -> None:
    classes = tables.CLASSES[name]
    assert len(set(classes)) == count
    for given_ in (classes, classes[::-1], [label.upper().replace(" ", "_") for label in classes]):
        found = published_table(given_)
        assert found is not None
        assert (found.name, len(found.rows)) == (name, rows)
    assert published_table(classes[1:]) is None
    assert published_table([*classes[1:], "unicorn"]) is None
    assert published_table([*classes[1:], classes[1]]) is None


@pytest.mark.parametrize(("name", "count"), [("coco", 26), ("voc2007", 5), ("nuswide", 7)])
def test_rows_of_other_papers_name_what_they_were_measured_with(name: str, count: int) -> None:
    rows = tables.other_rows(name)
    assert len(rows) == count
    for other in rows:
        assert other["backbone"]
        assert other["source"]
        assert other["AP"] in ("interpolated", "non-interpolated", None)
        assert isinstance(other["mAP"], float)
    printed = {(one["method"], one.get("test_size"), one["mAP"]) for one in table_of(name).rows}
    assert not printed & {(one["method"], one["test_size"], one["mAP"]) for one in rows}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the paper's tables are not here")
def test_the_ablation_is_that_of_the_paper() -> None:
    printed = list(csv.DictReader((SHARED / "ablation.csv").read_text().splitlines()))[
        1:-1
    ]  # the first and the last row are in the main table
    for name in ("coco", "nuswide"):
        ours = [tuple(one[column] for column in ("mAP", "OF1", "CF1")) for one in tables.other_rows(name)[:4]]
        assert ours == [tuple(float(one[f"{name}_{column}"]) for column in ("mAP", "OF1", "CF1")) for one in printed]


def test_classes_of_voc_under_the_names_of_coco() -> None:
    names = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}
    found = published_table([names.get(name, name) for name in tables.CLASSES["voc2007"]])
    assert found is not None
    assert found.name == "voc2007"


@pytest.mark.parametrize("name", tables.CLASSES)
def test_rendered_as_csv_a_table_is_its_file(name: str) -> None:
    table = table_of(name)
    assert render(table.rows, table.columns, "csv") == (PRINTED / f"{name}.csv").read_text()


@pytest.mark.parametrize("name", tables.CLASSES)
def test_the_figures_are_those_of_the_paper(name: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("the paper's tables are not here")
    assert (PRINTED / f"{name}.csv").read_text() == (SHARED / f"{name}.csv").read_text()


def test_some_figures() -> None:
    assert row("coco", "SADCL", 576)["mAP"] == 86.8
    assert row("nuswide", "SADCL")["top3_OF1"] == 70.6
    assert row("voc2007", "SADCL")["motor"] == 99.0
    assert row("coco", "RNN-Att")["mAP"] is None
    table = table_of("voc2007")
    means = {str(r["method"]): np.mean([r[column] for column in table.class_columns]) for r in table.rows}
    off = [name for name, mean in means.items() if abs(mean - row("voc2007", name)["mAP"]) > 0.15]  # type: ignore[operator]
    assert off == ["GM-MLIC"]  # in the paper as well: its classes have a mean of 95.2, printed is 94.7


MACRO = [("ResNet101", 448), ("SADCL", 448), ("SADCL", 576), ("SSGRL", 576), ("CCD-R101", 448)]
HARMONIC = [("ML-GCN", 448), ("MulCon", 448), ("TDRG", 448), ("TDRG", 576), ("C-Tran", 576), ("Query2Label", 448)]


@pytest.mark.parametrize("column", ["CF1", "top3_CF1"])
def test_which_cf1_a_row_reports_follows_from_its_own_figures(column: str) -> None:
    assert {cf1_meaning(row("coco", *key), column) for key in MACRO} == {"macro"}
    assert {cf1_meaning(row("coco", *key), column) for key in HARMONIC} == {"harmonic"}


def test_conventions_that_no_figure_shows() -> None:
    assert cf1_meaning(row("nuswide", "SADCL")) == "macro"
    assert cf1_meaning(row("nuswide", "MulCon")) == "harmonic"
    assert cf1_meaning(row("nuswide", "MulCon"), "top3_CF1") == ""  # not printed
    assert cf1_meaning(row("nuswide", "TDRG")) == ""
    assert cf1_meaning({"method": "x", "CP": 50.0, "CR": 50.0, "CF1": 60.0}) == ""  # above both of what it can be
    assert {ap_convention(row("coco", name)) for name in ("SADCL", "SSGRL", "Query2Label")} == {"interpolated"}
    assert {ap_convention(row("coco", name)) for name in ("ML-GCN", "MulCon")} == {"non-interpolated"}
    assert ap_convention(row("coco", "P-GCN")) == ""


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=st.floats(0.01, 1)))
def test_macro_f1_is_never_above_the_harmonic_mean(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    harmonic = 2 * values.prod(axis=1) / values.sum(axis=1)
    mean = values.mean(axis=0)
    assert harmonic.mean() <= 2 * mean.prod() / mean.sum() + 1e-12


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text('\ufeffmethod, mAP ,CF1,where\n"a, b",85.6%,-,arXiv\n\nc,,80,\n', encoding="utf-8")
    table = read_table(path)
    assert (table.name, table.columns) == ("mine", ("method", "mAP", "CF1", "where"))
    assert table.rows == (
        {"method": "a, b", "mAP": 85.6, "CF1": None, "where": "arXiv"},
        {"method": "c", "mAP": None, "CF1": 80.0, "where": None},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a header with a column 'method'"),
        ("name,mAP\na,1\n", "needs a header with a column 'method'"),
        ("method,test_size\na,448\n", "columns such as mAP, CP"),
        ("method,mAP,mAP\na,1,1\n", "each once"),
        ("method,mAP\na,1,1\n", "row 2 has 3 cells"),
        ("method,mAP\na,good\n", "row 2, mAP: 'good' is not a number"),
        ("method,mAP\na,1\nb,101\n", "row 3, mAP: '101' is not a number in 0..100"),
        ("method,mAP\na,nan\n", "'nan' is not a number"),
        ("method,mAP\n,1\n", "row 2 names no method"),
        ("method,mAP\n\0,1\n", "NUL"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "mine.csv")
    with pytest.raises(DataError, match="is missing"):
        read_table(tmp_path / "no.csv")
