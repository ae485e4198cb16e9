from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import UsageError
from sadcl_core.experiments.space import (
    default_space,
    parse_parameter,
    read_space,
    recipe_values,
    refuse_repeated,
    settings_layer,
)


def test_ranges_and_choices() -> None:
    rate = parse_parameter("lr=1e-4..1e-2")
    assert (rate.key, rate.low, rate.high, rate.log) == ("stages.*.lr", 1e-4, 1e-2, True)
    assert settings_layer({"stages.*.lr": 0.5}) == {"stages": {name: {"lr": 0.5} for name in RunConfig().stages}}
    views = parse_parameter("features.views=1..3")
    assert (views.low, views.high, views.log) == (1, 3, False)
    assert isinstance(views.low, int)
    dropout = parse_parameter("model.heads.pooled.dropout = 0..0.5")
    assert dropout.includes(0.0)
    assert not dropout.includes(0.6)
    assert parse_parameter("optim.ema-warmup=true,false").choices == (True, False)
    assert parse_parameter("stages.classification.losses.asymmetric=0.5,1").choices == (0.5, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr", "is not of the form"),
        ("lr=", "is not of the form"),
        ("lr=1e-2..1e-4", "is not below"),
        ("lr=1e-2", "nothing to choose from"),
        ("optim.patience=3,3", "nothing to choose from"),
        ("optim.lr=1e-4..1e-2", "There is no setting optim.lr"),
        ("optim.warmup=0.5..2", "optim.warmup=2"),
        ("optim.patience=0.5..2.5", "optim.patience=0.5"),
        ("model.heads.pooled.pooling=mean,median", "median"),
        ("seed=1..9", "a sweep sets it itself"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_parameter(text)


def test_a_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("lr: 1e-4..1e-2\noptim:\n  weight_decay: [0, 0.01]\nstages.classification.gamma_neg: [null, 2]\n")
    space = read_space(file)
    assert [str(parameter) for parameter in space] == [
        "stages.*.lr=0.0001..0.01",
        "optim.weight_decay=0,0.01",
        "stages.classification.gamma_neg=null,2",
    ]
    assert space[-1] == parse_parameter(str(space[-1]))
    assert space[-1].choices == (None, 2)
    for again in ("lr=1..2", "stages.classification.lr=1..2"):
        with pytest.raises(UsageError, match="twice"):
            refuse_repeated([*space, parse_parameter(again)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nothing", "names no setting"),
        ("lr: 3", r"lr=3 \(from .*space.yaml\) has nothing to choose from"),
        ("lr: 1e-2..1e-4", r"lr=1e-2..1e-4 \(from .*space.yaml\): 1e-2 is not below"),
        ("seed: 1..9", r"seed=1..9 \(from .*space.yaml\) cannot be chosen"),
        ("optim: {weight_decay: [0, null]}", r"optim.weight_decay is empty \(from .*space.yaml\)"),
        ("optim: {patience: [3, '4,5']}", r"optim.patience='4,5' \(from .*space.yaml\) is not valid"),
        ("optim.patience: '[1,2'", r"space.yaml 'optim.patience=\[1': the value cannot be read"),
        ("optim: {lr: 1e-4..1e-2}", r"There is no setting optim.lr \(from .*space.yaml\)"),
    ],
)
def test_mistakes_in_a_file_name_it(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_space(file)


def test_a_setting_that_a_file_names_in_two_ways_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("optim.patience: [3, 8]\noptim:\n  patience: [4, 9]\n")
    with pytest.raises(UsageError, match="patience is to be chosen twice"):
        refuse_repeated(read_space(file))


def test_the_first_trial_has_the_values_of_the_recipe_that_can_be_chosen() -> None:
    recipe = {"stages.contrastive.lr": 0.001, "stages.classification.lr": 0.002, "optim.patience": 5, "optim.warmup": 0.1}
    space = [parse_parameter(text) for text in ("lr=1e-4..1e-2", "optim.patience=3,8", "optim.warmup=0..0.2")]
    assert recipe_values(space, recipe, ["contrastive", "classification"]) == {"optim.warmup": 0.1}
    assert recipe_values(space, recipe, ["classification"]) == {"stages.*.lr": 0.002, "optim.warmup": 0.1}


def test_the_recipe_lies_within_what_is_chosen_by_default() -> None:
    config = RunConfig()
    space = default_space(config, ["dropout", "width"])
    values = {
        "stages.classification.lr": config.stages["classification"].lr,
        "stages.contrastive.lr": config.stages["contrastive"].lr,
        "optim.weight_decay": config.optim.weight_decay,
        "model.heads.sarl.dropout": 0.1,
        "loss.asymmetric.gamma_neg": 0.0,
    }
    assert [parameter.key for parameter in space] == list(values)
    assert all(parameter.includes(values[parameter.key]) for parameter in space)
