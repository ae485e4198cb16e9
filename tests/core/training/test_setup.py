from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sadcl_core.config.schema import ModelSection, RunConfig
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Record
from sadcl_core.model.classifier import Classifier
from sadcl_core.training.setup import make_card


@pytest.mark.parametrize(
    ("begun", "source", "licence"),
    [
        ({"pretrained": False}, "none", "none: random weights"),
        ({"pretrained": True}, "timm/test_resnet.r160_in1k", "apache-2.0"),
        ({"pretrained": "elsewhere/w.safetensors"}, "w.safetensors", "unknown"),
        ({"pretrained": False, "init_from": "runs/pets"}, "pets", "unknown"),
    ],
)
def test_a_card_says_what_the_weights_were_before(tmp_path: Path, begun: dict[str, Any], source: str, licence: str) -> None:
    manifest = Manifest.from_records(Description("pets", tmp_path, ("cat", "dog")), [Record("a.png", "train", (1,))])
    section = ModelSection(backbone="test_resnet", head="pooled", **begun)
    classifier = Classifier(section, num_classes=2, img_size=64)
    card = make_card(RunConfig(model=section), classifier, manifest)
    assert (card.first_weights.source, card.first_weights.licence) == (source, licence)
    assert not card.model.pretrained  # nothing is fetched for a model file
