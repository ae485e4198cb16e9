"""Held-out images that an earlier model was trained on, from whose weights a run starts: they would say little of new images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sadcl_core.config.layers import load_config_file
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import find_prepared, load_manifest
from sadcl_core.data.split import Split
from sadcl_core.data.twins import find_twins
from sadcl_core.errors import DataError, SadclError
from sadcl_core.runs.run_directory import find_model

MOST_BEFORE = 10  # runs that went before one


@dataclass(frozen=True)
class Overlap:
    """Result of comparing held-out images with those that earlier models were trained on.

    Attributes:
        models: run directories whose training images were compared.
        unknown: models whose training images are not on this disk.
        compared: held-out images that were compared.
        twins: held-out images and the training images of the same content.
    """

    models: tuple[str, ...]
    unknown: tuple[str, ...]
    compared: int
    twins: tuple[tuple[str, str], ...]


def find_overlap(init_from: str, held_out: Split) -> Overlap:
    """Compare held-out images by content with all that a model, and those it started from, were trained on.

    Args:
        init_from: run or model file.
        held_out: split of the data that are trained on now.
    """
    models: list[str] = []
    unknown: list[str] = []
    trained: list[Path] = []
    for name, split in _trained_on(init_from):
        if split is None:
            unknown.append(name)
        else:
            models.append(name)
            trained += [split.manifest.description.root / image for image in split]
    if held_out.manifest.description.shards is not None or not trained:
        return Overlap(tuple(models), tuple(unknown), 0, ())
    root = held_out.manifest.description.root
    compared, twins = find_twins([root / image for image in held_out], trained)
    return Overlap(tuple(models), tuple(unknown), compared, tuple((str(image), str(twin)) for image, twin in twins))


def refuse_overlap(overlap: Overlap, held_out: Split) -> None:
    """Raise if held-out images were trained on.

    Raises:
        DataError: with the number of images, the first of them, and what to do.
    """
    if overlap.twins:
        image, twin = overlap.twins[0]
        raise DataError(
            f"{len(overlap.twins):,} of the {len(held_out):,} images of split {held_out.name} were trained on by "
            f"{', '.join(overlap.models)}, such as {image}, which is {twin}: the mAP would say little of new images. Divide the "
            "data so that they are in the training split, or go on all the same with --allow-overlap."
        )


def _trained_on(init_from: str) -> Iterator[tuple[str, Split | None]]:
    """Yield the training split of a model and of each one it started from; None where its data are not there any more."""
    for _ in range(MOST_BEFORE):
        try:
            model, run = find_model(Path(init_from))
        except SadclError:
            return
        if run is None:
            yield str(model), None
            return
        split: Split | None = None
        init_from = ""
        with suppress(SadclError, ValueError, OSError):
            config = RunConfig.model_validate(load_config_file(run.path / "config.yaml"), extra="ignore")
            init_from = config.model.init_from
            manifest = load_manifest(find_prepared(Path(config.data.manifest), run.path))
            if manifest.description.shards is None and manifest.description.root.is_dir():
                split = manifest.split(config.data.train_split)
        yield str(run.path), split
        if not init_from:
            return
