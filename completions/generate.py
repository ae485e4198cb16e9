"""Write the completion scripts for bash, zsh and fish; with --check, only see that they are current."""

from __future__ import annotations

import sys
from pathlib import Path

from typer.completion import get_completion_script

FILES = {"bash": "sadcl.bash", "zsh": "_sadcl", "fish": "sadcl.fish"}


def scripts() -> dict[Path, str]:
    """The path and text of each script."""
    folder = Path(__file__).parent
    return {
        folder / name: get_completion_script(prog_name="sadcl", complete_var="_SADCL_COMPLETE", shell=shell).strip() + "\n"
        for shell, name in FILES.items()
    }


def main(arguments: list[str]) -> int:
    """Return 1 when `--check` finds a script that is not current."""
    stale = [path for path, text in scripts().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path} is not current: run make completions\n")
        return bool(stale)
    for path in stale:
        path.write_text(scripts()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
