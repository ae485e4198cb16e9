"""What a stranger may put where a file is expected, and what may be written into the files of a run or a data set."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from sadcl_core.runs.card import CARD
from sadcl_core.runs.state import CARD as STATE_CARD

SPARSE = 20 << 30  # bytes that a file claims and does not take

Make = Callable[[Path], object]  # of a file at a path


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SPARSE)


def _write(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation><object><name>&b;</name></object></annotation>'
ALIASES = b"lr: &a [1,2,3,4,5,6,7,8,9]\n" + b"".join(
    b"k%d: &%c [*%c%s]\n" % (k, 98 + k, 97 + k, 8 * (b",*%c" % (97 + k))) for k in range(9)
)
SEGMENTS = b"\xff\xd8" + (8 << 20) * b"\xff\xe1\0\x02" + b"\xff\xd9"  # a JPEG
RUNS = (
    b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 1082, 0, 0, 1078, 40, 9000, 9000, 1, 8, 1, 4, 0, 0, 256, 0)
    + bytes(1024)
    + b"\1\1\0\0"
)  # a BMP
FILES: dict[str, Make] = {
    "fifo": lambda path: os.mkfifo(path),
    "socket": _socket,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "null": lambda path: path.symlink_to("/dev/null"),
    "ring": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
    "sparse": _sparse,
    "empty": _write(b""),
    "nul": _write(b"\0" * 4096),
    "noise": _write(np.random.default_rng(0).bytes(8192)),
    "text": _write(b"hello\n"),
    "utf16": _write("image,label\na.png,cat\n".encode("utf-16")),
    "latin": _write("image,label\nbär.png,kätzchen\n".encode("latin-1")),
    "long": _write(b"a" * (2 << 20)),
    "deep": _write(b"[" * 100_000),
    "digits": _write(b'{"status": ' + b"9" * 10_000 + b"}"),
    "nan": _write(b'{"best": NaN, "status": 5, "resumed": 7}'),
    "cells": _write(b"stage,epoch,mAP\n1,2,3,4,5\n=cmd|x,y,@SUM(1)\n"),
    "escape": _write(b"method,mAP\n\x1b[2J,50\n"),
    "entities": _write(BOMB),
    "aliases": _write(ALIASES),
    "segments": _write(SEGMENTS),
    "runs": _write(RUNS),
}

NAMES = (
    "../../../ESCAPED",
    "/tmp/ESCAPED/ESCAPED",
    "..",
    "a/b\\c",
    "",
    " ",
    "x" * 400,
    "é" * 200,
    "\x1b[2J\x07",
    "=1+1",
    "a\nb\tc",
    "<script>alert(1)</script>",
    "\u202egnp.x",
    "-rf",
    "$(id)`id`",
    "%s{0}{x!r}",
)


def replaced(path: Path, make: Make) -> None:
    """Put something where a file is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Write a JSON document again, changed."""
    document = json.loads(path.read_text())
    changed = change(document)
    path.write_text(json.dumps(document if changed is None else changed))


def edit_header(path: Path, change: Mapping[str, Any], key: str = CARD, tensors: Mapping[str, Any] | None = None) -> None:
    """Write a .safetensors file again with other values on its card, by dotted keys, and other tensors; None takes one away."""
    with safe_open(path, framework="np") as stored:
        card = json.loads(stored.metadata()[key])
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    for dotted, value in change.items():
        *above, last = dotted.split(".")
        place = card
        for name in above:
            place = place[name]
        place[last] = value
    for name, array in (tensors or {}).items():
        if array is None:
            arrays.pop(name, None)
        else:
            arrays[name] = array(arrays[name]) if callable(array) else array
    path.unlink()
    safetensors.numpy.save_file(arrays, path, metadata={key: json.dumps(card)})


def _nan(array: Any) -> Any:
    return np.full_like(array, np.nan)


CARDS: dict[str, dict[str, Any]] = {
    "many-layers": {"model.heads.sarl.decoder_layers": 10**9},
    "some-layers": {"model.heads.sarl.decoder_layers": 60},
    "wide": {"model.heads.sarl.width": 10**9},
    "wide-projection": {"model.projection_width": 10**11},
    "feedforward": {"model.heads.sarl.feedforward": 60_000},
    "giant": {"model.backbone": "eva02_enormous_patch14_clip_224", "model.stride": 14},
    "no-backbone": {"model.backbone": "../../x"},
    "no-head": {"model.head": "os.system"},
    "equal-classes": {"classes": ["a"] * 10},
    "no-class": {"classes": []},
    "text-classes": {"classes": "abcdefghij"},
    "odd-classes": {"classes": [f"{NAMES[k]}{k}" for k in range(10)]},
    "temperatures": {"temperatures": [1.0] * 10},
    "thresholds": {"thresholds": [0.5] * 9},
    "zero-std": {"std": [0, 0, 0]},
    "huge-mean": {"mean": [1e308, 1e308, 1e308]},
    "size": {"img_size": 10**9},
    "version": {"schema_version": 99},
    "trained": {"trained": {"dataset": "../../../ESCAPED", "metrics": "\x1b[2J"}},
    "calibrated": {"calibrated": {"objective": ["\x1b[2J"], "img_size": "x" * 999}},
}
FIRST = "head.class_bias"
TENSORS: dict[str, dict[str, Any]] = {
    "nan": {"prototypes": _nan, "projection.0.weight": _nan},
    "complex": {"prototypes": lambda array: array.astype(np.complex64)},
    "integers": {"prototypes": lambda array: array.astype(np.int64)},
    "missing": {"prototypes": None},
    "shape": {"prototypes": np.zeros((3, 3), np.float32)},
    "more": {"another": np.zeros(3, np.float32)},
}
STATES: dict[str, dict[str, Any]] = {
    "step": {"progress.step": 10**9},
    "epoch": {"progress.epoch": 10**9},
    "negative": {"progress.epoch": -1},
    "stage": {"progress.stage": "../../x"},
    "best-stage": {"best.stage": "../../x"},
    "holds": {"holds": ["../../x", 1]},
    "text": {"progress.best_map": "good"},
    "best-epoch": {"progress.best_epoch": 10**6},
    "infinite": {"progress.best_map": float("inf")},
    "nan": {"progress.seconds": float("nan")},
    "steps": {"steps": 10**9},
    "sizes": {"sizes": {"results.csv": -5, "../../x": 3}},
    "config": {"config.model.backbone": "eva02_enormous_patch14_clip_224"},
    "manifest": {"config.data.manifest": "/dev"},
    "classes": {"checksums": {}},
}
STATE = STATE_CARD
