"""Every setting with what it takes, the options of heads among them: for editors, the documentation and an early check.

`sadcl_core.config.schema` does not know the heads and augmentations; they are added here. Importing this module is cheap; torch
is imported only where the options of heads are looked up.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sadcl_core.config.keys import Schema, inlined, keys, shown
from sadcl_core.config.layers import told, wrong_values
from sadcl_core.config.methods import METHODS
from sadcl_core.config.presets import PRESETS
from sadcl_core.config.schema import Layer, RunConfig, Section, examine, flatten, known_settings
from sadcl_core.errors import UsageError
from sadcl_core.registry import AUGMENTATIONS, HEADS, resolve, suggest

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> Schema:
    """The JSON Schema of a file of settings: every key with its kind, bounds, names to choose from, default and meaning."""
    schema = all_settings()
    to_editors = {"$schema": {"type": "string", "description": "where editors find this schema"}}
    return {"$schema": DRAFT, **schema, "title": "Settings of sadcl train", "properties": {**to_editors, **schema["properties"]}}


def all_settings() -> Schema:
    """What RunConfig takes, the options of each head and the names of the augmentations among it."""
    schema = _with_names(known_settings())
    settings = keys(schema)
    heads = {name: inlined(options.model_json_schema()) for name, options in _head_options().items()}
    settings["model.heads"].update(properties=heads, additionalProperties=False)
    return schema


def check_settings(layers: Sequence[tuple[str, Layer]]) -> None:
    """Refuse wrong keys and values of the user before any long work; torch is imported only where it must be asked.

    Args:
        layers: (where it comes from, nested values), weakest first.

    Raises:
        UsageError: a setting does not exist or a value is out of bounds; the first is named, and how many more there are.
    """
    named = [key for _, layer in layers for key in flatten(layer)]
    ask_torch = any(key.startswith("model.heads.") for key in named)
    schema = all_settings() if ask_torch else _with_names(known_settings())
    config, sources, mistakes = examine(layers, schema)
    if config is not None:
        mistakes = _wrong_names(config, sources, schema)
        mistakes += _wrong_options(config.model.heads, sources, keys(schema)) if ask_torch else []
    if mistakes:
        raise UsageError(told(mistakes))


def _with_names(schema: Schema) -> Schema:
    """A copy with the default of every setting, and the names that need no torch."""
    schema = copy.deepcopy(schema)
    settings = keys(schema)
    for key, value in flatten(RunConfig().model_dump()).items():
        if settings[key].get("type") != "object":
            settings[key]["default"] = value
    for node in settings.values():
        if node.get("type") == "object":  # what is in it has its own
            node.pop("default", None)
    settings["preset"]["enum"] = ["", *PRESETS]
    settings["method"]["enum"] = list(METHODS)
    settings["model.head"]["enum"] = list(HEADS)
    for key, node in settings.items():
        if key.endswith(".augment"):
            node["enum"] = list(AUGMENTATIONS)
    return schema


def _head_options() -> dict[str, type[Section]]:
    return {name: resolve(HEADS, name, kind="head").Options for name in HEADS}


def _wrong_names(config: RunConfig, sources: Mapping[str, str], schema: Schema) -> list[str]:
    """A sentence for each name that is none of those to choose from."""
    settings, mistakes = keys(schema), []
    for key, value in flatten(config.model_dump()).items():
        names = settings.get(key, {}).get("enum")
        if names and value not in names:
            mistakes.append(f"{key}={shown(value)} (from {sources[key]}) is not valid. {suggest(str(value), names)}")
    return mistakes


def _wrong_options(heads: Mapping[str, Mapping[str, Any]], sources: Mapping[str, str], known: Mapping[str, Schema]) -> list[str]:
    """A sentence for each option of a head that is wrong by itself; how they go together is known when the preset is."""
    mistakes = []
    for head, options in _head_options().items():
        try:
            options.model_validate(heads.get(head, {}))
        except ValidationError as error:
            wrong = wrong_values(error, sources, known, above=("model", "heads", head))
            mistakes += [sentence for key, sentence in wrong.items() if key != f"model.heads.{head}"]
    return mistakes
