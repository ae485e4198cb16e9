"""The JSON Schema of all settings, the options of heads among them: for editors, the documentation and an early check.

`sadcl_core.config.schema` does not know the names of methods, presets, heads and augmentations; they are added here. Importing
this module imports no torch; only looking up the options of heads does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from sadcl_core.config.layers import (
    Layer,
    Schema,
    flatten,
    inline,
    merge_layers,
    settings_of,
    settings_schema,
    show,
    summarize,
    wrong_values,
)
from sadcl_core.config.methods import METHODS, method_names
from sadcl_core.config.presets import PRESETS
from sadcl_core.config.schema import RunConfig, Section
from sadcl_core.errors import UsageError
from sadcl_core.registry import AUGMENTATIONS, HEADS, resolve, suggest

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> Schema:
    """Return the JSON Schema of a file of settings: every key with its type, bounds, names, default and meaning."""
    schema = all_settings()
    settings_of(schema)["method"]["enum"] = list(method_names())
    to_editors = {"$schema": {"type": "string", "description": "where editors find this schema"}}
    return {"$schema": DRAFT, **schema, "title": "Settings of sadcl train", "properties": {**to_editors, **schema["properties"]}}


def all_settings() -> Schema:
    """Return the schema of RunConfig with the options of each head, the names to choose from and the defaults."""
    schema = _with_names(settings_schema())
    heads = {name: inline(options.model_json_schema()) for name, options in _head_options().items()}
    settings_of(schema)["model.heads"].update(properties=heads, additionalProperties=False)
    return schema


def check_settings(layers: Sequence[tuple[str, Layer]]) -> None:
    """Refuse wrong keys and values of the user before any long work.

    The options of heads are looked up, which imports torch, only when a layer names one and all else is right.

    Raises:
        UsageError: a setting does not exist or a value is out of bounds; names the first mistake and the number of the others.

    Example:
        >>> check_settings([("--set", {"optim": {"patience": 3}})])
    """
    mistakes = _mistakes(layers, _with_names(settings_schema()))
    if not mistakes and any(key.startswith("model.heads.") for _, layer in layers for key in flatten(layer)):
        mistakes = _mistakes(layers, all_settings(), heads=_head_options())
    if mistakes:
        raise UsageError(summarize(mistakes))


def _mistakes(layers: Sequence[tuple[str, Layer]], schema: Schema, heads: dict[str, type[Section]] | None = None) -> list[str]:
    """Return a sentence for each wrong key, value, name and, of the heads given, option.

    An option is checked by itself: how the options of a head go together is known when the preset is.
    """
    config, sources, mistakes = merge_layers(layers, schema)
    if config is None:
        return mistakes
    settings = settings_of(schema)
    named: dict[str, str] = {}
    for key, value in flatten(config.model_dump()).items():
        names = settings.get(key, {}).get("enum")
        if key == "method" and isinstance(value, str):
            value, *_ = value.split("+")  # contrast may stand behind it
        if names and value not in names:
            named[key] = f"{key}={show(value)} (from {sources[key]}) is not valid. {suggest(str(value), names)}"
    for head, options in (heads or {}).items():
        try:
            options.model_validate(config.model.heads.get(head, {}))
        except ValidationError as error:
            wrong = wrong_values(error, sources, settings, above=("model", "heads", head))
            named = {key: sentence for key, sentence in wrong.items() if key != f"model.heads.{head}"} | named
    return [*mistakes, *named.values()]


def _with_names(schema: Schema) -> Schema:
    """Return a copy with the default of every setting, and the names to choose from that need no torch."""
    schema = copy.deepcopy(schema)
    settings = settings_of(schema)
    defaults = flatten(RunConfig().model_dump())
    names = {"preset": ["", *PRESETS], "method": list(METHODS), "model.head": list(HEADS), "augment": list(AUGMENTATIONS)}
    for key, node in settings.items():
        if node.get("type") == "object":  # what is in it has its own default
            node.pop("default", None)
        elif key in defaults:
            node["default"] = defaults[key]
        if (choices := names.get(key) or names.get(key.rpartition(".")[2] if key.startswith("stages.") else "")) is not None:
            node["enum"] = choices
    return schema


def _head_options() -> dict[str, Any]:
    return {name: resolve(HEADS, name, kind="head").Options for name in HEADS}
