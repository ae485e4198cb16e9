"""The model file: one .safetensors that explains itself.

Its header holds a card in JSON with everything that is needed to use the weights: classes, preprocessing, thresholds,
the configuration of the network and where it comes from. It holds no code; a file from a stranger can be opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sadcl_core.errors import DataError, MachineError, SadclError, UsageError
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import CARD, ModelCard, is_checkpoint, open_tensors, read_card
from sadcl_core.runtime.files import replacing

__all__ = ["CARD", "LoadedModel", "ModelCard", "load_model", "read_card", "save_model", "write_tensors"]


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode, its card, and the file it came from."""

    classifier: Classifier
    card: ModelCard
    path: Path


def save_model(path: Path, weights: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write a model file in one piece; `weights` are the state of a `Classifier`."""
    write_tensors(path, weights, {CARD: card.model_dump_json()})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write a .safetensors file in one piece, so that not even a power cut leaves half of one.

    Raises:
        SadclError: it cannot be written there, or the disk is full.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, durable=True) as temporary:
        temporary.touch()
        mode = (path if path.exists() else temporary).stat().st_mode
        try:
            safetensors.torch.save_file(stored, temporary, metadata=header)
        except SafetensorError as error:
            raise MachineError(f"{path} cannot be written ({error}). Make room on the disk.") from None
        temporary.chmod(mode)  # safetensors leaves a file that only its owner can read


def load_model(path: Path, *, img_size: int | None = None, classes: str = "") -> LoadedModel:
    """Read a model file, or a checkpoint of another program, for another image size than it was trained at where one is given.

    The image size is in pixels; for `classes` see `read_card`.

    Raises:
        DataError: the file is missing, damaged, not one of this project, of a later version, or its weights do not fit its card.
        UsageError: the backbone cannot be used at this image size; see also `read_card`.
    """
    if is_checkpoint(path) and path.is_file():
        from sadcl_core.runs.imports.import_checkpoint import open_checkpoint

        classifier, read = open_checkpoint(path, classes=classes, img_size=img_size)
        return LoadedModel(classifier, read.card, path)
    card = read_card(path, classes=classes)
    with open_tensors(path, framework="pt") as stored:
        slices = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118
        kinds = {name: (tuple(s.get_shape()), str(s.get_dtype()).startswith(("F", "BF"))) for name, s in slices.items()}
        outline, earlier = _outline(card, path), {}
        if outline.gate is not None and "gate" not in kinds:  # of a version in which every head counted whole
            earlier["gate"] = torch.ones(len(card.classes))
            kinds["gate"] = (tuple(earlier["gate"].shape), True)
        misfit = _misfit(outline, kinds)
        tensors = {} if misfit else {name: stored.get_tensor(name) for name in slices}
    if misfit:
        raise DataError(
            f"{path}: the weights do not fit the head {card.model.head!r} on {card.model.backbone} that the file names: "
            f"it {misfit}. Train or fetch it again."
        )
    classifier = Classifier(card.model, num_classes=len(card.classes), img_size=card.img_size, initialise=False)
    classifier.assign({**tensors, **earlier})
    model = LoadedModel(classifier.eval(), card, path)
    return model if img_size in (None, card.img_size) else _at_size(model, int(img_size))


def _outline(card: ModelCard, path: Path) -> Classifier:
    """Return the network of a card without memory: what a file claims is compared with its tensors before any is taken."""
    try:
        with torch.device("meta"):
            return Classifier(card.model, num_classes=len(card.classes), img_size=card.img_size, initialise=False)
    except SadclError as error:
        raise DataError(f"{path} cannot be built by this version: {error}") from None
    except (RuntimeError, ValueError, TypeError, AssertionError, OverflowError) as error:
        raise DataError(f"{path} describes a network that cannot be built ({str(error).splitlines()[0]}).") from None


def _at_size(model: LoadedModel, img_size: int) -> LoadedModel:
    """The same model for other images: a vision transformer is built again and its positions are resampled."""
    card = model.card.model_copy(update={"img_size": img_size})
    if model.classifier.backbone.any_size:
        return LoadedModel(model.classifier, card, model.path)
    tensors = model.classifier.state_dict()
    classifier = Classifier(card.model, num_classes=len(card.classes), img_size=img_size, initialise=False)
    prefix = "backbone.net.model."
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    converted = classifier.backbone.convert(inside) if inside else {}
    tensors = {**tensors, **{f"{prefix}{name}": tensor for name, tensor in converted.items()}}
    if _misfit(classifier, {name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in tensors.items()}):
        raise UsageError(
            f"{card.model.backbone} cannot be used at {img_size} px: {model.path} was trained at {model.card.img_size} px "
            "and its positions cannot be resampled. Leave --img-size out."
        )
    classifier.assign(tensors)
    return LoadedModel(classifier.eval(), card, model.path)


def _misfit(classifier: Classifier, tensors: Mapping[str, tuple[tuple[int, ...], bool]]) -> str:
    """Return why tensors of these shapes and kinds cannot be loaded, as the end of a sentence; empty if they can."""
    own = classifier.state_dict()
    missing = sorted(set(own) - set(tensors))
    unexpected = sorted(set(tensors) - set(own))
    shared = sorted(set(own) & set(tensors))
    other_shape = [name for name in shared if tuple(own[name].shape) != tensors[name][0]]
    other_kind = [name for name in shared if own[name].is_floating_point() != tensors[name][1]]
    for names, what in (
        (missing, "lacks"),
        (unexpected, "has the unexpected"),
        (other_shape, "has another shape of"),
        (other_kind, "has other numbers in"),
    ):
        if names:
            return f"{what} {names[0]}{f' and {len(names) - 1} more tensors' if len(names) > 1 else ''}"
    return ""
