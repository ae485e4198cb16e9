"""The linear path beside a head: its logits are added, the head starts at zero, and files and transfers carry it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sadcl_core.config.schema import ModelSection, OptimSection, StageSection
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.model.heads.pooled import PooledHead
from sadcl_core.runs.checkpoint import ModelCard, load_model, save_model
from sadcl_core.training.optimizer import make_optimizer
from sadcl_core.training.transfer import transfer

SMALL = {
    "sarl": {"width": 16, "feedforward": 32},
    "mulcon": {"token_width": 16, "width": 16},
    "ml_decoder": {"width": 16, "feedforward": 32},
}


def section(head: str = "sarl", branch: str = "mean", init_from: str = "") -> ModelSection:
    heads = {head: SMALL[head]} if head in SMALL else {}
    return ModelSection.model_validate(
        {
            "backbone": "test_resnet",
            "pretrained": False,
            "head": head,
            "heads": heads,
            "global_branch": branch,
            "projection_width": 8,
            "init_from": init_from,
        }
    )


@pytest.mark.parametrize("head", ["sarl", "mulcon", "pooled", "csra", "ml_decoder", "debiased"])
def test_a_new_model_says_what_its_linear_path_says(head: str) -> None:
    torch.manual_seed(0)
    classifier = Classifier(section(head), num_classes=3, img_size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    output = classifier(images)
    assert isinstance(classifier.global_branch, PooledHead)
    assert classifier.linear is classifier.global_branch
    torch.testing.assert_close(output.logits, classifier.global_branch(HeadInputs(classifier.features(images)[-1:])).logits)
    classifier.train()
    classifier(images).logits.sum().backward()
    weight = classifier.head.get_parameter(classifier.head.CLASSIFIER[0]) if classifier.gate is None else classifier.gate
    assert weight.grad is not None
    assert weight.grad.any()  # though it starts at zero, it learns


@pytest.mark.parametrize("head", ["sarl", "csra", "debiased"])
def test_the_first_step_changes_scores_a_little_whatever_the_length_of_a_classifier_means(head: str) -> None:
    torch.manual_seed(0)
    classifier = Classifier(section(head), num_classes=3, img_size=64).eval()
    maps = tuple(torch.randn(8, width, 4, 4).relu() for width in classifier.backbone.channels)
    before = classifier.classify(maps).logits
    optimizer = torch.optim.AdamW(classifier.head.parameters() if classifier.gate is None else [classifier.gate], lr=1e-3)
    before.logsumexp(dim=1).sum().backward()
    optimizer.step()
    moved = (classifier.classify(maps).logits - before).abs().max()
    assert 1e-6 < moved < 0.1


def test_a_file_of_an_earlier_version_lets_its_head_count_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Classifier(section("csra"), num_classes=3, img_size=64).eval()
    tensors = classifier.state_dict()
    tensors["head.weight"].normal_()
    card = ModelCard(classes=("a", "b", "c"), img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, model=section("csra"), trained={})
    earlier = {name: tensor for name, tensor in tensors.items() if name != "gate"}
    save_model(tmp_path / "m.safetensors", earlier, card)
    images = torch.randn(2, 3, 64, 64)
    silent = classifier(images).logits
    tensors["gate"].fill_(1)
    whole = classifier(images).logits
    torch.testing.assert_close(load_model(tmp_path / "m.safetensors").classifier(images).logits, whole)
    assert not torch.allclose(silent, whole)


def test_without_it_the_weights_of_a_seed_are_the_same_in_backbone_projection_and_head() -> None:
    torch.manual_seed(0)
    plain = Classifier(section(branch="none"), num_classes=3, img_size=64)
    torch.manual_seed(0)
    branched = Classifier(section(), num_classes=3, img_size=64)
    assert plain.global_branch is None
    assert plain.linear is None
    for name, tensor in plain.state_dict().items():
        zero = name.removeprefix("head.") in branched.head.CLASSIFIER
        torch.testing.assert_close(branched.state_dict()[name], torch.zeros_like(tensor) if zero else tensor)


def test_a_model_file_and_a_transfer_carry_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = Classifier(section(branch="root-mean"), num_classes=3, img_size=64).eval()
    assert trained.global_branch is not None
    trained.global_branch.get_buffer("mean").fill_(0.25)
    card = ModelCard(
        classes=("ant", "bee", "cow"), img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, model=section(branch="root-mean"), trained={}
    )
    path = tmp_path / "model.safetensors"
    save_model(path, trained.state_dict(), card)
    images = torch.randn(2, 3, 64, 64)
    loaded = load_model(path).classifier.eval()
    torch.testing.assert_close(loaded(images).logits, trained(images).logits)
    here = section(branch="root-mean", init_from=str(path))
    moved = Classifier(here, num_classes=2, img_size=64).eval()
    record = transfer(moved, here, classes=("cow", "ant"), img_size=64)
    assert record.random == ()
    torch.testing.assert_close(moved(images).logits, trained(images).logits[:, [2, 0]])


def test_it_has_a_learning_rate_of_its_own() -> None:
    classifier = Classifier(section(), num_classes=3, img_size=64)
    assert classifier.global_branch is not None
    optimizer = make_optimizer(classifier, StageSection(lr=1e-3, global_lr_scale=0.01), OptimSection())
    rates = {id(tensor): group["lr"] for group in optimizer.param_groups for tensor in group["params"]}
    assert rates[id(classifier.global_branch.classifier.weight)] == pytest.approx(1e-5)
    assert rates[id(classifier.head.weight)] == pytest.approx(1e-3)
