"""The images that a trained model goes through: its own held-out split, or another."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sadcl_core.data.formats import DATASETS
from sadcl_core.data.formats.detect import detect
from sadcl_core.data.formats.source import moved
from sadcl_core.data.manifest import Manifest, find_prepared, is_prepared, load_description, load_manifest, load_with_images
from sadcl_core.data.prepare.copies import copy_name
from sadcl_core.data.prepare.prepare import DataOrigin, find_or_prepare
from sadcl_core.data.prepare.shape import shape_classes
from sadcl_core.data.split import ALL, HELD_OUT, Split
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.load import ModelFile
from sadcl_core.inference.predictor import Predictor
from sadcl_core.runs.card import ModelCard
from sadcl_core.runs.run_directory import read_status
from sadcl_core.runtime.progress import StagedProgress

TRIED = 20  # images that are looked for

TEST = "test"  # name of the split that no choice was made by


@dataclass(frozen=True)
class OpenedSplit:
    """The images of a split, with labels numbered as the model numbers its classes.

    Attributes:
        split: the images.
        labelled: how many of the model's K classes the data have labels of.
        changed: the run's own data were prepared again since it was trained.
        seen: how many images have the paths of images that the model was trained on; 0 if the data of the run are gone.
        measured: split that was measured during the training, where another one was taken; else empty.
        origin: of data that were named; None for the run's own.
    """

    split: Split
    labelled: int
    changed: bool
    seen: int
    measured: str = ""
    origin: DataOrigin | None = None


def open_split(
    model: Predictor[Any] | ModelFile,
    *,
    data: str | None = None,
    split: str | None = None,
    final: bool = False,
    progress: StagedProgress | None = None,
) -> OpenedSplit:
    """Open the images to go through; imports no torch.

    Args:
        model: from `sadcl_core.load`, or from `find_card`, so that a mistake is found before the weights are read.
        data: a data set's name, its prepared folder, or where the run's own data set lies now; by default the run's own.
        split: its name; by default the run's held-out split, else val, else test, else all images.
        final: take test first, where the run measured another split during its training.
        progress: called while a data set is prepared, where that has not been done.

    Raises:
        UsageError: a model file on its own does not name its data, and `data` is missing.
        DataError: the data set is not there, or has classes that the model does not know.
    """
    status = _status(model)
    origin = _other_data(status, data, progress)
    manifest = _own_data(model, status, data) if origin is None else origin.manifest
    if origin is not None and status.get("manifest"):
        manifest = _without_left_out(manifest, Path(str(status["manifest"])), model.card.classes)
        described = replace(origin.manifest.description, notes=manifest.description.notes)
        origin = replace(origin, manifest=Manifest(described, origin.manifest.rows, origin.manifest.folder))
    labelled = len(manifest.classes)
    manifest = number_as_model(manifest, model.card)
    measured = str(status.get("eval_split", ""))
    names = (split,) if split else (*((TEST,) if final and measured else ()), measured, *HELD_OUT)
    images = manifest.split(next((name for name in names if name in manifest.splits), split or ALL))
    changed = "manifest" in status and data is None and manifest.fingerprint() != status.get("data_fingerprint")
    measured = measured if not split and images.name not in (measured, ALL) and measured in manifest.splits else ""
    return OpenedSplit(images, labelled, changed, _count_seen(images, status), measured, origin)


def _without_left_out(manifest: Manifest, prepared: Path, classes: tuple[str, ...]) -> Manifest:
    """Return data without the classes that a model does not know, if its training left classes out."""
    with suppress(DataError):
        options = load_description(prepared).options
        others = [name for name in manifest.classes if name not in classes]
        if 0 < len(others) < len(manifest.classes) and any(map(options.get, ("drop", "keep", "min_positives"))):
            return shape_classes(manifest, merge={}, drop=others)
    return manifest


def number_as_model(manifest: Manifest, card: ModelCard) -> Manifest:
    """Return the same data with labels numbered as a model numbers its classes.

    Raises:
        DataError: the data have classes that the model does not know.
    """
    unknown = [name for name in manifest.classes if name not in set(card.classes)]
    if unknown:
        raise DataError(
            f"{manifest.description.name} has classes that the model does not know, such as {unknown[0]!r}. Give data of the "
            "classes it was trained for, or train again."
        )
    return manifest if manifest.classes == card.classes else manifest.with_classes(card.classes, card.superclasses)


def refuse_trained_on(model: Predictor[Any] | ModelFile, images: Split) -> None:
    """Raise a UsageError when images are among those that a model was trained on: it is surer of them than of others."""
    seen = _count_seen(images, _status(model))
    if seen:
        raise UsageError(
            f"The model was trained on {seen:,} of these {len(images):,} images, and is surer of them than of others. "
            "Calibrate on images held out: leave --split and --data out, or name others."
        )


def _status(model: Predictor[Any] | ModelFile) -> dict[str, Any]:
    """Return what the run of a model wrote down, with the place where its prepared data are now; nothing for a lone file."""
    if model.run is None:
        return {}
    status = read_status(model.run.path)
    if "manifest" in status:
        status = {**status, "manifest": str(find_prepared(Path(str(status["manifest"])), model.run.path))}
    return status


def _count_seen(images: Split, status: dict[str, Any]) -> int:
    try:
        trained = load_manifest(Path(str(status["manifest"]))).split("train")
    except (DataError, KeyError):
        return 0
    names = {copy_name(image) for image in trained}
    return sum(copy_name(image) in names for image in images)


def _own_data(model: Predictor[Any] | ModelFile, status: dict[str, Any], data: str | None) -> Manifest:
    """Return the data that a model was trained on, with their images where they are now."""
    if "manifest" not in status:
        raise UsageError(f"{model.path} stands alone and does not say where its data lies. Give --data.")
    try:
        return load_with_images(Path(str(status["manifest"])), root=None if data is None else Path(data))
    except DataError as error:
        raise DataError(f"{error} Or say with --data where the data are now.") from None


def _other_data(status: dict[str, Any], data: str | None, progress: StagedProgress | None) -> DataOrigin | None:
    """Return data that a person names, read as those of the run were; None if they are the run's own."""
    if data is None:
        return None
    own = None
    if "manifest" in status and data not in DATASETS:
        prepared = Path(str(status["manifest"]))
        if _holds_own_data(Path(data), prepared):
            return None
        with suppress(DataError):
            own = load_description(prepared)
    return find_or_prepare(data, whole=True, like=own, progress=progress)


def _holds_own_data(folder: Path, prepared: Path) -> bool:
    """Return True if the images of a run's own manifest are in a folder now.

    The label files that lay among them must have come along; where they lay elsewhere, the folder has none of its own.
    """
    if not folder.is_dir() or is_prepared(folder):
        return False
    try:
        own = load_manifest(prepared)
    except DataError:
        return False
    images = own.rows["image"].slice(0, TRIED).to_pylist()
    if own.description.shards is not None or not all((folder / image).is_file() for image in images):
        return False
    along = moved(own.description.source, own.description.root, folder)
    if along is None:
        try:
            detect(folder)
        except DataError:
            along = True
    return bool(along)
