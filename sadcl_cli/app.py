"""The program: every command on one line, and the one place where an error becomes an exit code."""

from __future__ import annotations

import errno
import re
import signal
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from sadcl_cli import (
    cache,
    compare,
    demo,
    docs,
    doctor,
    embed,
    evaluate,
    export,
    extend,
    import_checkpoint,
    predict,
    prepare_data,
    push,
    search,
    serve,
    suggest,
    sweep,
    train,
    visualize,
)
from sadcl_cli.console import end_of_pipe, fail, messages, prepare_streams, silence, verbosity
from sadcl_core import __version__
from sadcl_core.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_TERMINATED, MachineError, SadclError, Terminated, UsageError

NO_MEMORY = re.compile(r"can't allocate memory|[Oo]ut of memory")  # in whatever a library raises


class Commands(TyperGroup):
    """Run a command and turn what it raises into one line on stderr and an exit code."""

    def make_context(self, *words: Any, **options: Any) -> Any:
        """Parse the words; this shows the help of all commands as well."""
        try:
            return super().make_context(*words, **options)
        except OSError as error:
            _end(error)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty arguments: an empty path would be the folder that one stands in."""
        for before, word in zip(["", *args], args, strict=False):
            if not word or re.fullmatch(r"--[\w-]+=", word):
                ctx.fail(f"{(word or before).rstrip('=') or 'An argument'} is empty. Give a value, or leave it out.")
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """See the class."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # what is left of the results
            return result
        except SadclError as error:
            _show_traceback()
            fail(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as error:
            _show_traceback()
            ended = isinstance(error, Terminated)
            notes = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
            fail(f"{'ended by SIGTERM' if ended else 'interrupted'}.{notes}")
            raise typer.Exit(EXIT_TERMINATED if ended else EXIT_INTERRUPTED) from None
        except (OSError, MemoryError) as error:
            _end(error)
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "show"):  # the parser's own, which it shows itself
                raise
            if NO_MEMORY.search(str(error)):
                _end(MemoryError())
            if isinstance(error, RuntimeError) and "Symlink loop" in str(error):  # as pathlib says it
                _end(OSError(errno.ELOOP, str(error)))
            _show_traceback()
            fail(f"{type(error).__name__}: {error}. This was not expected; --debug shows where it happened.")
            raise typer.Exit(EXIT_INTERNAL) from None


def _end(error: OSError | MemoryError) -> NoReturn:
    """End with a sentence about a path, a stream or a machine that does not do what it should."""
    if isinstance(error, BrokenPipeError):
        end_of_pipe()
    _show_traceback()
    silence()
    if isinstance(error, MemoryError):
        fail("there is not enough memory for this. Give less at a time, or use a larger machine.")
        raise SystemExit(MachineError.exit_code)
    what = str(error.filename)[:200] if error.filename else "the output"
    fail(f"{what} cannot be read or written ({error.strerror or error}). Check the path, the disk and where the output goes.")
    usage = error.errno in (errno.ENAMETOOLONG, errno.ELOOP)
    raise SystemExit(UsageError.exit_code if usage else MachineError.exit_code)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    raise Terminated


def _show_traceback() -> None:
    if verbosity.debug:
        messages().print(traceback.format_exc())


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"sadcl {__version__}")
        raise typer.Exit


def top(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=_show_version, is_eager=True),
) -> None:
    """Multi-label image classification with label-level features and contrastive learning.

    Start with: sadcl train digits, then sadcl eval, sadcl predict IMAGE, sadcl visualize prototypes.
    """


app = typer.Typer(
    cls=Commands,
    callback=top,
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": lambda token: token.replace("_", "-")},
)
app.command("prepare-data")(prepare_data.prepare_data)
app.command("train", cls=train.TrainCommand)(train.train)
app.command("compare")(compare.compare)
app.command("sweep")(sweep.sweep)
app.command("eval", cls=evaluate.EvaluateCommand)(evaluate.evaluate_command)
app.command("predict", cls=predict.PredictCommand)(predict.predict)
app.command("embed")(embed.embed)
app.command("export")(export.export_command)
app.command("extend")(extend.extend_command)
app.command("import")(import_checkpoint.import_command)
app.command("push")(push.push_command)
app.command("search")(search.search)
app.command("suggest")(suggest.suggest_command)
app.command("docs")(docs.docs)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve_command)
app.add_typer(visualize.app, name="visualize")
app.command("doctor")(doctor.doctor)
app.command("cache", cls=cache.CacheCommand)(cache.cache)
for alias in ("val", "validate", "test"):
    app.command(alias, cls=evaluate.EvaluateCommand, hidden=True)(evaluate.evaluate_command)
app.command("infer", cls=predict.PredictCommand, hidden=True)(predict.predict)


def main() -> None:
    """Entry point of the `sadcl` program."""
    prepare_streams()
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)  # nothing half written stays behind
    app(prog_name="sadcl")
