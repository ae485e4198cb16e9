"""Features that are computed once, and the command that lists and removes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sadcl_core.inference.feature_store import FeatureStore
from tests.conftest import QUICK, Sadcl
from tests.processes import end, start

FROZEN = (*QUICK, "--frozen", "--cache", "cache", "--epochs", "1,0", "--set", "features.views=1")


def signal_after_a_batch(number: int) -> None:
    """Send this process a signal after its first batch of features, 32 of 36."""
    append = FeatureStore.append

    def append_and_signal(self: FeatureStore, *arguments: Any) -> None:
        append(self, *arguments)
        os.kill(os.getpid(), number)

    FeatureStore.append = append_and_signal  # type: ignore[method-assign, assignment]


def test_training_on_features_and_what_is_kept_of_it(sadcl: Sadcl, coco: Path) -> None:
    first = sadcl("train", "coco", "--data", coco, *FROZEN, "--set", "features.views=2")
    assert "features: 36 images in 60 views" in first.stderr
    assert "60 of them are computed now" in first.stderr
    again = sadcl("train", "coco", "--data", coco, *FROZEN)
    assert "36 views" in again.stderr
    assert "all are there" in again.stderr

    entry = json.loads(sadcl("cache", "--cache", "cache", "--json").stdout)["features"][0]
    assert {"backbone": "test_resnet", "img_size": 64, "images": 36, "views": 60, "in_use": False}.items() <= entry.items()
    assert entry["key"] in sadcl("cache", "--cache", "cache").stdout
    sadcl("cache", "--cache", "cache", "--clear", "zzz", code=2)
    cleared = json.loads(sadcl("cache", "--cache", "cache", "--clear", entry["key"][:5], "--json").stdout)
    assert (cleared["removed"], cleared["features"]) == ([entry["key"]], [])
    assert sadcl("cache", "--cache", "cache", "--clear").stdout.startswith("0 removed")

    sadcl("predict", coco / "val2017" / "001.png", "--json", "--device", "cpu")


def test_the_list_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys; from sadcl_cli.app import app; app(['cache'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"feature maps of backbones: 0, 0.0 MB in {tmp_path}/sadcl/features\n"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_features_go_on_where_a_process_was_ended(sadcl: Sadcl, coco: Path, tmp_path: Path, number: int, code: int) -> None:
    process = start(tmp_path, "train", "coco", "--data", coco, *FROZEN, before=partial(signal_after_a_batch, int(number)))
    exit_code, _, stderr = end(process)
    assert exit_code == code, stderr
    assert not (tmp_path / "runs").exists()
    if number == signal.SIGINT:
        assert "The same command goes on from there" in stderr
    assert "4 of them are computed now" in sadcl("train", "coco", "--data", coco, *FROZEN).stderr


def test_a_limit_that_is_too_small_is_refused_before_anything_is_written(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("train", "coco", "--data", coco, *FROZEN, "--set", "features.limit_gb=1e-6", code=2)
    assert "more than features.limit_gb allows. Lower features.views" in ran.stderr
    assert not Path("runs").exists()
