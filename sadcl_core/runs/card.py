"""The card of a model file: classes, preprocessing, thresholds, the configuration of the network and where it comes from.

Reading it imports no torch, so that a wrong model name or threshold is refused before torch is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from sadcl_core.config.schema import ModelSection, Section
from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import TAKES_KNOWN, suggest
from sadcl_core.runs.onnx_file import is_onnx, read_metadata

if TYPE_CHECKING:
    from torch import Tensor

    from sadcl_core.data.transforms import Preprocessing

SCHEMA_VERSION = 1
MULCON_BEFORE = {
    "token_width",
    "width",
    "attention_heads",
    "token_blocks",
    "label_blocks",
    "dropout",
}  # options in files from before `attention_scale`
CARD = "sadcl"  # key of the card in the header
LINEAR = "linear"  # stage of a fitted linear layer, before those of `stages`
CHECKPOINTS = (".pth", ".pt", ".pkl", ".ckpt", ".bin", ".tar")  # ends of the names of files of other programs


class FirstWeights(Section):
    """Weights that a training began with: a name in the hub or of a file, and their licence."""

    source: str = "unknown"
    licence: str = "unknown"


class ModelCard(Section):
    """Description that a model file carries."""

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
    first_weights: FirstWeights = FirstWeights()
    has_prototypes: bool = False
    trained: dict[str, Any] = Field(default_factory=dict, description="data set, stage, epoch, metrics, version")

    @model_validator(mode="after")
    def _one_for_each_class(self) -> ModelCard:
        for name in ("thresholds", "temperatures", "biases", "superclasses"):
            if len(getattr(self, name)) not in (0, len(self.classes)):
                raise ValueError(f"{len(getattr(self, name))} {name} for {len(self.classes)} classes")
        if any(not temperature > 0 for temperature in self.temperatures):
            raise ValueError("a temperature is not above 0")
        if len(self.temperatures) != len(self.biases):
            raise ValueError("temperatures and biases come together")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have one name")
        if any(not deviation > 0 for deviation in self.std):
            raise ValueError("a standard deviation is not above 0")
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """Return what its images need."""
        from sadcl_core.data.transforms import Preprocessing

        return Preprocessing(img_size=self.img_size, mean=self.mean, std=self.std)

    @property
    def head_is_trained(self) -> bool:
        """Return False if the linear layer beside the head was fitted and no epoch followed: the head is as it was drawn."""
        return self.model.global_branch == "none" or self.trained.get("stage") != LINEAR

    @property
    def as_trained(self) -> ModelCard:
        """Return the card without the numbers of a calibration."""
        return self.model_copy(update={"thresholds": (), "temperatures": (), "biases": (), "calibrated": {}})

    def class_indices(self, names: Sequence[str]) -> list[int]:
        """Return the index of each class.

        Raises:
            UsageError: the model has no class of this name.
        """
        for name in names:
            if name not in self.classes:
                raise UsageError(f"The model has no class {name!r}. {suggest(name, self.classes)}")
        return [self.classes.index(name) for name in names]

    def known_labels(self, known: Mapping[str, int]) -> tuple[int, ...]:
        """Return K labels from those that are given by class name: 1 active, 0 inactive, -1 where nothing is given.

        Raises:
            UsageError: the model has no class of this name, or a label is neither 1 nor 0.
        """
        self.class_indices(tuple(known))
        for name, label in known.items():
            if label not in (0, 1):
                raise UsageError(f"{name}={label}: a known label is 1, active, or 0, inactive. Write it like dog=1,cat=0.")
        return tuple(int(known.get(name, -1)) for name in self.classes)

    def calibrated_scores(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Calibrate scores (N, K) as trained; return the same ones where the model is not calibrated."""
        if not self.temperatures:
            return scores
        from sadcl_core.metrics.calibration import apply_probabilities

        return apply_probabilities(scores, self.temperatures, self.biases)

    def scores(self, logits: Tensor) -> Tensor:
        """Turn logits (N, K) into scores in 0..1, float32: their sigmoid, calibrated where the model is, then on the CPU."""
        import torch

        scores = logits.float().sigmoid()
        return torch.from_numpy(self.calibrated_scores(scores.cpu().numpy())) if self.temperatures else scores


def refuse_known(path: Path, card: ModelCard, option: str) -> None:
    """Raise a UsageError if a model cannot use labels that are given with an image, as the option asks for."""
    if card.model.head not in TAKES_KNOWN:
        raise UsageError(
            f"{option}: the head {card.model.head} of {path} cannot use labels that are known. Leave it out, or take a model of "
            "--method c-tran."
        )
    if is_onnx(path):
        raise UsageError(f"{option}: {path} was exported without an input for labels that are known. Give the run.")


def is_checkpoint(path: Path) -> bool:
    """Return True for a file of another program, by the end of its name."""
    return path.suffix.lower() in CHECKPOINTS


def read_card(path: Path, *, classes: str = "", img_size: int | None = None) -> ModelCard:
    """Read the card of a model file or of its export, without its weights; make that of a checkpoint of another program.

    A checkpoint has no names of classes, and may not say its image size in pixels, so they are given: the names as coco, voc,
    a file, or with commas between them.

    Raises:
        DataError: the file is missing, damaged, not one of this project or of a later version.
        UsageError: a checkpoint does not say something that is not given, or a model has names of classes and is given others.
    """
    if is_checkpoint(path) and path.is_file():
        from sadcl_core.runs.imports.import_checkpoint import card_of_checkpoint

        return card_of_checkpoint(path, classes, img_size, modified=path.stat().st_mtime_ns)
    if classes and path.is_file():
        raise UsageError(f"{path} names its classes itself; --classes is for checkpoints of other programs. Leave it out.")
    if is_onnx(path):
        header: Mapping[str, str] = read_metadata(path)
    else:
        with open_tensors(path, framework="np") as stored:
            header = stored.metadata() or {}
    if CARD not in header:
        raise DataError(f"{path} holds no description of a sadcl model. Give a file that sadcl train or sadcl export wrote.")
    try:
        card = ModelCard.model_validate_json(header[CARD])
    except ValidationError as error:
        raise DataError(f"{path}: its description is damaged or of another version ({error.errors()[0]['msg']}).") from None
    if card.schema_version != SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {card.schema_version}, this program reads {SCHEMA_VERSION}.")
    options = card.model.heads.get("mulcon", {})
    if card.model.head == "mulcon" and options.keys() == MULCON_BEFORE:
        heads = {**card.model.heads, "mulcon": {**options, "attention_scale": "head-width"}}
        card = card.model_copy(update={"model": card.model.model_copy(update={"heads": heads})})
    return card


@contextmanager
def open_tensors(path: Path, *, framework: str) -> Iterator[Any]:
    """Open a .safetensors file, for tensors of torch ("pt") or of NumPy ("np").

    Raises:
        DataError: the file is missing or damaged.
    """
    advice = (
        "Give a run of sadcl train, or its weights/best.safetensors; of another program's checkpoint sadcl import makes a run."
    )
    if not os.path.isfile(path):  # noqa: PTH113 (raises for no name)
        raise DataError(f"There is no model file {path}. {advice}")
    try:
        with safe_open(path, framework=framework) as stored:
            yield stored
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a model file ({error}). {advice}") from None
