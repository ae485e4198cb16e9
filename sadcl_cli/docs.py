"""sadcl docs: the documentation of this version, wherever it was installed."""

from __future__ import annotations

from typing import Annotated

import typer

from sadcl_cli.console import show, write
from sadcl_cli.options import takes_verbosity
from sadcl_core.errors import MachineError, UsageError
from sadcl_core.registry import suggest
from sadcl_core.runtime.documentation import find_pages


def complete_page(incomplete: str) -> list[str]:
    """Names of pages that start so."""
    return [name for name in find_pages() if name.startswith(incomplete)]


@takes_verbosity
def docs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Page to show, such as formats; all names unless given.", autocompletion=complete_page
        ),
    ] = None,
    path: Annotated[bool, typer.Option("--path", help="Where its file lies, not its text.")] = False,
) -> None:
    """Show a page of the documentation: docs/NAME.md of this version."""
    pages = find_pages()
    if not pages:
        raise MachineError("The documentation was not installed with this package. Install it from a wheel: pip install sadcl")
    if name is None:
        for page, file in pages.items():
            show(str(file) if path else page)
        return
    key = name.removeprefix("docs/").removesuffix(".md")
    if key not in pages:
        raise UsageError(f"There is no page {name!r}. {suggest(key, pages)}")
    if path:
        show(str(pages[key]))
    else:
        write(pages[key].read_text(encoding="utf-8"))
