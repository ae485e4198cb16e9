"""Layers of settings laid over the defaults, the source of each value, and a sentence for each that does not fit."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sadcl_core.config.keys import Schema, expected, inside, keys, nearest, shown
from sadcl_core.registry import suggest

Layer = Mapping[str, Any]

LONGEST_KEY = 100  # letters


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
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


class Stack:
    """Layers laid over the defaults, the weakest first; what does not fit is left out, and told."""

    def __init__(self, schema: Schema, defaults: dict[str, Any]) -> None:
        """`defaults` is changed: it becomes the merged values."""
        self.schema = schema
        self.known = keys(schema)
        self.values = defaults
        self.sources = dict.fromkeys(flatten(self.values), "default")
        self.mistakes: list[str] = []

    def lay(self, source: str, layer: Layer) -> None:
        """Put a layer on top."""
        self._merge(self.values, layer, self.schema, source=source)

    def _merge(self, into: dict[str, Any], layer: Layer, schema: Schema, *, source: str, path: str = "") -> None:
        for key, value in layer.items():
            dotted = f"{path}{key}"
            node = inside(schema, key)
            if node is None:
                self.mistakes.append(self._no_such(dotted, value, source))
            elif node.get("type") == "object":
                self._table(into, key, value, node, source=source, dotted=dotted)
            elif isinstance(value, Mapping) and node:
                self.mistakes.append(f"{dotted} (from {source}) is one value and no table. Give {expected(node)}.")
            else:
                into[key] = copy.deepcopy(value)
                self.sources[dotted] = source

    def _table(self, into: dict[str, Any], key: str, value: Any, node: Schema, *, source: str, dotted: str) -> None:
        if isinstance(value, Mapping):
            self._merge(into.setdefault(key, {}), value, node, source=source, path=f"{dotted}.")
        elif value is not None:
            inner = next((there for there in self.known if there.startswith(f"{dotted}.")), f"{dotted}.NAME")
            self.mistakes.append(
                f"{dotted}={shown(value)} (from {source}) is no table of settings. Set one that is in it, such as {inner}."
            )

    def _no_such(self, dotted: str, value: Any, source: str) -> str:
        inner = list(flatten({dotted: value}))
        dotted = (inner[0] if len(inner) == 1 else dotted)[:LONGEST_KEY]
        advice = "" if self.mistakes else f" {nearest(dotted, self.known)}"  # only the first is shown
        return f"There is no setting {dotted} (from {source}).{advice}"


def wrong_values(
    error: ValidationError, sources: Mapping[str, str], known: Mapping[str, Schema], *, above: tuple[str, ...] = ()
) -> dict[str, str]:
    """Of each key whose value pydantic refused, a sentence; `above` is where the values stand."""
    sentences: dict[str, str] = {}
    for detail in error.errors():
        parts = [*above, *map(str, detail["loc"])]
        while len(parts) > len(above) and ".".join(parts) not in known:  # a choice of several kinds
            parts.pop()
        dotted = ".".join(parts)
        sentences.setdefault(dotted, _wrong_value(dotted, detail, sources.get(dotted), known.get(dotted, {})))
    return sentences


def _wrong_value(dotted: str, detail: ErrorDetails, source: str | None, node: Schema) -> str:
    value, origin = detail["input"], f" (from {source})" if source else ""
    if detail["type"] in ("value_error", "assertion_error"):  # a rule of ours, in its own words
        return f"{dotted}{origin} is not valid: {detail['msg'].partition(', ')[2]}."
    if value is None or value == "":
        return f"{dotted} is empty{origin}. Give {expected(node)}."
    if "enum" in node and isinstance(value, str):
        return f"{dotted}={shown(value)}{origin} is not valid. {suggest(value, node['enum'])}"
    if detail["type"] == "string_unicode":
        return f"{dotted}={shown(value)}{origin} has bytes in it that are no UTF-8. Use another name."
    quote = "; quote it" if node.get("type") == "string" and not isinstance(value, str | Mapping | list) else ""
    return f"{dotted}={shown(value)}{origin} is not valid. Give {expected(node)}{quote}."


def told(mistakes: Sequence[str]) -> str:
    """The first mistake, and how many more there are."""
    more = len(mistakes) - 1
    return mistakes[0] + (f" {more} more {'setting is' if more == 1 else 'settings are'} wrong, too." if more else "")
