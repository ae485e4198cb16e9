"""Run the benchmarks one after the other, and write what they print as one page and as JSON.

python benchmarks/run.py [NAME ...] [-o docs/results]

Without a name, all of them at a size for two cores, in about half an hour; `make bench` does that. Each works by itself too, at
other sizes and with weights of your own: see its first lines.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BENCHMARKS = {  # by name: what it answers, and its arguments
    "limits": ("What one thread can do at most", ()),
    "input": ("Reading and augmenting images", ("--images", "32")),
    "features": ("Features computed once", ("--images", "64", "--img-size", "128")),
    "losses": ("The contrastive losses", ()),
    "heads": ("Heads", ("--steps", "3")),
    "training": (
        "A training step",
        (
            *("--backbone", "resnet18", "--img-size", "224", "--batch-size", "16", "--width", "256", "--steps", "11"),
            *("--images", "64", "--precision", "fp32", "--no-compile", "--published", "2"),
        ),
    ),
    "evaluation": ("Evaluation", ()),
    "predict": ("Predicting many images", ("--images", "1000", "--many", "10000")),
    "export": ("Exported files", ()),
    "prepare": ("Reading labels", ("0.25",)),
    "search": ("Search", ()),
    "classes": ("Many classes", ()),
    "growth": ("Many images", ()),
    "start_up": ("Start-up", ()),
}
PACKAGES = ("sadcl", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "pyarrow", "onnxruntime")


def main() -> None:
    """Run what is named, and write bench.md and bench.json; earlier results of the others stay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all unless given")
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs" / "results")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; they are {', '.join(BENCHMARKS)}")
    path = asked.output / "bench.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in asked.names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        results[name] = run(name)
        ordered = {name: results[name] for name in BENCHMARKS if name in results}
        path.write_text(json.dumps(ordered, indent=1) + "\n")
        (asked.output / "bench.md").write_text(page(ordered))
    failed = [name for name in asked.names or BENCHMARKS if results[name]["exit_code"]]
    print(f"{path.with_suffix('.md')}, {path}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(bool(failed))


def run(name: str) -> dict[str, Any]:
    """Run one, and return what it printed with the machine and the versions."""
    arguments = BENCHMARKS[name][1]
    load, start = os.getloadavg()[0], time.perf_counter()
    done = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    return {
        "command": " ".join(("python", f"benchmarks/{name}.py", *arguments)),
        "machine": f"{platform.machine()}, {processor()}, {os.cpu_count()} processors, load {load:.1f} before",
        "versions": {package: version(package) for package in PACKAGES},
        "seconds": round(time.perf_counter() - start),
        "exit_code": done.returncode,
        "tables": tables(done.stdout),
        "printed": done.stdout,
    }


def processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def version(package: str) -> str:
    """The version of an installed package, or a dash."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables in a text, each as a list of rows by the names of the columns."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[dict(zip(rows[0], row, strict=False)) for row in rows[2:]] for rows in found if len(rows) > 2]


def blocks(text: str) -> Iterator[str]:
    """The headings and tables of a text one level below those of the page, and what lies between as it was printed."""
    for kind, lines in groupby(text.strip().splitlines(), key=lambda line: line[:1] if line[:1] in ("", "|", "#") else "text"):
        block = "\n".join(lines)
        yield f"```\n{block}\n```" if kind == "text" else f"#{block}" if kind == "#" else block


def page(results: dict[str, Any]) -> str:
    """All results as Markdown."""
    parts = ["# What everything costs", "", "Written by `make bench` from what each program printed."]
    parts += ["Compare the ratios within one run: times change with the machine, and with what else it does."]
    for name, result in results.items():
        versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
        parts += ["", f"## {BENCHMARKS[name][0]}", "", f"`{result['command']}`: {result['seconds']} s on {result['machine']}."]
        parts += [f"{versions}.", "", *blocks(result["printed"])]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
