"""The pages of documentation, in a clone and where a wheel was installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

INSTALLED = "share/doc/sadcl/"  # in the environment, as pyproject.toml has it
CLONE = Path(__file__).parents[2]


def find_pages() -> dict[str, Path]:
    """Return the file of each page by its name: README, formats, results/serve ...; none where they were not installed.

    Example:
        >>> find_pages()["formats"].name
        'formats.md'
    """
    if (CLONE / "pyproject.toml").is_file():
        folder = CLONE / "docs"
        return {"README": CLONE / "README.md"} | {
            path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.md"))
        }
    try:
        files = metadata.files("sadcl") or []
    except metadata.PackageNotFoundError:
        return {}
    return {
        file.as_posix().partition(INSTALLED)[2].removesuffix(".md"): Path(str(file.locate())).resolve()
        for file in sorted(files)
        if INSTALLED in file.as_posix() and file.suffix == ".md"
    }
