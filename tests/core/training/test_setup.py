from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sadcl_core.config.schema import ModelSection, RunConfig
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Record
from sadcl_core.errors import DataError, UsageError
from sadcl_core.model.classifier import Classifier
from sadcl_core.registry import HEADS, resolve
from sadcl_core.training.setup import check_labels, check_stages, gives_probabilities, make_card, used_part
from tests.core.model.heads.inputs import inputs_of
from tests.core.model.heads.test_interface import make as make_head


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
    assert (card.mean, card.std) == ((0.5,) * 3, (0.5,) * 3)  # of these weights


def test_pixels_stay_as_they_are_where_asked(tmp_path: Path) -> None:
    manifest = Manifest.from_records(Description("pets", tmp_path, ("cat", "dog")), [Record("a.png", "train", (1,))])
    section = ModelSection(backbone="test_resnet", head="pooled")
    config = RunConfig.model_validate({"model": section, "data": {"normalise": "none"}})
    preprocessing = make_card(config, Classifier(section, num_classes=2, img_size=64), manifest).preprocessing
    assert preprocessing.normalise(torch.full((1, 3, 1, 1), 51)).flatten().tolist() == pytest.approx([0.2] * 3)


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ({"stages": {"contrastive": {"losses": {"splice_consistency": 1}}}}, "stages.contrastive.mix=splice"),
        (
            {
                "stages": {"contrastive": {"mix": "splice", "losses": {"sample_to_sample": 1}}},
                "loss": {"sample_to_sample": {"bank": "batch"}},
            },
            "bank=ring",
        ),
        ({"stages": {"classification": {"losses": {"zlpr": 1}}}, "optim": {"pseudo_labels": 0.9}}, "those of the loss zlpr are"),
    ],
)
def test_images_and_labels_that_cannot_be_added_are_refused(layer: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        check_stages(RunConfig.model_validate(layer))


@pytest.mark.parametrize("head", HEADS)
def test_contrast_between_labels_needs_features_of_their_own(head: str) -> None:
    kind = resolve(HEADS, head, kind="head")
    layer = {"model": {"head": head}, "stages": {"contrastive": {"losses": {"sample_to_sample": 0.1}}}}
    features = make_head(head, {})(inputs_of(make_head(head, {}), torch.randn(1, 6, 2, 2))).label_features[0]
    assert kind.SHARED_FEATURES is features.isclose(features[:1]).all().item()
    if not kind.SHARED_FEATURES:
        check_stages(RunConfig.model_validate(layer))
        return
    with pytest.raises(UsageError, match=f"the head {head} has one feature for all of them"):
        check_stages(RunConfig.model_validate(layer))


@pytest.mark.parametrize(
    ("layer", "probabilities"),
    [
        ({}, (True, True)),
        ({"loss": {"asymmetric": {"class_weights": "neg-pos"}}}, (False, False)),
        ({"loss": {"asymmetric": {"clip": 0.05}}}, (False, False)),
        ({"stages": {"classification": {"gamma_neg": 4.0}, "contrastive": {}}}, (False, True)),
        ({"stages": {"classification": {}, "contrastive": {"losses": {"asymmetric": 1.0, "two_way": 0.1}}}}, (True, False)),
    ],
)
def test_which_losses_make_scores_probabilities(layer: dict[str, Any], probabilities: tuple[bool, bool]) -> None:
    config = RunConfig.model_validate(layer)
    assert tuple(gives_probabilities(config, stage) for stage in config.stages.values()) == probabilities


def test_a_part_without_an_inactive_held_out_label_is_refused() -> None:
    records = [Record(f"{k}.jpg", "train" if k % 2 else "val", (k % 3,) if k else (0, 1, 2)) for k in range(40)]
    manifest = Manifest.from_records(Description("pets", Path("photos"), ("cat", "dog", "owl")), records)
    config = RunConfig.model_validate({"data": {"eval_split": "val"}})
    check_labels(config, used_part(manifest, config))
    part = Manifest(manifest.description, manifest.rows.slice(0, 2))
    limited = config.model_copy(update={"data": config.data.model_copy(update={"limit": 2})})
    with pytest.raises(
        DataError, match=r"Of the images that --limit 2 takes, those of split val \(1 image\) have no .* Take more"
    ):
        check_labels(limited, part)
