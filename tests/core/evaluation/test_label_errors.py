from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sadcl_core.errors import UsageError
from sadcl_core.evaluation.label_errors import write_suspects
from sadcl_core.metrics.label_errors import SuspectedError


def test_the_table(tmp_path: Path) -> None:
    suspects = [
        SuspectedError(1, 0, "missing", 0.987654321, 4.0, 0.5, 0.75),
        SuspectedError(0, 1, "wrong", 0.01, 2.0, None, 0.5),
    ]
    images = ['a, "b".png', "é\nf.png"]
    write_suspects(tmp_path / "out" / "suspects.csv", suspects, images, ["cat, big", "dog"])
    text = (tmp_path / "out" / "suspects.csv").read_bytes().decode()
    assert text.startswith("image,label,kind,score,margin,similarity,suspicion,rank\n")
    assert "\r" not in text
    with (tmp_path / "out" / "suspects.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["label"], row["kind"], row["rank"]) for row in rows] == [
        ("é\nf.png", "cat, big", "missing", "1"),
        ('a, "b".png', "dog", "wrong", "2"),
    ]
    assert [row["similarity"] for row in rows] == ["0.5000", ""]
    assert float(rows[0]["score"]) == pytest.approx(0.987654, abs=1e-6)
    write_suspects(tmp_path / "none.csv", [], images, ["cat"])
    assert (tmp_path / "none.csv").read_text() == "image,label,kind,score,margin,similarity,suspicion,rank\n"
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_suspects(tmp_path / "taken", suspects, images, ["cat", "dog"])
