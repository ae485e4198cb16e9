"""Held-out images that earlier models were trained on, which a run starts or learns from: they would say little of new images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sadcl_core.config.layers import load_config_file
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest, find_prepared, load_manifest
from sadcl_core.data.prepare.copies import originals
from sadcl_core.data.split import Split
from sadcl_core.data.twins import find_twins
from sadcl_core.errors import DataError, SadclError
from sadcl_core.runs.run_directory import find_model


@dataclass(frozen=True)
class Overlap:
    """Result of comparing held-out images with those that earlier models were trained on.

    Attributes:
        models: run directories whose training images were compared.
        unknown: models whose training images are not on this disk.
        compared: held-out images that were compared.
        twins: held-out images and the training images of the same content, byte by byte.
    """

    models: tuple[str, ...]
    unknown: tuple[str, ...]
    compared: int
    twins: tuple[tuple[str, str], ...]


def earlier_models(config: RunConfig) -> list[str]:
    """Return the runs and model files that a run starts from or learns from.

    Example:
        >>> earlier_models(RunConfig())
        []
    """
    return [*filter(None, [config.model.init_from]), *config.loss.distillation.teachers]


def find_overlap(config: RunConfig, held_out: Split) -> Overlap:
    """Compare held-out image files by content with all that the earlier models of a run, and theirs, were trained on.

    Compact copies stand for their originals. An image that another program resized or saved again is another file.
    """
    models: list[str] = []
    unknown: list[str] = []
    trained: list[Path] = []
    for name, split in _trained_on(earlier_models(config)):
        files = [] if split is None else originals(split.manifest.description.root, split)
        if any(file.is_file() for file in files):
            models.append(name)
            trained += files
        else:
            unknown.append(name)
    if held_out.manifest.description.shards is not None or not trained:
        return Overlap(tuple(models), tuple(unknown), 0, ())
    compared, twins = find_twins(originals(held_out.manifest.description.root, held_out), trained)
    return Overlap(tuple(models), tuple(unknown), compared, tuple((str(image), str(twin)) for image, twin in twins))


def refuse_overlap(config: RunConfig, manifest: Manifest) -> str:
    """Raise if held-out images were trained on by earlier models, unless `data.allow_overlap` lets them.

    Returns:
        A sentence on the models whose training images could not be looked at; empty without such models.

    Raises:
        DataError: with the number of images, the first of them, and what to do.
    """
    if config.data.allow_overlap:
        return ""
    held_out = manifest.split(config.data.eval_split)
    overlap = find_overlap(config, held_out)
    if overlap.twins:
        image, twin = overlap.twins[0]
        raise DataError(
            f"{len(overlap.twins):,} of the {len(held_out):,} images of split {held_out.name} were trained on by "
            f"{', '.join(overlap.models)}, such as {image}, which is {twin}: the mAP would say little of new images. Divide the "
            "data so that they are in the training split, or go on all the same with --allow-overlap."
        )
    names = ", ".join(overlap.unknown)
    return f"the images that {names} was trained on are not on this disk: held-out images may be among them" if names else ""


def _trained_on(models: list[str]) -> Iterator[tuple[str, Split | None]]:
    """Yield the training split of models and of all before them; None where the data of one are not there any more."""
    paths: set[Path] = set()
    while models:
        try:
            model, run = find_model(Path(models.pop(0)))
        except SadclError:
            continue
        if model in paths:
            continue
        paths.add(model)
        if run is None:
            yield str(model), None
            continue
        split: Split | None = None
        with suppress(SadclError, ValueError, OSError):
            config = RunConfig.model_validate(load_config_file(run.path / "config.yaml"), extra="ignore")
            models += earlier_models(config)
            manifest = load_manifest(find_prepared(Path(config.data.manifest), run.path))
            if manifest.description.shards is None and manifest.description.root.is_dir():
                split = manifest.split(config.data.train_split)
        yield str(run.path), split
