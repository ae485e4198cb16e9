"""Add a class to a trained model from a few photos: its rows are fitted, and every other number stays as it is to the bit.

The photos count as active, images without the class as inactive: images that a person names, or those of the run's data, which
nobody has looked through for the new class. The rows start from those of the class that tells the photos best from the others
(the query of a transformer has to start somewhere). A linear layer is solved by logistic regression on the features; a head
without one is trained for a few steps, in its new rows alone. Average precision and threshold are measured by rows that were
fitted without the images they score: the photos are divided into parts, and the held-out split of the run's data takes no part
in the fit.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sadcl_core.config.layers import flatten, load_config_file
from sadcl_core.data.image_stream import open_images
from sadcl_core.data.images import NamedImage
from sadcl_core.errors import DataError, SadclError, UsageError
from sadcl_core.inference.load import ModelFile, find_card, load_trained
from sadcl_core.inference.split import open_split
from sadcl_core.inference.thresholds import DEFAULT
from sadcl_core.metrics import average_precisions, bootstrap_average_precision, interval
from sadcl_core.metrics.calibration import choose_thresholds, parse_objective
from sadcl_core.runs.card import ModelCard
from sadcl_core.runs.run_directory import FINISHED, RunDirectory, new_run_path, read_status
from sadcl_core.runtime.device import check_device_and_precision
from sadcl_core.runtime.files import safe_name
from sadcl_core.runtime.progress import StagedProgress, stage
from sadcl_core.training.extended_data import with_class

if TYPE_CHECKING:
    from torch import Tensor

    from sadcl_core.data.manifest import Manifest
    from sadcl_core.data.split import Split

FOLDS = 5  # parts of the images, each scored by rows that were fitted without it
LEAST_PHOTOS = 2  # one photo cannot be scored by rows that were fitted without it
OBJECTIVE = "f1"
RESAMPLES = 1000
LEVEL = 0.95
LEAST_OF_INTERVAL = 5  # photos: fewer cannot say how sure they are
ALIKE = 10  # images without the class that are named
KEPT = ("dataset", "eval_split", "method", "seed", "versions", "weights_fingerprints", "best")  # of run.json
OF_CARD = ("name", "photos", "others", "compared", "source", "confirmed", "ap_interpolated", "ap_non_interpolated")


@dataclass(frozen=True)
class Extension:
    """A class that was added.

    Attributes:
        run: directory of the new run.
        model: its model file.
        name: of the class.
        photos: how many show it.
        others: how many images counted as without it in the fit.
        compared: how many images without it the photos are compared with below.
        source: of those images, for people.
        confirmed: True if a person said that they do not show it.
        ap_interpolated: of the class, in percent, on the photos among the images that are compared.
        ap_non_interpolated: the same without interpolation.
        interval: of `ap_interpolated` at 95 %, in percent; NaN for fewer than 5 photos, or where all resamples are equal.
        threshold: above which the class counts, for the highest F1 on these images.
        recall: percent of the photos above the threshold.
        false_positives: how many of the images that are compared are above it.
        alike: names of images without the class, in the fit or compared, that look most like it: it may be shown there.
        errors: a sentence for each image that could not be read, which the class was added without.
    """

    run: Path
    model: Path
    name: str
    photos: int
    others: int
    compared: int
    source: str
    confirmed: bool
    ap_interpolated: float
    ap_non_interpolated: float
    interval: tuple[float, float]
    threshold: float
    recall: float
    false_positives: int
    alike: tuple[str, ...]
    errors: tuple[str, ...] = ()


def extend(
    weights: str | Path | None,
    photos: Sequence[str | Path],
    *,
    add: str,
    negatives: Sequence[str | Path] = (),
    data: str | None = None,
    output: Path | None = None,
    steps: int | None = None,
    limit: int = 1000,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    progress: StagedProgress | None = None,
) -> Extension:
    """Add a class to a model, as a new run.

    Args:
        weights: a run or a model file; None for the run that finished last.
        photos: images that show the class, as for `sadcl_core.open_images`.
        add: name of the class.
        negatives: images that do not show it, the photos among them left out; by default those of the run's data count as such.
        data: where the run's data lie now.
        output: directory of the new run; by default beside the old one, with the name of the class behind its name.
        steps: in which the new rows are trained; by default none where a linear layer is solved, since they made it worse.
        limit: images without the class in the fit, and in the comparison, at most; fewer where memory is short.
        seed: of the choice of these images, of the parts and of the steps.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images at a time.
        workers: threads that read images.
        progress: called with the stage, and how much of it is done.

    Raises:
        UsageError: the model has the class already, its head joins the classes, the new run exists, or there are too few photos.
        DataError: fewer than two of the photos can be read, or there are no images without the class.

    Example:
        >>> extend("runs/pets", ["photos/otter"], add="otter").ap_interpolated  # doctest: +SKIP
        91.3
    """
    check_device_and_precision(device, "fp32")
    file = find_card(weights)
    name = _check_name(add, file.card)
    beside = None if file.run is None else file.run.path.with_name(safe_name(f"{file.run.path.resolve().name}-{name}"))
    run = RunDirectory(output or beside or new_run_path(f"{file.path.stem}-{name}"))
    run.refuse_existing(exist_ok=False)
    shown = _by_place(photos)
    without = {place: image for place, image in _by_place(negatives).items() if place not in shown}
    if len(shown) < LEAST_PHOTOS:
        raise UsageError(f"{len(shown)} photo of {name!r} is too few. Give {LEAST_PHOTOS} or more; 10 say more than 5.")
    held_out = _held_out(file, data, needed=not without)

    from sadcl_core.training.class_rows import ClassRows, images_in_memory, joined, refuse_joined

    model = load_trained(file.path, device=device, precision="fp32")
    refuse_joined(model)
    limit = min(limit, max(images_in_memory(model), FOLDS))
    chosen = _choose(shown, without, held_out, limit, seed)
    reading: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": stage(progress, "reading images")}
    rows = ClassRows(model, chosen.images, chosen.targets, steps=steps, seed=seed, **reading)
    broken = {chosen.images[number].name: error for number, error in sorted(rows.errors.items())}
    if broken:
        chosen = _without_broken(chosen, rows.readable, seed)
    scores = np.zeros(len(chosen.images))
    report, parts = stage(progress, "fitting the class"), int(chosen.part.max()) + 1
    row = rows.fit(chosen.fitted)  # first: it chooses the regularisation for all
    for part in range(parts):
        if report is not None:
            report(part + 1, parts + 1)
        inside = chosen.part == part
        scores[chosen.compared & inside] = rows.scores(rows.fit(chosen.fitted & ~inside), chosen.compared & inside)
    final = rows.scores(row, np.ones(len(scores), bool))
    extension = _measure(run, name, chosen, scores, final, confirmed=bool(without), errors=tuple(broken.values()))
    there, gone = ([image for image in group.values() if image.name not in broken] for group in (shown, without))
    data_of_run = None if held_out is None else with_class(held_out.manifest, name, there, gone)
    _write(run, file, joined(model.classifier, row), extension, data_of_run)
    return extension


def _check_name(add: str, card: ModelCard) -> str:
    """Return the name of a new class."""
    name = add.strip()
    if not name or any(mark in name for mark in "\n\r"):
        raise UsageError(f"{add!r} cannot be the name of a class. Give it on one line.")
    if name in card.classes:
        raise UsageError(f"The model has the class {name!r} already. Train on, with the new photos in the data: --init-from.")
    return name


def _by_place(places: Sequence[str | Path]) -> dict[Path | str, NamedImage]:
    """Return images, each once, by its path on the disk or else its name."""
    images = open_images(places) if places else ()
    return {image.source.resolve() if isinstance(image.source, Path) else image.name: image for image in images}


def _held_out(file: ModelFile, data: str | None, *, needed: bool) -> Split | None:
    """Return the held-out split of a run's data; None where they are gone and not needed."""
    try:
        split = open_split(file, data=data).split
        if needed and split.manifest.description.shards is not None:
            raise DataError(f"The images of {split.manifest.description.name} are in shards, which cannot be picked from.")
    except SadclError as error:
        if not needed:
            return None
        raise type(error)(
            f"{error} Or give images that do not show the class: --negatives DIR; without any "
            "nobody can know where else it would be seen."
        ) from None
    return split


@dataclass(frozen=True)
class _Chosen:
    """N images of the fit and of the comparison.

    Attributes:
        images: N of them.
        targets: (N,) 1 for photos of the class, else 0.
        fitted: (N,) True if it may take part in the fit.
        compared: (N,) True if it is scored by rows that were fitted without it.
        part: (N,) number of its part.
        about: images without the class that are compared, for people.
    """

    images: list[NamedImage]
    targets: npt.NDArray[np.int64]
    fitted: npt.NDArray[np.bool_]
    compared: npt.NDArray[np.bool_]
    part: npt.NDArray[np.int64]
    about: str


def _choose(
    shown: dict[Path | str, NamedImage], without: dict[Path | str, NamedImage], held_out: Split | None, limit: int, seed: int
) -> _Chosen:
    """Choose the images of the fit and of the comparison, where there are many by chance; `shown` and `without` by place."""
    rng = np.random.default_rng(seed)
    groups, about = [(list(without.values()), True, True)], "images without it"
    if not without:
        assert held_out is not None, "needed"
        manifest = held_out.manifest
        about = f"images of split {held_out.name} of {manifest.description.name}"
        other = next((name for name in ("train", *manifest.splits) if name in manifest.splits and name != held_out.name), None)
        groups = []
        for name in (other, held_out.name):
            if name is not None:
                places = (manifest.description.root / image for image in manifest.split(name))
                images = [NamedImage(str(place), place) for place in places if place.resolve() not in shown]
                groups.append((images, name == other or other is None, name == held_out.name))
    groups = [(_some(images, limit, rng), fitted, compared) for images, fitted, compared in groups]
    if not any(images for images, *_ in groups):
        raise DataError("Every image shows the class. Give images that do not: --negatives DIR.")
    groups = [(list(shown.values()), True, True), *groups]
    count, folds = [len(images) for images, *_ in groups], min(FOLDS, len(shown))
    return _Chosen(
        images=[image for images, *_ in groups for image in images],
        targets=np.repeat([1] + [0] * (len(groups) - 1), count),
        fitted=np.repeat([bool(fitted) for _, fitted, _ in groups], count),
        compared=np.repeat([bool(compared) for *_, compared in groups], count),
        part=np.concatenate([rng.permutation(number) % folds for number in count]),
        about=about,
    )


def _without_broken(chosen: _Chosen, readable: npt.NDArray[np.bool_], seed: int) -> _Chosen:
    """Return the images that could be read, divided into parts again, so that each has photos of the class."""
    targets = chosen.targets[readable]
    rng, part = np.random.default_rng(seed), np.zeros(len(targets), np.int64)
    for kind in (1, 0):
        part[targets == kind] = rng.permutation(int((targets == kind).sum())) % min(FOLDS, int(targets.sum()))
    return _Chosen(
        [image for image, there in zip(chosen.images, readable, strict=True) if there],
        targets,
        chosen.fitted[readable],
        chosen.compared[readable],
        part,
        chosen.about,
    )


def _some(images: list[NamedImage], limit: int, rng: np.random.Generator) -> list[NamedImage]:
    """Return at most so many of the images, chosen by chance, in their order."""
    return images if len(images) <= limit else [images[k] for k in sorted(rng.choice(len(images), limit, replace=False))]


def _measure(
    run: RunDirectory,
    name: str,
    chosen: _Chosen,
    scores: npt.NDArray[np.float64],
    final: npt.NDArray[np.float32],
    *,
    confirmed: bool,
    errors: tuple[str, ...],
) -> Extension:
    """Return what the class reaches by scores (N,) of rows that were fitted without the images; `final` are those of all."""
    compared, targets = scores[chosen.compared, None], chosen.targets[chosen.compared, None]
    ap, limits = average_precisions(compared, targets), (float("nan"), float("nan"))
    if targets.sum() >= LEAST_OF_INTERVAL:
        drawn = 100 * bootstrap_average_precision(compared, targets, samples=RESAMPLES).interpolated[:, 0]
        if np.nanmin(drawn) < np.nanmax(drawn):  # else they cannot show how far it may move
            limits = interval(drawn, 100 * float(ap.interpolated[0]), LEVEL, (0.0, 100.0))
    threshold = float(choose_thresholds(compared, targets, parse_objective(OBJECTIVE)).values[0])
    above, shown = compared[:, 0] > threshold, targets[:, 0] == 1
    others = np.flatnonzero(chosen.targets == 0)
    likely = [k for k in others[np.argsort(-final[others], kind="stable")][:ALIKE] if final[k] > threshold]
    return Extension(
        run=run.path,
        model=run.best,
        name=name,
        photos=int(chosen.targets.sum()),
        others=int((chosen.fitted & (chosen.targets == 0)).sum()),
        compared=int((~shown).sum()),
        source=chosen.about,
        confirmed=confirmed,
        ap_interpolated=100 * float(ap.interpolated[0]),
        ap_non_interpolated=100 * float(ap.non_interpolated[0]),
        interval=limits,
        threshold=threshold,
        recall=100 * float(above[shown].mean()),
        false_positives=int(above[~shown].sum()),
        alike=tuple(chosen.images[k].name for k in likely),
        errors=errors,
    )


def _write(
    run: RunDirectory, file: ModelFile, weights: dict[str, Tensor], extension: Extension, manifest: Manifest | None
) -> None:
    """Write the new run: its model file, its data, and what the run that it is made from says of itself."""
    from sadcl_core.runs.checkpoint import save_model

    classes: dict[str, str | None] = {name: name for name in file.card.classes}
    status: dict[str, Any] = {"transfer": {"source": str(file.path), "classes": {**classes, extension.name: None}}}
    with run.held():
        run.create(exist_ok=False)
        if file.run is not None:
            stored, config = read_status(file.run.path), load_config_file(file.run.path / "config.yaml")
            status |= {key: stored[key] for key in KEPT if key in stored}
            sources = dict.fromkeys(flatten(config), f"run {file.run.path.name}")
            if manifest is not None:
                folder = (run.path / "data").resolve()
                status |= {"manifest": str(folder), "data_fingerprint": manifest.save(folder).fingerprint()}
                config = {**config, "data": {**config.get("data", {}), "manifest": str(folder)}}
                sources["data.manifest"] = "extend"
            run.write_config(config, sources)
        save_model(run.best, weights, _card(file.card, extension))
        run.write_status(**status, status=FINISHED, ended=f"{extension.name} was added to {file.path}")


def _card(card: ModelCard, extension: Extension) -> ModelCard:
    """Return the card with the new class: what the old classes have stays."""
    facts = {key: value for key, value in vars(extension).items() if key in OF_CARD}
    facts["interval"] = None if np.isnan(extension.interval[0]) else list(extension.interval)
    thresholds = card.thresholds or (DEFAULT,) * len(card.classes)
    return card.model_copy(
        update={
            "classes": (*card.classes, extension.name),
            "superclasses": (*card.superclasses, extension.name) if card.superclasses else (),
            "thresholds": (*thresholds, extension.threshold),
            "temperatures": (*card.temperatures, 1.0) if card.temperatures else (),
            "biases": (*card.biases, 0.0) if card.biases else (),
            "trained": {**card.trained, "extended": [*card.trained.get("extended", []), facts]},
        }
    )
