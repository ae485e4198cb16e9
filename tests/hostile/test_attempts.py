"""Attempts to break the program: each ends in a result or in one sentence, and leaves nothing outside its folder.

A part of them runs with the other tests; some hundred that are spread over the table, or all of them, with

    SADCL_ATTEMPTS=600 pytest tests/hostile
    SADCL_ATTEMPTS=all pytest tests/hostile
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import Popen

import pytest

from tests.conftest import run_sadcl
from tests.hostile import limits
from tests.hostile.attempts import QUICK, Attempt, attempts, make_world
from tests.processes import Program, end, start, start_interpreter

pytestmark = pytest.mark.slow

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


def chosen() -> list[Attempt]:
    """All attempts, or some of each kind that are spread over it."""
    every = list(attempts())
    assert len({str(attempt) for attempt in every}) == len(every)
    assert {str(attempt) for attempt in every} >= ALWAYS
    count = os.environ.get("SADCL_ATTEMPTS", "")
    if count:
        return every if count == "all" else every[:: max(len(every) // int(count), 1)]
    by_kind: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in every:
        by_kind[attempt.kind].append(attempt)
    spread = {one for group in by_kind.values() for one in group[:: max(len(group) // SHOWN_OFTEN, 1)][:SHOWN_OFTEN]}
    return [one for one in every if one in spread or str(one) in ALWAYS]


def outside(folder: Path) -> set[str]:
    """Return what lies around the folder of a command."""
    return {str(path) for path in folder.parents[3].rglob("*") if not path.is_relative_to(folder)}


@pytest.fixture(scope="session")
def index(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embeddings of the trained run."""
    folder = tmp_path_factory.mktemp("index") / "val"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        run_sadcl("embed", "-o", folder, *QUICK)
    return folder


@pytest.mark.parametrize("attempt", chosen(), ids=str)
def test_it_ends_in_a_result_or_in_one_sentence(attempt: Attempt, trained: Path, index: Path, tmp_path: Path) -> None:
    folder = tmp_path / DEPTH / "here"
    folder.mkdir(parents=True)
    make_world(trained, index, folder)
    arranged(folder, attempt.arrange)
    before = outside(folder)
    if attempt.started:
        program = (sys.executable, str(Path(limits.__file__)), attempt.streams)
        process: Program | Popen[str] = start_interpreter(folder, *attempt.words, program=program)
    else:
        process = start(folder, *attempt.words, before=partial(limits.limit, attempt.streams))
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
