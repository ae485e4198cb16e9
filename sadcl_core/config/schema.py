"""What a run is: every value with its default and its bounds.

The defaults are the published recipe of SADCL for ResNet-101 at 448 (ECAI 2023, and the authors' training script). A
value is taken from the last layer that names it: defaults < method < preset < file < --set < flag. The source of each
is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from sadcl_core.config.keys import Schema, inlined, keys, nearest, shown, table_of
from sadcl_core.config.layers import Layer as Layer
from sadcl_core.config.layers import Stack, told, wrong_values
from sadcl_core.config.layers import flatten as flatten
from sadcl_core.config.yaml import UnreadableError, read_table, read_value
from sadcl_core.errors import UsageError

DEEPEST = 16  # parts of a dotted key; no setting has as many


def _no_word(value: Any) -> Any:
    """Yes and no are words, though Python counts with them."""
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "a number is meant")
    return value


def _letters(value: Any) -> Any:
    """Text that can be written to a file: bytes of a path that are no UTF-8 cannot."""
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise PydanticCustomError("string_unicode", "text that can be written is meant")
    return value


Weight = Annotated[float, Field(ge=0), BeforeValidator(_no_word)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = [annotation, *get_args(annotation)]
        return _no_word(value) if (int in kinds or float in kinds) and bool not in kinds else _letters(value)


class DataSection(Section):
    """Which images, at which size, and how they are fed."""

    dataset: str = Field("", description="name of the data set")
    manifest: str = Field("", description="prepared folder that holds the manifest")
    train_split: str = Field("train", description="split that is trained on")
    eval_split: str = Field("", description="held-out split; empty: val when there is one, else test")
    img_size: int = Field(448, ge=16, le=4096, description="side of the square the images are resized to, pixels")
    batch_size: int = Field(64, ge=1, description="images per step, over all processes")
    workers: int | None = Field(None, ge=0, le=256, description="loader processes; null: chosen from the processors")
    sampler: Literal["uniform", "repeat-factor"] = Field(
        "uniform", description="repeat-factor: images of rare classes are drawn more often, as in LVIS"
    )


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
    head: str = Field("sarl", description="from feature map to label features; a method brings its own")
    heads: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of each head; only the chosen one's are used"
    )
    projection_width: int = Field(1024, ge=1, description="P, width of the embeddings the contrastive losses compare")


class AsymmetricOptions(Section):
    """Options of the classification loss."""

    gamma_neg: float = Field(
        0.0, ge=0, description="focusing of inactive labels; 0: binary cross-entropy, as in the best published log"
    )
    gamma_pos: float = Field(0.0, ge=0, description="focusing of active labels")
    clip: float = Field(0.0, ge=0, lt=1, description="probability that is taken off inactive labels; easy ones drop out")
    class_weights: Literal["none", "neg-pos", "effective-number"] = Field(
        "none",
        description="neg-pos: active labels count as often as there are inactive ones to one; "
        "effective-number: both count by the class-balanced weight (Cui et al., CVPR 2019)",
    )


class SampleToSampleOptions(Section):
    """Options of the sample-to-sample loss and of its memory bank."""

    temperature: float = Field(0.2, gt=0, description="similarities are divided by this; smaller: sharper contrast")
    bank_slots: int = Field(16, ge=0, description="remembered features per class; 0: no bank")
    bank_classes: Literal["all", "present"] = Field(
        "all", description="entries an anchor is contrasted with: of every class, as published, or of those in the batch"
    )
    bank_min_score: float = Field(0.8, ge=0, le=1, description="an active label is remembered when its score is above this")


class PrototypeToSampleOptions(Section):
    """Options of the prototype-to-sample loss and of its prototypes."""

    temperature: float = Field(0.07, gt=0, description="similarities are divided by this; smaller: sharper contrast")
    prototype_min_score: float = Field(
        0.85, ge=0, le=1, description="an image counts for the first prototypes when its score is above this"
    )


class ImageToImageOptions(Section):
    """Options of the contrastive loss of whole-image features."""

    temperature: float = Field(0.2, gt=0, description="similarities are divided by this; smaller: sharper contrast")


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
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate of each layer of the backbone, as a multiple of the next"
    )
    augment: str = Field("none", description="how training images are changed at random")
    views: int = Field(1, ge=1, le=8, description="augmented versions of each image in a batch")
    mixup: float = Field(0.0, ge=0, description="alpha of mixup (Zhang et al., ICLR 2018); 0: off")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix (Yun et al., ICCV 2019); 0: off")
    losses: dict[str, Weight] = Field(default_factory=lambda: {"asymmetric": 1.0}, description="weight of each term; 0: unused")

    @property
    def weights(self) -> dict[str, float]:
        """The loss terms that are used, with their weights."""
        return {name: weight for name, weight in self.losses.items() if weight != 0}


class OptimSection(Section):
    """Decay, OneCycle per step, EMA and early stop, the same in every stage."""

    weight_decay: float = Field(5e-3, ge=0, description="of the optimiser")
    warmup: float = Field(0.2, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    clip_grad_norm: float = Field(0.0, ge=0, description="norm that the gradient is cut to; 0: not cut")
    ema_decay: float = Field(0.9998, ge=0, lt=1, description="share of the averaged weights that stays in each step")
    ema_warmup: bool = Field(False, description="let the EMA follow faster in the first steps; for short runs")
    patience: int = Field(8, ge=1, description="epochs without a better EMA mAP before the stage ends")


class ComputeSection(Section):
    """What makes training faster or smaller and leaves the recipe as it is."""

    compile: bool = Field(False, description="compile the network with torch.compile")
    channels_last: bool = Field(True, description="memory layout of the convolutions")
    accumulate: int = Field(
        1, ge=1, description="parts that a batch is cut into to save memory; one step of the optimiser for all"
    )
    gradient_checkpointing: bool = Field(False, description="compute the backbone twice instead of remembering it")
    shard: bool = Field(False, description="cut weights and optimiser over the processes (FSDP2), for networks that do not fit")


class RunConfig(Section):
    """Everything a training run is made of."""

    preset: str = Field("", description="recipe that stands below these settings; empty: chosen from the data")
    method: str = Field("sadcl", description="what is trained: a head with its losses")
    seed: int = Field(1, ge=0, lt=2**32, description="of every random choice")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda, or one GPU as cuda:1")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 or fp16 on a GPU, else fp32")
    save_every: int = Field(0, ge=0, description="steps between two states to resume from; 0: one at the end of each epoch")
    compute: ComputeSection = ComputeSection()
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
        },
        description="label features first; prototypes are built from them; then the contrastive losses",
    )

    @property
    def used_stages(self) -> list[str]:
        """The stages that are trained: those with an epoch and a loss."""
        return [name for name, stage in self.stages.items() if stage.epochs > 0 and stage.weights]


@cache
def known_settings() -> Schema:
    """What RunConfig takes, as JSON Schema without references, with the names of the stages and losses.

    The options of heads are open here; `sadcl_core.config.json_schema` adds what is known on higher floors.
    """
    schema = inlined(RunConfig.model_json_schema())
    stages = schema["properties"]["stages"]
    stage = stages["additionalProperties"]
    losses = stage["properties"]["losses"]
    weight = {**losses["additionalProperties"], "description": "weight of this term; 0: unused"}
    stage["properties"]["losses"] = table_of((*LossSection.model_fields, "auxiliary"), weight, description=losses["description"])
    schema["properties"]["stages"] = table_of(RunConfig().stages, stage, description=stages["description"])
    return schema


def resolve_config(layers: Iterable[tuple[str, Layer]]) -> tuple[RunConfig, dict[str, str]]:
    """Merge named layers over the defaults.

    Args:
        layers: (where it comes from, nested values), weakest first. Nothing where a table is meant sets nothing.

    Returns:
        The validated configuration, and for every dotted key the name of the layer its value came from.

    Raises:
        UsageError: a key does not exist or a value is out of bounds; the first is named, and how many more there are.
    """
    config, sources, mistakes = examine(layers, known_settings())
    if config is None:
        raise UsageError(told(mistakes))
    return config, sources


def examine(layers: Iterable[tuple[str, Layer]], schema: Schema) -> tuple[RunConfig | None, dict[str, str], list[str]]:
    """Merge named layers over the defaults, with the keys that a schema has.

    Returns:
        The configuration, or None where it cannot be one; the source of every dotted key; a sentence for each mistake.
    """
    stack = Stack(schema, RunConfig().model_dump())
    for source, layer in layers:
        stack.lay(source, layer)
    try:
        config = RunConfig.model_validate(stack.values)
    except ValidationError as error:
        return None, stack.sources, [*stack.mistakes, *wrong_values(error, stack.sources, stack.known).values()]
    sources = {key: stack.sources.get(key, "default") for key in flatten(config.model_dump())}
    return None if stack.mistakes else config, sources, stack.mistakes


def parse_assignment(text: str) -> Layer:
    """`stages.contrastive.epochs=5` as nested values; the right side is read as YAML.

    Where text is meant its letters are taken as they stand: a split may be called 2007, and a path may begin with a bracket.

    Raises:
        UsageError: there is no `=`, or the right side is no value.
    """
    key, equals, value = text.partition("=")
    parts = [part.strip().replace("-", "_") for part in key.split(".")]
    if not equals or not all(parts):
        raise UsageError(f"--set {shown(text)} is not of the form key=value. Write for example --set optim.ema_decay=0.99.")
    if len(parts) > DEEPEST:
        raise UsageError(f"--set {shown(text)} has more parts than any setting. {nearest(parts[0], keys(known_settings()))}")
    nested: Any = _assigned(value.strip(), keys(known_settings()).get(".".join(parts), {}), text)
    for part in reversed(parts):
        nested = {part: nested}
    layer: Layer = nested
    return layer


def _assigned(value: str, node: Schema, text: str) -> Any:
    """The right side of an assignment to a key that takes what its schema says."""
    if not value:
        return ""
    kinds = [node.get("type"), *(choice.get("type") for choice in node.get("anyOf", ()))]
    quoted = value[0] in "\"'"
    try:
        parsed = read_value(value)
    except UnreadableError as error:
        if "string" in kinds and not quoted:
            return value
        raise UsageError(f"--set {shown(text)}: the value cannot be read, {error}. Quote it.") from None
    means_itself = parsed is None or quoted or ("boolean" in kinds and parsed in (0, 1))
    return value if "string" in kinds and not means_itself else parsed


def load_config_file(path: Path) -> Layer:
    """Read a YAML or JSON file of nested values, such as the config.yaml of a run; `$schema` in it is a word to editors.

    Raises:
        UsageError: the file is missing, broken or holds no table.
    """
    return {key: value for key, value in read_table(path).items() if key != "$schema"}
