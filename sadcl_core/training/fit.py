"""A whole training run: from a configuration and a manifest to model files in a run directory, or on from where it stopped."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch

from sadcl_core import __version__
from sadcl_core.config.schema import DataSection, ModelSection, RunConfig, flatten
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError, DivergedError, SadclError, Terminated, UsageError
from sadcl_core.model.classifier import Classifier, head_options
from sadcl_core.model.weights import LoadedWeights, load_pretrained
from sadcl_core.registry import AUGMENTATIONS, HEADS, resolve, suggest
from sadcl_core.runs.checkpoint import ModelCard, load_model
from sadcl_core.runs.run_directory import DIVERGED, FINISHED, RUNNING, RunDirectory, find_model, this_process
from sadcl_core.runs.state import StateCard, read_state
from sadcl_core.runtime.device import choose_device, choose_precision
from sadcl_core.runtime.distributed import barrier, explain_lost_process
from sadcl_core.training.context import Training
from sadcl_core.training.interrupts import Interrupts
from sadcl_core.training.listeners.events import Listener, Note, Transferred
from sadcl_core.training.parallel import check_compute, make_ready, start_accelerate
from sadcl_core.training.resume import Resumed, refuse_other_data
from sadcl_core.training.stages import MAPS, Stored, result_columns, run_stage, seed_everything
from sadcl_core.training.terms import TERMS
from sadcl_core.training.transfer import transfer

FEW = 100  # held-out images, below which the best epoch is much a matter of chance


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run reached: highest EMA mAP (interpolated, percent), and where."""

    run: RunDirectory
    best_map: float
    stage: str
    epoch: int


def train(
    config: RunConfig,
    sources: Mapping[str, str],
    manifest: Manifest,
    run: RunDirectory,
    *,
    exist_ok: bool = False,
    after: RunDirectory | None = None,
    listen: Listener,
) -> TrainingResult:
    """Train all stages.

    Args:
        config: validated; see `sadcl_core.config.schema.resolve_config`.
        sources: where each value of it came from.
        manifest: with the splits that `config.data` names.
        run: made here; nothing is written before the model is built.
        exist_ok: replace an earlier run in the same directory.
        after: a finished run of the first stage alone, which this one takes over and goes on from.
        listen: told what happens.

    Raises:
        SadclError: one of its kinds; run.json then says what it was.
        KeyboardInterrupt: after the state was saved.
    """
    known = flatten(config.model_dump())
    config = completed(config, manifest)
    values = config.model_dump()
    told = {key: "data set" for key, value in flatten(values).items() if key in known and known[key] != value}
    check_stages(config)
    device, precision = _where(config)
    seed_everything(config.seed)
    classifier = Classifier(config.model, num_classes=len(manifest.classes), img_size=config.data.img_size)
    make_ready(classifier, config)
    moved = None
    if config.model.init_from:
        moved = transfer(classifier, config.model, classes=manifest.classes, img_size=config.data.img_size)
    loaded = None if moved else load_pretrained(classifier.backbone, config.model.pretrained)
    classifier.prepare_head(manifest.split(config.data.train_split))
    inputs = file_fingerprints(config.model)  # before the run is made: it may take the place of one of them
    if run.writes:
        run.refuse_existing(exist_ok=exist_ok)
    with run.held():
        run.create(exist_ok=exist_ok)
        run.write_config(values, {**sources, **told})
        training = _training(config, {**sources, **told}, classifier, manifest, run, device, precision, listen)
        if loaded is not None:
            listen(_note_of(loaded))
        if moved is not None:
            listen(Transferred(moved))
        facts = {
            "started": _now(),
            "weights_fingerprints": dict(inputs),
            "transfer": None if moved is None else {"source": moved.source, "classes": dict(moved.classes)},
        }
        with training.interrupts, recorded(training, manifest, facts):
            if after is not None:
                take_over(training, after)
            _all_stages(training, first=1 if after is None else 2)
    return TrainingResult(run, training.best_map, *training.best_epoch)


def resume(resumed: Resumed, manifest: Manifest, *, listen: Listener) -> TrainingResult:
    """Go on with a run as if it had never stopped.

    Args:
        resumed: from `sadcl_core.training.resume.prepare_resume`.
        manifest: the data of the run, wherever they lie now.
        listen: told what happens.

    Raises:
        DataError: the state is damaged, or the data are not those that the run was started with.
        SadclError, KeyboardInterrupt: as `train`.
    """
    run, config = resumed.run, resumed.config
    with run.held():
        card, tensors = read_state(run)
        refuse_other_data(card, manifest)
        config = config.model_copy(update={"data": _data_of_then(config.data, card, manifest)})
        check_stages(config)
        device, precision = _where(config)
        classifier = Classifier(config.model, num_classes=len(manifest.classes), img_size=config.data.img_size)
        make_ready(classifier, config)
        barrier()  # until every process has read what the first one is about to change
        run.go_back(card.sizes)
        run.write_config(config.model_dump(), resumed.sources)
        training = _training(config, resumed.sources, classifier, manifest, run, device, precision, listen)
        if "compute.accumulate" not in resumed.changed:
            training.accumulate = card.accumulate
        listen(Note(resumed.said))
        first = config.used_stages.index(card.place.stage) + 1
        facts = {"resumed": [*resumed.before, _now()]}
        with training.interrupts, recorded(training, manifest, facts):
            _all_stages(training, first=first, stored=(card, tensors))
    return TrainingResult(run, training.best_map, *training.best_epoch)


def _data_of_then(data: DataSection, card: StateCard, manifest: Manifest) -> DataSection:
    """The data where they are now; shards read by as many processes as before, since their order depends on it."""
    workers = card.workers if data.workers is None and manifest.description.shards is not None else data.workers
    return data.model_copy(update={"manifest": str((manifest.folder or Path()).resolve()), "workers": workers})


def _all_stages(training: Training, *, first: int, stored: Stored | None = None) -> None:
    stages = training.config.used_stages
    for number, name in enumerate(stages, start=1):
        if number >= first:
            run_stage(training, name, number=number, of=len(stages), stored=stored if number == first else None)


def _where(config: RunConfig) -> tuple[torch.device, str]:
    """The device and the precision of this process."""
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    check_compute(config, precision)
    return device, precision


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _training(
    config: RunConfig,
    sources: Mapping[str, str],
    classifier: Classifier,
    manifest: Manifest,
    run: RunDirectory,
    device: torch.device,
    precision: str,
    listen: Listener,
) -> Training:
    """What the stages share, and a few lines on what it is."""
    accelerator = start_accelerate(device, precision)
    training = Training(
        config=config,
        sources=dict(sources),
        classifier=classifier.to(accelerator.device),
        card=make_card(config, classifier, manifest),
        train_split=manifest.split(config.data.train_split),
        eval_split=manifest.split(config.data.eval_split),
        fingerprint=manifest.fingerprint(),
        run=run,
        accelerator=accelerator,
        precision=precision,
        listen=listen,
        interrupts=Interrupts(heard=lambda: listen(Note("finishing the step and saving; again to end at once"))),
        accumulate=config.compute.accumulate,
    )
    processes = f", {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    listen(
        Note(
            f"method {config.method}: {config.model.head} head on {config.model.backbone} at stride {config.model.stride}, "
            f"{accelerator.device.type}, {precision}{processes}"
        )
    )
    listen(
        Note(
            f"trains on {len(training.train_split):,} images of split {training.train_split.name}; the best epoch is chosen "
            f"on {len(training.eval_split):,} of split {training.eval_split.name}"
        )
    )
    if len(training.eval_split) < FEW:
        listen(
            Note(f"{len(training.eval_split)} images are few to choose an epoch by: some points of mAP between two are chance")
        )
    return training


def completed(config: RunConfig, manifest: Manifest) -> RunConfig:
    """The configuration with what only the data can tell: its place, the held-out split, and every option of the head.

    Raises:
        UsageError: a split that was named is not there, or both are the same.
        DataError: there is nothing to hold out, or nothing can be measured on it.
    """
    data, splits = config.data, manifest.splits
    name = manifest.description.name
    held_out = data.eval_split or next((split for split in ("val", "test") if split in splits), "")
    if not held_out:
        raise DataError(
            f"{name} has no split val or test to hold out, only {', '.join(splits)}. Divide it: sadcl prepare-data ... --split "
            "0.8,0.1,0.1, or name one: --set data.eval_split=NAME."
        )
    for key, split in (("data.train_split", data.train_split), ("data.eval_split", held_out)):
        if split not in splits:
            raise UsageError(f"{key}={split}: {name} has no such split. {suggest(split, splits)}")
    if held_out == data.train_split:
        raise UsageError(f"data.train_split and data.eval_split are both {held_out}: hold other images out than are trained on.")
    if not manifest.split(held_out).class_counts().any():
        raise DataError(
            f"Split {held_out} of {name} has no active label, so no mAP can be measured on it. Check its annotations."
        )
    data = data.model_copy(
        update={
            "dataset": manifest.description.name,
            "manifest": str((manifest.folder or Path()).resolve()),
            "eval_split": held_out,
        }
    )
    model = config.model
    options = head_options(model.head, model.heads.get(model.head, {}))
    model = model.model_copy(update={"heads": {model.head: options.model_dump()}})
    return config.model_copy(update={"data": data, "model": model})


def check_stages(config: RunConfig) -> None:
    """Refuse stages that cannot be trained.

    Raises:
        UsageError: there is none, or one names an unknown loss or augmentation.
    """
    if not any(stage.epochs for stage in config.stages.values()):
        raise UsageError("No stage has an epoch to train. Give --epochs 1 or more.")
    if not config.used_stages:
        raise UsageError(
            "No stage that has epochs has a loss. Give --epochs N,N, or set stages.classification.losses.asymmetric=1."
        )
    branches = resolve(HEADS, config.model.head, kind="head").AUXILIARY
    for name, stage in config.stages.items():
        for loss in stage.weights:
            if loss not in TERMS:
                raise UsageError(f"Stage {name}: there is no loss {loss!r}. {suggest(loss, TERMS)}")
            if loss == "auxiliary" and not any(branches.values()):
                raise UsageError(
                    f"Stage {name}: the head {config.model.head} has no branches for the loss auxiliary. Leave it out."
                )
        if stage.augment not in AUGMENTATIONS:
            raise UsageError(f"Stage {name}: there is no augmentation {stage.augment!r}. {suggest(stage.augment, AUGMENTATIONS)}")


def take_over(training: Training, first: RunDirectory) -> None:
    """Start where a run of the first stage ended: with its best weights, its best epoch and its rows.

    Raises:
        DataError: its files are missing or damaged.
    """
    model = load_model(first.best)
    training.classifier.load_state_dict(model.classifier.state_dict())
    trained = model.card.trained
    training.best_map, training.best_epoch = trained["mAP_interpolated"], (trained["stage"], trained["epoch"])
    training.best_metrics = {name: trained[name] for name in MAPS}
    training.holds = training.best_epoch
    for row in first.read_results():
        training.run.append_result({name: row.get(name, "") for name in result_columns(training.config)})
    training.save(training.classifier, best=True, stage=trained["stage"], epoch=trained["epoch"], metrics=training.best_metrics)
    training.listen(Note(f"stage {trained['stage']} taken from {first.path}, EMA mAP {training.best_map:.2f}"))


def make_card(config: RunConfig, classifier: Classifier, manifest: Manifest) -> ModelCard:
    """The description that every model file of the run carries."""
    pretrained = classifier.backbone.pretrained_config
    return ModelCard(
        classes=manifest.classes,
        superclasses=manifest.description.superclasses,
        img_size=config.data.img_size,
        mean=pretrained.get("mean", (0.485, 0.456, 0.406)),
        std=pretrained.get("std", (0.229, 0.224, 0.225)),
        model=config.model.model_copy(update={"pretrained": False, "init_from": "", "class_map": ""}),
        trained={
            "dataset": config.data.dataset,
            "img_size": config.data.img_size,
            "method": config.method,
            "sadcl": __version__,
            "seed": config.seed,
        },
    )


@contextmanager
def recorded(training: Training, manifest: Manifest, facts: Mapping[str, Any]) -> Iterator[None]:
    """Keep run.json true: what the run is, and how it ended; `facts` are added to the rest."""
    run, config = training.run, training.config
    run.write_status(
        status=RUNNING,
        ended="",
        dataset=config.data.dataset,
        manifest=config.data.manifest,
        eval_split=config.data.eval_split,
        data_fingerprint=training.fingerprint,
        process=this_process(),
        processes=training.accelerator.num_processes,
        method=config.method,
        seed=config.seed,
        device=str(training.device),
        precision=training.precision,
        versions={
            "sadcl": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
        },
        **facts,
    )
    try:
        with explain_lost_process():
            yield
    except BaseException as error:
        with suppress(SadclError):  # such as a full disk, which is why it ended
            _record_end(training, *_ending(error))
        raise
    _record_end(training, FINISHED, "all stages done")


def _ending(error: BaseException) -> tuple[str, str]:
    """Status and reason of a run that did not come to its end."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "SIGTERM" if isinstance(error, Terminated) else "stopped by the user"
    if isinstance(error, SadclError):
        return DIVERGED if isinstance(error, DivergedError) else "failed", str(error)
    return "failed", f"{type(error).__name__}: {error}"


def _record_end(training: Training, status: str, ended: str) -> None:
    training.run.write_status(status=status, ended=ended, best=training.best)


def file_fingerprints(config: ModelSection) -> dict[str, str]:
    """A hash of each file that the weights or classes are taken from, by the setting that names it.

    Raises:
        DataError: a file is not there.
    """
    files = {"pretrained": config.pretrained if isinstance(config.pretrained, str) else "", "class_map": config.class_map}
    paths = {name: Path(value) for name, value in files.items() if value}
    if config.init_from:
        paths["init_from"] = find_model(Path(config.init_from))[0]
    hashes = {}
    for name, path in paths.items():
        try:
            state = path.stat()
            hashes[name] = _hash_of(path, state.st_mtime_ns, state.st_size)
        except OSError as error:
            raise DataError(f"model.{name}={path} cannot be read ({error.strerror}). Check the path.") from None
    return hashes


@lru_cache
def _hash_of(path: Path, changed: int, size: int) -> str:
    """Of a file's content; many runs of a comparison start from one file, which is read once as long as it stays as it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note_of(loaded: LoadedWeights) -> Note:
    text = f"pretrained weights from {loaded.source}: {loaded.matched} tensors"
    if loaded.missing:
        return Note(f"{text}, {len(loaded.missing)} missing ({', '.join(loaded.missing[:3])} ...)", warning=True)
    return Note(f"{text}, none missing, {len(loaded.unused)} of the file not needed")
