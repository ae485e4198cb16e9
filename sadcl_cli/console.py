"""The two outputs: stdout holds results and nothing else, stderr everything about the work."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from sadcl_core.errors import EXIT_PIPE
from sadcl_core.runtime.files import STEERING, visible
from sadcl_core.runtime.progress import Bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table
    from rich.text import Text

NARROWEST = 40  # columns: tables cannot be read in fewer
MANY = 20  # of what is done; the speed of fewer says nothing
SECONDS = 30.0  # between two lines about one work, off a terminal
UNBOUNDED = 10_000  # columns: what nobody looks at on a terminal is not folded


@dataclass
class Verbosity:
    """Set by -q, -v and --debug of whichever command runs."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = bool(os.environ.get("SADCL_DEBUG"))


verbosity = Verbosity()


@cache
def _console(stderr: bool) -> Console:
    from rich.console import Console

    class Quiet(Console):
        """Ends without a complaint when whoever reads the output has had enough."""

        def render_str(self, text: str, **options: Any) -> Text:
            """Names of files and classes come from strangers: what would steer the terminal is shown, not sent."""
            return super().render_str(visible(text), **options)

        def on_broken_pipe(self) -> None:
            """See the class; `prepare_streams` lets work go on when nobody reads what is said about it."""
            end_of_pipe()

    console = Quiet(stderr=stderr, highlight=False, emoji=False, markup=False, soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    console.width = max(console.width, NARROWEST)
    return console


class _Unheard(io.TextIOWrapper):
    """An stderr without which the work goes on, where it cannot be written."""

    def write(self, text: str, /) -> int:
        """See the class."""
        with suppress(OSError, ValueError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """See the class."""
        with suppress(OSError, ValueError):
            super().flush()


def prepare_streams() -> None:
    """Let names that a stream has no letters for be written all the same, and work go on without an stderr.

    A closed stdout is one that cannot be written to, so that results are never lost in silence.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        encoding = sys.stderr.encoding
        sys.stderr = _Unheard(sys.stderr.detach(), encoding=encoding, errors="backslashreplace", line_buffering=True)


def silence() -> None:
    """Throw away what is still to be written to stdout, which failed, so that the interpreter does not try again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_of_pipe() -> NoReturn:
    """End without a complaint when whoever reads the results has had enough, as programs do that the signal ends."""
    silence()
    raise SystemExit(EXIT_PIPE)


def one_line(text: str) -> str:
    """A name as part of a line that is read by lines."""
    return visible(text.replace("\n", "\\n").replace("\t", "\\t"))


def results() -> Console:
    """For what the user asked for."""
    return _console(stderr=False)


def messages() -> Console:
    """For progress, notes and warnings."""
    return _console(stderr=True)


def say(text: str) -> None:
    """A line about the work, on stderr; nothing with -q."""
    if not verbosity.quiet:
        messages().print(text)


def detail(text: str) -> None:
    """A line for -v only."""
    if verbosity.verbose:
        messages().print(text, style="dim")


def warn(text: str) -> None:
    """Something that wants attention, on stderr, also with -q."""
    messages().print(f"Warning: {text}", style="yellow")


def fail(text: str) -> None:
    """The one line of a command that could not do its work."""
    messages().print(f"Error: {text}", style="bold red")


def show(text: str) -> None:
    """A line of results."""
    results().print(text)


def show_table(table: Table) -> None:
    """A table of results, folded to the terminal; off one as wide as it is."""
    results().print(table, soft_wrap=False)


def fits(table: Table) -> bool:
    """Return True if a table is shown without folding its cells."""
    console = results()
    return console.measure(table, options=console.options.update_width(UNBOUNDED)).maximum <= console.width


def show_json(document: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """One JSON document on stdout, never wrapped or coloured."""
    ascii_only = not str(sys.stdout.encoding).lower().startswith("utf")
    text = json.dumps(document, ensure_ascii=ascii_only, allow_nan=False, indent=indent)
    sys.stdout.write(STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")
    sys.stdout.flush()


def write(text: str) -> None:
    """Text of a format of its own on stdout, as it is but for what would steer a terminal."""
    sys.stdout.write(visible(text))
    sys.stdout.flush()


def new_table(*columns: str, title: str | None = None, wrap: bool = False) -> Table:
    """A plain table: the first column to the left, the others to the right; with `wrap` all are text to the left."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 or wrap else "right", overflow="fold", no_wrap=wrap and number == 0)
    return table


@contextmanager
def counting(what: str, *, bar: bool = True) -> Iterator[Callable[[int, int], None] | None]:
    """Show how many of how many are done: a bar on a terminal, off it a plain line when it is over; without `bar` nothing."""
    if not bar:
        yield None
        return
    with stages() as report:
        yield lambda done, total: report(what, done, total)


@contextmanager
def stages(*, every: float = SECONDS, brief: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """Show one work after the other, how many of how many are done: bars on a terminal.

    Off it a line for each that is over, one when a single step begins, and one `every` so many seconds while it goes on; `brief`
    works, which took less, have none if that is False.
    """
    if verbosity.quiet:
        yield lambda what, done, total: None
    elif messages().is_terminal:
        with _bars() as report:
            yield report
    else:
        with _lines(every, brief) as report:
            yield report


@contextmanager
def _lines(every: float, brief: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A line for each work, when the next one begins or all is over, and while it goes on."""
    start = shown = time.perf_counter()
    current = ("", 0)

    def line(total: int = 0) -> None:
        what, done = current
        if done:
            amount, whole = (f"{n / 2**20:,.1f} MiB" if isinstance(what, Bytes) else f"{n:,}" for n in (done, total))
            seconds = time.perf_counter() - start
            speed = f", {done / max(seconds, 1e-9):,.0f}/s" if done >= MANY and not isinstance(what, Bytes) else ""
            amount += f" of {whole}" if total else ""
            say(f"{what}: {f'{amount} in ' if max(done, total) > 1 else ''}{seconds:.1f} s{speed}")

    def report(what: str, done: int, total: int) -> None:
        nonlocal start, shown, current
        if what != current[0] or done < current[1]:
            close()
            start = time.perf_counter() if current[0] else start
            shown = start
        if (done, total) == (0, 1) and current != (what, done):
            say(what)  # it says no more before it is over
        current = (what, done)
        if done != total and time.perf_counter() - shown >= every:
            shown = time.perf_counter()
            line(total)

    def close() -> None:
        if brief or shown != start:
            line()

    yield report
    close()


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each work; they disappear when all is over."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        """Images, or whatever they are, per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed and task.total != 1 else "")

    speed = Speed()
    with ExitStack() as stack:
        bars: dict[bool, Progress] = {}
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            in_bytes = isinstance(what, Bytes)
            if what not in tasks:
                if in_bytes not in bars:
                    stack.close()  # only one can be live at a time
                    amounts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(), speed)
                    columns = (TextColumn("{task.description}"), BarColumn(), *amounts, TimeRemainingColumn())
                    bars[in_bytes] = stack.enter_context(Progress(*columns, console=messages(), transient=True))
                tasks[what] = bars[in_bytes].add_task(what, total=None)
            bars[in_bytes].update(tasks[what], completed=done, total=total or None)

        yield report
