"""Draw the pictures of docs/figures again, all from the built-in digits: python docs/figures.py [DIR], without it in demo/.

Two models are trained there, in about twenty minutes on two processors, unless DIR has their runs already.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PAGES = Path(__file__).resolve().parent / "figures"
IMAGE = "data/digits/images/test/00102.png"
RUNS = {"digits": [], "sarl": ["--method", "sarl"]}  # with both contrastive losses, and without
FIGURES = {
    "prototypes": ["visualize", "prototypes"],
    "embeddings": ["visualize", "embeddings"],
    "embeddings-against": ["visualize", "embeddings", "--against", "runs/sarl"],
    "attention": ["visualize", "attention", IMAGE],
    "curves": ["visualize", "curves"],
    "thresholds": ["visualize", "thresholds"],
    "predictions": ["visualize", "predictions", "--count", "12"],
    "co-occurrence": ["visualize", "co-occurrence"],
    "search": ["search", IMAGE, "--label", "seven", "--count", "11"],
}
INCH = 80  # pixels
COLOURS = (256, 128, 64)  # of a picture; the first number with which it is small enough
MOST = 60_000  # bytes of a picture


def sadcl(folder: Path, *arguments: str) -> None:
    """Run a command in a folder."""
    subprocess.run([sys.executable, "-m", "sadcl_cli", *arguments], cwd=folder, check=True)


def main() -> None:
    """Train what is not trained, draw everything, and keep each picture small."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name, options in RUNS.items():
        if not (folder / "runs" / name / "weights" / "best.safetensors").exists():
            sadcl(folder, "train", "digits", *options, "-o", f"runs/{name}")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "matplotlibrc").write_text(f"savefig.dpi: {INCH}\n")
        os.environ["MATPLOTLIBRC"] = scratch
        sadcl(folder, "embed", "-w", "runs/digits")
        for name, arguments in FIGURES.items():
            sadcl(folder, *arguments, "-w", "runs/digits", "-o", f"{scratch}/{name}.png")
        sadcl(folder, "visualize", "batches", "--stage", "contrastive", "-w", "runs/digits", "-o", scratch)
        for path in sorted(Path(scratch).glob("*.png")):
            shrink(path, PAGES / path.name)


def shrink(path: Path, target: Path) -> None:
    """Write a picture with as many colours as its size allows."""
    for colours in COLOURS:
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)
        if target.stat().st_size <= MOST:
            return
    raise SystemExit(f"{target} has {target.stat().st_size:,} bytes, more than {MOST:,}.")


if __name__ == "__main__":
    main()
