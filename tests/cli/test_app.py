from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from completions import generate
from sadcl_cli import console
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", "b", "c"), "no more than two"),
        (("--calibrate", "precision"), "quote it"),
        (("--calibrate", "f1", "--report"), "--report does not go with"),
        (("--save-scores", "x.foo"), "x.foo"),
    ],
)
def test_options_of_eval_that_do_not_go_together_do_not_wait_for_torch(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*PROGRAM, "eval", *arguments]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert words in ran.stderr
    imported = {line.split("|")[-1].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "sadcl_cli.app" in imported
    assert "torch" not in imported


def test_every_command_has_help(sadcl: Sadcl) -> None:
    for command in ("prepare-data", "train", "compare", "eval", "predict", "embed", "visualize", "doctor"):
        assert command in sadcl("--help").stdout
        assert "--help" in sadcl(command, "--help").stdout
    assert "infer" not in sadcl("--help").stdout


def test_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in (
        "prepare-data",
        "train",
        "compare",
        "eval",
        "predict",
        "embed",
        "visualize prototypes",
        "doctor",
        "make demo",
        "make test",
    ):
        assert command in readme


def test_completions_are_current() -> None:
    assert generate.main(["--check"]) == 0


def test_an_unexpected_error_is_one_line_and_debug_shows_where(sadcl: Sadcl, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the roof is leaking")

    monkeypatch.setattr("sadcl_core.inference.load.load", fail)
    ran = sadcl("embed")
    assert ran.exit_code == 1
    assert "the roof is leaking" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Traceback" in sadcl("embed", "--debug").stderr


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


def start_of(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return time.perf_counter() - begin


def test_help_is_far_quicker_than_loading_torch(tmp_path: Path) -> None:
    helps = min(
        start_of([sys.executable, "-c", "import sys; sys.argv=['sadcl','--help']; from sadcl_cli.app import main; main()"])
        for _ in range(3)
    )
    torch = min(start_of([sys.executable, "-c", "import torch"]) for _ in range(2))
    assert helps < torch / 2
