"""Multi-label image classification: SADCL, its family and rivals, as a library under the `sadcl` command.

    import sadcl_core as sadcl

    model = sadcl.load("runs/coco")
    model.predict("img.jpg").labels

Every command of the program is one of these functions. Importing this package imports no torch; a function imports what it needs
when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# name -> the module that has it
_PUBLIC: dict[str, str] = {}

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
