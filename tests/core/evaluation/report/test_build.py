"""What the page is filled with: small numbers that can be checked by eye."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from sadcl_core.evaluation.candidates import Candidate
from sadcl_core.evaluation.evaluate import evaluate
from sadcl_core.evaluation.report.build import make_page, write_report
from sadcl_core.inference.score import Scores

CLASSES = ("cat", "dog")
SCORES = np.array([[0.9, 0.1], [0.8, 0.3], [0.45, 0.6], [0.2, 0.35], [0.35, 0.05], [0.05, 0.7]], dtype=np.float32)
TARGETS = np.array([[1, 0], [0, 0], [1, 1], [0, 1], [1, 0], [0, -1]], dtype=np.int8)
NAMES = [f"{letter}.jpg" for letter in "abcdef"]


def candidate(as_trained: bool = False) -> Candidate:
    plain = (SCORES / 2).astype(np.float32) if as_trained else None
    about = {"dataset": "pets", "split": "val", "model": "m"}
    return Candidate("m", Scores(SCORES, TARGETS, 1.0), CLASSES, NAMES, about, as_trained=plain)


def test_mistakes_are_those_at_the_thresholds_in_use() -> None:
    one = candidate()
    page = make_page(one, evaluate(one.scores, CLASSES, thresholds=[0.4, 0.2]), [])
    cat, dog = page.mistakes
    assert [mistake.image for mistake in cat.false_positives] == [1]
    assert [mistake.image for mistake in cat.misses] == [4]  # 0.35 is not above 0.4; at 0.5 image 2 would be missed as well
    assert [mistake.image for mistake in dog.false_positives] == [1]  # 0.3 is above 0.2
    assert dog.misses == ()
    assert [confusion.label for confusion in page.confusions] == [0]
    assert page.confusions[0].misses == 1


def test_images_have_their_own_names_and_labels() -> None:
    one = candidate()
    page = make_page(one, evaluate(one.scores, CLASSES), [])
    shown = {mistake.image for group in page.mistakes for mistake in (*group.false_positives, *group.misses)}
    assert {image: page.images[image] for image in shown} == {image: NAMES[image] for image in shown}
    assert {image: list(page.labels[image]) for image in shown} == {
        image: np.flatnonzero(TARGETS[image] == 1).tolist() for image in shown
    }
    assert page.title == "pets, split val"
    assert [row.name for row in page.measures] == ["All", "Top-3"]
    assert page.headline.startswith("mAP ")


def test_both_reliabilities_of_a_calibrated_model() -> None:
    one = candidate(as_trained=True)
    page = make_page(one, evaluate(one.scores, CLASSES), [])
    before, after = page.reliability
    assert (before.name, after.name) == ("as trained", "calibrated")
    known = TARGETS >= 0
    weighted = [float(np.nansum(one.score * one.count) / one.count.sum()) for one in (before, after)]
    np.testing.assert_allclose(weighted, [SCORES[known].mean() / 2, SCORES[known].mean()], rtol=1e-6)


def test_files_lie_beside_the_evaluation(tmp_path: Path) -> None:
    one = candidate()
    result = evaluate(one.scores, CLASSES)
    written = write_report(one, result, tmp_path / "pets.json", page=True)
    assert [path.path.name for path in written] == ["pets-label-errors.csv", "pets.html"]
    rows = list(csv.DictReader(written[0].path.read_text().splitlines()))
    assert {(row["image"], row["label"], row["kind"]) for row in rows} <= {
        (name, label, "wrong" if TARGETS[i, k] == 1 else "missing")
        for i, name in enumerate(NAMES)
        for k, label in enumerate(CLASSES)
    }
    assert not any(row["image"] == "f.jpg" and row["label"] == "dog" for row in rows)  # unknown
    assert [path.path.name for path in write_report(one, result, tmp_path / "b.json", page=False)] == ["b-label-errors.csv"]
