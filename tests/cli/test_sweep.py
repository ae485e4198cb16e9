from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import QUICK, Sadcl

pytest.importorskip("optuna", reason="sadcl[sweep] is not installed")


def test_the_best_settings_can_be_trained_with(sadcl: Sadcl, coco: Path) -> None:
    base = ("sweep", "coco", "--data", coco, *QUICK, "--method", "baseline", "--epochs", "1,0", "--cache", "f")
    ran = sadcl(*base, "--trials", "1", "--best", "1", "--seeds", "1", "--limit", "20", "--param", "lr=1e-4..1e-2")
    assert "the held-out images take no part" in ran.stderr
    assert "1/1 trial-0  mAP" in ran.stderr
    assert "minus" in ran.stdout
    command = ran.stdout.strip().splitlines()[-1].partition(": sadcl ")[2].split()
    assert command[:3] == ["train", "coco", "-c"]
    assert "the best settings on 20 images, here with all: sadcl" in " ".join(ran.stdout.split())
    settings = sadcl(*command, "--data", coco, "--print-config").stdout
    assert "once: true" in settings
    assert "limit: 0 " in settings
    assert len(json.loads(Path("runs/sweep-coco/sweep.json").read_text())["trials"]) == 1


def test_mistakes(sadcl: Sadcl, tmp_path: Path) -> None:
    for words, message in (
        (("--param", "optim.lr=1..2"), "There is no setting optim.lr"),
        (("--space", tmp_path / "none.yaml"), "none.yaml"),
        (("--seed", "3"), "--seed"),
    ):
        assert message in sadcl("sweep", "digits", *words, code=2).stderr
