"""Look for files and settings that break the program, for as long as there is time.

Run: python -m tests.hostile.fuzz [MINUTES] [SEED]. Every target in turn gets some examples of hypothesis: the readers
of label files, model files, states of runs, files of scores, settings, and the small files of a run. An error that is no
`SadclError` is printed with the smallest example that was found.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open

from sadcl_core.config.schema import ModelSection, RunConfig
from sadcl_core.data.class_names import load_class_map
from sadcl_core.data.image_stream import open_images
from sadcl_core.data.images import read_image
from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.rows import Record
from sadcl_core.diagnosis.history import read_config, read_history
from sadcl_core.errors import SadclError
from sadcl_core.evaluation.published import read_table
from sadcl_core.evaluation.scores_file import match_labels, read_scores
from sadcl_core.inference.embedding_index import ARRAYS, LABELS, open_index
from sadcl_core.inference.feature_store import FeatureCard, stored_features
from sadcl_core.inference.search import duplicates, outliers
from sadcl_core.inference.thresholds import choose
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.weights import load_file
from sadcl_core.plots.curves import plot_curves
from sadcl_core.runs.card import CARD, ModelCard
from sadcl_core.runs.checkpoint import load_model, save_model
from sadcl_core.runs.imports.import_checkpoint import import_checkpoint
from sadcl_core.runs.run_directory import RunDirectory, find_model, read_status
from sadcl_core.runs.state import CARD as STATE_CARD
from sadcl_core.runs.state import RunProgress, StateCard, read_state, save_state
from sadcl_core.training.train import configure_run
from tests.core.data.formats.test_any_bytes import LABEL_FILES, read_changed, write_once
from tests.hostile.changes import Draw, changed, changed_values

EXAMPLES = 60  # of a target, before the next one has its turn

Target = Callable[[Draw], None]


def of_bytes(path: Path, use: Callable[[Path], object]) -> Target:
    """Return a target that reads a file with changed bytes."""
    content = path.read_bytes()

    def target(data: Draw) -> None:
        path.write_bytes(changed(content, data))
        use(path)

    return target


def of_header(path: Path, key: str, use: Callable[[Path], object]) -> Target:
    """Return a target that reads a .safetensors file with a changed card."""
    with safe_open(path, framework="np") as stored:
        card = json.loads(stored.metadata()[key])
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118

    def target(data: Draw) -> None:
        path.unlink(missing_ok=True)
        safetensors.numpy.save_file(arrays, path, metadata={key: json.dumps(changed_values(card, data))})
        use(path)

    return target


CELLS = st.one_of(
    st.lists(st.floats(), min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.integers(-2, 2), min_size=3, max_size=3),
    st.lists(st.text(max_size=4), min_size=3, max_size=3),
    st.lists(st.binary(max_size=4), min_size=3, max_size=3),
    st.lists(st.none() | st.sampled_from(["a.jpg", "b.jpg", "c.jpg"]), min_size=3, max_size=3),
    st.lists(st.lists(st.floats(0, 1), max_size=2), min_size=3, max_size=3),
)
COLUMNS = st.dictionaries(
    st.sampled_from(["image", "label", "score", "cat", "dog", "", "0", "1", "targets", "scores"]), CELLS, max_size=4
)


def scored_parquet(path: Path) -> Target:
    """Return a target that reads and matches Parquet files of any columns."""

    def target(data: Draw) -> None:
        columns = data.draw(COLUMNS)
        pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
        evaluate(path)

    return target


def scored_arrays(path: Path) -> Target:
    """Return a target that reads and matches archives of any arrays."""

    def target(data: Draw) -> None:
        arrays = {
            name: np.array(values) for name, values in data.draw(COLUMNS).items() if name and len({*map(np.shape, values)}) < 2
        }
        if arrays:
            np.savez(path, **arrays)  # type: ignore[arg-type]
            evaluate(path)

    return target


def evaluate(path: Path) -> None:
    """Read scores and match them with the labels beside them, and with those in them."""
    scores = read_scores(path)
    for labels in (path.with_name("labels.csv"), None):
        try:
            match_labels(scores, labels, by_order=True)
        except SadclError:
            continue


def settings_of_values(data: Draw) -> None:
    """Configure a run with changed settings."""
    document = changed_values(RunConfig().model_dump(mode="json"), data)
    if isinstance(document, dict):
        configure_run(set={key: value for key, value in flat(document) if key not in ("preset", "method")})


def flat(table: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return values by dotted keys."""
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{before}{key}"
        pairs += flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return pairs


def assignments(data: Draw) -> None:
    """Configure a run with settings of any text."""
    keys = st.sampled_from([key for key, _ in flat(RunConfig().model_dump(mode="json"))])
    words = st.one_of(
        st.text(max_size=12), st.sampled_from(["1e308", "nan", "null", "[1]", "{a: 1}", "-1", "9" * 400, "*a", "!!a b"])
    )
    configure_run(set=[f"{data.draw(keys)}={data.draw(words)}"])


def targets(folder: Path) -> dict[str, Target]:
    """Return every target by its name."""
    every: dict[str, Target] = {}
    written = write_once(folder / "labels")
    for name in LABEL_FILES:
        every[f"labels {name}"] = partial(read_changed, name, written)
    every |= of_a_run(folder / "run")
    every |= of_images(folder / "images")
    every |= of_embeddings(folder / "embeddings")
    every |= of_scores(folder / "scores")
    small = folder / "small"
    small.mkdir()
    (small / "map.yaml").write_text("aeroplane: airplane\nsofa: couch\n'x y': null\n")
    (small / "t.json").write_text('{"schema_version": 1, "scores": "calibrated", "thresholds": {"cat": 0.3, "dog": 0.5}}')
    (small / "table.csv").write_text("method,train_size,mAP,CF1\nSADCL,448,86.1,-\n'x,448,99%,1\n")
    (small / "c.yaml").write_text("seed: 3\ndata:\n  img_size: 64\nstages: {classification: {epochs: 3, lr: 1e-3}}\n")
    every["class map"] = of_bytes(small / "map.yaml", load_class_map)
    every["thresholds"] = of_bytes(small / "t.json", lambda path: choose(str(path), ["cat", "dog"]))
    every["published table"] = of_bytes(small / "table.csv", read_table)
    every["settings file"] = of_bytes(small / "c.yaml", lambda path: configure_run(config=path))
    every["settings values"] = settings_of_values
    every["settings words"] = assignments
    Manifest.from_records(
        Description("pets", small, ("cat", "dog")), [Record("a.jpg", "train", (0,)), Record("b.jpg", "val", (1,), unknown=(0,))]
    ).save(small / "prepared")
    every["manifest rows"] = of_bytes(small / "prepared" / "manifest.arrow", lambda path: load_manifest(path.parent))
    Manifest.from_records(Description("pets", small, ("cat", "dog")), [Record("a.jpg", "train", (0,))]).save(small / "described")
    every["manifest description"] = of_bytes(small / "described" / "dataset.json", lambda path: load_manifest(path.parent))
    backbone = Backbone("test_resnet", stride=32, img_size=64)
    torch.save(backbone.net.state_dict(), small / "w.pth")
    every["weights"] = of_bytes(small / "w.pth", lambda path: load_file(backbone, path))
    return every


def of_images(folder: Path) -> dict[str, Target]:
    """Return the targets that are images, and tables and archives of images."""
    folder.mkdir()
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    made = {}
    for end in ("png", "jpg", "webp", "tif", "gif", "bmp"):
        pixels.save(folder / f"a.{end}")
        made[f"image {end}"] = of_bytes(folder / f"a.{end}", read_image)
    content = (folder / "a.png").read_bytes()
    (folder / "l.csv").write_text("image,text\na.bmp,x\na.gif,y\n")
    (folder / "l.txt").write_text("a.bmp\na.gif\n")
    pq.write_table(pa.table({"image": [{"bytes": content, "path": "a.png"}] * 2}), folder / "l.parquet")
    with tarfile.open(folder / "l.tar", "w") as archive:
        archive.add(folder / "a.gif", "a.gif")
    for end in ("csv", "txt", "parquet", "tar"):
        made[f"images {end}"] = of_bytes(folder / f"l.{end}", read_stream)
    return made


def read_stream(path: Path) -> None:
    """Read the images that a file names or holds."""
    for image in islice(open_images([str(path)]), 10):
        with suppress(SadclError):
            read_image(image, image.name)


def search_index(path: Path) -> None:
    """Search in embeddings."""
    index = open_index(path.parent)
    for label in ("cat", None):
        outliers(index, label, count=3)
    duplicates(index, cosine=-1, count=3)


def of_embeddings(folder: Path) -> dict[str, Target]:
    """Return the targets that are embeddings, feature maps on the disk and checkpoints of other programs."""
    images = {"image": ["a.jpg", "b.jpg"], "path": ["/a.jpg", "/b.jpg"]}
    made = {}
    for name, array in ARRAYS.items():
        for copy in (name, array):
            inside = folder / copy
            inside.mkdir(parents=True)
            for other, vectors in ARRAYS.items():
                pq.write_table(pa.table({**images, "label": ["cat", "dog"]} if other == LABELS else images), inside / other)
                np.save(inside / vectors, np.eye(2, 3, dtype=np.float32))
            made[f"embeddings {copy}"] = of_bytes(inside / copy, search_index)
    card = FeatureCard.model_validate(
        {"backbone": "a", "weights": "b", "timm": "1", "img_size": 64, "stride": 4, "shapes": ((2, 2, 3),)}
        | {"mean": (0, 0, 0), "std": (1, 1, 1), "computed": "fp32", "kept": "fp16"}
    )
    store = folder / "cache" / "key"
    store.mkdir(parents=True)
    (store / "index.bin").write_bytes(bytes(64))
    (store / "about.json").write_text(card.model_dump_json())
    made["feature maps"] = of_bytes(store / "about.json", lambda path: stored_features(path.parent.parent))
    torch.save({"state_dict": {"fc.weight": torch.ones(3, 2)}, "epoch": 3}, folder / "c.pth")
    made["checkpoint"] = of_bytes(
        folder / "c.pth", lambda path: import_checkpoint(path, folder / "out.safetensors", classes="a,b,c")
    )
    return made


def of_scores(folder: Path) -> dict[str, Target]:
    """Return the targets that are files of scores."""
    folder.mkdir()
    (folder / "labels.csv").write_text("image,labels\na.jpg,cat\nb.jpg,dog\nc.jpg,cat;dog\n")
    scores = np.random.default_rng(0).random((3, 2)).astype(np.float32)
    (folder / "s.csv").write_text("image,cat,dog\na.jpg,0.5,0.25\nb.jpg,0.5,1\nc.jpg,0,0.5\n")
    np.save(folder / "s.npy", scores)
    np.savez(folder / "s.npz", scores=scores, classes=["cat", "dog"], images=["a.jpg", "b.jpg", "c.jpg"])
    pq.write_table(
        pa.table({"image": ["a.jpg", "b.jpg", "c.jpg"], "cat": scores[:, 0], "dog": scores[:, 1]}), folder / "s.parquet"
    )
    made = {f"scores {end} bytes": of_bytes(folder / f"s.{end}", evaluate) for end in ("csv", "npy", "npz", "parquet")}
    return {**made, "scores parquet": scored_parquet(folder / "t.parquet"), "scores npz": scored_arrays(folder / "t.npz")}


def of_a_run(folder: Path) -> dict[str, Target]:
    """Return the targets that are files of a run."""
    section = ModelSection(backbone="test_resnet", stride=16, head="pooled", projection_width=4)
    card = ModelCard(classes=("cat", "dog", "cow"), img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, model=section)
    weights = Classifier(section, num_classes=3, img_size=64).state_dict()
    run = RunDirectory(folder)
    for path in (run.best, folder / "m" / "bytes.safetensors"):
        save_model(path, weights, card)
    progress = RunProgress(stage="classification", epoch=2, best_map=50.0, best_epoch=1)
    state = StateCard(config=RunConfig(), sources={}, data_fingerprint="x", steps=3, progress=progress)
    save_state(run.state, state, {"model.a": torch.ones(3)})
    run.write_status(status="finished", best={"mAP_interpolated": 50.0, "stage": "classification", "epoch": 1}, resumed=["x"])
    run.append_result({"stage": "classification", "epoch": 1, "loss": 0.5, "mAP_interpolated": 3.0})
    run.append_result({"stage": "classification", "epoch": 2, "loss": 0.4, "mAP_interpolated": 4.0})
    run.append_metrics({"stage": "classification", "epoch": 1, "step": 1, "loss": 0.5, "lr": 1e-3})
    run.write_config(RunConfig().model_dump(mode="json"), {})

    def read_run(path: Path) -> None:
        read_status(run.path)
        find_model(run.path)

    def draw(path: Path) -> None:
        plot_curves(run.read_results(), folder / "curves.png", title="x")

    return {
        "model card": of_header(run.best, CARD, load_model),
        "model bytes": of_bytes(folder / "m" / "bytes.safetensors", load_model),
        "state card": of_header(run.state, STATE_CARD, lambda path: read_state(run)),
        "run.json": of_bytes(folder / "run.json", read_run),
        "results.csv": of_bytes(folder / "results.csv", draw),
        "metrics.jsonl": of_bytes(folder / "metrics.jsonl", lambda path: read_history(run)),
        "config.yaml": of_bytes(folder / "config.yaml", lambda path: read_config(run)),
    }


def work_on(target: Target, number: int, count: Counter[str], name: str) -> str:
    """Try some examples; return the traceback of the smallest one that breaks something, or nothing."""

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(data=st.data())
    def attempt(data: Draw) -> None:
        count[name] += 1
        with suppress(SadclError):
            target(data)

    try:
        attempt()
    except Exception:  # whatever hypothesis found
        return traceback.format_exc()
    return ""


def main(minutes: float = 60.0, first: int = 0) -> None:
    """See the module."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    start, number = time.monotonic(), first
    count: Counter[str] = Counter()
    broken: dict[str, str] = {}
    every = targets(folder)
    while time.monotonic() - start < 60 * minutes:
        number += 1
        for name, target in every.items():
            if name in broken or time.monotonic() - start > 60 * minutes:
                continue
            trace = work_on(target, number, count, name)
            if trace:
                broken[name] = trace
                print(f"== {name}\n{trace[-3000:]}", flush=True)
        print(f"{(time.monotonic() - start) / 60:.1f} min, {sum(count.values()):,} examples, {len(broken)} broken", flush=True)
    for name, tries in count.most_common():
        print(f"{tries:8,}  {name}")
    shutil.rmtree(folder)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main(*(float(word) if k == 0 else int(word) for k, word in enumerate(sys.argv[1:3])))  # type: ignore[arg-type]
