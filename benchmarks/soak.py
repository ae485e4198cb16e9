"""Kill a training run again and again at random moments, resume it, and hold its files against a run that nothing disturbed.

Run: python benchmarks/soak.py [ROUNDS] [SEED]. 30 rounds take about ten minutes on two cores. Every life of the run is ended
with SIGKILL after a random time, some before it has begun to train, until so many have been; then it is let come to its end.
All tensors of its model files and of its state, and all numbers of its tables, must be those of the other run, to the last
bit.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import safetensors.torch

COMMAND = (sys.executable, "-m", "sadcl_cli", "train")
RECIPE = (
    *("--backbone", "test_resnet", "--no-pretrained", "--img-size", "32", "--epochs", "18,12", "--device", "cpu", "-j", "1"),
    *("--save-every", "7", "--set", "model.stride=16", "--set", "optim.patience=99", "--preset", "digits"),
)
LIFE = (2.0, 16.0)  # seconds; a process needs about five before it trains
TIMES = ("seconds", "images_per_second")


def run(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, without its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def differences(one: Path, other: Path) -> list[str]:
    """Tensors and tables that are not the same."""
    found = []
    for path in sorted([*one.glob("weights/*.safetensors"), *one.glob("state/*.safetensors")]):
        a, b = (safetensors.torch.load_file(where / path.relative_to(one)) for where in (one, other))
        found += [f"{path.name}: {name}" for name in {**a, **b} if name not in a or name not in b or not a[name].equal(b[name])]
    rows = [
        [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(where.read_text().splitlines())]
        for where in (one / "results.csv", other / "results.csv")
    ]
    found += [] if rows[0] == rows[1] else ["results.csv"]
    lines = [(where / "metrics.jsonl").read_text() for where in (one, other)]
    return found if lines[0] == lines[1] else [*found, "metrics.jsonl"]


def main(rounds: int, seed: int) -> None:
    """See the module."""
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    start = time.perf_counter()
    if run(folder, "digits", *RECIPE, "-o", "whole").wait() != 0:
        sys.exit("the undisturbed run failed")
    print(f"undisturbed: {time.perf_counter() - start:.0f} s", flush=True)
    anew = ended_early = kills = 0
    while kills < rounds:
        has_state = (folder / "parts" / "state" / "last.safetensors").is_file()
        anew += not has_state
        process = run(folder, *(("--resume", "parts") if has_state else ("digits", *RECIPE, "-o", "parts", "--exist-ok")))
        try:
            process.wait(timeout=rng.uniform(*LIFE))
            ended_early += 1
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    if not ended_early and run(folder, "--resume", "parts").wait() != 0:
        sys.exit("the last resume failed")
    found = differences(folder / "whole", folder / "parts")
    print(f"kills: {kills}, of them before there was a state: {anew - 1}; {time.perf_counter() - start:.0f} s in all")
    print("the same to the last bit" if not found else f"NOT the same: {', '.join(found[:10])}")
    sys.exit(bool(found) or kills < rounds)


if __name__ == "__main__":
    main(*map(int, [*sys.argv[1:], *("30", "0")[len(sys.argv) - 1 :]]))
