from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sadcl_core.errors import UsageError
from sadcl_core.evaluation.published import COLUMNS, Row, Table, published_table
from sadcl_core.evaluation.published.tables import CLASSES
from sadcl_core.evaluation.published_rows import find_table, render, row_of, rows_with_ours, set_beside, shared_differences
from sadcl_core.evaluation.result import Evaluation
from sadcl_core.runtime.files import from_cell

VALUES = {"CP": 84.6, "CR": 76.0, "CF1": 80.0712, "macro_F1": 79.84, "OP": 86.0, "OR": 78.5, "OF1": 82.08}
SUBJECT = {"img_size": 448, "train_size": 224}


def evaluated(classes: Sequence[str] = (), ap: Sequence[float] = (), **changes: Any) -> Evaluation:
    numbers = {"mAP_interpolated": 85.6412, "mAP_non_interpolated": 85.31}
    rows = {"all": VALUES, "top3": {name: value - 10 for name, value in VALUES.items()}}
    result = Evaluation(tuple(classes), numbers, {"AP_interpolated": np.array(ap or [50.0] * len(classes))}, rows, SUBJECT)
    return replace(result, **changes)


def table_of(name: str) -> Table:
    table = published_table(CLASSES[name])
    assert table is not None
    return table


def test_our_row_in_the_columns_of_coco() -> None:
    for table in (None, table_of("coco")):
        row = row_of(evaluated(), table)
        assert render([row], COLUMNS, "csv").splitlines()[1] == (
            "ours,224,448,85.6,84.6,76.0,80.1,86.0,78.5,82.1,74.6,66.0,70.1,76.0,68.5,72.1"
        )


def test_which_table_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("method,mAP\nx,80\n")
    assert find_table(None, ("a", "b")) is None
    for against in (None, "paper"):
        table = find_table(against, CLASSES["coco"])
        assert table is not None
        assert table.name == "coco"
    own = find_table(str(path), CLASSES["coco"])
    assert own is not None
    assert rows_with_ours(evaluated(), str(path)).rows[0]["ours-mAP"] == pytest.approx(5.6)
    alone = rows_with_ours(evaluated())
    assert (alone.columns, len(alone.rows), alone.description) == (COLUMNS, 1, "")
    with pytest.raises(UsageError, match="No printed table is of these 2 classes"):
        find_table("paper", ("a", "b"))


def test_our_row_can_be_pasted_below_each_printed_table() -> None:
    for name in CLASSES:
        table = table_of(name)
        header, line = render([row_of(evaluated(), table)], table.columns, "csv").splitlines()
        whole = render(table.rows, table.columns, "csv")
        assert whole.splitlines()[0] == header
        assert len(next(csv.reader([line]))) == len(table.columns)


def test_our_row_in_the_columns_of_voc_whatever_the_order_of_the_classes() -> None:
    names = list(CLASSES["voc2007"])
    table = table_of("voc2007")
    ap = [50.04 + k for k in range(20)]
    ap[3] = math.nan
    names[0] = "airplane"
    row = row_of(evaluated(names[::-1], ap[::-1], subject={}), table)
    expected = [50.0 + k for k in range(20)]
    assert [row[column] for column in table.class_columns] == [*expected[:3], None, *expected[4:]]
    assert render([row], table.columns, "csv").splitlines()[1].startswith("ours,,50.0,51.0,52.0,,54.0")


def test_values_that_there_are_none_of() -> None:
    numbers = {"mAP_interpolated": math.nan, "mAP_non_interpolated": math.nan}
    row = row_of(evaluated(numbers=numbers, rows={"all": {"CP": math.nan}}, subject={"img_size": None}))
    assert render([row], COLUMNS, "csv").splitlines()[1] == "ours" + "," * (len(COLUMNS) - 1)


def test_differences_are_like_for_like() -> None:
    table = table_of("coco")
    ours = row_of(evaluated(), table)
    result = set_beside(ours, table)
    assert result.rows[-1] is ours
    assert [row["method"] for row in result.rows[:-1]] == [row["method"] for row in table.rows]
    by_method = {(row["method"], row["test_size"]): row for row in result.rows[:-1]}
    assert by_method["SADCL", 448]["ours-mAP"] == pytest.approx(85.6 - 85.6)
    assert by_method["SADCL", 448]["ours-CF1"] == pytest.approx(79.8 - 79.8)  # macro against macro
    assert by_method["MulCon", 448]["ours-mAP"] == pytest.approx(85.3 - 84.9)  # non-interpolated
    assert by_method["MulCon", 448]["ours-CF1"] == pytest.approx(80.1 - 79.2)
    assert by_method["P-GCN", 448]["ours-mAP"] == pytest.approx(85.6 - 83.2)
    assert by_method["SADCL", 448]["ours-top3_CF1"] == pytest.approx(69.8 - 74.9)
    assert by_method["SADCL", 576]["ours-OF1"] == pytest.approx(82.1 - 83.2)
    assert by_method["RNN-Att", None]["ours-mAP"] is None
    assert result.columns == (*table.columns, *(f"ours-{name}" for name in ("mAP", "CF1", "OF1", "top3_CF1", "top3_OF1")))
    assert re.search(
        r"CF1, harmonic: ML-GCN at 448.*; macro: ResNet101 at 448, CCD-R101 at 448, SADCL at 448", result.description
    )
    assert "non-interpolated: ML-GCN at 448, MCAR at 448, TDRG at 448" in result.description
    assert by_method["TDRG", 448]["ours-mAP"] == pytest.approx(85.3 - 84.6)


def test_published_rows_say_whether_they_are_comparable_and_where_they_are_from() -> None:
    subject = {"img_size": 448, "train_size": 448, "backbone": "resnet101.tv_in1k"}
    numbers = {"mAP_interpolated": 85.6412, "mAP_non_interpolated": 85.31, "images": 40_137}
    result = rows_with_ours(evaluated(CLASSES["coco"], subject=subject, numbers=numbers), "paper")
    assert result.columns[-4:] == ("backbone", "AP", "comparable", "source")
    rows = {(row["method"], row["backbone"], row["test_size"]): row for row in result.rows}
    about = {key: (row["AP"], row["comparable"], row["source"]) for key, row in rows.items() if key[0] != "ours"}
    assert about["SADCL", "ResNet-101", 448] == ("interpolated", "yes", "SADCL, ECAI 2023")
    assert about["SADCL", "ResNet-101", 576] == ("interpolated", "no: tested at 576 px and ours at 448", "SADCL, ECAI 2023")
    assert about["Query2Label", "TResNet-L", 448][1:] == (
        "no: on TResNet-L and ours on resnet101.tv_in1k",
        "Query2Label, README",
    )
    assert about["CSRA", "ResNet-101 (CutMix)", 448][1] == "no: from weights of CutMix"
    assert about["P-GCN", "ResNet-101", 448][1] == "perhaps: kind of AP not printed"
    assert about["CNN-RNN", "VGG-16", None][1] == "no: on VGG-16 and ours on resnet101.tv_in1k"
    assert rows["CSRA", "ResNet-101", 448]["ours-mAP"] == pytest.approx(85.3 - 83.3)  # non-interpolated
    assert rows["SADCL: SARL", "ResNet-101", 448]["ours-CF1"] == pytest.approx(79.8 - 79.3)  # macro
    assert rows["ours", "resnet101.tv_in1k", 448] is result.rows[-1]
    assert "Comparable with ours: ML-GCN, " in result.description
    few = rows_with_ours(evaluated(CLASSES["coco"], subject=subject, numbers={**numbers, "images": 5000}), "paper")
    assert all(str(row["comparable"]).startswith("no: on 40,504 images and ours on 5,000") for row in few.rows[:-1])
    assert "Comparable with ours: none" in few.description


def test_what_differs_in_every_row_is_said_once() -> None:
    subject = {"img_size": 288, "train_size": 288, "backbone": "tf_efficientnet_lite0"}
    numbers = {"mAP_interpolated": 85.6412, "mAP_non_interpolated": 85.31, "images": 300}
    result = rows_with_ours(evaluated(CLASSES["coco"], subject=subject, numbers=numbers), "paper")
    sentence, rows = shared_differences(result.rows)
    assert sentence.startswith("no row is comparable: on 40,504 images and ours on 300; ours is ")
    assert {*sentence.partition("ours is ")[2].split(", ")} == {"trained at 288", "tested at 288", "on tf_efficientnet_lite0"}
    cells = {(row["method"], row["test_size"]): str(row["comparable"]) for row in rows[:-1] if row["backbone"] == "ResNet-101"}
    assert cells["SADCL", 576] == "no: trained at 448 px; tested at 576 px; on ResNet-101"
    assert max(map(len, cells.values())) < 80
    assert rows[-1] is result.rows[-1]
    assert "images" in str(result.rows[0]["comparable"])  # as data it is in each row


def test_rows_that_share_nothing_stay_as_they_are() -> None:
    cells = ("yes", "perhaps: kind of AP not printed; backbone of ours not known", "no: pre-trained on COCO, or run by others")
    rows: list[Row] = [*[Row(method="a", comparable=cell) for cell in cells], {"method": "ours"}]
    assert shared_differences(rows) == ("", tuple(rows))


def test_rows_of_voc_and_nuswide_say_what_is_not_known() -> None:
    for name, method, expected in (
        (
            "voc2007",
            "ML-GCN",
            "perhaps: size it was trained at, size it was tested at not printed; backbone of ours not known",
        ),
        ("voc2007", "SADCL", "no: pre-trained on COCO, or run by others"),
        ("nuswide", "TDRG", "kind of AP not printed"),
    ):
        images = {"images": 4952}
        numbers = {"mAP_interpolated": 85.6412, "mAP_non_interpolated": 85.31, **images}
        rows = rows_with_ours(evaluated(CLASSES[name], numbers=numbers), "paper").rows
        assert expected in str(next(row for row in rows if row["method"] == method)["comparable"])


def test_tables_without_cf1_are_compared_by_what_they_have() -> None:
    result = set_beside(row_of(evaluated(subject={}), table_of("voc2007")), table_of("voc2007"))
    assert result.columns[-2:] == ("mAP", "ours-mAP")
    assert "macro" not in result.description
    assert render(result.rows, result.columns, "md").splitlines()[2].endswith("| 84.0 | +1.6 |")
    assert render(result.rows, result.columns, "md").splitlines()[-1].endswith("| 85.6 |  |")


HOSTILE = 'a|b & 50% of $x_1^2$ #1 {\\input{x}} ~"q" <b>\n* `c`'


def test_markdown_and_latex_of_a_hostile_name() -> None:
    rows: list[Row] = [{"method": HOSTILE, "mAP": 85.64}]
    markdown = render(rows, ["method", "mAP"], "md")
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines()] == [3, 3, 3]
    assert "<b" not in markdown
    latex = render(rows, ["method", "top3_CF1"], "latex").splitlines()
    assert latex[0] == r"\begin{tabular}{lr}"
    assert latex[2] == r"method & top3\_CF1 \\"
    assert latex[4] == (
        r"a\textbar{}b \& 50\% of \$x\_1\textasciicircum{}2\$ \#1 \{\textbackslash{}input\{x\}\} \textasciitilde{}"
        r"\textquotedbl{}q\textquotedbl{} \textless{}b\textgreater{} * `c` &  \\"
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example("\r")
@example("\t=1+1")
def test_any_name_stays_in_its_cell(name: str) -> None:
    rows: list[Row] = [{"method": name, "mAP": 1.0}]
    columns = ["method", "mAP"]
    read = list(csv.reader(io.StringIO(render(rows, columns, "csv"), newline="")))
    assert [[from_cell(row[0]), row[1]] for row in read[1:]] == [[" ".join(name.splitlines()), "1.0"]]
    lines = render(rows, columns, "md").split("\n")
    assert len(lines) == 4
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[2])) == 3
    latex = render(rows, columns, "latex").split("\n")
    assert len(latex) == 8
    bare = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]", "", latex[4].removesuffix(r" & 1.0 \\"))
    assert not set(bare) & set("&%$#_{}\\^~")
