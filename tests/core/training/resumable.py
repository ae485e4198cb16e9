"""Small runs that can be stopped anywhere, and what has to be the same afterwards."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
from torch import Tensor

from sadcl_core.config.presets import Configured, configure
from sadcl_core.data.manifest import Manifest
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.listeners.events import Listener, ignore
from sadcl_core.training.recipe import TrainingRecipe
from sadcl_core.training.resume import prepare_resume
from sadcl_core.training.run import TrainingResult, resume_run, start_run

LOSSES = {"asymmetric": 1.0, "sample_to_sample": 0.1, "prototype_to_sample": 0.05}
STAGE: dict[str, Any] = {"lr": 1e-3, "augment": "flip-and-crop"}
SETTINGS: dict[str, Any] = {
    "data": {"img_size": 32, "batch_size": 7, "workers": 0},
    "model": {
        "backbone": "test_resnet",
        "stride": 16,
        "pretrained": False,
        "projection_width": 8,
        "heads": {"sarl": {"width": 16, "feedforward": 16, "dropout": 0.1}},
    },
    "loss": {"sample_to_sample": {"bank_min_score": 0.3}},
    "device": "cpu",
}


def configured(epochs: tuple[int, int], *more: dict[str, Any]) -> Configured:
    stages = {
        "classification": {**STAGE, "epochs": epochs[0]},
        "contrastive": {**STAGE, "epochs": epochs[1], "losses": LOSSES},
    }
    layers = [("test", {**SETTINGS, "stages": stages}), *(("more", layer) for layer in more)]
    return configure(layers, dataset="coco", split_sizes={"train": 24})


def weights_file() -> str:
    """A file of weights of the backbone, for runs that refuse random ones."""
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), "backbone.safetensors")
    return "backbone.safetensors"


def start(
    made: Configured,
    manifest: Manifest,
    path: Path,
    listen: Listener = ignore,
    recipe_class: type[TrainingRecipe] = TrainingRecipe,
) -> TrainingResult:
    return start_run(made.config, made.sources, manifest, RunDirectory(path), listen=listen, recipe_class=recipe_class)


def go_on(path: Path, manifest: Manifest, listen: Listener = ignore, **options: Any) -> None:
    resume_run(prepare_resume(path, options.pop("layers", []), **options), manifest, listen=listen)


def tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor that a run leaves, under the name of its file."""
    return {
        f"{file.name}:{name}": tensor
        for file in sorted([*path.glob("weights/*.safetensors"), *path.glob("state/*.safetensors")])
        for name, tensor in safetensors.torch.load_file(file).items()
    }


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same, to the last bit, in two runs; times do not count."""
    a, b = tensors(one), tensors(other)
    found = [name for name in {**a, **b} if name not in a or name not in b or not a[name].equal(b[name])]
    if numbers(one) != numbers(other):
        found.append("results.csv")
    if (one / "metrics.jsonl").read_text() != (other / "metrics.jsonl").read_text():
        found.append("metrics.jsonl")
    if (one / "prototypes.json").is_file() and (one / "prototypes.json").read_text() != (other / "prototypes.json").read_text():
        found.append("prototypes.json")
    best = [json.loads((path / "run.json").read_text())["best"] for path in (one, other)]
    return found if best[0] == best[1] else [*found, "run.json"]


def numbers(path: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((path / "results.csv").read_text().splitlines()))
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]
