"""What a command costs before it works: CPU seconds of a process, beside importing torch and timm alone.

python benchmarks/start_up.py [--times 3]

A small network is trained on the digits first. The least of several starts each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = (sys.executable, "-m", "sadcl_cli")
PREPARED = ("prepare-data", "digits", "-q")
TRAINED = (
    *("train", "digits", "--backbone", "test_resnet", "--no-pretrained", "--img-size", "64", "--epochs", "1,0", "--limit", "64"),
    *("-j", "0", "-q"),
)
PHOTO = "data/digits/images/test/00000.png"


def main() -> None:
    """Everything, as one table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command in (PREPARED, TRAINED, ("export", "onnx", "-o", "model.onnx", "-q")):
            cpu_seconds((*PROGRAM, *command), folder)
        imports = (sys.executable, "-c", "import torch, torchvision, timm")
        rows = {
            "importing torch, torchvision and timm": imports,
            "sadcl --help": (*PROGRAM, "--help"),
            "sadcl eval, where no run is": (*PROGRAM, "eval", "-w", "none"),
            "sadcl predict, one image": (*PROGRAM, "predict", PHOTO),
            "sadcl predict -w model.onnx, one image": (*PROGRAM, "predict", "-w", "model.onnx", PHOTO),
            "sadcl eval, 180 images": (*PROGRAM, "eval", "-j", "0"),
        }
        spent = {label: min(cpu_seconds(command, folder) for _ in range(times)) for label, command in rows.items()}
    first, *_ = spent.values()
    print("| | CPU s | of importing torch and timm | beyond it, s |\n| --- | --- | --- | --- |")
    for label, seconds in spent.items():
        print(f"| {label} | {seconds:.2f} | {seconds / first:.2f} | {max(0, seconds - first):.2f} |")


def cpu_seconds(command: tuple[str, ...], folder: Path) -> float:
    """Run a command, and return the seconds of the processors that it took."""
    before = os.times()
    subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
