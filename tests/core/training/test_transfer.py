"""Weights that go from one model to another: which, where to, and what is reported of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sadcl_core.config.layers import Layer
from sadcl_core.config.presets import configure
from sadcl_core.config.schema import ModelSection, RunConfig
from sadcl_core.errors import DataError
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.word_vectors import random_vector
from sadcl_core.runs.checkpoint import ModelCard, load_model, save_model
from sadcl_core.training.run import other_words
from sadcl_core.training.transfer import transfer, with_network_of_init
from tests.core.model.heads.inputs import KINDS, SMALL

NETWORK: dict[str, Any] = {
    "backbone": "test_resnet",
    "stride": 16,
    "head": "sarl",
    "heads": {"sarl": {"width": 8, "feedforward": 8}},
    "projection_width": 4,
    "freeze_stride": 0,
}
THERE = ("cat", "airplane", "dog")
HERE = ("aeroplane", "zebra", "cat")


def make(classes: tuple[str, ...], *, seed: int, **changed: Any) -> Classifier:
    torch.manual_seed(seed)
    classifier = Classifier(ModelSection(**{**NETWORK, **changed}), num_classes=len(classes), img_size=32)
    torch.nn.init.normal_(classifier.prototypes)
    return classifier


def stored(path: Path, *, classes: tuple[str, ...] = THERE, **changed: Any) -> Classifier:
    classifier = make(classes, seed=1, **changed)
    card = ModelCard(
        classes=classes,
        img_size=32,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        model=ModelSection(**{**NETWORK, **changed}),
        trained={"method": "mulcon" if changed.get("head") == "mulcon" else "sadcl"},
    )
    save_model(path, classifier.state_dict(), card)
    return classifier


def section(path: Path, **changed: Any) -> ModelSection:
    return ModelSection(**{**NETWORK, "init_from": str(path), **changed})


def test_shared_weights_are_carried_over_and_classes_by_name(tmp_path: Path) -> None:
    source = stored(tmp_path / "m.safetensors")
    classifier, untouched = make(HERE, seed=2), make(HERE, seed=2)
    result = transfer(classifier, section(tmp_path / "m.safetensors"), classes=HERE, img_size=32)
    assert result.classes == (("aeroplane", "airplane"), ("zebra", None), ("cat", "cat"))
    assert result.matched == 2
    assert result.random == ()
    own, theirs, before = classifier.state_dict(), source.state_dict(), untouched.state_dict()
    for name in ("head.class_embedding", "head.weight", "head.bias", "prototypes"):
        assert torch.equal(own[name][0], theirs[name][1])
        assert torch.equal(own[name][1], before[name][1])
        assert torch.equal(own[name][2], theirs[name][0])
    per_class = {"head.class_embedding", "head.weight", "head.bias", "prototypes"}
    assert all(torch.equal(own[name], theirs[name]) for name in own if name not in per_class)
    images = torch.randn(2, 3, 32, 32)
    ours, expected = classifier.eval()(images).logits, source.eval()(images).logits
    torch.testing.assert_close(ours[:, [0, 2]], expected[:, [1, 0]])  # the model knows its old classes under their new names


@pytest.mark.parametrize(("head", "options"), KINDS, ids=str)
def test_every_head_is_stored_and_knows_its_old_classes_under_their_new_names(
    tmp_path: Path, head: str, options: dict[str, Any]
) -> None:
    made: dict[str, Any] = {"head": head, "heads": {head: {**SMALL[head], **options}}}
    source = stored(tmp_path / "m.safetensors", **made).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = source(images, need_attention=True)
    loaded = load_model(tmp_path / "m.safetensors").classifier(images, need_attention=True)
    assert torch.equal(loaded.logits, expected.logits)
    assert torch.equal(loaded.label_features, expected.label_features)
    classifier, here = make(HERE, seed=2, **made).eval(), ("aeroplane", "dog", "cat")
    result = transfer(classifier, section(tmp_path / "m.safetensors", **made), classes=here, img_size=32)
    assert (result.matched, result.random) == (3, ())
    ours = classifier(images, need_attention=True)
    for name in ("logits", "label_features", "attention"):
        torch.testing.assert_close(getattr(ours, name), getattr(expected, name)[:, [1, 2, 0]])


def test_a_class_of_a_head_with_more_queries_reads_one_that_is_there(tmp_path: Path) -> None:
    names = tuple("abcdefgh")

    def decoder(groups: int) -> dict[str, Any]:
        return {"head": "ml_decoder", "heads": {"ml_decoder": {**SMALL["ml_decoder"], "groups": groups}}}

    stored(tmp_path / "m.safetensors", classes=names, **decoder(4))
    classifier = make(names, seed=2, **decoder(2)).eval()
    result = transfer(classifier, section(tmp_path / "m.safetensors", **decoder(2)), classes=names, img_size=32)
    assert result.random == ("head.queries",)
    assert classifier(torch.randn(2, 3, 32, 32)).logits.isfinite().all()


def test_a_class_map_is_followed(tmp_path: Path) -> None:
    stored(tmp_path / "m.safetensors")
    (tmp_path / "map.yaml").write_text("zebra: dog\ncat:\n")
    config = section(tmp_path / "m.safetensors", class_map=str(tmp_path / "map.yaml"))
    result = transfer(make(HERE, seed=2), config, classes=HERE, img_size=32)
    assert dict(result.classes) == {"aeroplane": "airplane", "zebra": "dog", "cat": None}


def test_no_class_in_common_still_gives_the_rest(tmp_path: Path) -> None:
    source = stored(tmp_path / "m.safetensors", classes=("x", "y"))
    classifier = make(HERE, seed=2)
    result = transfer(classifier, section(tmp_path / "m.safetensors"), classes=HERE, img_size=32)
    assert result.matched == 0
    assert torch.equal(classifier.head.decoder_norm.weight, source.head.decoder_norm.weight)


def test_of_another_head_only_the_backbone_is_carried_over(tmp_path: Path) -> None:
    source = stored(tmp_path / "m.safetensors", head="mulcon", heads={"mulcon": {"width": 8, "token_width": 8}})
    classifier, untouched = make(HERE, seed=2), make(HERE, seed=2)
    result = transfer(classifier, section(tmp_path / "m.safetensors"), classes=HERE, img_size=32)
    own, before = classifier.state_dict(), untouched.state_dict()
    for name, tensor in source.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(own[name], tensor)
    for name in own:
        if not name.startswith("backbone."):
            assert torch.equal(own[name], before[name])
            assert name in result.random


def test_of_another_width_the_rest_is_carried_over_and_reported(tmp_path: Path) -> None:
    stored(tmp_path / "m.safetensors")
    classifier = make(HERE, seed=2, projection_width=6)
    result = transfer(classifier, section(tmp_path / "m.safetensors"), classes=HERE, img_size=32)
    assert set(result.random) == {"projection.2.weight", "projection.2.bias"}


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    stored(tmp_path / "m.safetensors")
    config = section(tmp_path / "m.safetensors", backbone="resnet18")
    with pytest.raises(DataError, match="has another backbone, test_resnet"):
        transfer(make(HERE, seed=2, backbone="resnet18"), config, classes=HERE, img_size=32)
    with pytest.raises(DataError, match="no model file"):
        transfer(make(HERE, seed=2), section(tmp_path / "none.safetensors"), classes=HERE, img_size=32)


def test_classes_whose_word_vectors_are_others_than_those_that_the_weights_learned_from(tmp_path: Path) -> None:
    changed: dict[str, Any] = {"head": "generated", "heads": {"generated": {"width": 8}}}
    source, classifier = make(THERE, seed=1, **changed), make(HERE, seed=2, **changed)
    source.head.words.copy_(torch.stack([random_vector(name) for name in THERE]))
    model = ModelSection(**{**NETWORK, **changed})
    card = ModelCard(classes=THERE, img_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, model=model)
    save_model(tmp_path / "m.safetensors", source.state_dict(), card)
    moved = transfer(classifier, section(tmp_path / "m.safetensors", **changed), classes=HERE, img_size=32)
    assert set(moved.words) == {"cat"}  # the one name that both have
    classifier.head.words.copy_(torch.stack([random_vector(name) for name in HERE]))
    assert other_words(moved.words, classifier, HERE) == []
    classifier.head.words[2] += 1
    assert other_words(moved.words, classifier, HERE) == ["cat"]
    assert other_words({}, make(HERE, seed=2), HERE) == []


def test_the_network_of_the_model_stands_below_what_the_user_said(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    stored(path, head="mulcon", heads={"mulcon": {"width": 8, "token_width": 8}})
    said = ("flag", {"model": {"init_from": str(path)}})
    (name, layer), *rest = with_network_of_init([said])
    assert rest == [said]
    assert name == f"init-from {path}"
    assert layer["method"] == "mulcon"
    assert layer["model"]["backbone"] == "test_resnet"
    assert layer["model"]["heads"]["mulcon"]["width"] == 8
    assert "pretrained" not in layer["model"]
    assert layer["data"] == {"img_size": 32}
    assert with_network_of_init([("flag", {"seed": 1})]) == [("flag", {"seed": 1})]


def test_a_preset_asked_for_keeps_its_size_and_its_method(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    stored(path)
    said: tuple[str, Layer] = ("flag", {"model": {"init_from": str(path)}})

    def config(preset: str | None, *more: tuple[str, Layer]) -> RunConfig:
        layers = with_network_of_init([said, ("flag", {"preset": preset} if preset else {}), *more])
        return configure(layers, dataset="mine", split_sizes={"train": 1}).config

    assert (config(None).data.img_size, config(None).method) == (32, "sadcl")
    larger = config("sadcl-r101-576")
    assert (larger.data.img_size, larger.method, larger.model.backbone) == (576, "sadcl", "test_resnet")
    mulcon = config("mulcon-r101-448")
    assert (mulcon.data.img_size, mulcon.method, mulcon.model.head) == (448, "mulcon", "mulcon")
    assert set(mulcon.stages["contrastive"].weights) == {"asymmetric", "sample_to_sample"}
    other = config(None, ("flag", {"method": "baseline"}))
    assert (other.method, other.model.head, other.model.backbone) == ("baseline", "pooled", "test_resnet")


def test_a_model_that_names_no_method_is_of_the_one_with_its_head(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    classifier = make(THERE, seed=1, head="pooled", heads={})
    model = ModelSection(**{**NETWORK, "head": "pooled", "heads": {}})
    save_model(path, classifier.state_dict(), ModelCard(classes=THERE, img_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, model=model))
    (_, layer), _ = with_network_of_init([("flag", {"model": {"init_from": str(path)}})])
    assert layer["method"] == "baseline"
