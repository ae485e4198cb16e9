"""Runs that really have an illness, and one that has none."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from sadcl_core.config.yaml import format_yaml, read_table
from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.rows import Record
from sadcl_core.data.twins import find_twins
from sadcl_core.diagnosis.checks import CHECKS
from sadcl_core.diagnosis.checks_data import few_positives, same_images
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.findings import Finding
from sadcl_core.model.backbone import Backbone
from tests.core.diagnosis.patches import (
    COLOURS,
    Row,
    copied,
    draw_patches,
    findings,
    train_in,
    write_labels,
    wrong,
)


@pytest.fixture(scope="module")
def labels(healthy: Path) -> Path:
    """The prepared data of the healthy run."""
    return healthy.parent / "prepared" / "patches"


def test_a_run_that_went_well_raises_no_alarm(healthy: Path) -> None:
    found = findings(healthy)
    assert list(found) == [check.name for check in CHECKS]
    assert {name: finding.message for name, finding in found.items() if finding.status != "passed"} == {}
    assert found["learned-nothing"].numbers["loss"] < 0.6 * found["learned-nothing"].numbers["best_constant"]
    assert found["swapped-labels"].numbers["median"] > 0.7


def test_both_stages_of_a_run_that_went_well_raise_no_alarm(tmp_path: Path, labels: Path) -> None:
    run = train_in(tmp_path, labels, "--method", "sadcl", "--epochs", "10,5", "--lr", "2e-3")
    assert wrong(run) == {}


def test_an_ema_that_is_too_slow(tmp_path: Path, labels: Path) -> None:
    run = train_in(tmp_path, labels, "--epochs", "6,0", "--set", "optim.ema_decay=0.9999", "--set", "optim.ema_warmup=false")
    found = wrong(run)
    assert next(iter(found)) == "ema"
    assert found["ema"].severity == "serious"
    steps = found["ema"].numbers["steps"]
    assert steps == 10 * len((run / "results.csv").read_text().splitlines()[1:])
    assert found["ema"].numbers["left"] == pytest.approx(0.9999 ** (steps - 1))
    assert f"--set optim.ema_decay={1 - 10 / steps:.4g}" in found["ema"].action
    assert not {"learned-nothing", "rate-too-high", "rate-too-low", "swapped-labels"} & set(found)


def test_the_same_decay_with_its_warm_up_raises_no_alarm(healthy: Path, tmp_path: Path) -> None:
    """A healthy run has as many steps; only the numbers differ."""
    run = configured(healthy, tmp_path, optim={"ema_decay": 0.9999, "ema_warmup": True})
    assert findings(run)["ema"].status == "passed"
    run = configured(healthy, tmp_path / "without", optim={"ema_decay": 0.9999, "ema_warmup": False})
    assert findings(run)["ema"].status == "found"


def test_a_learning_rate_that_is_too_high(tmp_path: Path, labels: Path) -> None:
    found = wrong(train_in(tmp_path, labels, "--epochs", "6,0", "--lr", "3"))
    assert next(iter(found)) == "rate-too-high"
    assert found["rate-too-high"].severity == "serious"
    assert {"learned-nothing", "collapsed"} <= set(found)
    for name in ("rate-too-high", "learned-nothing", "collapsed"):
        assert found[name].action.endswith("--lr 0.3")
    assert "rate-too-low" not in found


def test_a_learning_rate_that_is_too_low(tmp_path: Path, labels: Path) -> None:
    found = wrong(train_in(tmp_path, labels, "--epochs", "6,0", "--lr", "1e-6"))
    assert next(iter(found)) == "rate-too-low"
    for name in ("rate-too-low", "learned-nothing"):
        assert found[name].action.endswith("--lr 9.8e-06")  # the highest rate that was recorded
    assert "rate-too-high" not in found


def test_few_steps_are_said_to_be_few(healthy: Path, tmp_path: Path) -> None:
    run = copied(healthy, tmp_path / "run")
    (run / "results.csv").write_text("\n".join((run / "results.csv").read_text().splitlines()[:2]) + "\n")
    assert "10 steps are few" in wrong(run)["learned-nothing"].action


def test_training_that_ended_while_it_got_better(tmp_path: Path, labels: Path) -> None:
    found = wrong(train_in(tmp_path, labels, "--epochs", "8,0", "--set", "optim.warmup=0.95"))
    assert found["rate-too-low"].severity == "doubtful"
    assert found["rate-too-low"].action == "Train longer: --set stages.classification.epochs=16"


def test_a_backbone_frozen_at_random(healthy: Path, tmp_path: Path) -> None:
    found = wrong(configured(healthy, tmp_path, model={"freeze_stride": 8}))
    assert next(iter(found)) == "frozen"
    assert found["frozen"].severity == "serious"
    assert "The whole backbone" in found["frozen"].message


@pytest.mark.parametrize(
    ("layer", "severity", "setting"),
    [
        ({"model": {"freeze_stride": 4}}, "serious", "model.freeze_stride=0"),
        ({"stages": {"classification": {"backbone_lr_scale": 0.0}}}, "serious", "stages.classification.backbone_lr_scale=1"),
        ({"model": {"freeze_batchnorm": True}}, "doubtful", "model.freeze_batchnorm=false"),
        ({"model": {"freeze_stride": 8, "pretrained": True}}, None, ""),
        ({"model": {"freeze_stride": 8, "init_from": "runs/coco"}}, None, ""),
    ],
)
def test_layers_frozen(healthy: Path, tmp_path: Path, layer: dict[str, Any], severity: str | None, setting: str) -> None:
    finding = findings(configured(healthy, tmp_path, **layer))["frozen"]
    assert finding.severity == severity
    assert setting in finding.action


def evidence_of(folder: Path, rows: list[Row]) -> Evidence:
    """Data alone, without a run."""
    names = (*COLOURS, "rare", "unseen")
    records = [Record(image, split, tuple(map(names.index, labels.split()))) for image, labels, split in rows]
    manifest = Manifest.from_records(Description("patches", folder, names), records)
    return Evidence(folder, {}, manifest=manifest, train=manifest.split("train"), held_out=manifest.split("val"))


def test_the_same_images_trained_on_and_held_out(tmp_path: Path) -> None:
    rows = draw_patches(tmp_path, "train", 60, seed=1)
    others = draw_patches(tmp_path, "val", 30, seed=2)
    assert same_images(evidence_of(tmp_path, [*rows, *others])).status == "passed"
    shutil.copytree(tmp_path / "train", tmp_path / "copy")  # under other names: found by content
    twins = [(image.replace("train/", "copy/"), labels, "val") for image, labels, _ in rows]
    twice = [(image, labels, "val") for image, labels, _ in rows[:10]]
    finding = same_images(evidence_of(tmp_path, [*rows, *twins, *twice]))
    assert finding.severity == "serious"
    numbers = finding.numbers
    assert (numbers["same_path"], numbers["same_content"], numbers["compared"], numbers["images"]) == (10, 60, 60, 70)
    copies, originals = ([tmp_path / image for image, _, _ in group] for group in (twins, rows))
    assert find_twins(copies, originals, most=5)[0] == 60


def configured(run: Path, folder: Path, **layer: dict[str, Any]) -> Path:
    """A copy of a run that says it was trained with other settings."""
    run = copied(run, folder / "run")
    values = read_table(run / "config.yaml")
    for section, changed in layer.items():
        for key, value in changed.items():
            values[section][key] = {**values[section][key], **value} if isinstance(value, dict) else value
    (run / "config.yaml").write_text(format_yaml(values, {}))
    return run


def renamed(run: Path, names: list[str], tmp_path: Path) -> Path:
    """A copy of a run whose data call their classes otherwise now."""
    run = copied(run, tmp_path / "run")
    status = json.loads((run / "run.json").read_text())
    data = tmp_path / "data"
    shutil.copytree(status["manifest"], data)
    description = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**description, "classes": names}))
    (run / "run.json").write_text(json.dumps({**status, "manifest": str(data)}))
    return run


def test_class_names_that_changed_places(healthy: Path, tmp_path: Path) -> None:
    found = wrong(renamed(healthy, ["green", "blue", "red", "yellow", "white"], tmp_path))
    assert next(iter(found)) == "swapped-labels"
    assert found["swapped-labels"].numbers["pairs"] == {"blue": "green", "green": "blue", "white": "yellow", "yellow": "white"}
    assert found["label-names"].severity == "doubtful"


def test_data_in_another_order_that_are_right_are_no_permutation(healthy: Path, tmp_path: Path) -> None:
    """Names and labels moved together: the numbers differ, and nothing else."""
    run = copied(healthy, tmp_path / "run")
    status = json.loads((run / "run.json").read_text())
    manifest = load_manifest(Path(status["manifest"]))
    manifest.with_classes(manifest.classes[::-1]).save(tmp_path / "data")
    (run / "run.json").write_text(json.dumps({**status, "manifest": str(tmp_path / "data")}))
    assert set(wrong(run)) == {"label-names", "data-changed"}


def test_classes_the_model_does_not_know(healthy: Path, tmp_path: Path) -> None:
    found = findings(renamed(healthy, ["red", "green", "blue", "yellow", "pink"], tmp_path))
    assert found["label-names"].severity == "serious"
    assert found["label-names"].numbers == {"unknown_to_model": ["pink"], "not_in_data": ["white"]}
    assert found["collapsed"].status == "not checked"
    assert "pink" in found["collapsed"].message


@pytest.mark.slow
def test_images_learned_by_heart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = draw_patches(tmp_path / "patches", "train", 40, seed=1)
    mislabelled = [
        (image, " ".join(name for name in COLOURS if (name in labels.split()) != (rng.random() < 0.3)), split)
        for image, labels, split in rows
    ]
    labels = write_labels(tmp_path / "patches", [*mislabelled, *draw_patches(tmp_path / "patches", "val", 60, seed=2)])
    found = wrong(train_in(tmp_path, labels, "--epochs", "40,0", "--set", "optim.patience=100", "-b", "8"))
    assert found["overfitting"].numbers["mAP_fall"] > 1
    assert found["overfitting"].numbers["loss_fall"] > 0.5
    assert not {"best-and-last", "rate-too-high", "rate-too-low"} & set(found)


def test_classes_with_few_images(tmp_path: Path) -> None:
    rows = [(f"{number}.png", " ".join(COLOURS) if number else "rare", "train") for number in range(20)]
    finding = few_positives(evidence_of(tmp_path, [*rows, ("a.png", "unseen", "val")]))
    assert finding.severity == "doubtful"
    assert finding.numbers["without"] == ["unseen"]
    assert finding.numbers["few"] == ["rare (1)"]
    assert (
        few_positives(
            evidence_of(
                tmp_path, [(f"{k}.png", "rare unseen " + " ".join(COLOURS), "train") for k in range(10)] + [("a.png", "", "val")]
            )
        ).status
        == "passed"
    )


def test_pretrained_tensors_that_were_missing(healthy: Path, tmp_path: Path) -> None:
    weights = Backbone("test_resnet", stride=8, img_size=32).net.state_dict()
    names = [name for name in weights if not name.endswith("num_batches_tracked")]
    file = tmp_path / "weights.safetensors"
    run = configured(healthy, tmp_path, model={"pretrained": str(file), "freeze_stride": 0})
    status = json.loads((run / "run.json").read_text())

    def pretrained(kept: int, *, fingerprint: bool = True) -> Finding:
        safetensors.torch.save_file({name: weights[name].contiguous() for name in names[:kept]}, file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if fingerprint else "another"
        (run / "run.json").write_text(json.dumps({**status, "weights_fingerprints": {"pretrained": digest}}))
        return findings(run)["pretrained"]

    assert pretrained(len(names)).status == "passed"
    finding = pretrained(len(names) - 2)
    assert finding.severity == "doubtful"
    assert finding.numbers == {"tensors": len(names), "missing": 2}
    assert all(name in finding.message for name in names[-2:])
    assert pretrained(len(names) * 2 // 3).severity == "serious"
    assert "not the file any more" in pretrained(len(names), fingerprint=False).message
    file.unlink()
    assert findings(run)["pretrained"].status == "not checked"
