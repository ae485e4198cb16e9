"""Small real data sets in each layout, and one small trained run that many tests look at."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from matplotlib import rc_context
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from sadcl_cli import console
from sadcl_cli.app import app
from sadcl_cli.console import verbosity
from sadcl_core.data.formats import digits
from sadcl_core.data.rows import Box
from sadcl_core.exporting.export import Export, export

gc.disable()  # while modules are imported and tests collected: hardly anything of it is garbage


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but never look through what imports made."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def freeze_imports() -> Iterator[None]:
    """Leave what tests imported out of garbage collection, too: a training, which collects between stages, takes less."""
    yield
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter end as usual."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def heed_ctrl_c() -> Iterator[None]:
    """Heed SIGINT in the tests and the processes they start, also where a shell started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the processes do that tests start."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


COARSE: Any = {"savefig.dpi": 40, **dict.fromkeys(("xtick.bottom", "xtick.labelbottom", "ytick.left", "ytick.labelleft"), False)}


@pytest.fixture(autouse=True, scope="session")
def coarse_figures() -> Iterator[None]:
    """Draw figures of few pixels, without ticks and their labels, where a test is not about them."""
    with rc_context(COARSE):
        yield


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Call a function with a new folder of a name, in one of the workers; all of them get the folder, and no test changes it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = root / "once" / name
        folder.parent.mkdir(exist_ok=True)
        complete = folder.with_suffix(".complete")
        with FileLock(folder.with_suffix(".lock")):
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return make


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    exit_code: int
    stdout: str
    stderr: str


Sadcl = Callable[..., Ran]
COMMAND = get_command(app)  # once: CliRunner.invoke makes all commands for each call, which takes longer than most of them


def run_sadcl(*arguments: str | Path, code: int | None = 0) -> Ran:
    """Run the program in this process; it ends with this exit code, or None: any."""
    verbosity.debug = False
    with CliRunner().isolation() as (stdout, stderr, _):
        with pytest.raises(SystemExit) as ended:
            COMMAND.main([str(argument) for argument in arguments], prog_name="sadcl")
        verbosity.quiet = verbosity.verbose = verbosity.debug = False
        ran = Ran(int(ended.value.code or 0), stdout.getvalue().decode(), stderr.getvalue().decode())
    assert code in (ran.exit_code, None), (arguments, ran.stderr)
    return ran


@pytest.fixture
def sadcl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sadcl:
    """Run the program in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    console._console.cache_clear()  # it keeps the width it was made for
    return run_sadcl


def draw(folder: Path, count: int, *, seed: int) -> list[tuple[str, list[Box]]]:
    """Scenes of digits as PNG files; their names and boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = digits.originals()["train"]
    scenes = []
    for number in range(count):
        picture, boxes = digits.draw_scene(originals, np.random.default_rng([seed, number]))
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
        scenes.append((f"{number:03d}.png", boxes))
    return scenes


def make_coco(folder: Path, *, train: int = 24, val: int = 12) -> Path:
    """COCO's layout of 2017 with ten classes, the ids not in a row; one image without a label."""
    for split, count in (("train", train), ("val", val)):
        scenes = draw(folder / f"{split}2017", count, seed=len(split))
        scenes[0] = (scenes[0][0], [])
        categories = [
            {"id": 10 + 3 * k, "name": name, "supercategory": digits.SUPERCLASSES[k]} for k, name in enumerate(digits.CLASSES)
        ]
        annotations = [
            {
                "id": 1000 * number + j,
                "image_id": number,
                "category_id": 10 + 3 * box.label,
                "bbox": [box.x, box.y, box.width, box.height],
                "area": box.width * box.height,
                "iscrowd": 0,
            }
            for number, (_, boxes) in enumerate(scenes)
            for j, box in enumerate(boxes)
        ]
        images = [{"id": number, "file_name": name, "width": 64, "height": 64} for number, (name, _) in enumerate(scenes)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(document))
    return folder


VOC_OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"""


def voc_object(name: str, *, difficult: int = 0) -> str:
    return VOC_OBJECT.format(name=name, difficult=difficult, x1=3, y1=5, x2=12, y2=20)


def make_voc(folder: Path, objects: dict[str, dict[str, list[str]]], *, year: str = "VOC2007") -> Path:
    """VOC's layout: split -> image name -> XML objects."""
    devkit = folder / "VOCdevkit" / year
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (devkit / part).mkdir(parents=True, exist_ok=True)
    for split, images in objects.items():
        (devkit / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
        for number, (name, entries) in enumerate(images.items()):
            (devkit / "Annotations" / f"{name}.xml").write_text(f"<annotation>{''.join(entries)}</annotation>")
            pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(devkit / "JPEGImages" / f"{name}.jpg")
    return folder


@pytest.fixture(scope="session")
def drawn_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small COCO data set, drawn once; `coco` gives a test a copy of its own."""
    return make_coco(tmp_path_factory.mktemp("drawn") / "my-coco")


@pytest.fixture
def coco(tmp_path: Path, drawn_coco: Path) -> Path:
    return Path(shutil.copytree(drawn_coco, tmp_path / "my-coco"))


# a network and a schedule that train in seconds
QUICK = (
    *("--backbone", "test_resnet", "--no-pretrained", "--img-size", "64", "--batch-size", "8", "--epochs", "2,1", "--lr", "1e-3"),
    *("--device", "cpu", "-j", "0", "--set", "model.stride=16", "--set", "model.projection_width=8"),
    *("--set", "model.heads.sarl.width=16", "--set", "model.heads.sarl.feedforward=16"),
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of both stages under runs/coco, on data that stays where it is."""
    folder = tmp_path_factory.mktemp("trained")
    make_coco(folder / "my-coco")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_sadcl("train", "coco", "--data", "my-coco", *QUICK)
    return folder


@pytest.fixture(scope="session")
def exported(trained: Path, once: Once) -> Export:
    """The ONNX file of the trained run, outside it, verified on its held-out images."""

    def fill(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(trained)
            made = export("runs/coco", output=folder / "model.onnx")
        (folder / "export.pickle").write_bytes(pickle.dumps(made))

    result: Export = pickle.loads((once("exported", fill) / "export.pickle").read_bytes())
    return result


@pytest.fixture
def in_trained(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Sadcl:
    """Run the program where a run has been finished; what it writes goes elsewhere by -o."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("COLUMNS", "160")
    console._console.cache_clear()  # it keeps the width it was made for
    return run_sadcl
