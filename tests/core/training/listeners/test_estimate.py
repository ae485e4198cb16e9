from __future__ import annotations

import pytest

from sadcl_core.config.schema import RunConfig
from sadcl_core.training.listeners.estimate import seconds_left


def config(first: int, second: int, *, views: int = 1) -> RunConfig:
    return RunConfig.model_validate(
        {"stages": {"classification": {"epochs": first}, "contrastive": {"epochs": second, "views": views}}}
    )


def test_what_is_left_is_training_evaluation_and_prototypes() -> None:
    run = {"steps": 10, "step_seconds": 2.0, "train_images": 100, "eval_images": 50}
    # a step is of 10 images, so the forward pass of one costs 2 / 10 / 3 s
    assert seconds_left(config(3, 0), "classification", done=0, **run) == pytest.approx(3 * (20 + 50 * 0.2 / 3))  # type: ignore[arg-type]
    assert seconds_left(config(3, 0), "classification", done=10, **run) == pytest.approx(2 * (20 + 50 * 0.2 / 3))  # type: ignore[arg-type]
    both = seconds_left(config(3, 2, views=2), "classification", done=0, **run)  # type: ignore[arg-type]
    assert both == pytest.approx(3 * (20 + 10 / 3) + 2 * (40 + 10 / 3) + 100 * 0.2 / 3)
    assert seconds_left(config(3, 2), "contrastive", done=20, **run) == 0  # type: ignore[arg-type]
