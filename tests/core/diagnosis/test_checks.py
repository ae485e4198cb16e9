"""The parts that checks are made of, each against an outside answer or a naive one."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from timm.utils.model_ema import ModelEmaV3
from torch.nn.functional import binary_cross_entropy

from sadcl_core.config.schema import AsymmetricOptions
from sadcl_core.diagnosis import checks_scores
from sadcl_core.diagnosis.baselines import baselines
from sadcl_core.diagnosis.checks import CHECKS, Check, examine
from sadcl_core.diagnosis.checks_loss import best_and_last, collapsed, overfitted, overfitting
from sadcl_core.diagnosis.checks_run import first_weights_left
from sadcl_core.diagnosis.diagnose import find_run
from sadcl_core.diagnosis.evidence import Evidence, Scored, gather
from sadcl_core.diagnosis.findings import found, outcome
from sadcl_core.diagnosis.history import History, Record
from sadcl_core.losses import asymmetric_loss
from tests.conftest import Sadcl

DOCS = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")
RNG = np.random.default_rng(0)


def test_the_documentation_has_every_check_in_the_order_of_the_list() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (.+) \|$", DOCS, flags=re.MULTILINE)
    assert [(name, looks_for) for name, looks_for, _ in rows] == [(check.name, check.looks_for) for check in CHECKS]
    assert all(len(more) > 20 for _, _, more in rows)


def test_the_options_that_the_documentation_names_are_there(sadcl: Sadcl) -> None:
    shown = "".join(sadcl(command, "--help").stdout for command in ("doctor", "eval", "train", "prepare-data", "search"))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", DOCS))
    assert {"--limit", "--json"} <= named
    assert named <= set(re.findall(r"--[a-z][a-z-]*", shown))


def test_the_worst_comes_first_and_what_is_found_before_what_is_not() -> None:
    evidence = Evidence(Path("run"), {"scored": "it is not there"})
    findings = examine(
        evidence,
        (
            Check("a", "a thing", lambda evidence: found("minor", "message", "do")),
            Check("b", "", lambda evidence: found("minor", evidence.need("scored", evidence.scored).classes[0], "do")),
            Check("c", "", lambda evidence: found("serious", "message", "do")),
            Check("d", "", lambda evidence: found("serious", "message", "do")),
        ),
    )
    assert [finding.name for finding in findings] == ["c", "d", "a", "b"]
    assert findings[2].looks_for == "a thing"
    assert (findings[-1].status, findings[-1].message) == ("not checked", "it is not there")


def test_without_any_evidence_nothing_is_checked_and_nothing_breaks() -> None:
    names = ("state", "config", "history", "card", "broken_weights", "manifest", "train", "held_out", "baselines", "scored")
    findings = examine(Evidence(Path("run"), {name: f"there is no {name}" for name in names}))
    assert {finding.status for finding in findings} == {"not checked"}


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize(("decay", "steps"), [(0.9, 1), (0.9, 2), (0.99, 50), (0.9998, 300)])
def test_the_share_of_the_first_weights_is_what_is_left_in_an_ema(decay: float, steps: int, warmup: bool) -> None:
    model = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.ones_(model.weight)
    average = ModelEmaV3(model, decay=decay, use_warmup=warmup)
    for step in range(1, steps + 1):
        average.update(model, step=step)
        torch.nn.init.zeros_(model.weight)  # whatever comes later adds nothing
    left = float(average.module.weight.detach())
    assert first_weights_left(decay, steps, warmup=warmup) == pytest.approx(left, abs=2e-6)


def test_an_ema_of_many_steps_is_not_followed_for_ever() -> None:
    assert first_weights_left(0.9998, 10**9, warmup=False) == 0.0


@pytest.mark.parametrize("options", [{}, {"gamma_neg": 4.0, "clip": 0.05}, {"class_weights": "neg-pos"}])
def test_baselines_are_the_losses_of_constant_answers(options: dict[str, Any]) -> None:
    targets = (np.random.default_rng(3).random((400, 3)) < [0.5, 0.1, 0.05]).astype(np.int8)
    targets[:50, 1] = -1
    active, inactive = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    result = baselines(AsymmetricOptions.model_validate(options), active, inactive)
    plain: dict[str, Any] = {key: value for key, value in options.items() if key != "class_weights"}
    weight = torch.tensor(inactive / active).float() if "class_weights" in options else None

    def naive(probabilities: npt.NDArray[np.float64]) -> float:
        logits = torch.logit(torch.tensor(probabilities)).expand(400, 3)
        chosen = {"gamma_neg": 0.0, **plain}
        return float(asymmetric_loss(logits, torch.from_numpy(targets), **chosen, active_weights=weight))

    frequency = active / (active + inactive)
    assert result.frequency == pytest.approx(naive(frequency), rel=1e-5)
    assert result.inactive == pytest.approx(naive(np.zeros(3)), rel=1e-5)
    assert result.half == pytest.approx(naive(np.full(3, 0.5)), rel=1e-5)
    tried = [naive(np.full(3, p)) for p in np.linspace(0.01, 0.99, 30)]
    assert result.constant <= min(*tried, result.frequency) + 1e-6
    if not options:
        known = targets >= 0
        outside = binary_cross_entropy(
            torch.tensor(np.broadcast_to(frequency, (400, 3))[known]), torch.tensor(targets[known]).double()
        )
        assert result.frequency == pytest.approx(float(outside), rel=1e-5)
        assert result.constant == pytest.approx(result.frequency, rel=1e-4)
        assert result.half == pytest.approx(math.log(2), rel=1e-6)


def test_classes_that_are_never_or_always_active_have_finite_baselines() -> None:
    result = baselines(AsymmetricOptions(), np.array([0, 10]), np.array([10, 0]))
    assert result.frequency == pytest.approx(0, abs=2e-5)
    with pytest.raises(ValueError, match="no label is known"):
        baselines(AsymmetricOptions(), np.array([0]), np.array([0]))


def test_correlations_are_those_of_numpy_where_all_is_known() -> None:
    values, targets = RNG.random((50, 4)), (RNG.random((50, 4)) < 0.4).astype(np.int8)
    expected = np.corrcoef(values.T, targets.T)[:4, 4:]
    assert checks_scores.correlations(values, targets) == pytest.approx(expected)
    values[:, 1] = 0.3
    assert np.all(checks_scores.correlations(values, targets)[1] == 0)


def test_only_classes_that_change_places_among_themselves_are_named() -> None:
    correlation = np.full((5, 5), 0.1)
    correlation[[0, 1, 2, 3, 4], [1, 2, 0, 3, 4]] = 0.8
    assert sorted(checks_scores.best_fits(correlation, images=100)) == [(0, 1), (1, 2), (2, 0)]
    together = np.eye(3) * 0.3
    together[0, 1], together[1, 1] = 0.9, 0.9  # a class that is shown with another one, and is harder to see
    assert checks_scores.best_fits(together, images=100) == []
    assert checks_scores.best_fits(correlation, images=10) == []  # four standard deviations of chance are more than that


@pytest.fixture(scope="module")
def evidence(healthy: Path) -> Evidence:
    return gather(find_run(healthy), device="cpu", workers=0)


def with_scores(evidence: Evidence, values: npt.NDArray[np.floating], targets: npt.NDArray[Any]) -> Evidence:
    classes = tuple("abcdefgh"[: values.shape[1]])
    thresholds = np.full(len(classes), 0.5)
    return replace(evidence, scored=Scored(values, values, targets.astype(np.int8), thresholds, classes, len(values)))


def test_certain_scores_that_are_wrong(evidence: Evidence) -> None:
    targets = RNG.random((500, 4)) < 0.5
    sure = np.where(targets, 0.9999, 0.0001)
    assert checks_scores.saturated(with_scores(evidence, sure, targets)).status == "passed"
    wrong = targets ^ (RNG.random((500, 4)) < 0.1)
    finding = checks_scores.saturated(with_scores(evidence, sure, wrong))
    assert finding.severity == "serious"
    assert finding.numbers["errors"] == pytest.approx((wrong != targets).mean())
    assert finding.numbers["share"] == 1
    unknown = np.where(wrong != targets, -1, targets)
    assert checks_scores.saturated(with_scores(evidence, sure, unknown)).status == "passed"
    modest = np.where(targets, 0.99, 0.01)
    assert checks_scores.saturated(with_scores(evidence, modest, wrong)).status == "passed"


def test_scores_that_are_the_same_for_all_images(evidence: Evidence) -> None:
    targets = RNG.random((100, 4)) < 0.5
    values = RNG.random((100, 4)).astype(np.float32)
    values[:, 1] = 0.2
    finding = collapsed(with_scores(evidence, values, targets))
    assert finding.severity == "doubtful"
    assert finding.numbers["classes"] == ["b"]
    values[:, 2] = 1.0
    assert collapsed(with_scores(evidence, values, targets)).severity == "serious"


def test_classes_at_chance_and_classes_that_are_never_said(evidence: Evidence) -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((300, 4)) < 0.3
    values = np.where(targets, 0.45, 0.2) + 0.04 * rng.random((300, 4))
    values[:, 0] = 0.6 + 0.3 * rng.random(300)
    looked = with_scores(evidence, values, targets)
    assert checks_scores.at_chance(looked).numbers["classes"] == ["a"]
    assert checks_scores.never_predicted(looked).numbers["classes"] == ["b", "c", "d"]
    assert checks_scores.never_predicted(looked).severity == "serious"
    assert checks_scores.never_predicted(with_scores(evidence, values + 0.1, targets)).status == "passed"


def test_classes_with_few_positives_are_not_spoken_of(evidence: Evidence) -> None:
    targets = np.zeros((100, 2), dtype=bool)
    targets[:4] = True
    looked = with_scores(evidence, RNG.random((100, 2)), targets)
    for check in (checks_scores.swapped_labels, checks_scores.at_chance, checks_scores.never_predicted):
        assert outcome(check, looked).message.startswith("no class has 5 positives")


def rows(*values: tuple[float, float]) -> tuple[Record, ...]:
    return tuple(Record("s", n, 0, 1e-3, loss, loss, ap) for n, (loss, ap) in enumerate(values, start=1))


def test_overfitting_takes_a_falling_loss_and_a_falling_map_for_some_epochs() -> None:
    assert overfitted(rows((0.5, 50), (0.4, 60), (0.3, 58), (0.2, 56)))
    assert not overfitted(rows((0.5, 50), (0.4, 60), (0.39, 58), (0.38, 56)))  # the loss does not fall
    assert not overfitted(rows((0.5, 50), (0.4, 60), (0.3, 59.5), (0.2, 59.5)))  # the mAP hardly does
    assert not overfitted(rows((0.5, 50), (0.4, 56), (0.3, 60), (0.2, 56)))  # only in the last epoch


def test_advice_names_the_epoch_that_is_kept(evidence: Evidence) -> None:
    config = evidence.config
    assert config is not None
    last = replace(evidence, config=config.model_copy(update={"optim": config.optim.model_copy(update={"select": "last"})}))
    by_heart, fallen = History(rows((0.5, 50), (0.4, 60), (0.3, 58), (0.2, 56)), ()), History(rows((0.5, 60), (0.5, 50)), ())
    for looked, kept in ((evidence, "best epoch"), (last, "last epoch")):
        assert kept in overfitting(replace(looked, history=by_heart)).action
        assert f"take the {kept}" in best_and_last(replace(looked, history=fallen)).action
    assert "stages.s.epochs=2" in overfitting(replace(last, history=by_heart)).action


def test_images_that_are_known_while_others_are_not(evidence: Evidence) -> None:
    scored, config = evidence.scored, evidence.config
    assert scored is not None
    assert config is not None
    assert overfitting(evidence).status == "passed"
    mixed = np.random.default_rng(0).permutation(len(scored.scores))
    others = replace(evidence, scored=replace(scored, scores=scored.scores[mixed], as_trained=scored.as_trained[mixed]))
    finding = overfitting(others)
    assert finding.severity == "doubtful"
    assert finding.numbers["training_loss"] < 0.5 * finding.numbers["best_constant"] < finding.numbers["held_out_loss"]
    assert "--pretrained" in finding.action
    slow = config.model_copy(update={"optim": config.optim.model_copy(update={"ema_decay": 0.9999, "ema_warmup": False})})
    assert overfitting(replace(others, config=slow)).status == "passed"  # the EMA explains it
