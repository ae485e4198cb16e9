"""Pictures that a small network learns in seconds: coloured squares on noise, a class for each colour."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.diagnosis.checks import examine
from sadcl_core.diagnosis.diagnose import find_run
from sadcl_core.diagnosis.evidence import gather
from sadcl_core.diagnosis.findings import Finding
from tests.conftest import QUICK, run_sadcl

COLOURS = {
    "red": (230, 30, 30),
    "green": (30, 200, 30),
    "blue": (40, 40, 230),
    "yellow": (230, 220, 30),
    "white": (250, 250, 250),
}
SIDE, SQUARE = 32, 9
LEARNS = (
    *QUICK,
    *("--img-size", "32", "-b", "16", "--epochs", "10,0", "--lr", "3e-3", "--method", "sarl"),
    *("--set", "optim.ema_decay=0.9", "--set", "model.stride=8", "--set", "stages.classification.augment=none"),
)
Row = tuple[str, str, str]  # image, labels, split


def draw_patches(folder: Path, split: str, count: int, *, seed: int) -> list[Row]:
    """PNG files under a folder, and a row for each."""
    rng = np.random.default_rng(seed)
    (folder / split).mkdir(parents=True)
    rows = []
    for number in range(count):
        picture = rng.integers(60, 120, (SIDE, SIDE, 3)).astype(np.uint8)
        shown = [name for name in COLOURS if rng.random() < 0.4]
        for name in shown:
            y, x = rng.integers(0, SIDE - SQUARE, 2)
            picture[y : y + SQUARE, x : x + SQUARE] = COLOURS[name]
        Image.fromarray(picture).save(folder / split / f"{number:03d}.png")
        rows.append((f"{split}/{number:03d}.png", " ".join(shown), split))
    return rows


def write_labels(folder: Path, rows: Sequence[Row]) -> Path:
    path = folder / "labels.csv"
    path.write_text("image,labels,split\n" + "".join(f"{','.join(row)}\n" for row in rows))
    return path


def make_patches(folder: Path, *, train: int = 160, val: int = 60) -> Path:
    """A label file with its pictures."""
    rows = [*draw_patches(folder, "train", train, seed=1), *draw_patches(folder, "val", val, seed=2)]
    return write_labels(folder, rows)


def train_in(folder: Path, data: Path, *more: str, code: int = 0) -> Path:
    """A run in `folder/run`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_sadcl("train", data, "-o", "run", *LEARNS, *more, code=code)
    return folder / "run"


def copied(run: Path, to: Path) -> Path:
    """The same run elsewhere, to be damaged."""
    shutil.copytree(run, to)
    return to


def findings(run: Path, *, limit: int | None = None, data: Path | None = None) -> dict[str, Finding]:
    """Every check by its name, in the order of their report."""
    evidence = gather(find_run(run), device="cpu", workers=0, limit=limit, data=data)
    return {finding.name: finding for finding in examine(evidence)}


def wrong(run: Path) -> dict[str, Finding]:
    return {name: finding for name, finding in findings(run).items() if finding.status == "found"}
