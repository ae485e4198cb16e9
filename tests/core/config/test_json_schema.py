from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from docs import generate
from sadcl_core.config.json_schema import check_settings, json_schema
from sadcl_core.config.layers import Layer, flatten, load_config_file, parse_assignment, settings_of
from sadcl_core.config.methods import ADDED, METHODS, find_method, method_names
from sadcl_core.config.presets import PRESETS, configure
from sadcl_core.config.schema import RunConfig
from sadcl_core.config.yaml import format_yaml
from sadcl_core.errors import UsageError
from sadcl_core.model.classifier import head_options
from sadcl_core.registry import HEADS
from sadcl_core.training.terms import TERMS
from tests.conftest import Sadcl

CONTRASTS = [added for count in range(3) for added in product([*ADDED, "i2i"], repeat=count)]
VALIDATOR = Draft202012Validator(json_schema())


def wrong(values: Any) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(values)]


def test_the_schema_is_one_and_says_what_every_setting_is() -> None:
    Draft202012Validator.check_schema(json_schema())
    assert "$ref" not in json.dumps(json_schema())
    settings = settings_of(json_schema())
    for key, node in settings.items():
        assert node.get("description"), key
        if node.get("type") == "object":
            assert node["additionalProperties"] is False, key
        elif key != "$schema":
            assert "default" in node or ".losses." in key, key
    assert {key for key, value in flatten(RunConfig().model_dump()).items() if value != {}} <= set(settings)


def test_the_schema_has_the_names_of_everything() -> None:
    settings = settings_of(json_schema())
    assert settings["method"]["enum"] == list(method_names())
    assert settings["preset"]["enum"] == ["", *PRESETS]
    assert settings["model.head"]["enum"] == list(HEADS) == list(settings["model.heads"]["properties"])
    assert "fixed-crops" in settings["stages.contrastive.augment"]["enum"]
    for stage in RunConfig().stages:
        assert list(settings[f"stages.{stage}.losses"]["properties"]) == list(TERMS)
    assert settings["stages.contrastive.losses.sample_to_sample"]["default"] == 0.1
    assert settings["model.heads.sarl.width"]["default"] == head_options("sarl", {}).width


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", [name for name, row in PRESETS.items() if not row.needs_init])
def test_what_is_written_is_valid(tmp_path: Path, preset: str, method: str) -> None:
    configured = configure([("flag", {"method": method})], dataset="mine", split_sizes={"train": 1}, preset=preset)
    path = tmp_path / "config.yaml"
    path.write_text(format_yaml(configured.config.model_dump(), configured.sources))
    assert wrong(load_config_file(path)) == []
    config = configured.config
    options = head_options(config.model.head, config.model.heads.get(config.model.head, {}))  # as a run completes them
    completed = config.model.model_copy(update={"heads": {config.model.head: options.model_dump()}})
    assert wrong(config.model_copy(update={"model": completed}).model_dump()) == []


def test_the_config_of_a_run_is_valid(trained: Path) -> None:
    assert wrong(load_config_file(trained / "runs" / "coco" / "config.yaml")) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("seed=-1", "$.seed"),
        ("seed=yes", "$.seed"),
        ("seeed=1", "$"),
        ("device=tpu", "$.device"),
        ("preset=smal", "$.preset"),
        ("method=salr", "$.method"),
        ("data=3", "$.data"),
        ("data.img_size=8", "$.data.img_size"),
        ("model.head=salr", "$.model.head"),
        ("model.heads.salr.width=8", "$.model.heads"),
        ("model.heads.sarl.widht=8", "$.model.heads.sarl"),
        ("model.heads.sarl.dropout=1", "$.model.heads.sarl.dropout"),
        ("stages.contrastve.epochs=1", "$.stages"),
        ("stages.contrastive.augment=fixed-crop", "$.stages.contrastive.augment"),
        ("stages.contrastive.lr=0", "$.stages.contrastive.lr"),
        ("stages.contrastive.losses.asymetric=1", "$.stages.contrastive.losses"),
        ("stages.contrastive.losses.asymmetric=-1", "$.stages.contrastive.losses.asymmetric"),
        ("loss.asymmetric.clip=1", "$.loss.asymmetric.clip"),
    ],
)
def test_schema_and_check_refuse_the_same(text: str, path: str) -> None:
    layer = parse_assignment(text)
    assert wrong(layer) == [path]
    with pytest.raises(UsageError, match=r"\(from --set\)"):
        check_settings([("--set", layer)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.heads.salr.width=8", "There is no setting model.heads.salr.width ORIGIN. Did you mean 'model.heads.sarl.width'?"),
        (
            "model.heads.resnet.a.b=8",
            "There is no setting model.heads.resnet.a.b ORIGIN. Choose from: sarl, mulcon, pooled, csra, ml_decoder, ",
        ),
        ("model.heads.sarl.widht=8", "There is no setting model.heads.sarl.widht ORIGIN. Did you mean 'model.heads.sarl.width'?"),
        ("model.heads.pooled.width=8", "There is no setting model.heads.pooled.width ORIGIN. Did you mean"),
        ("model.heads.sarl.width=x", "model.heads.sarl.width='x' ORIGIN is not valid. Give a whole number from 4 to 65,536."),
        ("model.heads.sarl.dropout=no", "model.heads.sarl.dropout='no' ORIGIN is not valid. Give a number from 0 to below 1."),
        ("model.heads.sarl.width={a: 1}", "model.heads.sarl.width ORIGIN is one value and no table. Give a whole number"),
        ("model.heads.mulcon=3", "model.heads.mulcon=3 ORIGIN is no table of settings. Set one that is in it, such as"),
        ("stages.contrastive.augment=fixed", "stages.contrastive.augment='fixed' ORIGIN is not valid. Did you mean"),
        (
            "model.heads.csra.attention_heads=5",
            "model.heads.csra.attention_heads=5 ORIGIN is not valid. Choose from: 1, 2, 4, 6, 8.",
        ),
        ("optim.pseudo_labels=0.3", "optim.pseudo_labels ORIGIN is not valid: give more than 0.5 and not 0.3, such as 0.9"),
        ("model.head=sral", "model.head='sral' ORIGIN is not valid. Did you mean 'sarl'?"),
        ("method=mulcom", "method='mulcom' ORIGIN is not valid. Did you mean 'mulcon'?"),
        ("preset=smal", "preset='smal' ORIGIN is not valid. Did you mean 'small'?"),
    ],
)
def test_names_of_higher_floors_are_checked_early(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_settings([("--set", parse_assignment(text))])
    assert str(caught.value).startswith(message.replace("ORIGIN", "(from --set)"))
    assert not str(caught.value).endswith("too.")


def test_options_of_a_head_are_checked_together_only_with_the_preset() -> None:
    check_settings([("--set", parse_assignment("model.heads.sarl.width=6"))])  # 4 heads is the default, not yet the value
    layers: list[tuple[str, Layer]] = [("c.yaml", {"model": {"heads": {"sarl": {"width": "x", "dropout": 2}}}})]
    with pytest.raises(UsageError, match=r"1 more setting is wrong, too\.$"):
        check_settings(layers)


def test_contrast_may_stand_behind_the_name_of_a_method() -> None:
    check_settings([("c.yaml", {"method": "tdrg+s2s+p2s"})])
    for name in (f"{base}{''.join(f'+{short}' for short in added)}" for base in METHODS for added in CONTRASTS):
        try:
            find_method(name)
        except UsageError:
            assert wrong({"method": name}) == ["$.method"]
        else:
            assert wrong({"method": name}) == []
    with pytest.raises(UsageError, match="Did you mean 'tdrg'"):
        check_settings([("c.yaml", {"method": "tdgr+s2s"})])


@pytest.mark.parametrize(
    ("texts", "torch"),
    [
        (["seeed=1"], False),
        (["method=salr"], False),
        (["model.heads.sarl.width=8"], True),
        (["model.heads.sarl.width=8", "seeed=1"], False),
    ],
)
def test_torch_is_imported_only_where_it_must_be_asked(texts: list[str], torch: bool) -> None:
    code = f"""
import sys
from sadcl_core.config.layers import parse_assignment
from sadcl_core.config.json_schema import check_settings
from sadcl_core.errors import UsageError
try:
    check_settings([("--set", parse_assignment(text)) for text in {texts!r}])
except UsageError:
    pass
sys.exit("torch" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == torch


def test_print_schema_shows_it_and_nothing_else(sadcl: Sadcl) -> None:
    ran = sadcl("train", "--print-schema")
    assert json.loads(ran.stdout) == json_schema()
    assert ran.stderr == ""


def test_what_print_config_shows_is_valid_and_wrong_settings_are_told_before_data_are_looked_for(sadcl: Sadcl) -> None:
    path = Path("c.yaml")
    path.write_text(sadcl("train", "--preset", "small", "--print-config").stdout)
    assert wrong(load_config_file(path)) == []
    sadcl("train", "-c", path, "--print-config")
    for arguments in (("train", "nowhere"), ("compare", "nowhere")):
        ran = sadcl(*arguments, "-c", path, "--set", "optim.patiense=3", code=2)
        assert "There is no setting optim.patiense (from --set). Did you mean 'optim.patience'?" in ran.stderr
    path.write_text("stages:\n  contrastve: {epochs: 3, lr: 1}\n")
    ran = sadcl("train", "nowhere", "-c", path, code=2)
    assert "There is no setting stages.contrastve (from c.yaml). Did you mean 'stages.contrastive'?" in ran.stderr


def test_the_documentation_has_every_setting() -> None:
    assert generate.main(["--check"]) == 0, "run python docs/generate.py"
    page = generate.PAGE.read_text(encoding="utf-8")
    for key, node in settings_of(json_schema()).items():
        if node.get("type") != "object" and key != "$schema" and not key.startswith("stages."):
            assert f"| `{key}` |" in page


def test_the_examples_in_the_documentation_are_true(tmp_path: Path) -> None:
    page = generate.PAGE.read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    layer = load_config_file(path)
    assert wrong(layer) == []
    check_settings([("mine.yaml", layer)])
    for source, text in (("--set", "stages.contrastve.epochs=3"), ("mine.yaml", "optim.patience=two")):
        with pytest.raises(UsageError) as caught:
            check_settings([(source, parse_assignment(text))])
        assert f"\n{caught.value}\n" in page
