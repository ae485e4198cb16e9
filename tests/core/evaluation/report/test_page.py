from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from sadcl_core.errors import UsageError
from sadcl_core.evaluation.columns import INTERVAL, MEASURES, NUMBERS, PER_CLASS, Column
from sadcl_core.evaluation.report.drawings import curve_path, precision_recall_path, stacked_dots
from sadcl_core.evaluation.report.page import Page, Series, page_text, write_page
from sadcl_core.evaluation.result import Evaluation
from sadcl_core.inference.thumbnails import Thumbnail
from sadcl_core.metrics import Curve, Reliability
from sadcl_core.metrics.label_errors import SuspectedError
from sadcl_core.metrics.mistakes import ClassConfusions, ClassMistakes, Confusion, Mistake
from sadcl_core.runtime.files import visible

HOSTILE = (
    '<script>alert("x")</script>',
    "\"><img src='http://evil.example/a.png' onerror=alert(1)>",
    "</script></style></svg><h1>hello",
    "{{ 7*7 }} {% raw %}",
    "a\u202egpj.exe & <b>" + "very" * 100,
    "javascript:alert(1)",
)
VOID = {"meta", "link", "input", "img", "br"}


class Reader(HTMLParser):
    """What a browser would see: elements with their attributes and where they are, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.rows: dict[str, int] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def suspect(
    image: int, label: int, kind: Literal["missing", "wrong"], score: float, similarity: float | None = None
) -> SuspectedError:
    return SuspectedError(image, label, kind, score, 1.0, similarity, 1.0)


def jpeg(colour: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 9), (colour, 9, 9)).save(content, "JPEG")
    return content.getvalue()


def evaluated(names: tuple[str, ...] = (), **per_class: Any) -> Evaluation:
    """An evaluation with a few numbers."""
    counts = {"images": 40_137, "classes": len(names), "classes_evaluated": len(names), "unknown_labels": 0}
    numbers = {"mAP_interpolated": 85.7, "mAP_non_interpolated": 85.3, "mAP_interpolated_interval": (85.1, 86.2), **counts}
    values = {"positives": [1] * len(names), **per_class}
    return Evaluation(names, numbers, {key: np.array(value) for key, value in values.items()}, {})


def full_page(names: tuple[str, ...] = ("cat", "dog", "fork")) -> Page:
    count = len(names)
    values: dict[str, Any] = {column.key: [40.0 + n] * count for n, column in enumerate(PER_CLASS)}
    values |= {"positives": [1234] * count, "threshold": [0.1 * k for k in range(count)]}
    result = evaluated(names, **{**values, "AP_interpolated_interval": [[38.0, 45.5]] * count})
    numbers = {column.key: 0.5 for column in NUMBERS if column.rank is not None}
    rows = {"all": {column.key: 50.0 for column in MEASURES}, "top3": {"CP": math.nan}}
    result = replace(result, rows=rows, numbers={**numbers, **result.numbers}, subject={"difficult": "ignored"})
    curve = Curve(np.linspace(0, 1, 500), np.linspace(1, 0.2, 500))
    picture = Thumbnail(jpeg(10), jpeg(200), 16, 9)
    bins = np.array([0.1, 0.5, 0.9])
    return Page(
        title=f"{names[0]} · val",
        result=result,
        facts=[("model", names[0])],
        curves=[curve] * count,
        reliability=[
            Series("as trained", Reliability(bins, bins**2, np.array([5, 1000, 3])), 0.125),
            Series(names[0], Reliability(bins, bins, np.array([5, 0, 3])), math.nan),
        ],
        mistakes=[ClassMistakes(0, (Mistake(0, 0.91), Mistake(1, 0.77)), (Mistake(1, 0.03),), 1500, 1)],
        confusions=[ClassConfusions(0, 7, (Confusion(1, 3, 6, 0.25, 4.2), Confusion(2, 1, 7, math.nan, 1.5)))],
        suspects=[suspect(1, 2, "missing", 0.99, 0.5), suspect(0, 1, "wrong", 0.01)],
        images=[f"{names[-1]}/one.jpg", f"{names[0]}/two.jpg"],
        labels={0: (0, 2), 1: ()},
        pictures={(0, 0): picture, (1, 0): replace(picture, overlay=None), (1, 2): picture},
        notes=[f"{names[0]}: not an image."],
    )


def test_everything_is_said() -> None:
    reader = Reader(page_text(full_page()))
    for words in (
        "mAP 85.7 [85.1, 86.2] interpolated · 85.3 non-interpolated · 3/3 classes",
        "1,234",
        "38.0\N{EN DASH}45.5",
        "1,500 false positives · 1 miss",
        "fork/one.jpg",
        "cat , fork",
        "dog 3 of 6, 50 % against 25 % where found, 4.2\N{MULTIPLICATION SIGN}",
        "fork 1 of 7, 14 %, 1.5\N{MULTIPLICATION SIGN}",
        "as trained ECE 0.125",
        "label missing?",
        "similarity 0.50",
        "cat: not an image.",
        "0.91",
    ):
        assert words in reader.words, words
    headings = [attributes.get("title") for attributes in reader.all("th")]
    columns: list[Column[Any]] = [*MEASURES, *PER_CLASS]
    assert all(column.meaning in headings or column.key.endswith(INTERVAL) for column in columns)
    for column in NUMBERS:
        assert f"{column.title} 0.5" in reader.words or column.rank is None, column.key


def test_it_asks_for_nothing() -> None:
    text = page_text(full_page(HOSTILE))
    reader = Reader(text)
    for tag, attributes in reader.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/jpeg;base64,")) or value == "data:,", (tag, name, value)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
    own = re.findall(r"<(script|style)>(.*?)</\1>", text, re.DOTALL)
    assert [tag for tag, _ in own] == ["style", "script"]
    for _, content in own:
        assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch|XMLHttp|innerHTML|eval\(", content.replace("// ", ""))


def test_only_its_own_script_may_run() -> None:
    text = page_text(full_page())
    policy = next(a["content"] for a in Reader(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_hostile_names_stay_words() -> None:
    tame, hostile = Reader(page_text(full_page(tuple("abcdef")))), Reader(page_text(full_page(HOSTILE)))
    assert [tag for tag, _ in tame.elements] == [tag for tag, _ in hostile.elements]
    for name in HOSTILE:
        assert " ".join(visible(name).split()) in hostile.words
    assert "\u202e" not in hostile.words
    assert "49 " not in hostile.words


def test_pictures_are_there_with_words_for_them() -> None:
    reader = Reader(page_text(full_page()))
    images = reader.all("img")
    assert len(images) == 6  # of three mistakes and a suspect, two in both forms: one suspect has no picture
    assert {(image["width"], image["height"]) for image in images} == {("16", "9")}
    assert {image["alt"] for image in images} == {"fork/one.jpg", "cat/two.jpg", ""}
    with Image.open(io.BytesIO(base64.b64decode(images[0]["src"].split(",")[1]))) as picture:
        assert picture.size == (16, 9)


def test_tables_can_be_read_aloud_and_sorted() -> None:
    reader = Reader(page_text(full_page()))
    assert reader.all("html")[0]["lang"] == "en"
    assert all(heading.get("scope") in ("col", "row") for heading in reader.all("th"))
    assert sum("data-class" in row for row in reader.all("tr")) == 3 + 1  # of classes and of confusions
    links = {link["href"] for link in reader.all("a")}
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"#class-0", "#class-1", "#class-2"} <= links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert {use["href"].removeprefix("#") for use in reader.all("use")} <= set(ids)
    assert all("hidden" in element for _, element in reader.elements if element.get("class") == "tools")
    values = [float(cell["data-value"]) for cell in reader.all("td") if "data-value" in cell]
    assert 1234 in values


@pytest.mark.parametrize(
    "page",
    [
        Page("t", evaluated()),
        Page("t", evaluated(("only",))),
        Page("t", evaluated(("only",), AP_interpolated=[math.nan], threshold=[math.nan])),
        Page("t", evaluated(("only",), AP_interpolated=[0.0], AP_interpolated_interval=[[math.nan, math.nan]])),
        Page("t", evaluated(("only",), AP_interpolated=[100.0]), mistakes=[ClassMistakes(0, (), (), 0, 0)]),
        Page("t", evaluated(("only",)), curves=[Curve(np.array([]), np.array([]))]),
        Page("t", evaluated(("a",)), mistakes=[ClassMistakes(0, (Mistake(5, 0.9),), (), 1, 0)]),
        Page("t", evaluated(("a",)), suspects=[suspect(5, 0, "wrong", 0.1)], images={5: "x.jpg"}),
    ],
)
def test_what_is_missing_is_left_out(page: Page) -> None:
    text = page_text(page)
    reader = Reader(text)
    assert text.startswith("<!DOCTYPE html>")
    assert "nan" not in reader.words
    assert "None:" not in reader.words or page.mistakes
    assert sum("data-class" in row for row in reader.all("tr")) == len(page.result.classes)
    assert not reader.all("img")


def test_a_thousand_classes() -> None:
    rng = np.random.default_rng(0)
    recall = np.linspace(0, 1, 2_000)
    curves = [Curve(recall, rng.random(2_000)) for _ in range(1000)]
    result = evaluated(
        tuple(f"class {k}" for k in range(1000)), AP_interpolated=[50.0] * 1000, threshold=[k / 1000 for k in range(1000)]
    )
    mistakes = [ClassMistakes(k, (Mistake(k, 0.9),), (Mistake(k, 0.1),), 1, 1) for k in range(1000)]
    text = page_text(Page("t", result, curves=curves, mistakes=mistakes, images=[f"{k}.jpg" for k in range(1000)]))
    assert len(text) < 8_000_000
    assert text.count("<details class=") == 1000 + 1  # and the legend


def test_written_whole_whatever_the_names(tmp_path: Path) -> None:
    path = write_page(Page("caf\udce9 \x00 é \u202egpj.exe", evaluated()), tmp_path / "new" / "report.html")
    assert r"caf? \x00 é \x202egpj.exe" in path.read_text(encoding="utf-8")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Choose another place"):
        write_page(Page("t", evaluated()), tmp_path / "file" / "report.html")


def test_paths_keep_what_can_be_seen() -> None:
    assert curve_path([0, 0.5, 1], [1, 0.5, 0]) == "M0 0L50 50L100 100"
    assert precision_recall_path([0.5, 1], [0.8, 0.4]) == "M0 20L50 20L100 60"
    assert curve_path([], []) == precision_recall_path([], []) == ""
    assert curve_path([0, math.nan, 1], [0, 1, 0]) == "M0 100L100 100"
    x = np.linspace(0, 1, 10_000)
    y = np.full(10_000, 0.5)
    y[5005], y[7007] = 1, 0  # peaks of one point
    path = curve_path(x, y)
    assert len(path.split("L")) < 400
    assert " 0L" in path
    assert " 100L" in path


def test_dots_stack() -> None:
    dots = stacked_dots([0.5, None, 0.0, 0.5, math.nan, 1.0, 2.0])
    assert [(dot.x, dot.label) for dot in dots] == [(0, 2), (50, 0), (50, 3), (100, 5), (100, 6)]
    assert dots[1].y > dots[2].y
    assert min(dot.y for dot in stacked_dots([0.3] * 1000)) >= 0
    assert stacked_dots([]) == []
