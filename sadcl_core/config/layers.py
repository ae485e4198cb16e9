"""Layers of settings: merged over the defaults, with the source of each value and a sentence for each mistake.

Of the layers that name a setting the last one counts: defaults < method < preset < file < `--set` < flag. Keys, types and bounds
are read from the JSON Schema of `RunConfig`, so a mistake is answered with what there is.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sadcl_core.config.schema import LARGE, LOSSES, RunConfig
from sadcl_core.config.yaml import UnreadableError, parse_yaml, read_table
from sadcl_core.errors import UsageError
from sadcl_core.registry import suggest

Layer = Mapping[str, Any]
Schema = dict[str, Any]

MAX_PARTS = 16  # of a dotted key; no setting has as many
MAX_LETTERS = 100  # of a wrong key or value that are shown


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as dotted keys.

    Example:
        >>> flatten({"data": {"img_size": 64}, "seed": 1})
        {'data.img_size': 64, 'seed': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested tables.

    Example:
        >>> nest({"data.img_size": 64, "seed": 1})
        {'data': {'img_size': 64}, 'seed': 1}
    """
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        table = nested
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = value
    return nested


def resolve_config(layers: Iterable[tuple[str, Layer]]) -> tuple[RunConfig, dict[str, str]]:
    """Merge layers over the defaults.

    Args:
        layers: (source, nested values), weakest first. An empty value in the place of a table sets nothing.

    Returns:
        The configuration, and for every dotted key the source of its value.

    Raises:
        UsageError: a key does not exist or a value is out of bounds; names the first mistake and the number of the others.

    Example:
        >>> config, sources = resolve_config([("file", {"seed": 3, "data": {"img_size": 64}}), ("flag", {"seed": 4})])
        >>> config.seed, sources["seed"], sources["data.img_size"], sources["optim.patience"]
        (4, 'flag', 'file', 'default')
    """
    config, sources, mistakes = merge_layers(layers, settings_schema())
    if config is None:
        raise UsageError(summarize(mistakes))
    return config, sources


def merge_layers(layers: Iterable[tuple[str, Layer]], schema: Schema) -> tuple[RunConfig | None, dict[str, str], list[str]]:
    """Merge layers over the defaults, with the keys of a schema.

    Returns:
        The configuration, or None after a mistake; the source of every dotted key; a sentence for each mistake.
    """
    known = settings_of(schema)
    values = RunConfig().model_dump()
    sources: dict[str, str] = {}
    mistakes: list[str] = []

    def merge(table: dict[str, Any], layer: Layer, node: Schema, source: str, path: str = "") -> None:
        for key, value in layer.items():
            dotted = f"{path}{key}"
            child = node.get("properties", {}).get(key, node.get("additionalProperties"))
            if child in (None, False):
                mistakes.append(_unknown_key(dotted, value, source, {} if mistakes else known))
            elif child is not True and child.get("type") == "object":
                if isinstance(value, Mapping):
                    merge(table.setdefault(key, {}), value, child, source, f"{dotted}.")
                elif value is not None:
                    inner = next((other for other in known if other.startswith(f"{dotted}.")), f"{dotted}.NAME")
                    sentence = f"{dotted}={show(value)} (from {source}) is no table of settings. Set one that is in it, such as"
                    mistakes.append(f"{sentence} {inner}.")
            elif child is not True and isinstance(value, Mapping):
                mistakes.append(f"{dotted} (from {source}) is one value and no table. Give {describe(child)}.")
            else:
                table[key] = copy.deepcopy(value)
                sources[dotted] = source

    for source, layer in layers:
        merge(values, layer, schema, source)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        return None, sources, [*mistakes, *wrong_values(error, sources, known).values()]
    sources = {key: sources.get(key, "default") for key in flatten(config.model_dump())}
    return None if mistakes else config, sources, mistakes


def parse_assignment(text: str, source: str = "--set") -> Layer:
    """Return `stages.contrastive.epochs=5` as nested values; the right side is read as YAML.

    Where a setting takes text the letters are read as they stand: a split may be called 2007, a path may begin with a bracket.

    Raises:
        UsageError: there is no `=`, or the right side cannot be read.

    Example:
        >>> parse_assignment("stages.contrastive.lr=1e-3")
        {'stages': {'contrastive': {'lr': 0.001}}}
    """
    key, equals, value = text.partition("=")
    parts = [part.strip().replace("-", "_") for part in key.split(".")]
    known = settings_of(settings_schema())
    if not equals or not all(parts) or len(parts) > MAX_PARTS:
        raise UsageError(f"{source} {show(text)} is not of the form key=value. Write for example --set optim.ema_decay=0.99.")
    key, value = ".".join(parts), value.strip()
    node = known.get(key, {})
    kinds = [node.get("type"), *(choice.get("type") for choice in node.get("anyOf", ()))]
    quoted = value[:1] in ("'", '"')
    try:
        parsed = parse_yaml(value) if value else ""
    except UnreadableError as error:
        if "string" not in kinds or quoted:
            raise UsageError(f"{source} {show(text)}: the value cannot be read, {error}. Quote it.") from None
        parsed = value
    if "string" in kinds and not (parsed is None or quoted or ("boolean" in kinds and parsed in (0, 1))):
        parsed = value
    return nest({key: parsed})


def load_config_file(path: Path) -> Layer:
    """Read a YAML or JSON file of nested values, such as the config.yaml of a run; `$schema` in it is for editors and left out.

    Raises:
        UsageError: the file is missing, broken or holds no table.
    """
    return {key: value for key, value in read_table(path).items() if key != "$schema"}


@cache
def settings_schema() -> Schema:
    """Return the JSON Schema of RunConfig without references, with the names of the stages and losses.

    The options of heads are open here; `sadcl_core.config.json_schema` adds the names of higher floors.
    """
    schema = inline(RunConfig.model_json_schema())
    stages = schema["properties"]["stages"]
    losses = stages["additionalProperties"]["properties"]["losses"]
    losses["additionalProperties"]["description"] = "weight of this term; 0: unused"
    for table, names in ((losses, LOSSES), (stages, RunConfig().stages)):
        node = table.pop("additionalProperties")
        table.pop("default", None)
        table.update(properties={name: copy.deepcopy(node) for name in names}, additionalProperties=False)
    return schema


def settings_of(schema: Mapping[str, Any], prefix: str = "") -> dict[str, Schema]:
    """Return every dotted key with its part of the schema, tables before what is in them."""
    settings: dict[str, Schema] = {}
    for name, node in schema.get("properties", {}).items():
        settings[f"{prefix}{name}"] = node
        settings.update(settings_of(node, f"{prefix}{name}."))
    return settings


def inline(schema: Mapping[str, Any]) -> Schema:
    """Return a JSON Schema with each definition in the places where it is used."""
    definitions = schema.get("$defs", {})

    def replace(node: Any) -> Any:
        if isinstance(node, list):
            return [replace(item) for item in node]
        if not isinstance(node, Mapping):
            return node
        if "$ref" in node:
            node = {**definitions[node["$ref"].rpartition("/")[2]], **{key: node[key] for key in node if key != "$ref"}}
        return {key: replace(value) for key, value in node.items()}

    return {key: replace(value) for key, value in schema.items() if key != "$defs"}


def wrong_values(
    error: ValidationError, sources: Mapping[str, str], known: Mapping[str, Schema], *, above: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return a sentence for each key whose value pydantic refused; `above` are the parts of the key above the model."""
    sentences: dict[str, str] = {}
    for detail in error.errors():
        parts = [*above, *map(str, detail["loc"])]
        while len(parts) > len(above) and ".".join(parts) not in known:  # a choice of several types
            parts.pop()
        key = ".".join(parts)
        sentences.setdefault(key, _wrong_value(key, detail, sources.get(key), known.get(key, {})))
    return sentences


def summarize(mistakes: Sequence[str]) -> str:
    """Return the first mistake and the number of the others."""
    more = len(mistakes) - 1
    return mistakes[0] + (f" {more} more {'setting is' if more == 1 else 'settings are'} wrong, too." if more else "")


def describe(node: Mapping[str, Any]) -> str:
    """Return what a setting takes, in words that follow Give.

    Example:
        >>> describe({"type": "integer", "minimum": 1}), describe({"anyOf": [{"type": "boolean"}, {"type": "string"}]})
        ('a whole number, 1 or more', 'true or false, or text')
    """
    if "enum" in node:
        return "one of: " + ", ".join(str(name) or "''" for name in node["enum"])
    if "anyOf" in node:
        return ", or ".join(describe(choice) for choice in node["anyOf"])
    kind = str(node.get("type"))
    if kind in ("integer", "number"):
        return _describe_number(node, whole=kind == "integer")
    if kind == "array":
        return f"a list, each of it {describe(node['items'])}"
    words = {"boolean": "true or false", "null": "null", "object": "a table of settings"}
    none = ", or '' for none" if node.get("default") == "" else ""
    return words.get(kind, str(node["description"]) if "pattern" in node else f"text{none}")


def show(value: Any) -> str:
    """Return a value as it is written in a file, cut to a line."""
    if value is None or isinstance(value, bool):
        return str({None: "null", True: "true", False: "false"}[value])
    text = repr(value)
    return text if len(text) <= MAX_LETTERS else f"{text[:MAX_LETTERS]}..."


def _describe_number(node: Mapping[str, Any], *, whole: bool) -> str:
    kind = "a whole number" if whole else "a number"
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if high is not None and high >= LARGE:  # beyond what anybody wants: said where it is exceeded
        high = None
    if whole and below is not None:
        high, below = below - 1, None
    if low is not None:
        end = f"to {high:,}" if high is not None else f"to below {below:,}" if below is not None else ""
        return f"{kind} from {low:,} {end}" if end else f"{kind}, {low:,} or more"
    bounds = (("above", above), ("at most", high), ("below", below))
    return f"{kind} {' and '.join(f'{words} {bound:,}' for words, bound in bounds if bound is not None)}".rstrip()


def _wrong_value(key: str, detail: ErrorDetails, source: str | None, node: Schema) -> str:
    value, origin = detail["input"], f" (from {source})" if source else ""
    if detail["type"] in ("value_error", "assertion_error"):  # raised by a validator of the model, in its own words
        return f"{key}{origin} is not valid: {detail['msg'].partition(', ')[2]}."
    if value is None or value == "":
        return f"{key} is empty{origin}. Give {describe(node)}."
    if "enum" in node and isinstance(value, str):
        return f"{key}={show(value)}{origin} is not valid. {suggest(value, node['enum'])}"
    quote = "; quote it" if node.get("type") == "string" and not isinstance(value, str | Mapping | list) else ""
    most = f", {node['maximum']:,g} at most" if detail["type"] == "less_than_equal" and node.get("maximum", 0) >= LARGE else ""
    return f"{key}={show(value)}{origin} is not valid. Give {describe(node)}{most}{quote}."


def _unknown_key(key: str, value: Any, source: str, known: Mapping[str, Schema]) -> str:
    """Return a sentence for a key that does not exist; if known keys are given with those spelt alike, or of the same table."""
    inner = list(flatten({key: value}))
    key = (inner[0] if len(inner) == 1 else key)[:MAX_LETTERS]
    sentence = f"There is no setting {key} (from {source})."
    if not known:
        return sentence
    parent, _, name = key.replace("-", "_").rpartition(".")
    leaves = {other: other.rpartition(".")[2] for other in known}
    near = difflib.get_close_matches(name, leaves.values(), n=1)
    alike = [other for other, leaf in leaves.items() if leaf in near]
    matches = difflib.get_close_matches(key, alike, n=1, cutoff=0.9) or alike[:2]
    if matches:
        return f"{sentence} Did you mean {' or '.join(map(repr, matches))}?"
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    choices = [leaf for other, leaf in leaves.items() if other.rpartition(".")[0] == parent]
    return f"{sentence} " + (f"Choose from: {', '.join(choices)}." if choices else f"{parent} has no settings.")
