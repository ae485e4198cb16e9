"""All that checks look at, gathered once: what a run wrote down, its data, and what its model makes of held-out images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.split import Split
from sadcl_core.diagnosis.history import History, RunState, read_config, read_history, read_state
from sadcl_core.diagnosis.same_images import SameImages, find_same_images
from sadcl_core.diagnosis.verdict import Absent, NotThereError, there
from sadcl_core.errors import DataError, MachineError, SadclError, UsageError
from sadcl_core.evaluation.score_split import score_split
from sadcl_core.inference.load import Model, load
from sadcl_core.runs.checkpoint import ModelCard, load_model, read_card
from sadcl_core.runs.run_directory import OWN_FILES, RunDirectory, find_model
from sadcl_core.runtime.device import choose_device
from sadcl_core.runtime.progress import Progress

Part = TypeVar("Part")
HALF = 0.5  # the threshold of a model without its own


@dataclass(frozen=True)
class Scored:
    """Held-out images with what the model makes of them.

    Attributes:
        scores: (N, K) in 0..1, as they come out.
        as_trained: (N, K), before any calibration.
        targets: (N, K) with 1, 0 or -1 for unknown.
        thresholds: (K,); a label counts when its score is above.
        classes: K names.
        of: images of the split, of which N were scored.
    """

    scores: npt.NDArray[np.floating]
    as_trained: npt.NDArray[np.floating]
    targets: npt.NDArray[np.int8]
    thresholds: npt.NDArray[np.float64]
    classes: tuple[str, ...]
    of: int


@dataclass(frozen=True)
class Evidence:
    """Each piece, or why it is not to be had.

    Attributes:
        run: its folder.
        state: of run.json.
        config: of config.yaml.
        history: of results.csv and metrics.jsonl.
        card: of the model file.
        broken_weights: names of tensors of it that hold what is no number.
        manifest: of the prepared data, as they are now.
        same_images: of the held-out and the training split.
        scored: held-out images.
    """

    run: Path
    state: RunState | Absent
    config: RunConfig | Absent
    history: History | Absent
    card: ModelCard | Absent
    broken_weights: tuple[str, ...] | Absent
    manifest: Manifest | Absent
    same_images: SameImages | Absent
    scored: Scored | Absent

    @property
    def train_split(self) -> Split:
        """The images that were trained on.

        Raises:
            NotThereError: they are not to be had.
        """
        config = self.config
        return _split(there(self.manifest), "train" if isinstance(config, Absent) else config.data.train_split)

    @property
    def held_out(self) -> Split:
        """The images that were held out.

        Raises:
            NotThereError: they are not to be had.
        """
        names = [
            "" if isinstance(self.state, Absent) else self.state.eval_split,
            "" if isinstance(self.config, Absent) else self.config.data.eval_split,
        ]
        name = next((name for name in names if name), "")
        if not name:
            raise NotThereError("the run does not say which split it held out")
        return _split(there(self.manifest), name)


def find_run(path: Path) -> RunDirectory:
    """The run in a folder, or the one that a model file is in.

    Raises:
        DataError: there is none.
        UsageError: this is a file of no run.
    """
    if path.is_file():
        run = find_model(path)[1]
        if run is None:
            raise UsageError(f"{path} is a file outside a run. Give the folder of a run, such as runs/digits.")
        return run
    if not any((path / name).is_file() for name in (*OWN_FILES, "weights/best.safetensors", "weights/last.safetensors")):
        raise DataError(f"{path} is not a run (no run.json and none of its other files). Give a run of sadcl train.")
    return RunDirectory(path)


def gather(
    run: RunDirectory,
    *,
    data: Path | None = None,
    limit: int | None = 1000,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Evidence:
    """Read everything a run has, and score held-out images at equal distances.

    Args:
        run: from `find_run`.
        data: where its images lie now, when they moved.
        limit: images that are scored at most.
        device: to score on.
        batch_size: images at a time.
        workers: processes that read images.
        progress: told how many images are scored.

    Raises:
        UsageError: there is no such kind of device.
    """
    known_device(device)
    state, config = read_state(run), read_config(run)
    opened = attempt(lambda: load(run.path, device=device))
    evidence = Evidence(
        run=run.path,
        state=state,
        config=config,
        history=read_history(run),
        card=attempt(lambda: read_card(find_model(run.path)[0])),
        broken_weights=attempt(lambda: _broken(find_model(run.path)[0])),
        manifest=attempt(lambda: _manifest(state, config, data)),
        same_images=Absent("not looked at yet"),
        scored=Absent("not looked at yet"),
    )
    evidence = replace(evidence, same_images=attempt(lambda: find_same_images(evidence.train_split, evidence.held_out)))

    def scored() -> Scored:
        images = spaced_split(_as_the_model_counts(there(opened), evidence.held_out), limit)
        return score_held_out(
            there(opened),
            images,
            limit=limit,
            of=len(evidence.held_out),
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )

    return replace(evidence, scored=attempt(scored))


def known_device(device: str) -> None:
    """Refuse what is no device at all; one that this machine lacks only costs the scores.

    Raises:
        UsageError: there is no such kind of device.
    """
    try:
        choose_device(device)
    except MachineError:
        return


def attempt(read: Callable[[], Part]) -> Part | Absent:
    """What a function gives, or why it cannot; devices that run out of memory raise a RuntimeError."""
    try:
        return read()
    except (SadclError, NotThereError, OSError, RuntimeError) as error:
        return Absent(str(error) or type(error).__name__)


def score_held_out(
    opened: Model,
    images: Split,
    *,
    limit: int | None,
    of: int,
    batch_size: int,
    workers: int | None,
    progress: Progress | None,
) -> Scored:
    """Run a model over held-out images.

    Args:
        opened: the model.
        images: a sample of them, with the classes in the model's order.
        limit: how many of the sample are taken at most.
        of: images of the whole split.
        batch_size: images at a time.
        workers: processes that read images.
        progress: told how many images are scored.

    Raises:
        SadclError: the model or an image cannot be used.
    """
    scored = score_split(opened, images, batch_size=batch_size, workers=workers, limit=limit, progress=progress)
    return Scored(
        scores=scored.scores,
        as_trained=scored.scores if scored.as_trained is None else scored.as_trained,
        targets=scored.targets,
        thresholds=np.array(scored.own_thresholds or (HALF,) * len(scored.classes)),
        classes=scored.classes,
        of=of,
    )


def _as_the_model_counts(opened: Model, split: Split) -> Split:
    """The same images, their labels numbered by the model's classes."""
    card, manifest = opened.card, split.manifest
    strange = [name for name in manifest.classes if name not in set(card.classes)]
    if strange:
        raise NotThereError(f"the data have classes that the model does not know, such as {strange[0]!r}")
    return split if manifest.classes == card.classes else manifest.with_classes(card.classes, card.superclasses).split(split.name)


def _broken(path: Path) -> tuple[str, ...]:
    """Read aside from what is scored: that the device fails says nothing of the file."""
    tensors = load_model(path).classifier.state_dict()
    return tuple(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))


def spaced_split(split: Split, limit: int | None) -> Split:
    """At most `limit` images at equal distances, since rows may be in the order of their labels; of shards the first ones."""
    if limit is None or len(split) <= limit or split.manifest.description.shards is not None:
        return split
    manifest = split.manifest
    places = np.flatnonzero(pc.equal(manifest.rows["split"], split.name).to_numpy())
    chosen = places[np.linspace(0, len(places) - 1, limit).astype(int)]
    return Manifest(manifest.description, manifest.rows.take(chosen)).split(split.name)


def _split(manifest: Manifest, name: str) -> Split:
    try:
        return manifest.split(name)
    except DataError as error:
        raise NotThereError(str(error)) from None


def _manifest(state: RunState | Absent, config: RunConfig | Absent, data: Path | None) -> Manifest:
    """The prepared data of a run, with their images where they are now."""
    names = ["" if isinstance(state, Absent) else state.manifest, "" if isinstance(config, Absent) else config.data.manifest]
    folder = next((name for name in names if name), "")
    if not folder:
        raise NotThereError("the run does not say where its data lie")
    return load_manifest(Path(folder), root=None if data is None else data.resolve())
