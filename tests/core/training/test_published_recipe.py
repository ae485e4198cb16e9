"""The published recipe, setting by setting, and three steps of each of its stages as numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sadcl_core.config.layers import flatten, parse_assignment
from sadcl_core.config.presets import configure
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.memory_bank import BatchBank
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.training.listeners.events import EpochDone, Event
from sadcl_core.training.optimizer import make_optimizer, one_cycle, set_trainable
from sadcl_core.training.parallel import make_ema
from sadcl_core.training.recipe import TrainingRecipe
from sadcl_core.training.terms import TERMS, TrainingStep, weighted_sum
from tests import reference
from tests.core.training.resumable import configured, numbers, start

PRESET = "sadcl-r101-448"
TRAINABLE = {"classification": 193_579_088, "contrastive": 200_037_456}  # values that the published logs name
SMALL: dict[str, Any] = {
    "data": {"batch_size": 4, "img_size": 32},
    "model": {
        "backbone": "test_resnet",
        "projection_width": 4,
        "heads": {"sarl": {"width": 8, "feedforward": 16, "dropout": 0.0}},
    },
    "loss": {"sample_to_sample": {"bank_min_score": 0.5}},
}
TARGETS = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, -1]])
STEPS = 3


def published(layer: dict[str, Any] | None = None) -> RunConfig:
    return configure([("--set", layer or {})], dataset="coco", split_sizes={"train": 8}, preset=PRESET).config


def let(classifier: Classifier, config: RunConfig, stage: str) -> list[str]:
    """Let the parts of a stage be trained; return its terms."""
    terms = list(config.stages[stage].weights)
    rows = [TERMS[name] for name in terms]
    set_trainable(
        classifier,
        backbone=True,
        projection=any(row.projection for row in rows),
        prototypes=any(row.prototypes for row in rows),
    )
    return terms


@pytest.mark.parametrize("stage", TRAINABLE)
def test_as_many_values_are_trained_as_the_published_logs_say(stage: str) -> None:
    config = published()
    with torch.device("meta"):
        classifier = Classifier(config.model, num_classes=80, img_size=448, initialise=False)
    let(classifier, config, stage)
    assert sum(p.numel() for p in classifier.parameters() if p.requires_grad) == TRAINABLE[stage]


def test_the_weight_of_s2s_is_that_of_the_published_strength_where_a_method_has_it() -> None:
    weights = {name: published({"method": name}).stages["contrastive"].weights for name in ("sadcl", "sarl-p2s", "sarl")}
    assert weights == {
        "sadcl": {"asymmetric": 1.0, "sample_to_sample": 0.01, "prototype_to_sample": 0.05},
        "sarl-p2s": {"asymmetric": 1.0, "prototype_to_sample": 0.05},
        "sarl": {},
    }
    number = published({"stages": {"contrastive": {"losses": {"sample_to_sample": 0.1}}}})
    assert number.stages["contrastive"].weights["sample_to_sample"] == 0.1


def images(step: int) -> Tensor:
    places = torch.arange(4 * 3 * 32 * 32, dtype=torch.float64)
    return torch.sin(0.37 * places + step).view(4, 3, 32, 32)


def known_weights(classifier: Classifier) -> Classifier:
    """Give all weights values that no generator decides; those of norms lie around 1."""
    with torch.no_grad():
        for number, (name, tensor) in enumerate(classifier.named_parameters()):
            places = torch.arange(tensor.numel(), dtype=torch.float64)
            norm = tensor.ndim == 1 and name.endswith("weight")
            tensor.copy_((norm + 0.3 * torch.sin(0.7 * places + number)).view(tensor.shape))
    return classifier.double()


def expected_terms(step: TrainingStep, config: RunConfig, stage: str, inputs: Tensor) -> dict[str, float]:
    """Return the terms by the equations as loops."""
    with torch.no_grad():
        output = step.classifier(inputs)
        project = step.classifier.project
        z, gamma = project(output.label_features), config.stages[stage].gamma_neg
        assert gamma is not None
        terms = {"asymmetric": reference.asymmetric(output.logits, TARGETS, gamma_neg=gamma, gamma_pos=0, clip=0)}
        if step.bank is not None:
            terms["sample_to_sample"] = reference.sample_to_sample(
                z, TARGETS, temperature=0.2, bank=project(step.bank.features), bank_mask=TARGETS == 1
            )
            terms["prototype_to_sample"] = reference.prototype_to_sample(
                z, TARGETS, project(step.classifier.prototypes), temperature=0.07
            )
    return {name: float(value) for name, value in terms.items()}


GOLDEN: dict[str, Any] = {
    "classification": {
        "losses": [0.361308911, 0.361371486, 0.360550805],
        "backbone": -106.514928,
        "head": 15.149297,
        "projection": 0.0,
        "prototypes": 0.0,
    },
    "contrastive": {
        "losses": [0.756075928, 0.742886359, 0.743025819],
        "backbone": 61.521679,
        "head": -7.918584,
        "projection": -5.272440,
        "prototypes": 3.878374,
    },
}


@pytest.mark.parametrize("stage", TRAINABLE)
def test_three_steps(stage: str) -> None:
    config = published(SMALL)
    section, optim = config.stages[stage], config.optim
    classifier = known_weights(Classifier(config.model, num_classes=3, img_size=32))
    terms = let(classifier, config, stage)
    bank = None
    if stage == "contrastive":
        bank = BatchBank(slots=4, num_classes=3, width=8).double()
        bank.start_from(classifier.prototypes.detach())
    ema = make_ema(classifier, config, warmup=False)
    optimizer = make_optimizer(classifier, section, optim)
    schedule = one_cycle(optimizer, steps=STEPS, warmup=optim.warmup)
    step = TrainingStep(classifier, terms=terms, options=config.loss_of(section), bank=bank)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    averaged, losses = dict(before), []
    classifier.train()
    for number in range(1, STEPS + 1):
        values, features, places = step(images(number), TARGETS)
        assert {name: value.item() for name, value in values.items()} == pytest.approx(
            expected_terms(step, config, stage, images(number)), rel=1e-9
        )
        loss = weighted_sum(values, section.weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        ema.update(classifier, step=number)
        for name, tensor in classifier.state_dict().items():
            averaged[name] = optim.ema_decay * averaged[name] + (1 - optim.ema_decay) * tensor
        if bank is not None:
            bank.write(features, places)
        losses.append(loss.item())
    torch.testing.assert_close(ema.module.state_dict(), averaged, check_dtype=False)  # from the first step on
    changes = {part: change(before, classifier, part, section.lr) for part in ("backbone", "head", "projection", "prototypes")}
    assert {"losses": losses, **changes} == {name: pytest.approx(value, rel=1e-4) for name, value in GOLDEN[stage].items()}


def change(before: dict[str, Tensor], classifier: Classifier, part: str, lr: float) -> float:
    """Return one number that depends on how each value of a part was changed, in learning rates, and on its place."""
    total = 0.0
    for name, tensor in classifier.named_parameters():
        if name.startswith(part):
            moved = (tensor.detach() - before[name]).flatten() / lr
            total += float(moved @ torch.cos(torch.arange(len(moved), dtype=torch.float64)))
    return total


def test_an_epoch_counts_by_the_better_of_ema_and_network(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("run")
    left = iter([50.0, 60.0, 55.0, 40.0])  # EMA and network of two epochs
    kept: list[dict[str, Tensor]] = []

    class Scripted(TrainingRecipe):
        def evaluate(self, classifier: Classifier) -> dict[str, float]:
            kept.append({name: tensor.clone() for name, tensor in classifier.state_dict().items()})
            value = next(left)
            return {"mAP_interpolated": value, "mAP_non_interpolated": value}

    rows: list[Any] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone):
            rows.append((event.row["mAP_interpolated"], event.row["mAP_interpolated_network"], event.best))

    result = start(configured((2, 0), {"optim": {"evaluate": "both"}}), manifest, run, listen, Scripted)
    assert (result.best_map, result.epoch, result.weights) == (60.0, 1, "network")
    assert rows == [(50.0, 60.0, True), (55.0, 40.0, False)]
    best = load_model(run / "weights" / "best.safetensors")
    assert [best.card.trained[name] for name in ("mAP_interpolated", "epoch", "weights")] == [60.0, 1, "network"]
    torch.testing.assert_close(best.classifier.state_dict(), kept[1], rtol=0, atol=0)
    assert len(numbers(run)) == 2


PAGE = Path(__file__).parents[3] / "docs" / "published.md"


def test_the_page_names_what_the_preset_sets_and_its_values() -> None:
    made = configure([], dataset="coco", split_sizes={"train": 8}, preset=PRESET)
    values = flatten(made.config.model_dump())
    table = PAGE.read_text(encoding="utf-8").split("\n## ")[0]
    named = dict(re.findall(r"`([\w.]+)=([^`]+)`", table))
    for key, text in named.items():
        (given,) = flatten(parse_assignment(f"{key}={text}")).values()
        assert values[key] == given, key
    defaults = flatten(RunConfig().model_dump())
    changed = {
        key
        for key, source in made.sources.items()
        if source == f"preset {PRESET}" and key != "preset" and values[key] != defaults.get(key)
    }
    paper = {f"model.heads.sarl.{name}" for name in ("width", "attention_heads", "feedforward", "dropout")}
    assert changed - set(named) <= paper
