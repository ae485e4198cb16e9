"""A new run in a run directory, or the rest of one that was stopped; run.json says how it went."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from sadcl_core import __version__
from sadcl_core.config.layers import flatten
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DivergedError, SadclError, Terminated
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.lora import add_adapters
from sadcl_core.model.weights import load_pretrained, weights_source
from sadcl_core.runs.lock import this_process
from sadcl_core.runs.run_directory import DIVERGED, FINISHED, RUNNING, RunDirectory, read_status
from sadcl_core.runs.state import read_state, strip_prefix
from sadcl_core.runtime.device import choose_device, choose_precision
from sadcl_core.runtime.distributed import barrier, explain_lost_process
from sadcl_core.runtime.words import counted, some_of
from sadcl_core.training.features import open_features
from sadcl_core.training.listeners.events import Listener, Problem, RunStarted, Transferred, WeightsChosen, WeightsLoaded, ignore
from sadcl_core.training.memory import refuse_too_large
from sadcl_core.training.overlap import refuse_overlap
from sadcl_core.training.parallel import check_compute, make_ready
from sadcl_core.training.recipe import TrainingRecipe, seed_everything
from sadcl_core.training.resume import Resumed, refuse_other_data
from sadcl_core.training.setup import (
    check_labels,
    check_stages,
    complete_config,
    file_fingerprints,
    learns_from_unknown,
    one_sided_classes,
    refuse_other_models,
    used_part,
)
from sadcl_core.training.transfer import transfer

SHOWN = 5  # classes named in a sentence


@dataclass(frozen=True)
class TrainingResult:
    """The result of a finished run.

    Attributes:
        model: the model file of its best epoch.
        best_map: highest mAP (interpolated, percent) on the held-out split.
        stage: in which it was reached.
        epoch: of that stage, from 1.
        weights: whose it is: `EMA`, or `network` for those of the network itself.
    """

    run: Path
    model: Path
    best_map: float
    stage: str
    epoch: int
    weights: str


def _check_data(config: RunConfig, manifest: Manifest, listen: Listener) -> None:
    """Refuse labels and held-out images that nothing can be learned from or measured on; name classes for which that is so."""
    check_labels(config, manifest)
    data = config.data
    for split, what in ((data.train_split, "nothing can be learned of"), (data.eval_split, "no AP can be measured of")):
        names = one_sided_classes(manifest, split)
        if names and not (split == data.train_split and learns_from_unknown(config)):
            shown = some_of(names, SHOWN)
            listen(Problem(f"In split {split} {what} classes that are active in every image where they are known: {shown}."))
    if unchecked := refuse_overlap(config, manifest):
        listen(Problem(unchecked))


def start_run(
    config: RunConfig,
    sources: Mapping[str, str],
    manifest: Manifest,
    run: RunDirectory,
    *,
    exist_ok: bool = False,
    after: RunDirectory | None = None,
    listen: Listener = ignore,
    recipe_class: type[TrainingRecipe] = TrainingRecipe,
) -> TrainingResult:
    """Train all stages.

    The run directory is made here, and nothing is written before the model is built; `exist_ok` replaces an earlier run in it.
    `after` is a finished run of the first stage alone, which this one takes over and goes on from. A subclass of the recipe may
    replace a method, such as `evaluate`.

    Raises:
        SadclError: one of its kinds; run.json then says what it was.
        KeyboardInterrupt: after the state was saved.
    """
    started = time.perf_counter()
    defaults = flatten(config.model_dump())
    config = complete_config(config, manifest)
    fingerprint = manifest.fingerprint()
    manifest = used_part(manifest, config)
    changed = {key for key, value in flatten(config.model_dump()).items() if key in defaults and defaults[key] != value}
    sources = {**sources, **dict.fromkeys(changed, "data set")}
    check_stages(config)
    _check_data(config, manifest, listen)
    device, precision = choose_compute(config)
    refuse_too_large(config, manifest, device, precision)
    seed_everything(config.seed)
    classifier = Classifier(config.model, num_classes=len(manifest.classes), img_size=config.data.img_size)
    make_ready(classifier, config)
    moved = loaded = None
    if config.model.init_from:
        moved = transfer(classifier, config.model, classes=manifest.classes, img_size=config.data.img_size)
    else:
        listen(WeightsChosen(weights_source(classifier.backbone, config.model.pretrained)))
        loaded = load_pretrained(classifier.backbone, config.model.pretrained)
    add_adapters(classifier.backbone, config.optim.lora_rank)
    wordless = classifier.prepare_head(manifest.split(config.data.train_split), words=config.model.word_vectors)
    if wordless:
        listen(Problem(missing_words(wordless, config.model.word_vectors)))
    if moved is not None and (other := other_words(moved.words, classifier, manifest.classes)):
        listen(
            Problem(
                f"{moved.source} learned from other word vectors of {counted(len(other), 'class', 'classes')}, such as "
                f"{other[0]}, than model.word_vectors={config.model.word_vectors} gives, and its weights do not fit these. If "
                "they were from a file, name it: --set model.word_vectors=FILE."
            )
        )
    hashes = file_fingerprints(config)  # before the run is made: it may replace one of them
    if run.writes:
        run.refuse_existing(exist_ok=exist_ok)
    compute: dict[str, Any] = {"device": device, "precision": precision, "listen": listen}
    opened = open_features(config, sources, classifier, manifest, **compute, started=started)
    with opened as (features, planned), run.held():
        if planned != config:
            config, sources = planned, {**sources, "features.views": "time budget"}
        run.create(exist_ok=exist_ok)
        run.write_config(config.model_dump(), sources)
        recipe = recipe_class(config, sources, classifier, manifest, run, **compute, features=features, started=started)
        listen(run_started(recipe))
        if loaded is not None:
            listen(WeightsLoaded(loaded))
        if moved is not None:
            listen(Transferred(moved))
        facts = {
            "started": now(),
            "data_fingerprint": fingerprint,
            "weights_fingerprints": hashes,
            "transfer": None if moved is None else {"source": moved.source, "classes": dict(moved.classes)},
        }
        with recipe.interrupts, recorded(recipe, facts):
            if after is not None:
                recipe.take_over(after)
            recipe.run(first_stage=1 if after is None else 2)
    return result_of(recipe)


def resume_run(
    resumed: Resumed, manifest: Manifest, *, listen: Listener = ignore, recipe_class: type[TrainingRecipe] = TrainingRecipe
) -> TrainingResult:
    """Go on with a run as if it had never stopped, from `sadcl_core.training.resume.prepare_resume`, wherever its data are now.

    Raises:
        DataError: the state is damaged, or the run was started with other data.
        SadclError, KeyboardInterrupt: as `start_run`.
    """
    run, config = resumed.run, resumed.config
    with run.held(), ExitStack() as stack:
        card, tensors = read_state(run)
        folder, fingerprint = str((manifest.folder or Path()).resolve()), manifest.fingerprint()
        manifest = used_part(manifest, config)
        refuse_other_data(card, manifest)
        refuse_other_models(config, read_status(run.path).get("weights_fingerprints", {}))
        shards = manifest.description.shards is not None  # read by as many processes as before: their order depends on it
        data = {"manifest": folder, "workers": card.workers if config.data.workers is None and shards else config.data.workers}
        config = config.model_copy(update={"data": config.data.model_copy(update=data)})
        check_stages(config)
        device, precision = choose_compute(config)
        refuse_too_large(config, manifest, device, precision)
        classifier = Classifier(config.model, num_classes=len(manifest.classes), img_size=config.data.img_size)
        make_ready(classifier, config)
        add_adapters(classifier.backbone, config.optim.lora_rank)
        if config.features.once:
            classifier.backbone.load_state_dict(strip_prefix("model.backbone", tensors))
        compute: dict[str, Any] = {"device": device, "precision": precision, "listen": listen}
        opened = open_features(config, resumed.sources, classifier, manifest, **compute, started=time.perf_counter())
        features, _ = stack.enter_context(opened)
        barrier()  # until every process has read what the first one is about to change
        run.go_back(card.sizes)
        run.write_config(config.model_dump(), resumed.sources)
        recipe = recipe_class(config, resumed.sources, classifier, manifest, run, **compute, features=features)
        if "compute.accumulate" not in resumed.changes:
            recipe.micro_batches = card.micro_batches
        listen(run_started(recipe, resumed))
        facts = {"resumed": [*resumed.earlier, now()], "data_fingerprint": fingerprint}
        with recipe.interrupts, recorded(recipe, facts):
            recipe.run(first_stage=config.used_stages.index(card.progress.stage) + 1, stored=(card, tensors))
    return result_of(recipe)


def choose_compute(config: RunConfig) -> tuple[torch.device, str]:
    """Return the device and the precision of this process.

    Raises:
        SadclError: they are not available, or do not go with the compute section.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    check_compute(config, precision)
    return device, precision


def run_started(recipe: TrainingRecipe, resumed: Resumed | None = None) -> RunStarted:
    """Return the event that a run begins or goes on."""
    return RunStarted(
        run=recipe.run_directory,
        config=recipe.config,
        device=recipe.device.type,
        precision=recipe.precision,
        processes=recipe.accelerator.num_processes,
        train_images=len(recipe.train_split),
        eval_images=len(recipe.eval_split),
        resumed=resumed,
    )


def result_of(recipe: TrainingRecipe) -> TrainingResult:
    """Return the result of a finished run."""
    run, best = recipe.run_directory, recipe.best
    return TrainingResult(run.path, run.best, best.map, best.stage, best.epoch, best.weights)


@contextmanager
def recorded(recipe: TrainingRecipe, facts: Mapping[str, Any]) -> Iterator[None]:
    """Keep run.json true: what the run is, and how it ended; `facts` are added to the rest."""
    run, config = recipe.run_directory, recipe.config
    run.write_status(
        status=RUNNING,
        ended="",
        dataset=config.data.dataset,
        manifest=config.data.manifest,
        eval_split=config.data.eval_split,
        process=this_process(),
        processes=recipe.accelerator.num_processes,
        method=config.method,
        seed=config.seed,
        device=str(recipe.device),
        precision=recipe.precision,
        parameters=sum(parameter.numel() for parameter in recipe.classifier.parameters()),
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
        status, ended = "failed", f"{type(error).__name__}: {error}"
        if isinstance(error, KeyboardInterrupt):
            status, ended = "interrupted", "SIGTERM" if isinstance(error, Terminated) else "stopped by the user"
        elif isinstance(error, SadclError):
            status, ended = DIVERGED if isinstance(error, DivergedError) else "failed", str(error)
        with suppress(SadclError):  # such as a full disk, which is why it ended
            run.write_status(status=status, ended=ended, best=recipe.best_status())
        raise
    run.write_status(status=FINISHED, ended="all stages done", best=recipe.best_status())


def missing_words(names: Sequence[str], source: str) -> str:
    """Return the sentence about classes whose names have no word vector.

    Example:
        >>> missing_words(["okapi"], "glove.txt")
        'glove.txt has no vector of 1 class, such as okapi: its vector is random.'
    """
    some = ", ".join(names[:5])
    if len(names) == 1:
        return f"{source} has no vector of 1 class, such as {some}: its vector is random."
    return f"{source} has no vectors of {counted(len(names), 'class', 'classes')}, such as {some}: theirs are random."


def other_words(words: Mapping[str, Tensor], classifier: Classifier, classes: Sequence[str]) -> list[str]:
    """Return the classes whose word vectors in a prepared head differ from those that the weights were learned with."""
    if not words:
        return []
    rows = zip(classes, classifier.head.words.cpu(), strict=True)
    return [name for name, own in rows if name in words and not own.equal(words[name])]


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
