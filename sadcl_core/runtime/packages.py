"""Packages that are needed for some things alone."""

from __future__ import annotations

from importlib.util import find_spec


def is_installed(package: str) -> bool:
    """Return whether a package is installed; a folder of its name in the working directory is not one.

    Example:
        >>> is_installed("numpy"), is_installed("no_such_package")
        (True, False)
    """
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
