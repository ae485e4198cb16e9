from __future__ import annotations

import inspect

import pytest
import typer
from typer.testing import CliRunner

from sadcl_cli.options import takes_flags
from sadcl_core.config.flags import FLAGS, flag_layers
from tests.conftest import Sadcl


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_command_has_an_option_for_every_flag_it_takes(sadcl: Sadcl, command: str) -> None:
    text = " ".join(sadcl(command, "--help").stdout.split())
    for name, flag in FLAGS.items():
        assert (f"--{name.replace('_', '-')} " in text.replace("/", " ")) == (flag.shared or command == "train"), name
        if flag.shared or command == "train":
            assert flag.help.replace(" ", "") in text.replace(" ", ""), name


def test_a_row_of_the_table_is_all_that_a_flag_needs() -> None:
    given: dict[str, object] = {}

    @takes_flags(shared=False)
    def command(name: str, *, last: bool = False, **flags: object) -> None:
        given.update(flags, name=name)

    assert list(inspect.signature(command).parameters) == ["name", *FLAGS, "last"]
    app = typer.Typer()
    app.command()(command)
    ran = CliRunner().invoke(app, ["me", "-b", "8", "--lr", "0.1", "--no-compile", "--set", "seed=1", "--set", "seed=2"])
    assert ran.exit_code == 0, ran.output
    assert given.pop("name") == "me"
    assert set(given) == set(FLAGS)
    *assignments, (_, layer) = flag_layers(**given)
    assert [values for _, values in assignments] == [{"seed": 1}, {"seed": 2}]
    assert layer["data"] == {"batch_size": 8}
    assert layer["compute"] == {"compile": False}
