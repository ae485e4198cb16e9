"""Images that belong together are in one split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.groups import numbered, together
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError, UsageError
from tests.core.data.formats.samples import draw_all, put

PATIENTS, EACH = 12, 4


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of patients with several images each."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    names = [f"p{patient:02d}_{k}.png" for patient in range(PATIENTS) for k in range(EACH)]
    draw_all(folder, names)
    rows = (f"{name},{'cat' if k % 3 else 'dog'},{name[:3]}\n" for k, name in enumerate(names))
    return put(folder / "labels.csv", "image,labels,Patient ID\n" + "".join(rows))


def splits_by_patient(manifest: Manifest) -> dict[str, set[str]]:
    splits: dict[str, set[str]] = {}
    for row in manifest.rows.to_pylist():
        splits.setdefault(row["image"][:3], set()).add(row["split"])
    return splits


@pytest.mark.parametrize("group_by", ["Patient ID", r"^(p\d+)_"])
def test_groups_stay_on_one_side(table: Path, group_by: str) -> None:
    assert any(len(own) > 1 for own in splits_by_patient(prepare(table, output="alone", split="0.5,0.5").manifest).values())
    manifest = prepare(table, split="0.5,0.5", group_by=group_by).manifest
    assert all(len(own) == 1 for own in splits_by_patient(manifest).values())
    assert manifest.split_sizes == {"train": 24, "val": 24}
    assert manifest.rows.column_names == ["image", "split", "active", "unknown", "boxes"]
    assert f"12 groups by {group_by}" in manifest.description.notes


def test_other_groups_divide_the_images_again_and_the_same_do_not(table: Path) -> None:
    prepare(table, split="0.5,0.5")
    grouped = prepare(table, split="0.5,0.5", group_by="Patient ID").manifest
    assert all(len(own) == 1 for own in splits_by_patient(grouped).values())
    again = prepare(table, split="0.5,0.5", group_by="Patient ID").manifest
    assert splits_by_patient(again) == splits_by_patient(grouped)
    assert any("stay where they were" in note for note in again.description.notes)


def test_a_likely_column_is_looked_at_and_divides_nothing(table: Path) -> None:
    prepared = prepare(table, split="0.5,0.5")
    [finding] = [finding for finding in prepared.report.findings if finding.what == "groups across splits"]
    assert finding.severity == "warning"
    assert "--group-by" in finding.text
    assert "group" not in prepared.manifest.rows.column_names


def test_groups_of_one_image_each_are_said_to_change_nothing(table: Path) -> None:
    notes = prepare(table, group_by=r"([^/]+)$").manifest.description.notes
    assert any(note.endswith("each is one image, so nothing is kept together") for note in notes)


def test_groups_across_the_splits_of_the_data_are_a_finding(table: Path) -> None:
    text = table.read_text().splitlines()
    rows = [f"{row},{'train' if k % EACH else 'test'}" for k, row in enumerate(text[1:])]
    put(table, "\n".join([f"{text[0]},split", *rows]) + "\n")
    finding = next(f for f in prepare(table, group_by="Patient ID").report.findings if f.what == "groups across splits")
    assert (finding.severity, finding.count) == ("bad", PATIENTS)


@pytest.mark.parametrize(
    ("group_by", "error", "message"),
    [
        ("patients", DataError, "has no column 'patients'.* Check --group-by"),
        (r"(q\d+)", UsageError, "matches no image, such as p00_0.png. Mend the pattern"),
        ("(p", UsageError, "no regular expression"),
    ],
)
def test_groups_that_are_not_there(table: Path, group_by: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prepare(table, group_by=group_by)


def test_a_column_needs_a_table(tmp_path: Path, table: Path) -> None:
    images = [(f"p{k:02d}_{number}.png", [0] * (1 - number)) for k in range(PATIENTS) for number in range(2)]
    entries = [{"img_path": image, "gt_label": labels} for image, labels in images]
    lists = put(tmp_path / "mine" / "list.json", {"metainfo": {"classes": ["cat"]}, "data_list": entries})
    with pytest.raises(UsageError, match="--group-by has no effect on these labels, which are read as openmmlab"):
        prepare(lists, output="other", group_by="Patient ID")
    manifest = prepare(lists, output="other", group_by="(p..)_").manifest
    assert all(len(own) == 1 for own in splits_by_patient(manifest).values())


groups_of = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["", "x", "y"])), min_size=1, max_size=12)


@given(pairs=groups_of)
@settings(max_examples=100, deadline=None)
def test_together_is_the_closure_of_both(pairs: list[tuple[str, str]]) -> None:
    """Against a naive loop."""
    names = list(range(len(pairs)))
    for _ in pairs:
        for i, first in enumerate(pairs):
            for j, second in enumerate(pairs):
                if (first[0] and first[0] == second[0]) or (first[1] and first[1] == second[1]):
                    names[i] = names[j] = min(names[i], names[j])
    result = together(numbered([first for first, _ in pairs]), numbered([second for _, second in pairs]))
    for i in range(len(pairs)):
        assert (result[i] == -1) == (names.count(names[i]) == 1)
        for j in range(i):
            assert (result[i] == result[j] != -1) == (names[i] == names[j])
    assert isinstance(result, np.ndarray)
