"""The keys of a configuration and what each takes, read from its JSON Schema; the words in which mistakes are told."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

Schema = dict[str, Any]

LONGEST = 60  # letters of a wrong value that are shown


def inlined(schema: Mapping[str, Any]) -> Schema:
    """A schema without references: each definition stands where it is used."""
    definitions = schema.get("$defs", {})

    def place(node: Any) -> Any:
        if isinstance(node, list):
            return [place(item) for item in node]
        if not isinstance(node, Mapping):
            return node
        if "$ref" in node:
            node = {**definitions[node["$ref"].rpartition("/")[2]], **{key: node[key] for key in node if key != "$ref"}}
        return {key: place(value) for key, value in node.items()}

    return {key: place(value) for key, value in schema.items() if key != "$defs"}


def table_of(names: Iterable[str], node: Mapping[str, Any], **words: str) -> Schema:
    """The schema of a table that has these keys, each of one kind, and no other."""
    properties = {name: copy.deepcopy(dict(node)) for name in names}
    return {"type": "object", **words, "properties": properties, "additionalProperties": False}


def inside(schema: Mapping[str, Any], key: str) -> Schema | None:
    """What the key of a table takes; None when the table has no such key."""
    others = schema.get("additionalProperties")
    found: Schema | None = schema.get("properties", {}).get(key, {} if others is True else others or None)
    return found


def keys(schema: Mapping[str, Any], prefix: str = "") -> dict[str, Schema]:
    """Every dotted key, tables before what is in them."""
    found: dict[str, Schema] = {}
    for name, node in schema.get("properties", {}).items():
        found[f"{prefix}{name}"] = node
        found.update(keys(node, f"{prefix}{name}."))
    return found


def nearest(key: str, known: Mapping[str, Schema]) -> str:
    """One sentence that names the keys which were probably meant, or what there is to choose from."""
    found = _meant(key.replace("-", "_"), known)[:2]
    if found:
        return f"Did you mean {' or '.join(map(repr, found))}?"
    parent = key.rpartition(".")[0]
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    choices = [name for there in known for before, _, name in [there.rpartition(".")] if before == parent]
    return f"Choose from: {', '.join(choices)}." if choices else f"{parent} has no settings."


def _meant(key: str, known: Mapping[str, Schema]) -> list[str]:
    """The keys most like one that is not there: a slip beside it first, then one of another table, then by what it is for."""
    parent, _, name = key.rpartition(".")
    full = {there: there for there in known}
    leaves = {there: there.rpartition(".")[2] for there in known}
    beside = {there: leaf for there, leaf in leaves.items() if there.rpartition(".")[0] == parent}
    return (
        _near(name, beside, at_least=0.6)
        or _near(key, full, at_least=0.85)
        or [there for there, leaf in leaves.items() if leaf == name]
        or _near(name, leaves, at_least=0.7)
        or _shortest({there: leaf for there, leaf in leaves.items() if leaf.startswith(name)}, name)
        or _described(name, known)
    )


def _described(name: str, known: Mapping[str, Schema]) -> list[str]:
    """The keys whose descriptions say the name, and little else."""
    words = name.replace("_", " ")
    descriptions = {there: str(node.get("description", "")) for there, node in known.items()}
    return _shortest({there: text for there, text in descriptions.items() if words in text}, name)


def _shortest(candidates: Mapping[str, str], name: str) -> list[str]:
    """The candidates with the shortest text; none for a name that is in any."""
    least = min(map(len, candidates.values()), default=0)
    return [there for there, text in candidates.items() if len(text) == least and len(name) > 3]


def _near(name: str, candidates: Mapping[str, str], *, at_least: float) -> list[str]:
    """The candidates that are spelt most like a name; several when they are spelt alike."""
    near = difflib.get_close_matches(name, candidates.values(), n=1, cutoff=at_least)
    return [there for there, spelling in candidates.items() if spelling in near]


def expected(node: Mapping[str, Any]) -> str:
    """What a key takes, in words that go on after Give."""
    if "enum" in node:
        return "one of: " + ", ".join(str(name) or "''" for name in node["enum"])
    if "anyOf" in node:
        return ", or ".join(expected(choice) for choice in node["anyOf"])
    kind = str(node.get("type"))
    if kind in ("integer", "number"):
        return _number(node, whole=kind == "integer")
    named = {"boolean": "true or false", "null": "null", "object": "a table of settings"}
    none = ", or '' for none" if node.get("default") == "" else ""
    return named.get(kind, str(node["description"]) if "pattern" in node else f"text{none}")


def _number(node: Mapping[str, Any], *, whole: bool) -> str:
    kind = "a whole number" if whole else "a number"
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if whole and below is not None:
        high, below = below - 1, None
    if low is not None:
        end = f"from {low:,} to {high:,}" if high is not None else f"from {low:,} to below {below:,}" if below is not None else ""
        return f"{kind} {end}" if end else f"{kind}, {low:,} or more"
    parts = [
        f"{words} {bound:,}" for words, bound in (("above", above), ("at most", high), ("below", below)) if bound is not None
    ]
    return f"{kind} {' and '.join(parts)}".rstrip()


def shown(value: Any) -> str:
    """A value as it is written in a file, not longer than a line."""
    if value is None or isinstance(value, bool):
        return str({None: "null", True: "true", False: "false"}[value])
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
