"""Resolve a row of a registry: `"package.module:name"` is imported only when the row is used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from sadcl_core.errors import UsageError


def resolve(registry: Mapping[str, str], name: str, *, kind: str) -> Any:
    """Return the object that `registry[name]` points to.

    Raises:
        UsageError: there is no such row; the message lists what there is.
    """
    if name not in registry:
        raise UsageError(f"There is no {kind} called {name!r}. {suggest(name, registry)}")
    module, _, attribute = registry[name].partition(":")
    return getattr(import_module(module), attribute)


def suggest(name: str, known: Iterable[str]) -> str:
    """One sentence that names the nearest of `known`, or all of them when none is near."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Choose from: {', '.join(names)}."
