from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sadcl_core.config.json_schema import all_settings
from sadcl_core.config.layers import Schema, load_config_file, resolve_config, settings_of
from sadcl_core.config.methods import METHODS
from sadcl_core.config.presets import PRESETS
from sadcl_core.config.yaml import MAX_BYTES, MAX_DEPTH, MAX_VALUES, format_yaml
from sadcl_core.errors import UsageError
from sadcl_core.runs.run_directory import RunDirectory

NOT_TEXT = ("true", "False", "null", "~", "1", "010", "1_000", "1e-3", ".5", "5.", ".nan")
EDGES = (*NOT_TEXT, "yes", "no", "on", "y", "1:30", "2024-01-01", "0x1f", "=", "<<", "-", "?", "#", "---")


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def error_of(path: Path) -> str:
    start = time.process_time()
    with pytest.raises(UsageError) as caught:
        load_config_file(path)
    assert time.process_time() - start < 1
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_a_written_configuration_gives_the_same_again(tmp_path: Path) -> None:
    first, sources = resolve_config([("preset digits", PRESETS["digits"].layer), ("method", METHODS["baseline"].layer)])
    run = RunDirectory(tmp_path)
    data = first.data.model_copy(update={"manifest": "/a folder with spaces/" * 20})
    first = first.model_copy(update={"data": data})
    run.write_config(first.model_dump(), sources)
    text = (tmp_path / "config.yaml").read_text()
    assert "img_size: 64  # preset digits" in text
    assert "seed: 1  # default" in text
    again, _ = resolve_config([("file", load_config_file(tmp_path / "config.yaml"))])
    assert again == first


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a\n", "holds no table of settings"),
        ("just text\n", "holds no table of settings"),
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("seed: 1\na: [", "line 2, column 5"),
        ("seed: 1\n  b: 2\n", "line 2, column 4"),
        ("data:\n\timg_size: 3\n", "line 2, column 1: found character '\\t' that cannot start any token (indent with spaces)"),
        ("seed: 1\ndevice: a\x07b\n", "special characters are not allowed"),
        ("\x00", "special characters are not allowed"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key 'a' is given twice"),
        ("data:\n  img_size: 3\n  'img_size': 4\n", "line 3, column 3: the key 'img_size' is given twice"),
        ('{"seed": 1, "seed": 2}', "line 1, column 13: the key 'seed' is given twice"),
        ("seed: 1\n2007: x\n", "line 2, column 1: a key must be text"),
        ("true: x\n", "a key must be text"),
        ("? [a]\n: x\n", "a key must be text"),
        ("seed: !!python/object/apply:os.system [id]\n", "the tag tag:yaml.org,2002:python/object/apply:os.system is not read"),
        ("seed: !!int abc\n", "line 1, column 7: the tag tag:yaml.org,2002:int is not read"),
        ("a: !x 1\n", "the tag !x is not read"),
        ("a: &a 1\nb: *a\n", "line 2, column 4: the alias *a stands for values written elsewhere"),
        ("a: &a [*a]\n", "the alias *a"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: a second document begins"),
        ('a: "\\ud800"\n', "this is not YAML"),
        ("a: '", "line 1, column 5"),
        ("%YAML 9.9\n---\na: 1", "line 1, column 1"),
        (b"\xff\xfe\x00", "cannot be read ('utf-8' codec"),
        (b"a: 1\nb: \xe4\n", "cannot be read ('utf-8' codec"),
    ],
)
def test_what_is_no_configuration_file(tmp_path: Path, content: str | bytes, words: str) -> None:
    assert words in error_of(written(tmp_path / "c.yaml", content))


LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True))
HOSTILE = {
    "large": "#" * (MAX_BYTES + 1),
    "aliases": LAUGHS,
    "merges": "a: &a {x: 1}\n" + "".join(f"{b}: &{b} {{<<: [*{a}, *{a}]}}\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
    "lists": "a: " + "[" * (MAX_BYTES - 10),
    "items": "- " * (MAX_BYTES // 2),
    "tables": "{a: " * (MAX_BYTES // 4),
    "blocks": "".join(f"{' ' * depth}a:\n" for depth in range(300)),
    "keys": "{" + "a," * (MAX_BYTES // 2 - 1),
    "many": "a: [" + "1," * (MAX_BYTES // 2 - 10) + "]",
    "complex keys": "? " * (MAX_BYTES // 2),
    "flow keys": "{? " * (MAX_BYTES // 3),
    "quote": "a: '" + "x" * (MAX_BYTES - 10),
    "anchors": "&a " * (MAX_BYTES // 3),
    "documents": "---\n" * (MAX_BYTES // 4),
    "directives": "%" * MAX_BYTES,
    "tags": "!" * MAX_BYTES,
    "number": "a: " + "9" * (MAX_BYTES - 4),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once(tmp_path: Path, name: str) -> None:
    error_of(written(tmp_path / "c.yaml", HOSTILE[name]))
    error_of(written(tmp_path / "c.json", HOSTILE[name]))


@pytest.mark.parametrize("content", ["a: " + "1_" * (MAX_BYTES // 2 - 4) + "x", "a: " + "1." * 40_000])
def test_long_numbers_are_read_at_once(tmp_path: Path, content: str) -> None:
    start = time.process_time()
    assert load_config_file(written(tmp_path / "c.yaml", content)) == {"a": content[3:]}
    assert time.process_time() - start < 1


def test_as_much_as_settings_need_is_read(tmp_path: Path) -> None:
    deep = "{a: " * (MAX_DEPTH - 1) + "1" + "}" * (MAX_DEPTH - 1)
    assert load_config_file(written(tmp_path / "c.yaml", deep))
    wide = "".join(f"k{number}: 1\n" for number in range(MAX_VALUES // 2 - 1))
    assert len(load_config_file(written(tmp_path / "c.yaml", wide))) == MAX_VALUES // 2 - 1


def test_places_that_are_no_file(tmp_path: Path) -> None:
    assert "No such file" in error_of(tmp_path / "none.yaml")
    assert "is a folder, a pipe or a device. Give a YAML file, such as" in error_of(tmp_path)
    written(tmp_path / "config.yaml", "seed: 1")
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe or a device" in error_of(tmp_path / "pipe")
    assert "a pipe or a device" in error_of(Path("/dev/zero"))
    assert "cannot be read" in error_of(tmp_path / "config.yaml" / "inside")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in error_of(tmp_path / "loop")
    assert "embedded null" in error_of(Path("a\0b"))


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("# seed: 1\n", {}),
        ("---\n# nothing\n", {}),
        ("{}", {}),
        ("\ufeffseed: 1\n", {"seed": 1}),
        ("seed: 1\r\ndevice: cpu\r\n", {"seed": 1, "device": "cpu"}),
        ("a: 010\nb: 1e-3\nc: 1_000\nd: 1:30\ne: 2024-01-01\nf: 0x1f\ng: .5\nh: -2.\n",
         {"a": 10, "b": 1e-3, "c": 1000, "d": "1:30", "e": "2024-01-01", "f": "0x1f", "g": 0.5, "h": -2.0}),
        ("a: no\nb: Off\nc: TRUE\nd: ~\ne:\nf: 'true'\ng: y\nh: tRUE\n",
         {"a": "no", "b": "Off", "c": True, "d": None, "e": None, "f": "true", "g": "y", "h": "tRUE"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: =\n", {"a": "="}),
        ("a: &name 3\n", {"a": 3}),
    ],
)  # fmt: skip
def test_values_are_what_they_look_like(tmp_path: Path, content: str, values: dict[str, Any]) -> None:
    assert load_config_file(written(tmp_path / "c.yaml", content)) == values


def test_yes_and_no_are_text_unless_nothing_else_fits(tmp_path: Path) -> None:
    content = "data: {train_split: no}\nmodel: {pretrained: no, freeze_batchnorm: Off}\ncompute: {compile: YES, shard: on}\n"
    config, _ = resolve_config([("c.yaml", load_config_file(written(tmp_path / "c.yaml", content)))])
    assert config.data.train_split == "no"
    assert (config.model.pretrained, config.model.freeze_batchnorm) == (False, False)
    assert (config.compute.compile, config.compute.shard) == (True, True)


def test_numbers_where_text_is_expected_are_to_be_quoted(tmp_path: Path) -> None:
    layer = load_config_file(written(tmp_path / "c.yaml", "data:\n  train_split: 2007\n"))
    with pytest.raises(UsageError, match=r"data\.train_split=2007 \(from c\.yaml\) is not valid\. Give text; quote it\.$"):
        resolve_config([("c.yaml", layer)])


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_read(tmp_path: Path, indent: int | str | None) -> None:
    values = {
        "$schema": "./s.json",
        "seed": 3,
        "data": {"dataset": 'a "b" \\ \t/ ü 😀', "workers": None},
        "optim": {"warmup": 1e-05},
    }
    path = written(tmp_path / "c.json", json.dumps(values, indent=indent))
    del values["$schema"]
    assert load_config_file(path) == values


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200) | st.text("abc:-[]{}&*!|>'\"%@`#,?\n\t 01._~<=", max_size=60).map(str.encode))
def test_any_bytes_give_values_or_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "c.yaml", content)
    with suppress(UsageError):
        resolve_config([(str(path), load_config_file(path))])


SPECIAL = ":#'\"\\\n\r\t -?{}[],&*!|>%@`\x85\u2028\ufeff\x00\x7f"
TEXT = st.text(max_size=20) | st.sampled_from(EDGES) | st.text(SPECIAL, max_size=8)


def of(node: Schema, name: str) -> st.SearchStrategy[Any]:
    """Values that a setting takes."""
    if name == "device":
        return st.sampled_from(["auto", "cpu", "cuda:3"])
    if name.endswith("pseudo_labels"):
        return st.just(0.0) | st.floats(0.51, 0.99)
    if "enum" in node:  # augmentations and the like are checked elsewhere, so here they may be any text
        return TEXT if name.endswith(("preset", "method", "head", "augment")) else st.sampled_from(node["enum"])
    if "anyOf" in node:
        return st.one_of(*(of(choice, "") for choice in node["anyOf"]))
    if "pattern" in node:
        return st.from_regex(re.compile(node["pattern"], re.ASCII), fullmatch=True)
    if node["type"] == "array":
        return st.lists(of(node["items"], ""), max_size=3)
    low, high = node.get("minimum", node.get("exclusiveMinimum")), node.get("maximum", node.get("exclusiveMaximum"))
    if node["type"] == "integer":
        return st.integers(low, high if "maximum" in node or high is None else high - 1)
    if node["type"] == "number":
        numbers = st.floats(low, high, allow_nan=False, allow_infinity=False) | st.sampled_from([0.1 + 0.2, 1e-05, 1e-300])
        return numbers.filter(lambda value: value not in (node.get("exclusiveMinimum"), node.get("exclusiveMaximum")))
    simple: dict[str, st.SearchStrategy[Any]] = {
        "boolean": st.booleans(),
        "null": st.none(),
        "string": TEXT.filter(bool) if node.get("minLength") else TEXT,
    }
    return simple[node["type"]]


SETTINGS = {
    key: of(node, key)
    for key, node in settings_of(all_settings()).items()
    if node.get("type") != "object" and not key.startswith("model.heads")
}
OPTIONS = st.dictionaries(TEXT.filter(bool), TEXT | st.booleans() | st.none() | st.integers() | st.lists(TEXT, max_size=2))
HEADS = st.dictionaries(TEXT.filter(bool), OPTIONS, max_size=2)


@st.composite
def layers(draw: st.DrawFn) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(list(SETTINGS)), unique=True)):
        place = nested
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = draw(SETTINGS[key])
    nested.setdefault("model", {})["heads"] = draw(HEADS)
    return nested


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(layer=layers(), source=TEXT)
def test_a_configuration_is_written_and_read_exactly(tmp_path: Path, layer: dict[str, Any], source: str) -> None:
    config, sources = resolve_config([(source, layer)])
    run = RunDirectory(tmp_path)
    run.write_config(config.model_dump(), sources)
    again, _ = resolve_config([("file", load_config_file(tmp_path / "config.yaml"))])
    assert repr(again) == repr(config)  # 0.0 is not -0.0, and 1 is not true
    assert again == config


@pytest.mark.parametrize("text", EDGES)
def test_text_that_looks_like_something_else_is_written_as_text(tmp_path: Path, text: str) -> None:
    values = {"a": text, "b": [text, {text: 1}], text: 3}
    path = written(tmp_path / "c.yaml", format_yaml(values, {}))
    assert load_config_file(path) == values


def test_what_is_quoted_is_what_would_be_read_otherwise(tmp_path: Path) -> None:
    for text in NOT_TEXT:
        assert not isinstance(load_config_file(written(tmp_path / "c.yaml", f"a: {text}\n"))["a"], str)
    for text in ("yes", "no", "On", "1:30", "2024-01-01"):  # text here, and something else to older readers
        assert format_yaml({"a": text}, {}) == f'a: "{text}"  # default\n'
    assert format_yaml({"a": 1e-05}, {}) == "a: 1.0e-05  # default\n"
