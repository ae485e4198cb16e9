"""Adapters in the place of a transformer's layers: what is trained, what is saved, and going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import UsageError
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.lora import add_adapters, beside_adapters, merge_adapters
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.training.listeners.events import Event, StepDone
from sadcl_core.training.memory import training_memory
from sadcl_core.training.recipe import seed_everything
from tests.core.training.resumable import configured, differences, go_on, start

pytestmark = pytest.mark.usefixtures("here")

LORA: dict[str, Any] = {
    "data": {"img_size": 64},
    "model": {"backbone": "test_vit", "freeze_stride": 0},
    "optim": {"lora_rank": 2},
}
OFF: dict[str, Any] = {"optim": {"lora_rank": 0}}


def test_layers_change_by_a_small_rank_are_saved_merged_and_go_on_exactly(manifest: Manifest) -> None:
    made = configured((1, 1), LORA)
    start(made, manifest, Path("whole"))
    trained = load_model(Path("whole/weights/last.safetensors")).classifier.backbone.net.state_dict()
    seed_everything(made.config.seed)
    untrained = Classifier(made.config.model, num_classes=len(manifest.classes), img_size=64).backbone.net.state_dict()
    changes = {name: trained[name] - tensor for name, tensor in untrained.items()}
    changed = {name: torch.linalg.matrix_rank(change, atol=1e-6).item() for name, change in changes.items() if change.any()}
    assert len(changed) == 4 * 6  # layers of a block, blocks
    assert set(changed.values()) == {2}

    steps = 0

    def stop(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == 5:  # in the second stage
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(made, manifest, Path("stopped"), stop)
    go_on(Path("stopped"), manifest)
    assert differences(Path("whole"), Path("stopped")) == []


def test_a_later_stage_starts_from_a_merged_model(manifest: Manifest) -> None:
    """As `compare` does, whose methods share the first stage."""
    own = Backbone("test_vit", stride=16, img_size=64)
    stored = own.state_dict()
    add_adapters(own, rank=2)
    assert all(tensor.equal(stored[name]) for name, tensor in merge_adapters(beside_adapters(stored, own.state_dict())).items())


def test_a_convolutional_network_has_nothing_to_adapt() -> None:
    with pytest.raises(UsageError, match="test_resnet has no linear layer to adapt"):
        add_adapters(Backbone("test_resnet", stride=16, img_size=32), rank=2)


def test_the_memory_of_what_is_not_trained_is_not_asked_for() -> None:
    whole, adapted = (training_memory(configured((1, 0), LORA, more).config, classes=4, images=2) for more in (OFF, {}))
    assert adapted.weights < whole.weights
