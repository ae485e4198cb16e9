from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.prepare.checks import EXAMPLES, KINDS, ImageChecks, Problem
from sadcl_core.data.prepare.report import FEW, IMBALANCED, PAIRS, SEVERITIES, Finding, Report, make_report
from sadcl_core.data.rows import Record

Row = tuple[str, Sequence[int], Sequence[int]]  # split, active, unknown


def manifest_of(rows: Sequence[Row], classes: int) -> Manifest:
    names = tuple(f"class {k}" for k in range(classes))
    records = (Record(f"{i}.jpg", split, tuple(active), tuple(unknown)) for i, (split, active, unknown) in enumerate(rows))
    return Manifest.from_records(Description("some", Path("/images"), names), records)


def report_of(rows: Sequence[Row], classes: int, groups: Sequence[int] = (), **checks: Any) -> Report:
    known = np.array(groups, np.int64) if len(groups) else np.full(len(rows), -1)
    return make_report(manifest_of(rows, classes), ImageChecks(groups=known, **checks), left_out=False)


def findings_of(report: Report) -> dict[str, Finding]:
    found = {finding.what: finding for finding in report.findings}
    assert len(found) == len(report.findings)
    return found


def fine(images: int = 30) -> list[Row]:
    """Two splits of which nothing is worth knowing: three classes, each with enough images, none always with another."""
    labels = ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2))
    return [(split, labels[i % 6], ()) for split in ("train", "val") for i in range(images)]


ROWS = st.lists(
    st.tuples(st.sampled_from(["train", "val", "test"]), st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5))),
    min_size=1,
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(drawn=ROWS)
def test_counts_are_those_of_a_naive_recount(drawn: list[tuple[str, set[int], set[int]]]) -> None:
    rows = [(split, sorted(active), sorted(unknown - active)) for split, active, unknown in drawn]
    report = report_of(rows, 6)
    assert [split.name for split in report.splits] == list(dict.fromkeys(split for split, _, _ in rows))
    for split in report.splits:
        own = [(active, unknown) for name, active, unknown in rows if name == split.name]
        assert split.images == len(own)
        assert split.without_labels == sum(not active for active, _ in own)
        assert split.labels_per_image == pytest.approx(sum(len(active) for active, _ in own) / len(own))
        assert split.class_counts == tuple(sum(k in active for active, _ in own) for k in range(6))
        assert split.unknown_counts == tuple(sum(k in unknown for _, unknown in own) for k in range(6))
    counts = [sum(k in active for _, active, _ in rows) for k in range(6)]
    assert report.class_counts.tolist() == counts
    sizes = Counter(len(active) for _, active, _ in rows)
    assert report.cardinality == tuple(sizes[number] for number in range(max(sizes) + 1))
    present = [count for count in counts if count]
    assert report.imbalance == (max(present) / min(present) if present else 0)


@settings(max_examples=30, deadline=None)
@given(drawn=ROWS)
def test_pairs_are_those_of_a_naive_double_loop(drawn: list[tuple[str, set[int], set[int]]]) -> None:
    rows = [(split, sorted(active), ()) for split, active, _ in drawn]
    report = report_of(rows, 6)
    counts = report.class_counts
    both = {(a, b): sum({a, b} <= set(active) for _, active, _ in rows) for a, b in combinations(range(6), 2)}
    expected = {
        (f"class {a}", f"class {b}", n, round(n / counts[a], 4), round(n / counts[b], 4)) for (a, b), n in both.items() if n
    }
    assert {(pair.first, pair.second, pair.images, pair.of_first, pair.of_second) for pair in report.pairs} == expected
    assert [pair.images for pair in report.pairs] == sorted((pair.images for pair in report.pairs), reverse=True)
    together = [(a, b) for (a, b), n in both.items() if n and n == counts[a] == counts[b]]
    finding = findings_of(report).get("classes always together")
    assert (finding.count if finding else 0) == len(together)
    if finding:
        assert set(finding.examples) <= {f"class {a} = class {b}" for a, b in together}
        assert len(finding.examples) == min(EXAMPLES, len(together))


def test_nothing_is_found_where_nothing_is() -> None:
    assert report_of(fine(), 3).findings == ()


def of_split(split: str, *labels: Sequence[int]) -> list[Row]:
    return [(split, active, ()) for active in labels]


@pytest.mark.parametrize(
    ("rows", "classes", "expected"),
    [
        (fine(), 4, {"classes never positive": ("warning", 1, ("class 3",))}),
        (fine() + of_split("val", *[(3,)] * 3), 4, {"classes missing in train": ("warning", 1, ("class 3",))}),
        (fine() + of_split("train", *[(3,)] * FEW), 4, {"classes missing in val": ("warning", 1, ("class 3",))}),
        (fine() + of_split("val", (3,)) + of_split("train", *[(3,)] * FEW), 4, {}),
        (
            fine() + of_split("val", (3,)) + of_split("train", *[(3,)] * (FEW - 1)),
            4,
            {"rare classes": ("warning", 1, ("class 3",))},
        ),
        (
            [(split, (*active, 3), ()) for split, active, _ in fine()],
            4,
            {"classes always positive": ("warning", 1, ("class 3",))},
        ),
        (
            fine() + [(split, (3, 4), ()) for split in ("train", "val") for _ in range(10)],
            5,
            {"classes always together": ("warning", 1, ("class 3 = class 4",))},
        ),
        (
            [(split, (*active, 3) if i % 2 else active, () if i % 2 else (3,)) for i, (split, active, _) in enumerate(fine())],
            4,
            {"classes without negatives": ("bad", 1, ("class 3",)), "unknown labels": ("note", 30, ())},
        ),
        (
            fine() + of_split("test", (), ()),
            3,
            {
                "classes missing in test": ("warning", 3, ("class 0", "class 1", "class 2")),
                "no label in test": ("warning", 2, ()),
                "no label": ("note", 2, ()),
            },
        ),
        ([*fine(), ("train", (), ())], 3, {"no label": ("note", 1, ())}),
        ([*fine(), ("train", (0,), (1, 2)), ("val", (1,), (2,))], 3, {"unknown labels": ("note", 3, ())}),
        (
            fine() + of_split("train", *[(3,)] * 10) + of_split("val", (3,), *[(0,)] * (11 * IMBALANCED - 20)),
            4,
            {"imbalance": ("warning", IMBALANCED, ())},
        ),
        (fine() + of_split("train", *[(3,)] * 10) + of_split("val", (3,), *[(0,)] * (11 * IMBALANCED - 40)), 4, {}),
    ],
)
def test_labels_that_are_worth_knowing(
    rows: list[Row], classes: int, expected: dict[str, tuple[str, int, tuple[str, ...]]]
) -> None:
    found = findings_of(report_of(rows, classes))
    assert {what: (f.severity, f.count, f.examples) for what, f in found.items()} == expected


def test_an_imbalance_names_its_two_classes() -> None:
    rows = fine() + of_split("train", *[(3,)] * 10) + of_split("val", (3,), *[(1,)] * 2000)
    assert findings_of(report_of(rows, 4))["imbalance"].text == "times as many images of class 1 as of class 3"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("traffic light", "Traffic_Light", "dog"), ("traffic light = Traffic_Light",)),
        (("dog", "cat", "DOG"), ("dog = DOG",)),
        (("hot-dog", "hot dog", "hot  dog"), ("hot-dog = hot dog = hot  dog",)),
        (("dog", "dogs", "hotdog"), ()),
        (("t\u00fcr", "tu\u0308r", "dog"), ("t\u00fcr = tu\u0308r",)),
        (("dog", "dog\u200b", "cat"), ("dog = dog\u200b",)),
    ],
)
def test_names_that_are_spelled_alike(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    records = [Record(f"{i}.jpg", split, tuple(active)) for i, (split, active, _) in enumerate(fine())]
    manifest = Manifest.from_records(Description("some", Path("/images"), names), records)
    report = make_report(manifest, ImageChecks(groups=np.full(60, -1)), left_out=False)
    assert {what: (f.severity, f.examples) for what, f in findings_of(report).items()} == (
        {"classes spelled alike": ("warning", expected)} if expected else {}
    )


def test_one_split_that_lacks_nothing_lacks_no_class() -> None:
    found = findings_of(report_of([(split, active, ()) for split, active, _ in fine() if split == "train"], 4))
    assert set(found) == {"classes never positive"}


@pytest.mark.parametrize(
    ("twins", "expected"),
    [
        ((("train", (0,)), ("val", (0,))), {"duplicates across splits": "bad"}),
        ((("train", (0,)), ("train", (0,))), {"duplicates within a split": "warning"}),
        (
            (("train", (0,)), ("train", (1,))),
            {"duplicates within a split": "warning", "duplicates with other labels": "warning"},
        ),
        ((("train", (0,)), ("val", (1,))), {"duplicates across splits": "bad", "duplicates with other labels": "warning"}),
        (
            (("val", (0,)), ("train", (0,)), ("val", (0, 1))),
            dict.fromkeys(("duplicates across splits",), "bad")
            | dict.fromkeys(("duplicates with other labels", "duplicates within a split"), "warning"),
        ),
    ],
)
def test_images_that_are_there_several_times(twins: Sequence[tuple[str, Sequence[int]]], expected: dict[str, str]) -> None:
    rows = fine() + [(split, active, ()) for split, active in twins]
    found = findings_of(report_of(rows, 3, [*[-1] * 60, *[7] * len(twins)]))
    assert {what: finding.severity for what, finding in found.items()} == expected
    first = " = ".join(f"{60 + k}.jpg ({split})" for k, (split, _) in enumerate(twins))
    assert all(finding.count == 1 and finding.examples == (first,) for finding in found.values())


def test_several_contents_are_counted_each_once() -> None:
    groups = [-1] * 60
    for k in range(8):
        groups[k] = groups[k + 30] = k
    finding = findings_of(report_of(fine(), 3, groups))["duplicates across splits"]
    assert finding.count == 8
    assert finding.examples == tuple(f"{k}.jpg (train) = {k + 30}.jpg (val)" for k in range(EXAMPLES))


@pytest.mark.parametrize("left_out", [True, False])
def test_broken_images_come_first(left_out: bool) -> None:
    problems = [Problem(f"{k}.jpg", f"/{k}.jpg: broken image.") for k in range(7)]
    checks = ImageChecks(problems=problems, groups=np.full(60, -1))
    finding = make_report(manifest_of(fine(), 4), checks, left_out=left_out).findings[0]
    assert (finding.severity, finding.count, len(finding.examples)) == ("bad", 7, EXAMPLES)
    assert finding.text.endswith("left out") == left_out


def test_every_kind_of_image_is_a_note() -> None:
    kinds, examples = Counter(dict.fromkeys(KINDS, 2)), {kind: ["a", "b"] for kind in KINDS}
    found = findings_of(report_of(fine(), 3, kinds=kinds, examples=examples))
    assert list(found) == list(KINDS)
    assert {(finding.severity, finding.count, finding.examples) for finding in found.values()} == {("note", 2, ("a", "b"))}


def test_the_worst_is_first() -> None:
    rows: list[Row] = [*fine(), ("train", (), ()), ("val", (0,), (1,)), ("val", (), ())]
    report = report_of(
        rows, 4, [*[-1] * 60, 0, -1, 0], problems=[Problem("a", "b")], kinds=Counter(grey=1), examples={"grey": ["a"]}
    )
    severities = [SEVERITIES.index(finding.severity) for finding in report.findings]
    assert severities == sorted(severities)
    assert set(severities) == {0, 1, 2}


def test_classes_that_are_seldom_together_are_found_though_many_pairs_are_more_frequent() -> None:
    many = tuple(combinations(range(12), 2))
    assert len(many) > PAIRS
    rows = [("train", pair, ()) for pair in many for _ in range(4)] + [("train", (12, 13), ())]
    report = report_of(rows, 14)
    assert len(report.pairs) == PAIRS
    assert findings_of(report)["classes always together"].examples == ("class 12 = class 13",)


def test_classes_that_are_apart_once_in_many_times_are_not_always_together() -> None:
    rows: list[Row] = [("train", (0, 1), ())] * 30_000
    rows = [*rows, ("train", (0,), ()), ("train", (1,), ()), ("train", (2,), ())]
    assert "classes always together" not in findings_of(report_of(rows, 3))


def plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and plain(entry) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(plain, value))
    return type(value) in (str, int, float, bool)


@pytest.mark.parametrize(
    ("rows", "classes"),
    [
        (fine(), 3),
        ([("train", (0, 1), (2,))], 4),
        ([("train", (), ())], 1),
        ([("train", (), ()), ("test", (), ())], 2),
        ([("all", (), (0, 1))], 2),
        (fine() + of_split("test", *[(0, 1)] * 5000), 6),
    ],
)
def test_the_document_is_json_of_plain_types(rows: list[Row], classes: int) -> None:
    report = report_of(rows, classes, [0] * len(rows))
    document = report.as_json()
    assert plain(document)
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["images"] == len(rows)
    assert set(again["splits"]) == {split for split, _, _ in rows}
    assert sum(again["labels_per_image"].values()) == len(rows)
    assert list(again["classes"]) == [f"class {k}" for k in range(classes)]
    assert len(again["findings"]) == len(report.findings)


def test_no_label_in_any_image() -> None:
    report = report_of([("train", (), ()), ("val", (), ())], 3)
    assert set(findings_of(report)) == {"classes never positive", "no label"}
    assert report.imbalance == 0
    assert report.cardinality == (2,)
    assert report.splits[0].labels_per_image == 0
