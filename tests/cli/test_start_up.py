"""What can be found without torch is found before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

RUN_ALL = """
import json, sys
from typer.main import get_command
from typer.testing import CliRunner
from sadcl_cli.app import app

command = get_command(app)
for arguments in json.loads(sys.argv[1]):
    with CliRunner().isolation() as (_, stderr, _):
        try:
            command.main(arguments)
        except SystemExit as ended:
            code = ended.code
        said = stderr.getvalue().decode()
    print(json.dumps([code, said, "torch" in sys.modules]))
"""


def refuse(folder: Path, cases: list[tuple[str, int, str]]) -> None:
    """Run commands one after the other in one process; each has to end with its code and words, and without torch."""
    arguments = json.dumps([command.split() for command, _, _ in cases])
    done = subprocess.run([sys.executable, "-c", RUN_ALL, arguments], cwd=folder, capture_output=True, text=True, check=True)
    for (command, code, words), line in zip(cases, done.stdout.splitlines(), strict=True):
        exit_code, stderr, torch = json.loads(line)
        assert (exit_code, torch) == (code, False), (command, stderr)
        assert words in stderr, (command, stderr)


def test_no_run_yet(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    commands = (
        *("predict a.png", "embed", "eval", "visualize prototypes", "visualize embeddings"),
        *("visualize attention a.png", "visualize curves"),
    )
    refuse(
        tmp_path,
        [
            *((command, 3, "Train first: sadcl train digits") for command in commands),
            ("train", 2, "Name the data set"),
            ("train nowhere", 2, "no data set 'nowhere'"),
            ("train coco", 3, "data/coco does not exist"),
            ("train digits --lr x", 2, "'--lr'"),
            ("train --resume", 3, "no run under runs/"),
            ("eval a b c", 2, "no more than two"),
            ("eval --calibrate precision", 2, "quote it"),
            ("eval --calibrate f1 --report", 2, "--report does not go with"),
            ("eval --save-scores x.foo", 2, "x.foo"),
        ],
    )


def test_wrong_names_and_values(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    (tmp_path / "t.json").write_text('{"one": 0.5}')
    image = "my-coco/val2017/001.png"
    refuse(
        trained,
        [
            ("predict none.jpg", 3, "none.jpg does not exist"),
            (f"predict {image} --threshold high", 2, "neither a number nor a file"),
            (f"predict {image} --threshold 1.5", 2, "between 0 and 1"),
            (f"predict {image} --threshold onee=0.5", 2, "Did you mean 'one'"),
            (f"predict {image} --threshold auto", 2, "sadcl eval --calibrate"),
            (f"predict {image} --threshold {tmp_path}/t.json", 3, "no threshold for 'zero'"),
            (f"predict {image} --device tpu", 2, "no such kind of device"),
            (f"predict {image} --precision fp8", 2, "choose from"),
            (f"predict {image} -w none", 3, "no model file none"),
            (f"predict {image} -w {tmp_path}", 3, "no weights/best.safetensors"),
            (f"predict {image} -w {tmp_path}/damaged.safetensors", 3, "is not a model file"),
            ("embed --device tpu", 2, "no such kind of device"),
            ("embed -w none", 3, "no model file none"),
            ("visualize prototypes -w none", 3, "no model file none"),
            ("visualize embeddings --device tpu", 2, "no such kind of device"),
            ("visualize attention none.jpg", 3, "none.jpg does not exist"),
            (f"visualize attention {tmp_path}/t.json", 3, "not an image"),
            (f"visualize attention {image} --labels tenn", 2, "no class 'tenn'"),
            ("embed --split tset", 3, "has no split 'tset'"),
            ("visualize embeddings --data nowhere", 2, "no data set 'nowhere'"),
            ("eval --split tset", 3, "has no split 'tset'"),
            ("eval --calibrate f1 --split train", 2, "The model was trained on"),
            ("doctor none", 3, "none is not a run"),
            ("visualize curves -w none", 3, "none is not a run"),
            ("visualize embeddings --against none", 3, "no model file none"),
            ("search --label two -w none", 3, "no model file none"),
            ("import none.pth --classes a,b", 3, "no weights file none.pth"),
            ("train coco --pretrained none.pth", 3, "no weights file none.pth"),
            (
                "train coco --method ml-gcn --set model.word_vectors=none.txt",
                3,
                "word_vectors=none.txt cannot be read (No such file",
            ),
            ("train coco --init-from none", 3, "no model file none"),
            ("train coco --init-from runs/coco --class-map none", 2, "class map none cannot be read"),
            ("compare coco --pretrained none.pth", 3, "no weights file none.pth"),
            ("doctor runs/coco --device tpu", 2, "no such kind of device"),
        ],
    )


def test_prediction_imports_no_library_that_it_does_not_need(trained: Path) -> None:
    """Beside torch and timm, which are most of the second that one image takes."""
    code = RUN_ALL.replace('"torch" in sys.modules', "sorted(sys.modules)")
    arguments = json.dumps([["predict", "my-coco/val2017/001.png", "--device", "cpu"]])
    done = subprocess.run([sys.executable, "-c", code, arguments], cwd=trained, capture_output=True, text=True, check=True)
    exit_code, stderr, modules = json.loads(done.stdout.splitlines()[-1])
    assert exit_code == 0, stderr
    assert not {"pyarrow", "scipy", "sklearn", "pandas", "matplotlib", "accelerate", "webdataset"} & set(modules)


def test_the_doctor_works_where_torch_is_broken(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no such library')")
    code = "import sys; sys.path.insert(0, '.'); from sadcl_cli.app import app; app(['doctor'], prog_name='sadcl')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no such library" in done.stdout
