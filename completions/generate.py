"""Write the completion scripts for bash, zsh and fish; with --check, only see that they are current."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FILES = {"bash": "sadcl.bash", "zsh": "_sadcl", "fish": "sadcl.fish"}
PROGRAM = [sys.executable, "-c", "from sadcl_cli.app import main; main()"]


def scripts() -> dict[Path, str]:
    """The path and text of each script, as the program itself prints them."""
    folder = Path(__file__).parent
    texts = {}
    for shell, name in FILES.items():
        environment = {**os.environ, "_SADCL_COMPLETE": f"source_{shell}"}
        ran = subprocess.run(PROGRAM, env=environment, cwd=folder.parent, capture_output=True, text=True, check=True)
        texts[folder / name] = ran.stdout.strip() + "\n"
    return texts


def main(arguments: list[str]) -> int:
    """Return 1 when `--check` finds a script that is not current."""
    texts = scripts()
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if "--check" in arguments:
            sys.stderr.write(f"{path} is not current: run make completions\n")
        else:
            path.write_text(texts[path], encoding="utf-8")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
