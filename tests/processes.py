"""The program as processes that really run, to be stopped, starved and killed.

They are forked from a server that imports torch once for all tests; `PROGRAM` and `TORCHRUN` start an interpreter of their own.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.multiprocessing.spawn import start_processes

import sadcl_core

PROGRAM = (sys.executable, "-c", "from sadcl_cli.app import main; main()")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "sadcl_cli")
DEADLINE = 600.0  # seconds after which something hangs, also on a machine that has much else to do
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
ROOT = Path(sadcl_core.__file__).parents[1]
MODULES = (path.relative_to(ROOT).with_suffix("").parts for path in sorted(ROOT.glob("sadcl_*/**/*.py")))
IMPORTED = (
    *(".".join(parts) for parts in MODULES if not parts[-1].startswith("__")),
    *(
        "torch.distributed.run",
        "torch.onnx._internal.exporter._core",
        "onnxscript",
        "rich.progress",
        "rich.table",
        "typer.rich_utils",
    ),
)  # nothing of tests: the server looks in its working folder, and another package of that name may be installed


class Program:
    """A process in a group of its own, with as much of `subprocess.Popen` as the tests need."""

    def __init__(self, folder: Path, work: Callable[[], None]) -> None:
        """Call `work` in the folder, in a process forked from the server."""
        self.outputs = [folder.with_name(f"{folder.name}-{uuid.uuid4().hex}.{name}") for name in ("stdout", "stderr")]
        self.process = _server().Process(target=_work_in, args=(folder, *self.outputs, work))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it wrote to stdout and stderr, when it has ended."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("sadcl", timeout or 0)
        stdout, stderr = (path.read_text() if path.exists() else "" for path in self.outputs)
        return stdout, stderr

    @property
    def returncode(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.process.exitcode


def start(folder: Path, *arguments: str | Path, ranks: int = 1, before: Callable[[], None] | None = None) -> Program:
    """Start the program in a folder, as several processes of torchrun where `ranks` says so; `before` is called in it first."""
    words = tuple(map(str, arguments))
    return Program(folder, partial(_call_program, words, before) if ranks == 1 else partial(_call_torchrun, words, ranks))


def start_interpreter(folder: Path, *arguments: str | Path, program: tuple[str, ...] = PROGRAM) -> subprocess.Popen[str]:
    """Start the program in a folder, in an interpreter and a process group of its own."""
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )


def end(process: Program | subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, when it has come to its end by itself."""
    try:
        stdout, stderr = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        raise AssertionError(f"still running after {DEADLINE} s\n{stdout}\n{stderr}") from None
    assert process.returncode is not None
    return process.returncode, stdout, stderr


def wait_until(condition: Callable[[], bool], process: Program) -> None:
    """Return when something is so; fail when the process ends before, or it takes too long."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
            stdout, stderr = process.communicate()
            raise AssertionError(f"it did not come to that, exit {process.returncode}\n{stdout}\n{stderr}")
        time.sleep(0.01)


def lines(path: Path) -> int:
    """Of a file that may not be there yet."""
    return len(path.read_text().splitlines()) if path.is_file() else 0


def run_ranks(work: Callable[[int, str], None], folder: Path, *, count: int = 2) -> None:
    """Call `work(rank, folder)` in processes of their own."""
    _server()
    start_processes(work, args=(str(folder),), nprocs=count, start_method="forkserver")


def _server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def _work_in(folder: Path, stdout: Path, stderr: Path, work: Callable[[], None]) -> None:
    """Make the process what a new interpreter would be, and call `work`."""
    gc.freeze()  # what the server imported would be looked through again and again, and copied by that
    os.setsid()
    os.chdir(folder)
    os.environ.update(ENVIRONMENT)
    multiprocessing.set_start_method("fork", force=True)  # of the workers, as in an interpreter of its own
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    torch.set_num_threads(1)
    work()


def _call_program(arguments: tuple[str, ...], before: Callable[[], None] | None = None) -> None:
    """Run the command line; return where it succeeds, since launchers wait for that."""
    from sadcl_cli.app import main

    for number in (signal.SIGTERM, signal.SIGINT):  # of the launcher
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
    if before is not None:
        before()
    sys.argv = ["sadcl", *arguments]
    try:
        main()
    except SystemExit as error:
        if error.code:
            raise


def _call_torchrun(arguments: tuple[str, ...], ranks: int) -> None:
    """Run the command line as torchrun does, but in forked processes."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
    )
    elastic_launch(config, _call_program)(arguments)
