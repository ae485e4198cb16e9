"""The table of attempts: what is put where, and which command meets it. The table is the same every time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sadcl_core.config.json_schema import all_settings
from sadcl_core.config.layers import settings_of
from tests.hostile.inputs import CARDS, FILES, NAMES, STATE, STATES, TENSORS, edit_header, edit_json, replaced

Words = tuple[str, ...]
PICTURE = "my-coco/val2017/001.png"
RUN = "runs/coco"
BEST = f"{RUN}/weights/best.safetensors"
INDEX = f"{RUN}/embeddings/val"
QUICK = ("--device", "cpu", "-j", "0")
FRESH = ("--backbone", "test_resnet", "--img-size", "64", "--epochs", "1", "--batch-size", "8", "--limit", "8", *QUICK)
TRAIN = ("train", "coco", "--data", "my-coco", "--no-pretrained", *FRESH)
COMPARE = ("compare", "coco", "--data", "my-coco", "--seeds", "1", "--no-pretrained", *FRESH, "-o", "out")
SWEEP = (
    "sweep",
    "coco",
    "--data",
    "my-coco",
    "--trials",
    "1",
    "--best",
    "1",
    "--seeds",
    "1",
    "--no-pretrained",
    *FRESH,
    "-o",
    "out",
)
SCORES = ("eval", "--scores", "s.npz", "--bootstrap", "0")
EXTEND = ("extend", RUN, "--add", "otter", "--limit", "10", *QUICK)
EXPORT = ("export", "onnx", "--verify", "0")
FOLDERS = ("--txt-dir", "--annotate", "--sort")  # options of predict that fill one


@dataclass(frozen=True)
class Attempt:
    """One attempt.

    Attributes:
        kind: of what is attempted.
        name: among those of its kind.
        words: of the command line.
        arrange: prepares the folder that it runs in, a copy of one with a data set and a run.
        streams: what its outputs are, one of STREAMS; empty for files.
        started: in an interpreter of its own, not forked from one that has imported everything.
    """

    kind: str
    name: str
    words: Words
    arrange: Callable[[], object] = lambda: None
    streams: str = ""
    started: bool = False

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


# what takes the place of a file: slot -> path, and the command that reads it
SLOTS: dict[str, tuple[str, Words]] = {
    "predict": ("x.jpg", ("predict", "x.jpg", "-w", RUN)),
    "predict-folder": ("pics/x.jpg", ("predict", "pics", "-w", RUN)),
    "predict-weights": ("m.safetensors", ("predict", PICTURE, "-w", "m.safetensors")),
    "predict-threshold": ("t.json", ("predict", PICTURE, "--threshold", "t.json")),
    "predict-best": (BEST, ("predict", PICTURE)),
    "predict-listed": ("x.csv", ("predict", "x.csv")),
    "predict-table": ("x.parquet", ("predict", "x.parquet")),
    "predict-shard": ("x.tar", ("predict", "x.tar")),
    "predict-onnx": ("m.onnx", ("predict", PICTURE, "-w", "m.onnx")),
    "predict-goes-on": ("out.jsonl", ("predict", "pics", "-o", "out.jsonl")),
    "predict-writes": ("out.parquet", ("predict", "pics", "-o", "out.parquet", "--embed")),
    "predict-tags": ("pics/a.txt", ("predict", "pics", "--save-txt", "--append")),
    "predict-sidecar": ("pics/a.xmp", ("predict", "pics", "--keywords", "sidecar")),
    **{f"predict{option}": ("out", ("predict", "pics", option, "out")) for option in FOLDERS},
    "embed": ("x.jpg", ("embed", "x.jpg", *QUICK)),
    "search": ("x.jpg", ("search", "x.jpg", "--device", "cpu")),
    "search-labels": (f"{INDEX}/label_features.parquet", ("search", "--label", "one")),
    "search-vectors": (f"{INDEX}/label_embeddings.npy", ("search", "--label", "one")),
    "search-output": ("out.png", ("search", "--label", "one", "-o", "out.png")),
    "suggest": ("x.jpg", ("suggest", RUN, "x.jpg", *QUICK)),
    "suggest-output": ("out.csv", ("suggest", RUN, "pics", "-o", "out.csv", *QUICK)),
    "extend": ("x.jpg", (*EXTEND, "x.jpg", PICTURE)),
    "suggest-model": (f"{RUN}/run.json", ("suggest", RUN, "pics", *QUICK)),
    "push-run": (f"{RUN}/run.json", ("push", "a/b", "-o", "out")),
    "push-output": ("out", ("push", "a/b", "-o", "out")),
    "extend-run": (f"{RUN}/run.json", (*EXTEND, "pics")),
    "extend-config": (f"{RUN}/config.yaml", (*EXTEND, "pics")),
    "extend-output": ("out", (*EXTEND, "pics", "-o", "out")),
    "export": ("out.onnx", (*EXPORT, "-o", "out.onnx")),
    "attention": ("x.png", ("visualize", "attention", "x.png")),
    "attention-output": ("out.png", ("visualize", "attention", PICTURE, "-o", "out.png")),
    "embed-output": ("out", ("embed", "-o", "out", "--limit", "2", *QUICK)),
    "run-predict": (f"{RUN}/run.json", ("predict", PICTURE)),
    "run-eval": (f"{RUN}/run.json", ("eval", "-w", RUN, "--limit", "2", *QUICK)),
    "run-doctor": (f"{RUN}/run.json", ("doctor", RUN, "--limit", "2", *QUICK)),
    "run-resume": (f"{RUN}/run.json", ("train", "--resume", RUN)),
    "run-other": ("runs/zzz/run.json", ("predict", PICTURE)),
    "results-curves": (f"{RUN}/results.csv", ("visualize", "curves", "-w", RUN)),
    "results-doctor": (f"{RUN}/results.csv", ("doctor", RUN, "--limit", "2", *QUICK)),
    "metrics-doctor": (f"{RUN}/metrics.jsonl", ("doctor", RUN, "--limit", "2", *QUICK)),
    "config-doctor": (f"{RUN}/config.yaml", ("doctor", RUN, "--limit", "2", *QUICK)),
    "state-resume": (f"{RUN}/state/last.safetensors", ("train", "--resume", RUN)),
    "state-doctor": (f"{RUN}/state/last.safetensors", ("doctor", RUN, "--limit", "2", *QUICK)),
    **{
        f"scores-{end}": (f"x.{end}", ("eval", "--scores", f"x.{end}", "--labels", "l.csv"))
        for end in ("csv", "npy", "npz", "parquet")
    },
    **{f"labels-{end}": (f"x.{end}", (*SCORES, "--labels", f"x.{end}")) for end in ("csv", "json", "npy", "parquet", "xml")},
    "against": ("a.csv", (*SCORES, "--against", "a.csv", "--format", "md")),
    "save-scores": ("x.csv", (*SCORES, "--save-scores", "x.csv")),
    "eval-output": ("out", (*SCORES, "-o", "out")),
    "eval-data": ("x.csv", ("eval", "--data", "x.csv", *QUICK)),
    "description": ("prepared/coco/dataset.json", ("eval", "--limit", "2", *QUICK)),
    "rows": ("prepared/coco/manifest.arrow", ("eval", "--limit", "2", *QUICK)),
    "eval-image": ("my-coco/val2017/000.png", ("eval", "--limit", "2", *QUICK)),
    **{
        f"prepare-{end}": (f"new/x.{end}", ("prepare-data", f"new/x.{end}"))
        for end in ("csv", "json", "jsonl", "parquet", "tar", "xml")
    },
    "prepare-folder": ("new/labels.csv", ("prepare-data", "new")),
    "prepare-image": ("new/b.png", ("prepare-data", "new/labels.csv", "--fast")),
    "prepare-decoded": ("new/b.png", ("prepare-data", "new/labels.csv")),
    "prepare-classes": ("c.txt", ("prepare-data", "new/labels.csv", "--classes", "c.txt")),
    "prepare-output": ("out", ("prepare-data", "new/labels.csv", "-o", "out")),
    "train-config": ("c.yaml", ("train", "--print-config", "-c", "c.yaml")),
    "train-pretrained": ("p.pth", ("train", "coco", "--data", "my-coco", "--pretrained", "p.pth", *FRESH)),
    "train-safetensors": ("p.safetensors", ("train", "coco", "--data", "my-coco", "--pretrained", "p.safetensors", *FRESH)),
    "train-init": ("m.safetensors", ("train", "coco", "--data", "my-coco", "--init-from", "m.safetensors", *QUICK)),
    "train-prior": (
        "m.safetensors",
        ("train", "coco", "--data", "my-coco", "--set", "loss.selective.prior_model=m.safetensors", *QUICK),
    ),
    "train-teacher": (
        "m.safetensors",
        ("train", "coco", "--data", "my-coco", "--set", "loss.distillation.teachers=[m.safetensors]", *QUICK),
    ),
    **{f"import-{end}": (f"p.{end}", ("import", f"p.{end}", "--classes", "a,b", "-o", "out")) for end in ("pth", "safetensors")},
    "predict-checkpoint": ("p.pth", ("predict", PICTURE, "-w", "p.pth", "--classes", "a,b", "--img-size", "64")),
    "train-checkpoint": ("p.pth", ("train", "--print-config", "--init-from", "p.pth", "--init-classes", "a,b")),
    "import-classes": ("c.txt", ("import", BEST, "--classes", "c.txt", "-o", "out")),
    "train-map": ("m.yaml", ("train", "--print-config", "--init-from", RUN, "--class-map", "m.yaml")),
    "train-output": ("out", (*TRAIN, "-o", "out")),
    "sweep-space": ("s.yaml", ("sweep", "nothing-here", "--space", "s.yaml")),
    "sweep-config": ("c.yaml", ("sweep", "nothing-here", "-c", "c.yaml")),
    "sweep-output": ("out", SWEEP),
    "sweep-study": ("out/study.log", SWEEP),
    "compare-output": ("out", COMPARE),
    "compare-run": ("out/sadcl-seed1/run.json", COMPARE),
    "cache": ("features/abc/about.json", ("cache", "--cache", "features")),
    "cache-output": ("out", (*TRAIN, "--frozen", "--cache", "out")),
}

# options, and the command with all that it needs beside them
OPTIONS: dict[Words, Words] = {
    ("predict", "pics"): (
        *("--part", "--column", "--exclude", "--known", "-o", "--txt-dir", "--annotate", "--sort", "--keywords", "--workers"),
    ),
    ("search", "--device", "cpu"): ("--label", "--index", "-o"),
    ("search", "--label", "one"): ("--count", "-w"),
    ("search", "--duplicates"): ("--min-cosine",),
    (*EXTEND, "pics"): ("--add", "--negatives", "--data", "--limit", "--steps", "--seed", "-b", "-o"),
    ("suggest", RUN, "pics", *QUICK): ("--count", "--format", "-b", "--precision", "-o"),
    EXPORT: ("--for", "--img-size", "--split", "-o"),
    COMPARE: ("--methods", "--seeds", "--rates", "--size", "--limit", "--cache", "--preset", "--hide-labels", "--track"),
    ("sweep", "nothing-here"): ("--param", "--trials", "--best", "--seeds", "--method", "--track", "--set", "-c", "-o"),
    SWEEP: ("--param", "--set", "--limit", "--cache"),
    ("cache",): ("--cache", "--clear"),
    ("visualize", "embeddings", *QUICK): ("--limit", "--against", "--split"),
    ("visualize", "co-occurrence"): ("--split", "--data", "-o"),
    ("visualize", "predictions", "--device", "cpu"): ("--count", "--threshold", "--split", "--img-size", "-o"),
    ("visualize", "batches"): ("--stage", "-w", "-o"),
    ("predict", PICTURE): (
        *("--threshold", "--topk", "--img-size", "--batch-size", "--device", "--precision", "--tta", "--resize", "-w"),
    ),
    SCORES: ("--topk", "--bootstrap", "--min-map", "--labels", "--threshold", "--against", "--save-scores", "-o", "--calibrate"),
    ("eval", *QUICK): ("--split", "--data", "--limit", "--img-size", "-b", "--known-share"),
    ("train", "--print-config"): (
        *("--lr", "--epochs", "--batch-size", "--img-size", "--seed", "--limit", "--weight-decay", "--time-budget"),
        *("--clip-grad", "--accumulate", "--save-every", "--backbone", "--method", "--preset", "--size", "--pretrained"),
        *("--init-from", "-c", "--set", "--workers", "--track"),
    ),
    ("train", "--print-config", "--set"): ("model.projection_width=", "optim.ema_decay=", "stages=", "data.manifest="),
    ("train",): ("--resume",),
    ("visualize", "prototypes"): ("--seed", "-o", "-w"),
    ("visualize", "attention", PICTURE): ("--topk", "--labels", "-o"),
    ("embed", "--limit", "2", *QUICK): ("--split", "--coordinates", "--seed", "--classes", "-b", "-o"),
    ("prepare-data", "new/labels.csv"): (
        *("--split", "--seed", "--classes", "--delimiter", "--name", "--label-column", "--absent", "--encoding", "--group-by"),
        *("--merge", "--drop", "--keep", "--min-positives", "--limit", "--resize", "--export", "--threshold", "-o", "--data"),
        *("--format", "--present", "--unknown", "--image-column", "--split-column", "--difficult", "--decimal", "--shards"),
    ),
    ("doctor",): ("--limit",),
    ("docs", "--path"): ("--",),
    ("push", "a/b", "-o", "out"): ("-w", "-o", "--"),
    ("demo", "-w", "none", "--port", "0"): ("--port", "--index", "-w"),
    ("serve", "-w", "none", "--port", "0"): (
        *("--host", "--port", "-b", "--max-images", "--max-mb", "--max-waiting", "--timeout", "-j", "--tta", "-w"),
    ),
    ("import", BEST): ("--classes", "--backbone", "--img-size", "--mean", "--std", "--set", "--ignore"),
}
WRITES = ("-o", "--save-scores", "--cache", *FOLDERS)
VALUES = {
    "empty": "",
    "zero": "0",
    "negative": "-1",
    "many": "1000000",
    "large": "4096",
    "huge": "1e308",
    "1e400": "1e400",
    "infinite": "inf",
    "numbers": ",".join(str(k) for k in range(10_000)),
    "400-digits": "9" * 400,
    "5000-digits": "9" * 5000,
    "nan": "nan",
    "above": "../../../ESCAPED",
    "300-letters": "x" * 300,
    "no-utf8": "\udcff",
    "escape": "a\n\x1b[2J",
    "formula": "=1+1",
    "commas": ",,,=,",
}
# commands that write or show names
SHOWN: dict[str, Words] = {
    "eval": ("eval", "--limit", "4", *QUICK),
    "eval-report": ("eval", "--report", "--limit", "4", *QUICK),
    "eval-errors": ("eval", "--label-errors", "--format", "csv", *QUICK),
    "eval-md": ("eval", "--format", "md", "--limit", "4", *QUICK),
    "eval-json": ("eval", "--json", "--limit", "4", *QUICK),
    "eval-save": ("eval", "--save-scores", "out.csv", "--limit", "4", *QUICK),
    "eval-data": ("eval", "-w", RUN, "--data", "prepared/coco", "--limit", "4", *QUICK),
    "embed": ("embed", "--limit", "4", *QUICK),
    "embeddings": ("visualize", "embeddings", "--limit", "12", *QUICK),
    "train": ("train", "prepared/coco", "--no-pretrained", *FRESH),
    "doctor": ("doctor", RUN, "--limit", "4", *QUICK),
    "co-occurrence": ("visualize", "co-occurrence"),
    "thresholds": ("visualize", "thresholds", "--limit", "4", *QUICK),
}
OF_MODELS: dict[str, Words] = {
    "predict": ("predict", PICTURE),
    "predict-json": ("predict", PICTURE, "--json", "--all-scores"),
    "predict-csv": ("predict", PICTURE, "--all-scores", "-o", "out.csv"),
    **{f"predict{option}": ("predict", PICTURE, option, "out") for option in FOLDERS},
    "predict-sidecar": ("predict", "pics", "--keywords", "sidecar"),
    "prototypes": ("visualize", "prototypes"),
    "attention": ("visualize", "attention", PICTURE),
    "embed": ("embed", "--limit", "2", *QUICK),
    "eval": ("eval", "--limit", "2", *QUICK),
    "init": ("train", "coco", "--data", "my-coco", "--init-from", BEST, "--epochs", "1", "--limit", "8", *QUICK),
}
PLACES: dict[str, Words] = {
    "predict-csv": ("predict", "pics", "-o", "out.csv"),
    "predict-tags": ("predict", "pics", "--save-txt"),
    **{f"predict{option}": ("predict", "pics", option, "out") for option in FOLDERS},
    "predict-sidecar": ("predict", "pics", "--keywords", "sidecar"),
    "embed": ("embed", "pics", *QUICK),
}
STREAMS = (
    *(f"{output}-{kind}" for kind in ("full", "closed", "pipe") for output in ("stdout", "stderr")),
    *("ascii", "strict", "narrow", "zero"),
)
STREAMED: dict[str, Words] = {
    "help": ("--help",),
    "predict": ("predict", "pics"),
    "predict-json": ("predict", "pics", "--json"),
    "eval": ("eval", "--limit", "2", *QUICK),
    "eval-csv": (*SCORES, "--format", "csv"),
    "doctor": ("doctor", RUN, "--limit", "2", *QUICK),
    "config": ("train", "--print-config"),
    "search": ("search", "--label", "one", "--no-sheet"),
    "export": (*EXPORT, "-o", "out.onnx"),
    "import": ("import", BEST, "--classes", "a,b"),
    "cache": ("cache", "--cache", "features"),
    "compare": COMPARE,
    "sweep": SWEEP,
    "suggest": ("suggest", RUN, "pics", *QUICK),
    "extend": (*EXTEND, "pics"),
    "push": ("push", "a/b", "-o", "out"),
    "train": TRAIN,
    "prepare": ("prepare-data", "new/labels.csv"),
    "embed": ("embed", "pics", *QUICK),
    "prototypes": ("visualize", "prototypes"),
    "usage": ("predict", "--nothing"),
}
STARTED = ("help", "config", "search", "usage")  # of these, since they import little


def attempts() -> Iterator[Attempt]:
    """Yield every attempt."""
    yield from _files()
    yield from _options()
    yield from _settings()
    yield from _names()
    yield from _models()
    for streams in STREAMS:
        for command, words in STREAMED.items():
            yield Attempt("stream", f"{command}-{streams}", words, _name_no_utf8, streams, started=command in STARTED)


def _files() -> Iterator[Attempt]:
    for slot, (path, words) in SLOTS.items():
        for name, make in FILES.items():
            yield Attempt("file", f"{slot}-{name}", words, partial(replaced, Path(path), make))


def _options() -> Iterator[Attempt]:
    for words, options in OPTIONS.items():
        for option in options:
            for name, value in VALUES.items():
                if name == "above" and option in WRITES:  # a person may write wherever a person wants to
                    continue
                last = (f"{option}{value}",) if option.endswith("=") else (option, value)
                yield Attempt("option", f"{'-'.join(words[:2])}{option}-{name}", (*words, *last))


def _settings() -> Iterator[Attempt]:
    """Yield a training with the largest and the smallest value of every setting that is a number, and one with many of each."""
    for key, node in settings_of(all_settings()).items():
        bounds = node.get("anyOf", [node])[0]
        if bounds.get("type") not in ("integer", "number") or key.endswith(".epochs"):  # a person may train for as long as that
            continue
        least, most = (bounds.get(name, bounds.get(f"exclusive{name.title()}", 1e30)) for name in ("minimum", "maximum"))
        values = {"least": least, "most": most, "many": round((max(least, 1) * most) ** 0.5)}
        if "exclusiveMinimum" in bounds:
            values["least"] = least + 1e-9
        if "exclusiveMaximum" in bounds:
            values["most"] = most - 1 if bounds["type"] == "integer" else most - 1e-9
        head = ("--set", f"model.head={key.split('.')[2]}") if key.startswith("model.heads.") else ()
        for name, value in values.items():
            if name != "many" or bounds["type"] == "integer":
                yield Attempt("setting", f"{key}-{name}", (*TRAIN, *head, "--set", f"{key}={value}"))


def _names() -> Iterator[Attempt]:
    for number, text in enumerate(NAMES):
        for command, words in SHOWN.items():
            yield Attempt("name", f"dataset-{number}-{command}", words, partial(_name_dataset, text))
        for command in ("eval", "embed", "eval-report", "train"):
            yield Attempt("name", f"class-{number}-{command}", SHOWN[command], partial(_name_class, text))
        for command, words in OF_MODELS.items():
            if command not in ("embed", "eval", "init"):
                yield Attempt("name", f"card-{number}-{command}", words, partial(_name_class, text))
        if text.strip() and "/" not in text and len(text.encode()) < 200:
            shown = ("visualize", "attention", f"pics/{text}.png")
            for command, words in PLACES.items():
                yield Attempt("name", f"image-{number}-{command}", words, partial(_name_image, text))
            yield Attempt("name", f"image-{number}-predict", ("predict", "pics"), partial(_name_image, text))
            yield Attempt("name", f"image-{number}-attention", shown, partial(_name_image, text))
            listed = ("prepare-data", "made.csv", "--export", "csv")
            yield Attempt("name", f"image-{number}-prepare", listed, partial(_list_image, text))


def _models() -> Iterator[Attempt]:
    for command, words in OF_MODELS.items():
        for name, values in CARDS.items():
            yield Attempt("card", f"{name}-{command}", words, partial(edit_header, Path(BEST), values))
        for name, tensors in TENSORS.items():
            yield Attempt("card", f"{name}-{command}", words, partial(edit_header, Path(BEST), {}, tensors=tensors))
    for name, values in STATES.items():
        for epochs in ((), ("--epochs", "3,2")):
            arrange = partial(edit_header, Path(RUN, "state/last.safetensors"), values, STATE)
            yield Attempt("state", f"{name}{'-longer' if epochs else ''}", ("train", "--resume", RUN, *epochs), arrange)


def make_world(trained: Path, index: Path, folder: Path) -> None:
    """Copy a folder with a run and its data, and the embeddings of the run, and put other data beside them."""
    shutil.copytree(trained / "my-coco", folder / "my-coco", copy_function=os.link)
    for name in ("runs", "prepared"):
        shutil.copytree(trained / name, folder / name)
    shutil.copytree(index, folder / INDEX)
    for path in folder.glob("prepared/*/dataset.json"):
        path.write_text(path.read_text().replace(str(trained.resolve()), str(folder.resolve())))
    for path in (folder / RUN / "run.json", folder / RUN / "config.yaml"):
        path.write_text(path.read_text().replace(str(trained.resolve()), str(folder.resolve())))
    pictures = sorted((folder / "my-coco" / "val2017").iterdir())
    for other in ("pics", "new"):
        (folder / other).mkdir()
        for name, picture in zip(("a.png", "b.png", "c.png"), pictures, strict=False):
            os.link(picture, folder / other / name)
    (folder / "new" / "labels.csv").write_text("image,labels,split\na.png,cat,train\nb.png,cat|dog,train\nc.png,dog,val\n")
    (folder / "l.csv").write_text("image,labels\na.png,cat\nb.png,dog\n")
    scores, targets = np.array([[0.9, 0.2], [0.1, 0.8]]), np.eye(2, dtype=np.int8)
    np.savez(folder / "s.npz", scores=scores, targets=targets, classes=["cat", "dog"], images=["a.png", "b.png"])


def _name_dataset(text: str) -> None:
    edit_json(Path("prepared/coco/dataset.json"), lambda document: document.update(name=text))


def _name_class(text: str) -> None:
    edit_json(Path("prepared/coco/dataset.json"), lambda document: document["classes"].__setitem__(3, text))
    edit_header(Path(BEST), {"classes": [*(str(k) for k in range(3)), text, *(str(k) for k in range(4, 10))]})


def _name_image(text: str) -> None:
    os.link(PICTURE, f"pics/{text}.png")


def _list_image(text: str) -> None:
    os.link(PICTURE, f"new/{text}.png")
    cell = text.replace('"', '""')
    Path("made.csv").write_text(f'image,labels\n"new/{cell}.png","{cell}"\nnew/a.png,cat\n')


def _name_no_utf8() -> None:
    os.link(PICTURE, b"pics/\xff.png")
