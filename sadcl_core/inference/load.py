"""What every command on a trained model starts with: which model, on which device, over which images. It says what was taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sadcl_core.data.formats import DATASETS
from sadcl_core.data.formats.detect import detect
from sadcl_core.data.formats.source import moved
from sadcl_core.data.manifest import Manifest, is_prepared, load_manifest, load_with_images
from sadcl_core.data.prepare.copies import copy_name
from sadcl_core.data.prepare.prepare import find_or_prepare
from sadcl_core.data.split import ALL, Split
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runs.checkpoint import LoadedModel, ModelCard, load_model
from sadcl_core.runs.run_directory import RunDirectory, find_model, read_status
from sadcl_core.runtime.device import choose_device, choose_precision
from sadcl_core.runtime.progress import StagedProgress

TRIED = 20  # images that are looked for


@dataclass(frozen=True)
class OpenedModel:
    """A model on its device.

    Attributes:
        run: the run it belongs to, or None for a file on its own.
        taken: one sentence on which model this is.
    """

    model: LoadedModel
    run: RunDirectory | None
    device: torch.device
    precision: str
    taken: str

    def folder(self, name: str) -> Path:
        """Where results of a kind go unless told otherwise: into the run, or here for a model file on its own."""
        return self.run.path / name if self.run is not None else Path(name)


def open_model(
    weights: Path | None,
    *,
    device: str = "auto",
    precision: str = "auto",
    img_size: int | None = None,
    uncalibrated: bool = False,
) -> OpenedModel:
    """Load a run's best model, or a model file, or the run that finished last; `uncalibrated` takes it as it was trained.

    Raises:
        DataError: there is no model, or it is damaged.
        MachineError: the device or precision is not to be had.
    """
    path, run = find_model(weights)
    where = choose_device(device)
    mode = choose_precision(precision, where)
    model = load_model(path, img_size=img_size)
    model.classifier.to(where)
    if uncalibrated:
        model = replace(model, card=model.card.as_trained)
    chosen = " (the run that finished last)" if weights is None else ""
    card = model.card
    return OpenedModel(
        model,
        run,
        where,
        mode,
        f"model {path}{chosen}: {card.model.head} on {card.model.backbone}, {len(card.classes)} classes, {card.img_size} px"
        f"{_calibration(card)}",
    )


def _calibration(card: ModelCard) -> str:
    if not card.calibrated:
        return ""
    made = card.calibrated
    size = made.get("img_size", card.img_size)
    elsewhere = "" if size == card.img_size else f" at {size} px, which may not suit {card.img_size} px"
    return f"; calibrated for {made.get('objective')} on split {made.get('split')} of {made.get('dataset')}{elsewhere}"


def refuse_trained_on(opened: OpenedModel, images: Split) -> None:
    """Raise a UsageError when images are among those that a model was trained on: it is surer of them than of others."""
    status = read_status(opened.run.path) if opened.run is not None else {}
    seen = _seen(images, status)
    if seen:
        raise UsageError(
            f"The model was trained on {seen:,} of these {len(images):,} images, and is surer of them than of others. "
            "Calibrate on images held out: leave --split and --data out, or name others."
        )


def open_split(
    opened: OpenedModel, *, data: str | None = None, split: str | None = None, progress: StagedProgress | None = None
) -> tuple[Split, str]:
    """The images to go through: the run's own held-out split, or another.

    Args:
        opened: from `open_model`.
        data: a data set's name, its prepared folder, or where the run's own data set lies now.
        split: its name; unless given the run's held-out split, else val, else test, else all images.
        progress: told about images checked, when a data set has to be prepared first.

    Returns:
        The split, and a sentence on which it is.

    Raises:
        UsageError: a model file on its own says nothing about its data, and none was given.
        DataError: the data set is not there, or has classes that the model does not know.
    """
    status = read_status(opened.run.path) if opened.run is not None else {}
    manifest = _manifest(opened, status, data, progress)
    classes = opened.model.card.classes
    strange = [name for name in manifest.classes if name not in set(classes)]
    if strange:
        raise DataError(
            f"{manifest.description.name} has classes that the model does not know, such as {strange[0]!r}. Give data of the "
            "classes it was trained for, or train again."
        )
    said = ""
    if manifest.classes != classes:
        if len(manifest.classes) < len(classes):
            said = f", with labels of {len(manifest.classes)} of the model's {len(classes)} classes"
        manifest = manifest.with_classes(classes, opened.model.card.superclasses)
    wanted = (split,) if split else (str(status.get("eval_split", "")), "val", "test")
    name = next((name for name in wanted if name in manifest.splits), split or ALL)
    chosen = manifest.split(name)
    said += _trained_on(chosen, status, own=data is None)
    where = f"{manifest.description.location}{said}"
    return chosen, f"data {manifest.description.name}, split {name}: {len(chosen):,} images, {where}"


def _trained_on(images: Split, status: dict[str, object], *, own: bool) -> str:
    """What to say when the data changed since a run was trained on them, or when images are among those it was trained on."""
    if "manifest" not in status:
        return ""
    anew = own and images.manifest.fingerprint() != status.get("data_fingerprint")
    said = ", prepared anew since the training" if anew else ""
    seen = 0 if images.name == "train" else _seen(images, status)
    return f"{said}; {seen:,} of them have the paths of images that the model was trained on" if seen else said


def _seen(images: Split, status: dict[str, object]) -> int:
    """How many images have the paths of those that a run was trained on, as far as that can be known."""
    try:
        trained = load_manifest(Path(str(status["manifest"]))).split("train")
    except (DataError, KeyError):
        return 0
    names = {copy_name(image) for image in trained}
    return sum(copy_name(image) in names for image in images)


def _manifest(opened: OpenedModel, status: dict[str, object], data: str | None, progress: StagedProgress | None) -> Manifest:
    if data is None:
        if "manifest" not in status:
            raise UsageError(f"{opened.model.path} stands alone and does not say where its data lies. Give --data.")
        try:
            return load_with_images(Path(str(status["manifest"])))
        except DataError as error:
            raise DataError(f"{error} Or say with --data where the data are now.") from None
    if "manifest" in status and data not in DATASETS:
        moved_to = _own_data_in(Path(data), Path(str(status["manifest"])))
        if moved_to is not None:
            return moved_to
    return find_or_prepare(data, whole=True, progress=progress).manifest


def _own_data_in(folder: Path, prepared: Path) -> Manifest | None:
    """The run's own manifest with its images in a folder, if that is where they are now.

    The label files that lay among them must have come along; where they lay elsewhere, the folder has none of its own.
    """
    if not folder.is_dir() or is_prepared(folder):
        return None
    try:
        own = load_manifest(prepared)
    except DataError:
        return None
    images = own.rows["image"].slice(0, TRIED).to_pylist()
    if own.description.shards is not None or not all((folder / image).is_file() for image in images):
        return None
    along = moved(own.description.source, own.description.root, folder)
    if along is None:
        try:
            detect(folder)
        except DataError:
            along = True
    return load_with_images(prepared, root=folder) if along else None
