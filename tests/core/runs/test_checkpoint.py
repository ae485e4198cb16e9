from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from sadcl_core.config.schema import ModelSection
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.heads.mulcon import MulConHead
from sadcl_core.runs.checkpoint import CARD, ModelCard, load_model, save_model


def make(**changes: object) -> tuple[Classifier, ModelCard]:
    torch.manual_seed(0)
    section = ModelSection(
        backbone="test_resnet",
        stride=16,
        pretrained=False,
        head="sarl",
        heads={"sarl": {"width": 8, "feedforward": 8}},
        projection_width=4,
        freeze_stride=0,
    )
    values: dict[str, object] = {
        "classes": ("cat", "dog"),
        "img_size": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "model": section,
        **changes,
    }
    card = ModelCard.model_validate(values)
    return Classifier(section, num_classes=2, img_size=32), card


def save(path: Path) -> None:
    classifier, card = make()
    save_model(path, classifier.state_dict(), card)


def save_built(path: Path, *, img_size: int = 32, **section: object) -> Classifier:
    """Save a new network with other settings, and return it."""
    _, card = make(img_size=img_size)
    card = card.model_copy(update={"model": card.model.model_copy(update=section)})
    classifier = Classifier(card.model, num_classes=2, img_size=img_size).eval()
    save_model(path, classifier.state_dict(), card)
    return classifier


def test_a_loaded_model_says_and_computes_the_same(tmp_path: Path) -> None:
    classifier, card = make(thresholds=(0.4, 0.6), trained={"dataset": "pets", "mAP_interpolated": 71.5})
    save_model(tmp_path / "m.safetensors", classifier.state_dict(), card)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.card == card
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.classifier(images).logits, classifier.eval()(images).logits)
    assert not loaded.classifier.training


@pytest.mark.parametrize(
    ("backbone", "stride", "img_size"),
    [("swin_s3_tiny_224", 32, 224), ("swinv2_cr_tiny_224", 32, 224), ("mobilenetv2_100", 32, 64), ("test_vit", 16, 64)],
)
def test_what_a_backbone_computes_from_its_weights_or_its_size_is_there_after_loading(
    tmp_path: Path, backbone: str, stride: int, img_size: int
) -> None:
    """Swin keeps masks and positions that no file holds."""
    classifier = save_built(tmp_path / "m.safetensors", img_size=img_size, backbone=backbone, stride=stride)
    images = torch.randn(1, 3, img_size, img_size)
    assert torch.equal(load_model(tmp_path / "m.safetensors").classifier(images).logits, classifier(images).logits)


def test_the_file_explains_itself_to_other_tools(tmp_path: Path) -> None:
    save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="pt") as stored:
        card = json.loads(stored.metadata()[CARD])
    assert card["classes"] == ["cat", "dog"]
    assert card["img_size"] == 32
    assert card["model"]["heads"]["sarl"]["width"] == 8


def test_nothing_half_written_is_left_behind(tmp_path: Path) -> None:
    classifier, card = make()
    path = tmp_path / "m.safetensors"
    save_model(path, classifier.state_dict(), card)
    before = path.read_bytes()
    broken = card.model_copy(update={"trained": {"x": object()}})
    with pytest.raises(Exception, match="serialize"):
        save_model(path, classifier.state_dict(), broken)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_failing_to_write_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(MachineError, match=r"m\.safetensors cannot be written \(No space left on device\)"):
        save(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_a_model_file_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    save(tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_what_is_no_model_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(DataError, match="There is no model file"):
        load_model(path)
    for content in (b"", b"hello world, this is no model", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not a model file"):
            load_model(path)
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="no description of a sadcl model"):
        load_model(path)


def test_truncated_model_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="is not a model file"):
        load_model(path)


@pytest.mark.parametrize("card", ["{", "[]", '{"classes": []}', '{"classes": ["a"], "img_size": -5}'])
def test_damaged_description(tmp_path: Path, card: str) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, metadata={CARD: card})
    with pytest.raises(DataError, match="description is damaged"):
        load_model(path)


def test_a_card_that_contradicts_itself(tmp_path: Path) -> None:
    classifier, card = make()
    save_model(tmp_path / "m.safetensors", classifier.state_dict(), card.model_copy(update={"thresholds": (0.5,)}))
    with pytest.raises(DataError, match="1 thresholds for 2 classes"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("section", "message"),
    [({"head": "unheard"}, "There is no head called 'unheard'"), ({"backbone": "unheard"}, "timm has no model 'unheard'")],
)
def test_a_head_or_backbone_that_this_version_lacks(tmp_path: Path, section: dict[str, object], message: str) -> None:
    classifier, card = make()
    card = card.model_copy(update={"model": card.model.model_copy(update=section)})
    save_model(tmp_path / "m.safetensors", classifier.state_dict(), card)
    with pytest.raises(DataError, match=rf"m\.safetensors cannot be built by this version: {message}"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("backbone", "stride"), [("test_resnet", 16), ("vit_tiny_patch16_224", 16)])
def test_another_image_size_than_trained_at(tmp_path: Path, backbone: str, stride: int) -> None:
    save_built(tmp_path / "m.safetensors", backbone=backbone, stride=stride)
    loaded = load_model(tmp_path / "m.safetensors", img_size=64)
    assert loaded.card.img_size == 64
    output = loaded.classifier(torch.randn(1, 3, 64, 64), need_attention=True)
    assert output.attention.shape == (1, 2, 4, 4)


@pytest.mark.parametrize(("name", "size"), [("test_vit", 64), ("test_maxvit", 96)])
def test_positions_are_resampled_for_another_size(name: str, size: int, tmp_path: Path) -> None:
    stride = 16 if name == "test_vit" else 32
    save_built(tmp_path / "m.safetensors", img_size=160, backbone=name, stride=stride)
    loaded = load_model(tmp_path / "m.safetensors", img_size=size).classifier
    assert loaded.features(torch.randn(1, 3, size, size))[0].shape[-1] == size // stride


def test_a_backbone_that_cannot_change_its_size_says_so(tmp_path: Path) -> None:
    save_built(tmp_path / "m.safetensors", img_size=224, backbone="gcvit_xxtiny", stride=32)
    with pytest.raises(UsageError, match=r"cannot be used at 320 px: .* was trained at 224 px"):
        load_model(tmp_path / "m.safetensors", img_size=320)


def test_later_version(tmp_path: Path) -> None:
    classifier, card = make(schema_version=9)
    save_model(tmp_path / "m.safetensors", classifier.state_dict(), card)
    with pytest.raises(DataError, match="schema version 9"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"head": "pooled", "heads": {}}, "do not fit the head 'pooled' on test_resnet"),
        ({"heads": {"sarl": {"width": 16, "feedforward": 8}}}, "another shape"),
        ({"heads": {"sarl": {"width": 8, "feedforward": 8, "encoder_layers": 0}}}, "unexpected"),
    ],
)
def test_a_head_that_does_not_fit_the_file(tmp_path: Path, section: dict[str, object], message: str) -> None:
    classifier, card = make()
    card = card.model_copy(update={"model": card.model.model_copy(update=section)})
    save_model(tmp_path / "m.safetensors", classifier.state_dict(), card)
    with pytest.raises(DataError, match=message):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("written", "divisor"), [({}, 4), ({"attention_scale": "whole-width"}, 8)])
def test_mulcon_models_of_before_keep_their_scale_of_attention(tmp_path: Path, written: dict[str, str], divisor: int) -> None:
    sizes = {"token_width": 8, "width": 8, "attention_heads": 2, "token_blocks": 2, "label_blocks": 1, "dropout": 0.0}
    save_built(tmp_path / "m.safetensors", head="mulcon", heads={"mulcon": {**sizes, **written}}, projection_width=4)
    head = load_model(tmp_path / "m.safetensors").classifier.head
    assert isinstance(head, MulConHead)
    assert head.label_attention.scale == pytest.approx(divisor**-0.5)
