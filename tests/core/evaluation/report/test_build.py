"""What the page is filled with: small numbers that can be checked by eye."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from sadcl_core.evaluation.evaluate import evaluate, measure
from sadcl_core.evaluation.report.build import make_page
from sadcl_core.evaluation.scored_split import ScoredSplit
from sadcl_core.inference.thresholds import choose

CLASSES = ("cat", "dog")
SCORES = np.array([[0.9, 0.1], [0.8, 0.3], [0.45, 0.6], [0.2, 0.35], [0.35, 0.05], [0.05, 0.7]], dtype=np.float32)
TARGETS = np.array([[1, 0], [0, 0], [1, 1], [0, 1], [1, 0], [0, -1]], dtype=np.int8)
NAMES = [f"{letter}.jpg" for letter in "abcdef"]


def scored(as_trained: bool = False) -> ScoredSplit:
    plain = (SCORES / 2).astype(np.float32) if as_trained else None
    about = {"dataset": "pets", "split": "val", "model": "m"}
    return ScoredSplit("m", SCORES, TARGETS, CLASSES, NAMES, about, as_trained=plain)


def test_mistakes_are_those_at_the_thresholds_in_use(tmp_path: Path) -> None:
    page = make_page(scored(), measure(scored(), tmp_path, limits=choose([0.4, 0.2], CLASSES)))
    cat, dog = page.mistakes
    assert [mistake.image for mistake in cat.false_positives] == [1]
    assert [mistake.image for mistake in cat.misses] == [4]  # 0.35 is not above 0.4; at 0.5 image 2 would be missed as well
    assert [mistake.image for mistake in dog.false_positives] == [1]  # 0.3 is above 0.2
    assert dog.misses == ()
    assert [confusion.label for confusion in page.confusions] == [0]
    assert page.confusions[0].misses == 1


def test_images_have_their_own_names_and_labels(tmp_path: Path) -> None:
    page = make_page(scored(), measure(scored(), tmp_path))
    shown = {mistake.image for group in page.mistakes for mistake in (*group.false_positives, *group.misses)}
    assert {image: page.images[image] for image in shown} == {image: NAMES[image] for image in shown}
    assert {image: list(page.labels[image]) for image in shown} == {
        image: np.flatnonzero(TARGETS[image] == 1).tolist() for image in shown
    }
    assert page.title == "pets, split val"


def test_both_reliabilities_of_a_calibrated_model(tmp_path: Path) -> None:
    one = scored(as_trained=True)
    page = make_page(one, measure(one, tmp_path))
    before, after = page.reliability
    assert (before.name, after.name) == ("as trained", "calibrated")
    known = TARGETS >= 0
    weighted = [
        float(np.nansum(one.diagram.mean_scores * one.diagram.counts) / one.diagram.counts.sum()) for one in (before, after)
    ]
    np.testing.assert_allclose(weighted, [SCORES[known].mean() / 2, SCORES[known].mean()], rtol=1e-6)


def test_files_lie_beside_the_evaluation(tmp_path: Path) -> None:
    np.savez(tmp_path / "pets.npz", scores=SCORES, targets=TARGETS, classes=np.array([name.encode() for name in CLASSES]))
    result = evaluate(tmp_path / "pets.npz", report=True, output=tmp_path / "out", bootstrap=0)
    assert {kind: path.name for kind, path in result.files.items()} == {
        "json": "pets-eval.json",
        "csv": "pets-eval.csv",
        "label_errors": "pets-eval-label-errors.csv",
        "report": "pets-eval.html",
    }
    rows = list(csv.DictReader(result.files["label_errors"].read_text().splitlines()))
    assert [(row["image"], row["label"]) for row in rows] == [
        (str(one.image), CLASSES[one.label]) for one in result.suspects or ()
    ]
    assert {(row["image"], row["label"], row["kind"]) for row in rows} <= {
        (str(i), label, "wrong" if TARGETS[i, k] == 1 else "missing") for i in range(6) for k, label in enumerate(CLASSES)
    }
    assert not any(row["image"] == "5" and row["label"] == "dog" for row in rows)  # unknown
    alone = evaluate(tmp_path / "pets.npz", label_errors=True, output=tmp_path / "alone", bootstrap=0)
    assert set(alone.files) == {"json", "csv", "label_errors"}
