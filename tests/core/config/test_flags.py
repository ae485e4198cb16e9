from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sadcl_core.config.flags import FLAGS, epoch_counts, flag_layers
from sadcl_core.config.layers import Layer, flatten, resolve_config
from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import UsageError

VALUES = {str: "cpu", int: 64, float: 0.5, bool: True, Path: Path("x")}
NAMES = {
    **{"size": "small", "method": "baseline", "preset": "small", "precision": "fp32", "epochs": "7", "time_budget": "10m"},
    "track": "mlflow",
}


def layer_of(**flags: Any) -> Layer:
    (source, layer), *others = flag_layers(**flags)
    assert (source, others) == ("flag", [])
    return layer


NO_MODEL = {"init_from": "", "init_classes": "", "class_map": ""}


@pytest.mark.parametrize("name", [name for name, flag in FLAGS.items() if flag.setting])
def test_every_flag_sets_its_setting_and_nothing_else(name: str) -> None:
    flag = FLAGS[name]
    value = NAMES.get(name, VALUES[flag.kind])
    values = flatten(layer_of(**{name: value}))
    keys = {flag.setting.replace("*", stage) for stage in RunConfig().stages}
    replaced = {"model.init_from", "model.init_classes", "model.class_map"} if "pretrained" in name else set()
    replaced |= {"model.freeze_stride"} if name == "frozen" else set()
    assert set(values) == keys | replaced
    config, sources = resolve_config([("flag", layer_of(**{name: value}))])
    assert {key for key, source in sources.items() if source == "flag"} == set(values)
    assert flatten(config.model_dump()).keys() >= keys


def test_nothing_given_says_nothing() -> None:
    nothing = {name: False if name == "no_pretrained" else None for name in FLAGS}
    assert layer_of(**nothing) == layer_of() == {}


def test_files_stand_below_assignments_and_those_below_flags(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\ndata: {img_size: 32}\n")
    layers = flag_layers(config=path, set=["seed=2", "data.img-size=64"], seed=3)
    assert [source for source, _ in layers] == [str(path), "--set", "--set", "flag"]
    config = resolve_config(layers)[0]
    assert (config.seed, config.data.img_size) == (3, 64)
    assert flag_layers(set={"optim.patience": 3, "data.img_size": 64})[0] == (
        "--set",
        {"optim": {"patience": 3}, "data": {"img_size": 64}},
    )


def test_a_size_names_a_backbone() -> None:
    assert layer_of(size="tiny") == {"model": {"backbone": "hgnetv2_b0.ssld_stage2_ft_in1k"}}
    with pytest.raises(UsageError, match="--size names a backbone, and so does --backbone"):
        flag_layers(size="tiny", backbone="resnet18")
    with pytest.raises(UsageError, match=r"no size 'smal' of backbones\. Did you mean 'small'"):
        flag_layers(size="smal")


def test_weights_asked_for_replace_the_model_of_a_file() -> None:
    assert layer_of(pretrained="hub")["model"] == {"pretrained": True, **NO_MODEL}
    assert layer_of(pretrained="w.pth")["model"]["pretrained"] == "w.pth"
    assert layer_of(no_pretrained=True)["model"] == {"pretrained": False, **NO_MODEL}
    assert layer_of(init_from=Path("runs/a"))["model"] == {"init_from": "runs/a"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"lrr": 1}, "There is no flag 'lrr'. Did you mean 'lr'?"),
        ({"pretrained": "hub", "no_pretrained": True}, "--pretrained and --no-pretrained exclude each other"),
        ({"init_from": "a", "no_pretrained": True}, "Leave out --pretrained and --no-pretrained"),
        ({"class_map": "a", "pretrained": "hub"}, "Leave out --pretrained and --no-pretrained"),
        ({"method": "salr"}, "Did you mean 'sarl'"),
        ({"preset": "smal"}, "Did you mean 'small'"),
        ({"img_size": 8}, "data.img_size=8 (from flag) is not valid. Give a whole number from 16 to 4,096."),
        ({"set": ["seed"]}, "is not of the form key=value"),
        ({"set": {"seeed": 1}}, "Did you mean 'seed'?"),
        ({"config": "none.yaml"}, "none.yaml cannot be read"),
    ],
)
def test_wrong_flags_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        flag_layers(**flags)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "x", "1,2,3", "-1", "1.5", "1,", "²"])
def test_what_is_no_number_of_epochs(text: str) -> None:
    with pytest.raises(UsageError, match="Write 20 or 15,5"):
        epoch_counts(text)


def test_epochs_of_every_stage_or_of_each() -> None:
    assert epoch_counts([15, 5]) == epoch_counts((15, 5)) == epoch_counts(" 15, 5") == [15, 5]
    stages = layer_of(epochs=3)["stages"]
    assert stages == {"classification": {"epochs": 3}, "contrastive": {"epochs": 3}}


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("90s", 90), ("10m", 600), (" 1.5H ", 5400), (".5m", 30)])
def test_lengths_of_time(text: str, expected: float) -> None:
    assert layer_of(time_budget=text) == {"optim": {"time_budget": expected}}


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "0m", "10 days", "1e3", "5mm", "nan", "1:30"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Write 90s, 10m or 2h"):
        flag_layers(time_budget=text)


def test_a_time_budget_and_epochs_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="Leave out one of the two"):
        flag_layers(time_budget="10m", epochs="3")
