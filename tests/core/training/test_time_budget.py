from __future__ import annotations

import pytest

from sadcl_core.config.schema import RunConfig
from sadcl_core.training.listeners.estimate import seconds_left
from sadcl_core.training.time_budget import within_budget

EPOCHS = {"classification": 4, "contrastive": 2}
RECIPE = {f"stages.{name}.epochs": "preset small" for name in EPOCHS}


def config(**optim: object) -> RunConfig:
    stages = {name: {"epochs": count} for name, count in EPOCHS.items()}
    return RunConfig.model_validate({"stages": stages, "optim": {"time_budget": 1.0, **optim}})


def epochs(seconds: float, sources: dict[str, str] | None = None, **optim: object) -> tuple[int, ...]:
    planned = within_budget(
        config(**optim), RECIPE | (sources or {}), seconds, step_seconds=1.0, steps=10, train_images=100, eval_images=30
    )
    assert planned.optim.time_budget == 0
    return tuple(stage.epochs for stage in planned.stages.values())


def test_more_time_gives_more_epochs_and_what_is_planned_fits() -> None:
    planned = [epochs(seconds) for seconds in range(0, 400, 7)]
    assert planned == sorted(planned)
    assert (planned[0], planned[-1]) == ((1, 1), (12, 6))
    for seconds, (first, second) in zip(range(0, 400, 7), planned, strict=True):
        stages = {"classification": {"epochs": first}, "contrastive": {"epochs": second}}
        cost = seconds_left(
            RunConfig.model_validate({"stages": stages}),
            "classification",
            steps=10,
            done=0,
            step_seconds=1.0,
            train_images=100,
            eval_images=30,
        )
        assert cost <= 0.95 * seconds or first == 1


def test_fewer_evaluations_leave_time_for_more_epochs() -> None:
    assert epochs(70, evaluate_every=6) > epochs(70)


def test_what_an_epoch_takes_beside_its_steps_counts() -> None:
    given = {"step_seconds": 1.0, "steps": 10, "train_images": 100, "eval_images": 30}
    slow = within_budget(config(), RECIPE, 300, epoch_seconds=20.0, **given)  # type: ignore[arg-type]
    assert sum(stage.epochs for stage in slow.stages.values()) < sum(epochs(300))


def test_a_fitted_layer_stands_alone_where_there_is_no_time() -> None:
    assert epochs(1, solve_linear=True) == (0, 0)


@pytest.mark.parametrize("seconds", [1, 1e6])
def test_epochs_of_the_user_stay_and_those_of_the_recipe_follow(seconds: float) -> None:
    first, second = epochs(seconds, {"stages.classification.epochs": "flag"})
    assert first == 4
    assert second == (1 if seconds == 1 else 6)


def test_a_budget_of_the_recipe_makes_nothing_longer_and_auto_choices_follow() -> None:
    auto = {"optim.time_budget": "auto: 942 images"}
    assert epochs(1e6, auto) == (4, 2)
    sources = RECIPE | {"optim.ema_decay": "auto: 942 images", "optim.patience": "auto: 942 images"}
    planned = within_budget(config(), sources, 1e6, step_seconds=1.0, steps=100, train_images=100, eval_images=30)
    assert planned.optim.patience == 12
    assert planned.optim.ema_decay == 0.9933  # of 1,200 steps
    kept = within_budget(config(), RECIPE, 1e6, step_seconds=1.0, steps=100, train_images=100, eval_images=30)
    assert kept.optim.model_dump(exclude={"time_budget"}) == config().optim.model_dump(exclude={"time_budget"})
