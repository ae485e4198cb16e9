from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sadcl_core.config.schema import ModelSection, OptimSection, StageSection
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.classifier import Classifier
from sadcl_core.training.optimizer import apply_drop, make_optimizer, make_schedule, one_cycle, set_trainable


def make() -> Classifier:
    section = ModelSection(
        backbone="resnet18", stride=8, head="sarl", heads={"sarl": {"width": 8, "feedforward": 8}}, projection_width=4
    )
    return Classifier(section, num_classes=3, img_size=32)


def test_backbone_has_its_own_rate_and_vectors_are_not_decayed() -> None:
    classifier = make()
    set_trainable(classifier, backbone=True, projection=True, prototypes=True)
    optimizer = make_optimizer(classifier, StageSection(lr=1e-3, backbone_lr_scale=0.1), OptimSection(weight_decay=0.01))
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in classifier.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in group_of
            continue
        group = group_of[id(parameter)]
        assert group["lr"] == pytest.approx(1e-4 if name.startswith("backbone.") else 1e-3)
        assert group["weight_decay"] == (0.01 if parameter.ndim >= 2 else 0)


def test_everything_is_decayed_as_published_with_sadcl_and_epsilon_is_on_our_scale() -> None:
    optimizer = make_optimizer(make(), StageSection(), OptimSection(weight_decay=0.01, decayed="all", epsilon=1e-11))
    assert {(group["weight_decay"], group["eps"]) for group in optimizer.param_groups} == {(0.01, 1e-11)}


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_decay_is_in_the_gradient_of_adam_and_beside_that_of_adamw(kind: str) -> None:
    classifier = make()
    optimizer = make_optimizer(
        classifier, StageSection.model_validate({"lr": 0.01, "optimizer": kind}), OptimSection(weight_decay=0.1)
    )
    weight = classifier.head.weight
    before, weight.grad = weight.detach().clone(), torch.zeros_like(weight)
    optimizer.step()
    step = 0.01 * before.sign() if kind == "adam" else 0.01 * 0.1 * before  # of Adam as large as any first step
    torch.testing.assert_close(before - weight.detach(), step, atol=1e-5, rtol=0)


def test_the_head_below_its_classifier_has_its_own_rate() -> None:
    classifier = make()
    set_trainable(classifier, backbone=True, projection=True, prototypes=True)
    stage = StageSection(lr=0.01, optimizer="sgd", backbone_lr_scale=0.1, head_lr_scale=0.2)
    optimizer = make_optimizer(classifier, stage, OptimSection())
    assert isinstance(optimizer, torch.optim.SGD)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            full = name in ("head.weight", "head.bias", "prototypes") or name.startswith("projection.")
            expected = 0.01 if full else 0.001 if name.startswith("backbone.") else 0.002
            assert rate_of[id(parameter)] == pytest.approx(expected), name
    schedule = one_cycle(optimizer, steps=10, warmup=0.2)
    optimizer.step()
    schedule.step()
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


def test_only_what_a_stage_uses_is_trained() -> None:
    classifier = make()
    set_trainable(classifier, backbone=False, projection=False, prototypes=False)
    trained = {name.split(".")[0] for name, p in classifier.named_parameters() if p.requires_grad}
    assert trained == {"head"}
    set_trainable(classifier, backbone=True, projection=True, prototypes=True)
    trained = {name.split(".")[0] for name, p in classifier.named_parameters() if p.requires_grad}
    assert trained == {"backbone", "head", "projection", "prototypes"}
    assert not classifier.backbone.net.conv1.weight.requires_grad  # frozen by the configuration


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 100])
def test_one_cycle_peaks_and_ends_at_any_length(steps: int) -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = one_cycle(optimizer, steps=steps, warmup=0.2)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.1) or steps == 1
    if steps >= 10:
        assert rates.index(max(rates)) == pytest.approx(0.2 * steps - 1)
        assert rates[-1] < 1e-3


@pytest.mark.parametrize("done", [1, 2, 7, 10])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_one_cycle_goes_on_where_it_was(done: int, kind: type[torch.optim.Optimizer]) -> None:
    def make_one() -> torch.optim.Optimizer:
        return kind([nn.Parameter(torch.zeros(1))], lr=0.1)  # type: ignore[call-arg]

    def now(optimizer: torch.optim.Optimizer) -> list[object]:
        return [optimizer.param_groups[0].get(key) for key in ("lr", "betas", "momentum")]

    whole, late = make_one(), make_one()
    schedule = one_cycle(whole, steps=10, warmup=0.2)
    for _ in range(done):
        whole.step()
        schedule.step()
    going_on = one_cycle(late, steps=10, warmup=0.2, done=done)
    assert now(late) == now(whole)
    if done < 10:
        for optimizer, each in ((whole, schedule), (late, going_on)):
            optimizer.step()
            each.step()
        assert now(late) == now(whole)


def test_lower_layers_of_the_backbone_learn_slower() -> None:
    classifier = make()
    set_trainable(classifier, backbone=True, projection=True, prototypes=True)
    optimizer = make_optimizer(classifier, StageSection(lr=1e-3, backbone_lr_scale=0.5, layer_decay=0.5), OptimSection())
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: rate_of[id(p)] for name, p in classifier.named_parameters() if id(p) in rate_of}
    assert max(rate for name, rate in rates.items() if name.startswith("backbone.")) == pytest.approx(5e-4)
    blocks = [rates[f"backbone.net.layer2.{block}.conv1.weight"] for block in (0, 1)]
    assert blocks[0] == pytest.approx(blocks[1] / 2)
    assert rates["head.weight"] == pytest.approx(1e-3)


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv2_100", "convnext_atto", "test_vit", "swin_s3_tiny_224"])
def test_every_parameter_of_a_backbone_has_a_depth(backbone: str) -> None:
    img_size, stride = (224, 32) if "swin" in backbone else (160, 16)
    network = Backbone(backbone, stride=stride, img_size=img_size)
    depths = network.depths()
    assert set(depths) == {name for name, _ in network.net.named_parameters()}
    assert min(depths.values()) == 0
    assert max(depths.values()) > 2
    first = next(iter(depths))
    assert depths[first] == max(depths.values())


def rates_of(optim: OptimSection, *, steps: int, stopped: int = 0) -> list[float]:
    """The rate of each step, of a stage that was stopped and resumed."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = make_schedule(optimizer, optim, steps=steps)
    rates = []
    for step in range(steps):
        if step == stopped > 0:
            optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
            schedule = make_schedule(optimizer, optim, steps=steps, done=stopped)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("stopped", [0, 1, 7])
def test_the_other_schedules(stopped: int) -> None:
    step = OptimSection(schedule="step", milestones=[0.5, 0.8], warmup=0.2)
    assert rates_of(step, steps=10, stopped=stopped) == pytest.approx([0.05, *[0.1] * 4, *[0.01] * 3, *[0.001] * 2])
    constant = OptimSection(schedule="step", milestones=[], warmup=0)
    assert rates_of(constant, steps=10, stopped=stopped) == [0.1] * 10
    cosine = OptimSection(schedule="cosine", warmup=0)
    waves = [0.05 * (1 + math.cos(math.pi * i / 10)) for i in range(10)]
    assert rates_of(cosine, steps=10, stopped=stopped) == pytest.approx(waves)


def test_a_drop_counts_from_the_next_step_on() -> None:
    drops: list[int] = []
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = make_schedule(optimizer, OptimSection(schedule="plateau", warmup=0), steps=10, drops=lambda: len(drops))
    drops.append(3)
    apply_drop(schedule)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_nesterov_is_of_sgd() -> None:
    classifier = make()
    set_trainable(classifier, backbone=True, projection=True, prototypes=True)
    optimizer = make_optimizer(classifier, StageSection(optimizer="sgd"), OptimSection(nesterov=True))
    assert {group["nesterov"] for group in optimizer.param_groups} == {True}
