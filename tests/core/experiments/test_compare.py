"""The public function: what it accepts, and what it refuses before any long work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sadcl_core
from sadcl_core.config.layers import load_config_file
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DivergedError, UsageError
from sadcl_core.experiments.compare import compare
from sadcl_core.experiments.part import FIT, JUDGE
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.run_directory import read_status
from sadcl_core.training.listeners.events import ComparedRunStarted, ComparedRunTrained, ComparisonPlanned, Event, RatesChosen

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


def test_each_method_gets_the_rate_that_is_best_on_training_images(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    heard: list[Event] = []
    rates = (1e-2, 1e-12, 1.0)
    made = {**SMALL, "set": {**SMALL["set"], "data.train_split": "val", "data.eval_split": "train"}}
    comparison = compare("coco", data=coco, methods="baseline,sarl", seeds=[7], rates=rates, listen=heard.append, **made)
    reached: dict[str, dict[float, float]] = {"baseline": {}, "sarl": {}}
    for rate in rates:
        judged = json.loads(Path(f"runs/compare-coco/rates/{rate}/comparison.json").read_text())["methods"]
        assert [(row["method"], row["lr"]) for row in judged] == [("baseline", rate), ("sarl", rate)]
        for row in judged:
            reached[row["method"]][rate] = row["mAP_interpolated"]["mean"]
    (chosen,) = (event.rates for event in heard if isinstance(event, RatesChosen))
    for method, rate in chosen.items():
        assert rate == max(sorted(rates), key=lambda rate: reached[method][rate])
        assert comparison.costs(method)["lr"] == rate
        config = load_config_file(comparison.folder / f"{method}-seed7" / "config.yaml")
        assert (config["stages"]["contrastive"]["lr"], config["data"]["train_split"]) == (rate, "val")
        of_rate = load_config_file(comparison.folder / "rates" / str(rate) / f"{method}-seed7" / "config.yaml")
        assert (of_rate["data"]["train_split"], of_rate["data"]["eval_split"]) == (FIT, JUDGE)
        assert {stage["lr"] for stage in of_rate["stages"].values()} == {rate}
    network = load_model(comparison.folder / "sarl-seed7" / "weights" / "best.safetensors").classifier
    costs = comparison.costs("sarl")
    assert costs["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    status = read_status(comparison.folder / "sarl-seed7")
    assert costs["memory"] == status["peak_memory_mib"] > costs["parameters"] * 4 / 2**20


def test_a_method_that_diverges_with_every_rate_ends_the_comparison(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = {**SMALL, "set": {**SMALL["set"], "data.train_split": "val", "data.eval_split": "train"}}
    with pytest.raises(DivergedError, match="baseline diverges with each of the --rates"):
        compare("coco", data=coco, methods="baseline", seeds=[7], rates=(1e29, 1e30), **made)


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
        ({"rates": "1e-3"}, "give two or more numbers"),
        ({"rates": "1e-3,fast"}, "give two or more numbers"),
        ({"rates": (1e-3, -1)}, "give two or more numbers above 0"),
        ({"rates": "1e-3,0.001"}, "every rate once"),
        ({"rates": "1e-3,1e-4", "lr": 0.1}, "Leave out --lr"),
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
