from __future__ import annotations

import pytest

from sadcl_core.config.schema import RunConfig
from sadcl_core.training.listeners.estimate import seconds_left, spoken


def config(first: int, second: int, *, views: int = 1) -> RunConfig:
    return RunConfig.model_validate(
        {"stages": {"classification": {"epochs": first}, "contrastive": {"epochs": second, "views": views}}}
    )


def test_what_is_left_is_training_looking_and_prototypes() -> None:
    asked = {"steps": 10, "step_seconds": 2.0, "train_images": 100, "eval_images": 50}
    # a step looks at 10 images, so a look at one costs 2 / 10 / 3 s
    assert seconds_left(config(3, 0), "classification", done=0, **asked) == pytest.approx(3 * (20 + 50 * 0.2 / 3))  # type: ignore[arg-type]
    assert seconds_left(config(3, 0), "classification", done=10, **asked) == pytest.approx(2 * (20 + 50 * 0.2 / 3))  # type: ignore[arg-type]
    both = seconds_left(config(3, 2, views=2), "classification", done=0, **asked)  # type: ignore[arg-type]
    assert both == pytest.approx(3 * (20 + 10 / 3) + 2 * (40 + 10 / 3) + 100 * 0.2 / 3)
    assert seconds_left(config(3, 2), "contrastive", done=20, **asked) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "10 seconds"), (44, "40 seconds"), (89, "90 seconds"), (100, "2 minutes"), (3600, "60 minutes"), (9000, "2.5 hours")],
)
def test_times_are_said_as_roughly_as_they_are_known(seconds: float, words: str) -> None:
    assert spoken(seconds) == words
