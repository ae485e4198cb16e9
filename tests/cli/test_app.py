from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from completions import generate
from sadcl_cli import console
from sadcl_cli.app import app
from sadcl_core import __version__
from tests.conftest import Sadcl

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-X", "importtime", "-c", "from sadcl_cli.app import main; main()"]


def completion(line: str) -> dict[str, str]:
    words = line.split(" ")
    return {"_SADCL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}


@pytest.mark.parametrize(
    ("arguments", "extra", "code", "words"),
    [
        (["--help"], {}, 0, "prepare-data"),
        (["--version"], {}, 0, __version__),
        (["train", "--help"], {}, 0, "--batch-size"),
        (["visualize", "--help"], {}, 0, "prototypes"),
        (["train", "digits", "--epohcs", "3"], {}, 2, "--epochs"),
        (["trian"], {}, 2, "train"),
        (["push", "my pets"], {}, 2, "USER/NAME"),
        ([], completion("sadcl vis"), 0, "visualize"),
        ([], completion("sadcl train co"), 0, "coco2017"),
        ([], completion("sadcl train x --met"), 0, "--method"),
    ],
)
def test_answers_without_torch(tmp_path: Path, arguments: list[str], extra: dict[str, str], code: int, words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **extra}
    ran = subprocess.run([*PROGRAM, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    imported = {line.split("|")[-1].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    said = ran.stdout + "\n".join(line for line in ran.stderr.splitlines() if not line.startswith("import time:"))
    assert ran.returncode == code
    assert words in said
    assert "sadcl_cli.app" in imported
    assert not {"torch", "numpy", "pyarrow", "matplotlib", "sklearn"} & imported


COMMANDS = [
    (*before, command.name or str(command.callback.__name__))  # type: ignore[union-attr]
    for before, group in [((), app), *(((group.name,), group.typer_instance) for group in app.registered_groups)]
    for command in group.registered_commands  # type: ignore[union-attr]
    if not command.hidden
]


def test_every_command_is_found() -> None:
    assert {("train",), ("eval",), ("predict",), ("visualize", "prototypes")} <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_stands_in_the_readme(sadcl: Sadcl, words: tuple[str, ...]) -> None:
    assert "--help" in sadcl(*words, "--help").stdout
    assert words[-1] in sadcl(*words[:-1], "--help").stdout
    assert words[-1] in (ROOT / "README.md").read_text(encoding="utf-8")


def test_hidden_aliases_work_and_are_not_shown(sadcl: Sadcl) -> None:
    for alias, command in (("infer", "predict"), ("val", "eval"), ("validate", "eval"), ("test", "eval")):
        assert alias not in sadcl("--help").stdout.split()
        assert sadcl(alias, "--help").stdout.replace(f"sadcl {alias}", f"sadcl {command}") == sadcl(command, "--help").stdout


def test_every_page_is_shown_and_packaged(sadcl: Sadcl) -> None:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    files = {path for globs in packaged.values() for glob in globs for path in ROOT.glob(glob)}
    assert files == {Path(line) for line in sadcl("docs", "--path").stdout.splitlines()}
    assert {"README", "formats", "results/serve"} <= set(sadcl("docs").stdout.split())
    assert sadcl("docs", "docs/formats.md").stdout == (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert "formats" in sadcl("docs", "format", code=2).stderr


def test_completions_are_current() -> None:
    assert generate.main(["--check"]) == 0


def test_an_unexpected_error_is_one_line_and_debug_shows_where(sadcl: Sadcl, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the roof is leaking")

    monkeypatch.setattr("sadcl_core.inference.load.find_card", fail)
    ran = sadcl("embed", code=1)
    assert "the roof is leaking" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Traceback" in sadcl("embed", "--debug", code=1).stderr


def test_no_colour_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for no_colour in (False, True):
        if no_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("FORCE_COLOR", "1")
        console._console.cache_clear()
        console.fail("something")
        assert ("\x1b[1;31m" in capsys.readouterr().err) is not no_colour
    console._console.cache_clear()
