"""What a run is: every value with its default and its bounds.

The defaults are the published recipe of SADCL for ResNet-101 at 448 (ECAI 2023, and the authors' training script). A
value is taken from the last layer that names it: defaults < method < preset < file < --set < flag. The source of each
is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sadcl_core.errors import UsageError
from sadcl_core.registry import suggest

Layer = Mapping[str, Any]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """Which images, at which size, and how they are fed."""

    dataset: str = Field("", description="name of the data set")
    manifest: str = Field("", description="prepared folder that holds the manifest")
    train_split: str = "train"
    eval_split: str = Field("", description="held-out split; empty: val when there is one, else test")
    img_size: int = Field(448, ge=16, le=4096, description="side of the square the images are resized to, pixels")
    batch_size: int = Field(64, ge=1, description="images per step, over all processes")
    workers: int | None = Field(None, ge=0, le=256, description="loader processes; null: chosen from the processors")


class ModelSection(Section):
    """Backbone and head; `heads` holds the options of each head by name, only the chosen one's are used."""

    backbone: str = Field("resnet101", description="any timm model that gives feature maps")
    stride: int = Field(32, ge=1, le=64, description="image pixels per feature-map location")
    pretrained: bool | str = Field(True, description="true: the hub's weights; false: none; or a .safetensors/.pth file")
    init_from: str = Field("", description="run or model file whose weights are taken over, class by class name")
    class_map: str = Field("", description="file of class names here and there, where the names differ")
    freeze_stride: int = Field(
        4, ge=0, le=64, description="layers up to this stride are frozen; 4: stem and first stage; 0: none"
    )
    freeze_batchnorm: bool = Field(True, description="keep the BatchNorm statistics of the backbone as loaded")
    head: str = "sarl"
    heads: dict[str, dict[str, Any]] = Field(default_factory=dict)
    projection_width: int = Field(1024, ge=1, description="P, width of the embeddings the contrastive losses compare")


class AsymmetricOptions(Section):
    """Options of the classification loss."""

    gamma_neg: float = Field(
        0.0, ge=0, description="focusing of inactive labels; 0: binary cross-entropy, as in the best published log"
    )
    gamma_pos: float = Field(0.0, ge=0)
    clip: float = Field(0.0, ge=0, lt=1)


class SampleToSampleOptions(Section):
    """Options of the sample-to-sample loss and of its memory bank."""

    temperature: float = Field(0.2, gt=0)
    bank_slots: int = Field(16, ge=0, description="remembered features per class; 0: no bank")
    bank_classes: Literal["all", "present"] = Field(
        "all", description="entries an anchor is contrasted with: of every class, as published, or of those in the batch"
    )
    bank_min_score: float = Field(0.8, ge=0, le=1, description="an active label is remembered when its score is above this")


class PrototypeToSampleOptions(Section):
    """Options of the prototype-to-sample loss and of its prototypes."""

    temperature: float = Field(0.07, gt=0)
    prototype_min_score: float = Field(
        0.85, ge=0, le=1, description="an image counts for the first prototypes when its score is above this"
    )


class ImageToImageOptions(Section):
    """Options of the contrastive loss of whole-image features."""

    temperature: float = Field(0.2, gt=0)


class LossSection(Section):
    """Options of each loss term; which terms a stage uses, and how much, is said in the stage."""

    asymmetric: AsymmetricOptions = AsymmetricOptions()
    sample_to_sample: SampleToSampleOptions = SampleToSampleOptions()
    prototype_to_sample: PrototypeToSampleOptions = PrototypeToSampleOptions()
    image_to_image: ImageToImageOptions = ImageToImageOptions()


class StageSection(Section):
    """One stage of training: how long, how fast, with which losses and which images."""

    epochs: int = Field(80, ge=0, description="0: the stage is left out, as is one without a loss")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd has momentum 0.9")
    lr: float = Field(5e-5, gt=0, description="peak learning rate")
    backbone_lr_scale: float = Field(1.0, ge=0, description="learning rate of the backbone as a multiple; 0: frozen")
    head_lr_scale: float = Field(
        1.0, gt=0, description="learning rate of the head below its linear classifier as a multiple, as in MulCon"
    )
    classifier_lr_scale: float = Field(1.0, gt=0, description="learning rate of the linear classifier as a multiple")
    augment: str = "none"
    views: int = Field(1, ge=1, le=8, description="augmented versions of each image in a batch")
    losses: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {"asymmetric": 1.0}, description="weight of each term; 0: unused"
    )

    @property
    def weights(self) -> dict[str, float]:
        """The loss terms that are used, with their weights."""
        return {name: weight for name, weight in self.losses.items() if weight != 0}


class OptimSection(Section):
    """Decay, OneCycle per step, EMA and early stop, the same in every stage."""

    weight_decay: float = Field(5e-3, ge=0)
    warmup: float = Field(0.2, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    clip_grad_norm: float = Field(0.0, ge=0, description="0: not clipped")
    ema_decay: float = Field(0.9998, ge=0, lt=1)
    ema_warmup: bool = Field(False, description="let the EMA follow faster in the first steps; for short runs")
    patience: int = Field(8, ge=1, description="epochs without a better EMA mAP before the stage ends")


class RunConfig(Section):
    """Everything a training run is made of."""

    preset: str = ""
    method: str = Field("sadcl", description="what is trained: a head with its losses")
    seed: int = Field(1, ge=0, lt=2**32)
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    loss: LossSection = LossSection()
    optim: OptimSection = OptimSection()
    stages: dict[str, StageSection] = Field(
        default_factory=lambda: {
            "classification": StageSection(augment="cutout-randaugment"),
            "contrastive": StageSection(
                augment="fixed-crops",
                losses={"asymmetric": 1.0, "sample_to_sample": 0.1, "prototype_to_sample": 0.05},
            ),
        }
    )


def resolve_config(layers: Iterable[tuple[str, Layer]]) -> tuple[RunConfig, dict[str, str]]:
    """Merge named layers over the defaults.

    Args:
        layers: (where it comes from, nested values), weakest first.

    Returns:
        The validated configuration, and for every dotted key the name of the layer its value came from.

    Raises:
        UsageError: a key does not exist or a value is out of bounds.
    """
    merged = RunConfig().model_dump()
    sources = dict.fromkeys(flatten(merged), "default")
    for source, layer in layers:
        _merge(merged, layer, source=source, sources=sources, path="")
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        raise UsageError(_describe(error, sources)) from None
    sources = {key: sources.get(key, "default") for key in flatten(config.model_dump())}
    return config, sources


def parse_assignment(text: str) -> Layer:
    """`stages.contrastive.epochs=5` as nested values; the right side is read as YAML.

    Raises:
        UsageError: there is no `=`, or the right side is no value.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r} is not of the form key=value. Write for example --set optim.ema_decay=0.99.")
    try:
        parsed: Any = yaml.safe_load(value) if value.strip() else ""
    except yaml.YAMLError:
        raise UsageError(f"--set {text!r}: the value cannot be read as YAML. Quote it.") from None
    if isinstance(parsed, str):
        parsed = _number(parsed)
    nested: dict[str, Any] = {}
    place = nested
    *parents, last = key.strip().replace("-", "_").split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = parsed
    return nested


def load_config_file(path: Path) -> Layer:
    """Read a YAML file of nested values, such as the config.yaml of a run.

    Raises:
        UsageError: the file is missing or holds no table.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as a configuration file ({type(error).__name__}). Give a YAML file.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no table of values. Give a YAML file such as the config.yaml of a run.")
    return values


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _merge(into: dict[str, Any], layer: Layer, *, source: str, sources: dict[str, str], path: str) -> None:
    for key, value in layer.items():
        dotted = f"{path}{key}"
        if isinstance(value, Mapping):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value, source=source, sources=sources, path=f"{dotted}.")
        else:
            into[key] = copy.deepcopy(value)
            sources[dotted] = source


def _number(text: str) -> float | str:
    """YAML 1.1 reads 1e-3 as a string; people mean the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _describe(error: ValidationError, sources: Mapping[str, str]) -> str:
    first = error.errors()[0]
    dotted = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"There is no setting {dotted}. {suggest(dotted, flatten(RunConfig().model_dump()))}"
    origin = f" (from {sources[dotted]})" if dotted in sources else ""
    return f"{dotted}={first['input']!r}{origin} is not valid: {first['msg']}."
