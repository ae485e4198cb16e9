"""The evidence for all checks, gathered once: files of a run, its data, and the scores of its model on held-out images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sadcl_core.config.schema import AsymmetricOptions, RunConfig
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import Manifest, find_prepared, load_manifest
from sadcl_core.data.split import Split, spaced
from sadcl_core.diagnosis.baselines import Baselines, baselines
from sadcl_core.diagnosis.findings import NotCheckedError
from sadcl_core.diagnosis.history import History, RunState, read_config, read_history, read_state
from sadcl_core.errors import DataError, SadclError
from sadcl_core.inference.load import Model, load_trained
from sadcl_core.inference.score import score
from sadcl_core.inference.split import number_as_model
from sadcl_core.runs.card import ModelCard, read_card
from sadcl_core.runs.run_directory import RunDirectory, find_model
from sadcl_core.runtime.device import check_device_and_precision, choose_device, choose_precision
from sadcl_core.runtime.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Scored:
    """Held-out images with the scores of the model.

    Attributes:
        scores: (N, K) in 0..1, calibrated where the model is.
        as_trained: (N, K), before any calibration.
        targets: (N, K) with 1, 0 or -1 for unknown.
        thresholds: (K,); a label counts when its score is above.
        classes: K names.
        total: images of the split, of which N were scored.
    """

    scores: npt.NDArray[np.floating]
    as_trained: npt.NDArray[np.floating]
    targets: npt.NDArray[np.int8]
    thresholds: npt.NDArray[np.float64]
    classes: tuple[str, ...]
    total: int


@dataclass(frozen=True)
class Evidence:
    """The pieces of evidence; a piece that is not available is None, and `reasons` says why by its name.

    Attributes:
        reasons: why pieces are not available, each as the end of a sentence.
        state: of run.json.
        config: of config.yaml.
        history: of results.csv and metrics.jsonl.
        card: of the model file.
        broken_weights: names of its tensors that hold NaN or infinity.
        manifest: of the prepared data, as they are now.
        train: the images that were trained on.
        held_out: the images that were held out.
        baselines: losses on the labels of `train` that need no image.
    """

    run: Path
    reasons: dict[str, str]
    state: RunState | None = None
    config: RunConfig | None = None
    history: History | None = None
    card: ModelCard | None = None
    broken_weights: tuple[str, ...] | None = None
    manifest: Manifest | None = None
    train: Split | None = None
    held_out: Split | None = None
    baselines: Baselines | None = None
    scored: Scored | None = None

    def need(self, name: str, piece: T | None) -> T:
        """Return a piece of evidence that a check cannot do without.

        Raises:
            NotCheckedError: it is not available.
        """
        if piece is None:
            raise NotCheckedError(self.reasons[name])
        return piece

    @property
    def stages(self) -> list[str]:
        """The stages that the configuration trains; none without a configuration."""
        return [] if self.config is None else self.config.used_stages

    @property
    def last_loss(self) -> float | None:
        """The classification loss at the end of training."""
        return None if self.history is None else self.history.last_loss

    def steps(self, stage: str) -> int | None:
        """Return the steps of the finished epochs of a stage, None where the steps of an epoch are unknown."""
        if self.history is None or stage not in self.history.stages:
            return 0
        each = max((row.step for row in self.history.steps_of(stage)), default=0)  # the last of an epoch is always recorded
        if not each and self.train is not None and self.config is not None:
            each = math.ceil(len(self.train) / self.config.data.batch_size)
        return each * max(row.epoch for row in self.history.stages[stage]) if each else None


def gather(
    run: RunDirectory,
    *,
    data: str | Path | None = None,
    limit: int | None = 1000,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Evidence:
    """Read everything that a run has, and score held-out images at equal distances; the options are those of `diagnose`.

    A device that this machine lacks only costs the scores.

    Raises:
        UsageError: there is no such kind of device.
    """
    check_device_and_precision(device, "auto")
    reasons: dict[str, str] = {}

    def attempt(name: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (SadclError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: out of memory on a device
            reasons[name] = str(error) or type(error).__name__
            return None

    state = attempt("state", lambda: read_state(run))
    config = attempt("config", lambda: read_config(run))
    manifest = attempt("manifest", lambda: _read_manifest(run.path, state, config, data))
    model = attempt("broken_weights", lambda: load_trained(run.path, device="cpu"))
    tensors = {} if model is None else model.classifier.state_dict()
    broken = tuple(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))
    train = held_out = limits = scored = None
    if manifest is None:
        reasons["train"] = reasons["held_out"] = reasons["manifest"]
    else:
        train = attempt("train", lambda: manifest.split("train" if config is None else config.data.train_split))
        held_out = attempt("held_out", lambda: _held_out(manifest, state, config))
    if config is None or train is None:
        reasons["baselines"] = reasons["config" if config is None else "train"]
    else:
        limits = attempt("baselines", lambda: _baselines(config, train))
    if model is None or held_out is None:
        reasons["scored"] = reasons["broken_weights" if model is None else "held_out"]
    else:
        scored = attempt("scored", lambda: _score(model, held_out, device, limit, batch_size, workers, progress))
    return Evidence(
        run=run.path,
        reasons=reasons,
        state=state,
        config=config,
        history=attempt("history", lambda: read_history(run)),
        card=attempt("card", lambda: read_card(find_model(run.path)[0])),
        broken_weights=None if model is None else broken,
        manifest=manifest,
        train=train,
        held_out=held_out,
        baselines=limits,
        scored=scored,
    )


def _read_manifest(run: Path, state: RunState | None, config: RunConfig | None, data: str | Path | None) -> Manifest:
    """Return the prepared data of a run, with their images where they are now."""
    folder = (state.manifest if state else "") or (config.data.manifest if config else "")
    if not folder:
        raise DataError("the run does not say where its data lie")
    return load_manifest(find_prepared(Path(folder), run), root=None if data is None else Path(data).resolve())


def _held_out(manifest: Manifest, state: RunState | None, config: RunConfig | None) -> Split:
    name = (state.eval_split if state else "") or (config.data.eval_split if config else "")
    if not name:
        raise DataError("the run does not say which split it held out")
    return manifest.split(name)


def _baselines(config: RunConfig, train: Split) -> Baselines:
    """Return the losses that need no image, on the labels of the training split."""
    if config.data.sampler != "uniform":
        raise DataError(f"images were drawn by {config.data.sampler}, so classes had other shares than in the data")
    return baselines(classification_options(config), train.class_counts(), train.inactive_counts())


def classification_options(config: RunConfig) -> AsymmetricOptions:
    """Return the options of the classification loss in the last stage that is trained, whose losses are compared.

    Example:
        >>> config = RunConfig.model_validate({"stages": {"classification": {"gamma_neg": 4}}})
        >>> classification_options(config).gamma_neg
        4.0
    """
    names = config.used_stages
    return (config.loss_of(config.stages[names[-1]]) if names else config.loss).asymmetric


def _score(
    model: Model, held_out: Split, device: str, limit: int | None, batch_size: int, workers: int | None, progress: Progress | None
) -> Scored:
    """Run a model over a sample of held-out images."""
    card, chosen = model.card, choose_device(device)
    split = number_as_model(held_out.manifest, card).split(held_out.name)
    scored = score(
        model.classifier.to(chosen),
        make_loader(spaced_split(split, limit), card.preprocessing.resize, batch_size=batch_size, workers=workers, limit=limit),
        card=card.as_trained,
        device=chosen,
        precision=choose_precision("auto", chosen),
        progress=progress,
    )
    return Scored(
        scores=card.calibrated_scores(scored.scores),
        as_trained=scored.scores,
        targets=scored.targets,
        thresholds=model.thresholds,
        classes=card.classes,
        total=len(held_out),
    )


def spaced_split(split: Split, limit: int | None) -> Split:
    """Return at most `limit` images at equal distances; all of shards."""
    if limit is None or len(split) <= limit or split.manifest.description.shards is not None:
        return split
    manifest = split.manifest
    rows = np.flatnonzero(pc.equal(manifest.rows["split"], split.name).to_numpy())
    return Manifest(manifest.description, manifest.rows.take(spaced(rows.tolist(), limit))).split(split.name)
