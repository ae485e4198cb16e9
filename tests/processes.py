"""The program as processes that really run, to be stopped, starved and killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from torch.multiprocessing.spawn import start_processes

PROGRAM = (sys.executable, "-c", "from sadcl_cli.app import main; main()")
DEADLINE = 120.0  # seconds after which something hangs


def start(folder: Path, *arguments: str | Path, program: tuple[str, ...] = PROGRAM, before: str = "") -> subprocess.Popen[str]:
    """Start the program in a folder, in a process group of its own; `before` is run in it first."""
    if before:
        program = (sys.executable, "-c", f"{before}\nfrom sadcl_cli.app import main; main()")
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, when it has come to its end by itself."""
    try:
        stdout, stderr = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        raise AssertionError(f"still running after {DEADLINE} s\n{stdout}\n{stderr}") from None
    return process.returncode, stdout, stderr


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return when something is so; fail when the process ends before, or it takes too long."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
            stdout, stderr = process.communicate()
            raise AssertionError(f"it did not come to that, exit {process.returncode}\n{stdout}\n{stderr}")
        time.sleep(0.05)


def lines(path: Path) -> int:
    """Of a file that may not be there yet."""
    return len(path.read_text().splitlines()) if path.is_file() else 0


def run_ranks(work: Callable[[int, str], None], folder: Path, *, count: int = 2) -> None:
    """Call `work(rank, folder)` in processes of their own, forked from a server that imports torch once for all tests."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["sadcl_core.training.run", "sadcl_core.evaluation.score_split"]
    )
    start_processes(work, args=(str(folder),), nprocs=count, start_method="forkserver")
