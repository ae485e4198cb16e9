"""The model file: one .safetensors that explains itself.

Its header holds a card in JSON with everything that is needed to use the weights: classes, preprocessing, thresholds,
the configuration of the network and where it comes from. It holds no code; a file from a stranger can be opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sadcl_core.config.schema import ModelSection, Section
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.metrics.calibration import apply_probabilities
from sadcl_core.model.classifier import Classifier
from sadcl_core.runtime.files import replacing

SCHEMA_VERSION = 1
CARD = "sadcl"  # key of the card in the header


class ModelCard(Section):
    """What a model file says of itself."""

    schema_version: int = SCHEMA_VERSION
    classes: tuple[str, ...] = Field(min_length=1)
    superclasses: tuple[str, ...] = ()
    img_size: int = Field(ge=16, le=4096)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    thresholds: tuple[float, ...] = Field((), description="one per class, on the scores as they come out; empty: 0.5 for all")
    temperatures: tuple[float, ...] = Field((), description="one per class; empty: 1 for all")
    biases: tuple[float, ...] = Field((), description="one per class, added after the temperature; empty: 0 for all")
    calibrated: dict[str, Any] = Field(
        default_factory=dict, description="what thresholds, temperatures and biases were made for and on"
    )
    model: ModelSection
    has_prototypes: bool = False
    trained: dict[str, Any] = Field(default_factory=dict, description="data set, stage, epoch, metrics, version")

    @model_validator(mode="after")
    def _one_for_each_class(self) -> ModelCard:
        for name in ("thresholds", "temperatures", "biases", "superclasses"):
            if len(getattr(self, name)) not in (0, len(self.classes)):
                raise ValueError(f"{len(getattr(self, name))} {name} for {len(self.classes)} classes")
        if any(not temperature > 0 for temperature in self.temperatures):
            raise ValueError("a temperature is not above 0")
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """What its images need."""
        return Preprocessing(img_size=self.img_size, mean=self.mean, std=self.std)

    @property
    def as_trained(self) -> ModelCard:
        """Without what a calibration added."""
        return self.model_copy(update={"thresholds": (), "temperatures": (), "biases": (), "calibrated": {}})

    def calibrated_scores(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Scores (N, K) as trained -> calibrated; the same ones where the model is not calibrated."""
        return apply_probabilities(scores, self.temperatures, self.biases) if self.temperatures else scores

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (N, K) -> scores in 0..1, float32: their sigmoid, calibrated where the model is, then on the CPU."""
        scores = logits.float().sigmoid()
        return torch.from_numpy(self.calibrated_scores(scores.cpu().numpy())) if self.temperatures else scores


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


def read_card(path: Path) -> ModelCard:
    """The description in a model file, without its weights.

    Raises:
        DataError: the file is missing, damaged, not one of this project or of a later version.
    """
    return _read(path, weights=False)[0]


def load_model(path: Path, *, img_size: int | None = None) -> LoadedModel:
    """Read a model file, for another image size than it was trained at where one is given.

    Raises:
        DataError: the file is missing, damaged, not one of this project, of a later version, or its weights do not fit its card.
        UsageError: the backbone cannot be used at this image size.
    """
    card, tensors = _read(path)
    try:
        classifier = Classifier(card.model, num_classes=len(card.classes), img_size=card.img_size)
    except UsageError as error:
        raise DataError(f"{path} cannot be built by this version: {error}") from None
    misfit = _misfit(classifier, tensors)
    if misfit:
        raise DataError(
            f"{path}: the weights do not fit the head {card.model.head!r} on {card.model.backbone} that the file names: "
            f"it {misfit}. Train or fetch it again."
        )
    classifier.load_state_dict(tensors)
    model = LoadedModel(classifier.eval(), card, path)
    return model if img_size in (None, card.img_size) else _at_size(model, int(img_size))


def _at_size(model: LoadedModel, img_size: int) -> LoadedModel:
    """The same model for other images: a vision transformer is built anew and its positions are resampled."""
    card = model.card.model_copy(update={"img_size": img_size})
    if model.classifier.backbone.any_size:
        return LoadedModel(model.classifier, card, model.path)
    tensors = model.classifier.state_dict()
    classifier = Classifier(card.model, num_classes=len(card.classes), img_size=img_size)
    prefix = "backbone.net.model."
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    converted = classifier.backbone.converted(inside) if inside else {}
    tensors = {**tensors, **{f"{prefix}{name}": tensor for name, tensor in converted.items()}}
    if _misfit(classifier, tensors):
        raise UsageError(
            f"{card.model.backbone} cannot be used at {img_size} px: {model.path} was trained at {model.card.img_size} px "
            "and its positions cannot be resampled. Leave --img-size out."
        )
    classifier.load_state_dict(tensors)
    return LoadedModel(classifier.eval(), card, model.path)


def _misfit(classifier: Classifier, tensors: dict[str, Tensor]) -> str:
    """What keeps tensors from being loaded, as the end of a sentence; empty when nothing does."""
    own = classifier.state_dict()
    missing = sorted(set(own) - set(tensors))
    unexpected = sorted(set(tensors) - set(own))
    other_shape = sorted(name for name in set(own) & set(tensors) if own[name].shape != tensors[name].shape)
    for names, what in ((missing, "lacks"), (unexpected, "has the unexpected"), (other_shape, "has another shape of")):
        if names:
            return f"{what} {names[0]}{f' and {len(names) - 1} more tensors' if len(names) > 1 else ''}"
    return ""


def _read(path: Path, *, weights: bool = True) -> tuple[ModelCard, dict[str, Tensor]]:
    if not path.is_file():
        raise DataError(f"There is no model file {path}. Give a run of sadcl train, or its weights/best.safetensors.")
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            names = list(stored.keys()) if weights and CARD in header else []
            tensors = {name: stored.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a model file ({error}). Give a run of sadcl train, or its weights/best.safetensors."
        ) from None
    if CARD not in header:
        raise DataError(f"{path} holds tensors but no description of a sadcl model. Give a file that sadcl train wrote.")
    try:
        card = ModelCard.model_validate_json(header[CARD])
    except ValidationError as error:
        raise DataError(f"{path}: its description is damaged or of another version ({error.errors()[0]['msg']}).") from None
    if card.schema_version != SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {card.schema_version}, this program reads {SCHEMA_VERSION}.")
    return card, tensors
