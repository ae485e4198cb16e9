"""What the process of an attempt gets before the program runs in it; imports nothing that every process would have to import.

As a script, `limits.py STREAMS WORD ...`, it becomes the program in an interpreter of its own, which starts under these limits.
"""

from __future__ import annotations

import io
import os
import re
import resource
import sys
from pathlib import Path

CPU = 20  # seconds of computing, after which something hangs
MEMORY = 1_500_000_000  # bytes beside what a process has that has imported everything
ENCODINGS = {"ascii": "ascii", "strict": "utf-8:strict"}
WIDTHS = {"narrow": "1", "zero": "0"}


def limit(streams: str) -> None:
    """Limit the memory and time of this process, and give it other outputs, one of STREAMS in attempts.py."""
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
    os.environ["PYTHONIOENCODING"] = ENCODINGS.get(streams, "utf-8:strict")
    _reopen(os.environ["PYTHONIOENCODING"])


def _reopen(encoding: str) -> None:
    """Give Python its standard streams as a new interpreter would have them."""
    name, _, errors = encoding.partition(":")
    for number, attribute in ((1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:
            setattr(sys, attribute, None)
            continue
        raw = io.FileIO(number, "w", closefd=False)
        setattr(sys, attribute, io.TextIOWrapper(io.BufferedWriter(raw), encoding=name, errors=errors or "strict"))


if __name__ == "__main__":
    limit(sys.argv[1])
    os.execv(sys.executable, [sys.executable, "-m", "sadcl_cli", *sys.argv[2:]])
