"""Attempts to break the program: each ends in a result or in one sentence, and leaves nothing outside its folder.

A part of them runs with the other tests; all of them: SADCL_ATTEMPTS=all pytest tests/hostile
"""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import run_sadcl
from tests.hostile.attempts import QUICK, Attempt, attempts, make_world
from tests.processes import end, start

pytestmark = pytest.mark.slow

CPU = 20  # seconds of computing, after which something hangs
MEMORY = 1_500_000_000  # bytes beside what a process has that has imported everything
DEPTH = "a/b/c/d"  # of the folder that a command runs in, so that one can see what is written above it
SHOWN_OFTEN = 2  # of each kind, with the other tests
ALLOWED = (0, 2, 3, 4, 5)
ALWAYS = {  # what broke something once, one of each kind
    *("name:dataset-0-train", "name:dataset-4-eval", "file:run-other-deep", "file:description-fifo", "file:prepare-tar-sparse"),
    *("file:labels-json-sparse", "file:save-scores-ring", "file:results-curves-cells", "card:many-layers-predict"),
    *("card:giant-predict", "card:nan-embed", "state:step", "stream:predict-stdout-full", "stream:predict-strict"),
    *("stream:help-stdout-closed", "option:predict-my-coco/val2017/001.png-w-empty"),
}
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ENCODINGS = {"ascii": "ascii", "strict": "utf-8:strict"}
WIDTHS = {"narrow": "1", "zero": "0"}


def chosen() -> list[Attempt]:
    """All attempts, or some of each kind that are spread over it."""
    every = list(attempts())
    assert len({str(attempt) for attempt in every}) == len(every)
    assert {str(attempt) for attempt in every} >= ALWAYS
    if os.environ.get("SADCL_ATTEMPTS") == "all":
        return every
    by_kind: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in every:
        by_kind[attempt.kind].append(attempt)
    spread = {one for group in by_kind.values() for one in group[:: max(len(group) // SHOWN_OFTEN, 1)][:SHOWN_OFTEN]}
    return [one for one in every if one in spread or str(one) in ALWAYS]


def prepare_process(streams: str) -> None:
    """Limit the process, and give it other outputs."""
    used = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    os.environ["COLUMNS"] = WIDTHS.get(streams, "120")
    output, _, kind = streams.partition("-")
    if kind:
        number = {"stdout": 1, "stderr": 2}[output]
        if kind == "closed":
            os.close(number)
        elif kind == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), number)
        else:
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, number)
    reopen(ENCODINGS.get(streams, "utf-8:strict"))


def reopen(encoding: str) -> None:
    """Give Python its standard streams as a new interpreter would have them."""
    import io
    import sys

    name, _, errors = encoding.partition(":")
    for number, attribute in ((1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:
            setattr(sys, attribute, None)
            continue
        raw = io.FileIO(number, "w", closefd=False)
        setattr(sys, attribute, io.TextIOWrapper(io.BufferedWriter(raw), encoding=name, errors=errors or "strict"))


def outside(folder: Path) -> set[str]:
    """Return what lies around the folder of a command."""
    return {str(path) for path in folder.parents[3].rglob("*") if not path.is_relative_to(folder)}


@pytest.fixture(scope="session")
def index(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embeddings of the trained run."""
    folder = tmp_path_factory.mktemp("index") / "val"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        assert run_sadcl("embed", "-o", folder, *QUICK).exit_code == 0
    return folder


@pytest.mark.parametrize("attempt", chosen(), ids=str)
def test_it_ends_in_a_result_or_in_one_sentence(attempt: Attempt, trained: Path, index: Path, tmp_path: Path) -> None:
    folder = tmp_path / DEPTH / "here"
    folder.mkdir(parents=True)
    make_world(trained, index, folder)
    arranged(folder, attempt.arrange)
    before = outside(folder)
    process = start(folder, *attempt.words, before=partial(prepare_process, attempt.streams))
    code, stdout, stderr = end(process)
    shown = f"{attempt.words}\n{code}\n{stdout[-2000:]}\n{stderr[-2000:]}"
    pipes = (141,) if attempt.streams == "stdout-pipe" else ()
    assert code in (*ALLOWED, *pipes), shown
    assert "Traceback" not in stderr, shown
    assert "not expected" not in stderr, shown
    assert not STEERING.search(stdout + stderr), shown
    if code in (2, 3, 5) and not attempt.streams.startswith("stderr"):
        errors = [line for line in stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, shown
    if attempt.streams in ("stdout-full", "stdout-closed", "stdout-pipe"):
        assert code != 0, shown
    left = {path for path in outside(folder) - before if ".stdout" not in path and ".stderr" not in path}
    assert not left, shown
    assert not Path("/tmp/ESCAPED").exists()
    shutil.rmtree(folder)


def arranged(folder: Path, arrange: Callable[[], object]) -> None:
    """Call a function in a folder."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        arrange()
    finally:
        os.chdir(here)
