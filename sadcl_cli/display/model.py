"""Open a model and its images, and say which they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sadcl_cli.console import one_line, say, stages
from sadcl_cli.display.prepare import say_origin
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sadcl_core.data.split import Split
    from sadcl_core.inference.load import Model
    from sadcl_core.inference.onnx_model import OnnxModel
    from sadcl_core.inference.predictor import Predictor
    from sadcl_core.inference.split import OpenedSplit


def open_predictor(
    weights: Path | None,
    *,
    threshold: Sequence[str] = (),
    labels: Sequence[str] = (),
    known: Mapping[str, int] | None = None,
    uncalibrated: bool = False,
    load: Callable[..., Model | OnnxModel] | None = None,
    **options: Any,
) -> Model | OnnxModel:
    """Load a model, or an exported one, and say which it is; thresholds and labels that it does not have are refused before."""
    from sadcl_core.inference import load as loading
    from sadcl_core.inference.thresholds import choose
    from sadcl_core.runs.card import refuse_known

    if threshold or labels or known:  # before the weights are read
        about = {name: options[name] for name in ("classes", "img_size") if name in options}
        path, _, card = loading.find_card(weights, uncalibrated=uncalibrated, **about)
        if known:
            refuse_known(path, card, "--known")
            card.known_labels(known)
        choose(threshold, card.classes, card.thresholds, calibrated=bool(card.temperatures))
        card.class_indices(labels)
    model = (load or loading.load)(weights, uncalibrated=uncalibrated, **options)
    say(model_sentence(model))
    return model.given(known) if known else model


def open_model(weights: Path | None, **options: Any) -> Model:
    """Load a model with its network in torch, otherwise as `open_predictor`."""
    from sadcl_core.inference.load import load_trained

    return cast("Model", open_predictor(weights, load=load_trained, **options))


def open_model_and_split(
    weights: Path | None,
    *,
    data: str | None,
    split: str | None,
    device: str,
    precision: str = "auto",
    img_size: int | None = None,
    classes: str = "",
) -> tuple[Model, Split]:
    """Find the images to go through, load the model, and say which they are."""
    from sadcl_core.inference.load import find_card
    from sadcl_core.inference.split import open_split
    from sadcl_core.runtime.device import check_device_and_precision

    check_device_and_precision(device, precision)
    with stages() as progress:
        file = find_card(weights, classes=classes, img_size=img_size)
        opened = open_split(file, data=data, split=split, progress=progress)
    model = open_model(weights, device=device, precision=precision, img_size=img_size, classes=classes)
    say_split(model, opened)
    return model, opened.split


def model_sentence(model: Predictor[Any]) -> str:
    """Say which model this is."""
    card = model.card
    note = " (the run that finished last)" if model.is_last_run else ""
    classes = counted(len(card.classes), "class", "classes")
    sentence = f"model {model.path}{note}: {card.model.head} on {card.model.backbone}, {classes}, {card.img_size} px"
    if not card.head_is_trained:
        sentence += "; its linear layer alone is trained: maps are of that, features of labels are random"
    if not card.calibrated:
        scores = card.trained.get("scores")
        return f"{sentence}; its scores are {one_line(str(scores))}: sadcl eval --calibrate" if scores else sentence
    size = card.calibrated.get("img_size", card.img_size)
    elsewhere = "" if size == card.img_size else f" at {size} px, which may not suit {card.img_size} px"
    made = {key: card.calibrated.get(key) for key in ("objective", "split", "dataset")}
    return f"{sentence}; calibrated for {made['objective']} on split {made['split']} of {made['dataset']}{elsewhere}"


def say_split(model: Predictor[Any], opened: OpenedSplit) -> None:
    """Say which images these are, how their labels were read just now, and what of them may be wrong."""
    if opened.origin is not None and opened.origin.kind == "now":
        say_origin(opened.origin)
    split, description = opened.split, opened.split.manifest.description
    sentence = f"data {description.name}, split {split.name}: {counted(len(split), 'image')}, {description.location}"
    if opened.labelled < len(model.classes):
        sentence += f", with labels of {opened.labelled} of the model's {len(model.classes)} classes"
    if opened.changed:
        sentence += ", prepared again since the training"
    if opened.measured:
        sentence += f" ({opened.measured} was measured during the training: --split {opened.measured} takes that)"
    if opened.seen and split.name != "train":
        sentence += f"; {opened.seen:,} of them have the paths of images that the model was trained on"
    say(sentence)
