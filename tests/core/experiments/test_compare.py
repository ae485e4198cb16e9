"""The public function: what it accepts, and what it refuses before any long work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sadcl_core
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import UsageError
from sadcl_core.experiments.compare import compare
from sadcl_core.training.listeners.events import ComparedRunStarted, ComparedRunTrained, ComparisonPlanned, Event

SMALL: dict[str, Any] = {
    "backbone": "test_resnet",
    "no_pretrained": True,
    "img_size": 64,
    "batch_size": 8,
    "epochs": "1,0",
    "device": "cpu",
    "workers": 0,
    "set": {"model.stride": 16, "model.projection_width": 8, "model.heads.sarl.width": 16, "model.heads.sarl.feedforward": 16},
}


def test_one_call_prepares_trains_and_saves(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    heard: list[Event] = []
    assert sadcl_core.compare is compare
    comparison = compare("coco", data=coco, methods=("baseline", "sarl"), seeds=[7], listen=heard.append, **SMALL)
    assert comparison.folder == Path("runs/compare-coco")
    assert comparison.methods == ("baseline", "sarl")
    assert comparison.values("sarl").shape == (1,)
    names = {path.name for path in comparison.folder.iterdir()}
    assert names == {
        *("comparison.csv", "comparison.json", "comparison.md", "comparison.png"),
        *("baseline-seed7", "sarl-seed7"),
    }
    assert (comparison.folder / "sarl-seed7" / "plots" / "curves.png").is_file()
    planned = next(event for event in heard if isinstance(event, ComparisonPlanned))
    assert planned == ComparisonPlanned(comparison.folder, runs=2, first_stages=0)
    started = [event.name for event in heard if isinstance(event, ComparedRunStarted)]
    trained = [event.run.path.name for event in heard if isinstance(event, ComparedRunTrained)]
    assert started == trained == ["baseline-seed7", "sarl-seed7"]
    manifest = prepare("coco", data=coco).manifest
    again = compare(manifest, methods="baseline,sarl", seeds="7,", **SMALL)
    assert again == comparison


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("sarl", "sarl")}, "every method once"),
        ({"methods": ()}, "none was given"),
        ({"methods": ("salr",)}, "Did you mean 'sarl'"),
        ({"methods": "sarl", "ablation": True}, "--ablation names its methods itself"),
        ({"seeds": (1, 1)}, "every seed once"),
        ({"seeds": []}, "none was given"),
        ({"seeds": 0}, "give 1 to 100"),
        ({"seeds": -1}, "neither a number of seeds nor a list"),
        ({"seeds": "many"}, "neither a number of seeds nor a list"),
        ({"seed": 1}, "give seeds instead of seed"),
        ({"method": "sarl"}, "give methods instead of method"),
        ({"optimiser": "sgd"}, "There is no flag 'optimiser'"),
        ({"epochs": "x"}, "--epochs 'x'"),
    ],
)
def test_refuses_what_makes_no_comparison_before_it_looks_at_data(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare("no-such-data", **arguments)


def test_a_mistake_imports_no_torch() -> None:
    code = (
        "import sys, sadcl_core\n"
        "try: sadcl_core.compare('digits', methods='salr')\n"
        "except sadcl_core.errors.UsageError: sys.exit('torch' in sys.modules)\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
