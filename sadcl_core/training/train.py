"""`sadcl_core.train`: from the name of a data set and the flags of `sadcl train` to a trained model.

Importing this module imports no torch, so that a mistake in a flag is reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadcl_core.config.flags import epoch_counts, flag_layers
from sadcl_core.config.layers import Layer, flatten, resolve_config
from sadcl_core.config.presets import Configured, configure
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.class_names import load_class_map, vectors_file
from sadcl_core.errors import UsageError
from sadcl_core.inference.load import read_card_of_init, read_card_of_setting
from sadcl_core.runs.run_directory import RunDirectory, last_unfinished_run, new_run_path, read_status
from sadcl_core.runtime.files import weights_file
from sadcl_core.runtime.launcher import is_main_process, main_process_first, process_group
from sadcl_core.training.listeners.events import DataReady, Listener, SettingsChosen, ignore
from sadcl_core.training.listeners.trackers import refuse_missing_trackers

if TYPE_CHECKING:
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.runtime.progress import StagedProgress
    from sadcl_core.training.run import TrainingResult


def train(
    dataset: str | Path | Manifest | None = None,
    *,
    data: str | Path | None = None,
    output: str | Path | None = None,
    exist_ok: bool = False,
    resume: str | Path | bool | None = None,
    listen: Listener = ignore,
    progress: StagedProgress | None = None,
    **flags: Any,
) -> TrainingResult:
    """Train a model, or go on with a run that was stopped; what `sadcl train` does.

    Under torchrun all processes call it with the same arguments; the first one writes files and hears of events.

    Args:
        dataset: a name, a folder, a label file, a folder from `prepare`, or a manifest; not needed with `resume`.
        data: folder of the data set; `data/NAME` unless given.
        output: run directory; `runs/NAME` unless given.
        exist_ok: replace the run in this directory.
        resume: a run to go on with; True is the last one that was not finished.
        listen: receives the events of `sadcl_core.training.listeners.events`.
        progress: is called while the data are prepared.
        flags: the other flags of `sadcl train`, rows of `sadcl_core.config.flags.FLAGS`: method, preset, epochs, lr, seed,
            device, config, set and so on.

    Raises:
        UsageError: a flag or setting does not exist or has no such value, or the run directory is there already.
        DataError: data, images or files of the run are missing or damaged.
        DivergedError: a loss, a weight or a score is not finite; the state saved before is kept.
        MachineError: a device, memory or the disk is not enough.
        KeyboardInterrupt: after the state was saved.

    Example:
        >>> result = train("digits", preset="digits", epochs="2,1", seed=1)  # doctest: +SKIP
        >>> result.best_map, result.model  # doctest: +SKIP
        (34.83, PosixPath('runs/digits/weights/best.safetensors'))
        >>> result = train(resume=result.run, epochs="2,5")  # doctest: +SKIP
    """
    if resume:
        given = {"--output": output, "--exist-ok": exist_ok, "--preset": flags.get("preset")}
        for option, value in given.items():
            if value:
                raise UsageError(f"--resume goes on with a run as it was started. Leave out {option}.")
        layers = flag_layers(**{**flags, "epochs": None, "lr": None})
        counts: Sequence[int | None] = (None,) if flags.get("epochs") is None else epoch_counts(flags["epochs"])
        stopped = last_unfinished_run().path if resume is True else Path(resume)
        read_status(stopped)  # before any long work
    elif dataset is None:
        raise UsageError("Name the data set, for example: sadcl train digits. See sadcl train --help.")
    else:
        layers = flag_layers(**flags)
        refuse_missing(layers)
        if output is not None and is_main_process():  # before any long work
            RunDirectory(Path(output)).refuse_existing(exist_ok=exist_ok)

    with process_group():
        listen = listen if is_main_process() else ignore
        if resume:
            return _resume(stopped, dataset, data, layers, epochs=counts, lr=flags.get("lr"), listen=listen, progress=progress)
        assert dataset is not None, "refused above"
        manifest = find_data(dataset, data, listen=listen, progress=progress)
        configured = configure_for(manifest, layers, listen=listen)
        from sadcl_core.runtime.distributed import broadcast
        from sadcl_core.training.listeners.standard import standard_listeners
        from sadcl_core.training.run import start_run

        run = RunDirectory(broadcast(Path(output) if output else new_run_path(manifest.description.name)))
        with standard_listeners(configured.config, run, listen) as tell:
            return start_run(configured.config, configured.sources, manifest, run, exist_ok=exist_ok, listen=tell)


def _resume(
    stopped: Path,
    dataset: str | Path | Manifest | None,
    data: str | Path | None,
    layers: list[tuple[str, Layer]],
    *,
    epochs: Sequence[int | None],
    lr: float | None,
    listen: Listener,
    progress: StagedProgress | None,
) -> TrainingResult:
    """Go on with a run; the processes have joined."""
    from sadcl_core.data.manifest import find_prepared, load_with_images
    from sadcl_core.runtime.distributed import broadcast
    from sadcl_core.training.listeners.standard import standard_listeners
    from sadcl_core.training.resume import prepare_resume
    from sadcl_core.training.run import resume_run

    resumed = prepare_resume(broadcast(stopped), layers, epochs=epochs, lr=lr)
    if "track" in resumed.changes:
        refuse_missing_trackers(resumed.config.track)
    if dataset is None and data is None:
        manifest = load_with_images(find_prepared(Path(resumed.config.data.manifest), resumed.run.path))
    else:
        manifest = find_data(dataset or resumed.config.data.dataset, data, listen=listen, progress=progress)
    with standard_listeners(resumed.config, resumed.run, listen) as tell:
        return resume_run(resumed, manifest, listen=tell)


def refuse_missing(layers: Sequence[tuple[str, Layer]]) -> None:
    """Refuse settings that name a file that cannot be read, before any long work.

    Raises:
        DataError: weights, a model or word vectors are not where they are said to be.
        UsageError: the class map cannot be read, or a setting is out of bounds.
        MachineError: a tracker is not installed.
    """
    config, sources = resolve_config(layers)
    if sources["track"] in ("flag", "--set") or config.track != RunConfig().track:  # by default only where it is installed
        refuse_missing_trackers(config.track)
    model = config.model
    if isinstance(model.pretrained, str):
        weights_file(Path(model.pretrained))
    read_card_of_init({key: value for _, layer in layers for key, value in flatten(layer).items()})
    if config.loss.selective.prior_model:
        read_card_of_setting("loss.selective.prior_model", config.loss.selective.prior_model)
    for teacher in config.loss.distillation.teachers:
        read_card_of_setting("loss.distillation.teachers", teacher)
    if model.class_map and model.init_from:
        load_class_map(Path(model.class_map))
    vectors_file(model.word_vectors)


def configure_run(
    dataset: str | Path | Manifest | None = None,
    *,
    data: str | Path | None = None,
    listen: Listener = ignore,
    progress: StagedProgress | None = None,
    **flags: Any,
) -> Configured:
    """Return the configuration that `train` would use with the same arguments, and where each value comes from; train nothing.

    Without a data set, what depends on the data is left as it is by default.

    Raises:
        SadclError: as `train`.

    Example:
        >>> configured = configure_run(preset="digits", seed=7)
        >>> configured.config.seed, configured.sources["seed"]
        (7, 'flag')
    """
    layers = flag_layers(**flags)
    if dataset is None:
        return configure_for(None, layers, listen=listen)
    with process_group():
        listen = listen if is_main_process() else ignore
        return configure_for(find_data(dataset, data, listen=listen, progress=progress), layers, listen=listen)


def find_data(
    dataset: str | Path | Manifest, data: str | Path | None, *, listen: Listener, progress: StagedProgress | None
) -> Manifest:
    """Return the manifest of a data set; of several processes one prepares it, if need be, and the others find it."""
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.data.prepare.prepare import find_or_prepare

    if isinstance(dataset, Manifest):
        return dataset
    with main_process_first():
        origin = find_or_prepare(
            str(dataset), data=None if data is None else Path(data), progress=progress if is_main_process() else None
        )
    listen(DataReady(origin))
    return origin.manifest


def configure_for(manifest: Manifest | None, layers: list[tuple[str, Layer]], *, listen: Listener) -> Configured:
    """Return the configuration of a new run on a data set, or on none in particular."""
    if any(flatten(layer).get("model.init_from") for _, layer in layers):
        from sadcl_core.training.transfer import with_network_of_init

        layers = with_network_of_init(layers)
    if manifest is None:
        configured = configure(layers, dataset="", split_sizes={})
    else:
        from sadcl_core.training.setup import data_facts

        name, sizes, facts = manifest.description.name, manifest.split_sizes, partial(data_facts, manifest, layers)
        configured = configure(layers, dataset=name, split_sizes=sizes, facts=facts)
    listen(SettingsChosen(configured))
    return configured
