"""The settings of a run: every value with its default and its bounds.

The defaults are the recipe of SADCL for ResNet-101 at 448 as its paper states it (ECAI 2023); the preset `sadcl-r101-448` is the
published one to the digit. `sadcl_core.config.layers` lays other values over them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


def _number(value: Any) -> Any:
    """Reject a boolean where a number is expected (bool is a subclass of int)."""
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "a number is expected")
    return value


def _text(value: Any) -> Any:
    """Reject text that cannot be written to a file, as bytes of a path that are not UTF-8."""
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise PydanticCustomError("string_unicode", "text that can be written is expected")
    return value


BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}  # words of YAML 1.1
LARGE, MOST = 1_000_000, 1_000_000_000_000  # beyond what any run has
TRACKER = "(tensorboard|mlflow|wandb|trackio)"
WIDEST = 65_536  # of a layer
Weight = Annotated[float, Field(ge=0, le=LARGE), BeforeValidator(_number)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_kind(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = [annotation, *get_args(annotation)]
        if bool in kinds:
            value = BOOLEANS.get(value.lower(), value) if isinstance(value, str) else value
        elif int in kinds or float in kinds:
            return _number(value)
        return _text(value)


class DataSection(Section):
    """Which images, at which size, and how they are fed."""

    dataset: str = Field("", description="name of the data set")
    manifest: str = Field("", description="prepared folder that holds the manifest")
    train_split: str = Field("train", description="split that is trained on")
    eval_split: str = Field("", description="held-out split; empty: val when there is one, else test")
    img_size: int = Field(448, ge=16, le=4096, description="side of the square the images are resized to, pixels")
    normalise: Literal["weights", "none"] = Field(
        "weights",
        description="pixels by mean and deviation; weights: those that the backbone was pretrained with; none: they stay in "
        "0..1, as in CSRA and ASL",
    )
    batch_size: int = Field(64, ge=1, le=LARGE, description="images per step, over all processes")
    limit: int = Field(
        0,
        ge=0,
        le=MOST,
        description="images of a part that is used, in which every class keeps its share, the same ones for every seed; 0: all",
    )
    hide_labels: float = Field(
        0.0, ge=0, lt=1, description="share of the known training labels that is hidden at random, for studies; 0: none"
    )
    single_positive: bool = Field(False, description="hide all training labels but one active one of each image, for studies")
    hidden_labels: Literal["unknown", "inactive"] = Field(
        "unknown", description="what hidden labels become; inactive: as where annotators missed labels"
    )
    allow_overlap: bool = Field(
        False, description="hold out images that the model of model.init_from or a teacher was trained on; else they are refused"
    )
    workers: int | None = Field(None, ge=0, le=256, description="loader processes; null: chosen from the processors")
    sampler: Literal["uniform", "repeat-factor"] = Field(
        "uniform", description="repeat-factor: images of rare classes are drawn more often, as in LVIS"
    )
    drop_last: bool = Field(False, description="leave out the last batch of an epoch where it is smaller than the others")


class ModelSection(Section):
    """Backbone and head; `heads` holds the options of each head by name, only the chosen one's are used."""

    backbone: str = Field("resnet101", description="any timm model that gives feature maps")
    stride: int = Field(32, ge=1, le=64, description="image pixels per feature-map location")
    pretrained: bool | str = Field(True, description="true: the hub's weights; false: none; or a .safetensors/.pth file")
    init_from: str = Field("", description="run or model file whose weights are taken over, class by class name")
    init_classes: str = Field(
        "", description="names of the classes of init_from, of a checkpoint of another program: coco, voc, a file, or a,b"
    )
    class_map: str = Field("", description="file of class names here and there, where the names differ")
    freeze_stride: int = Field(
        4, ge=0, le=64, description="layers up to this stride are frozen; 4: stem and first stage; 0: none"
    )
    freeze_batchnorm: bool = Field(True, description="keep the BatchNorm statistics of the backbone as loaded")
    freeze_affine: bool = Field(False, description="keep the weights and biases of the backbone's BatchNorm as loaded, too")
    head: str = Field("sarl", description="from feature map to label features; a method brings its own")
    heads: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of each head; only the chosen one's are used"
    )
    word_vectors: str = Field(
        "random",
        min_length=1,
        description="of class names, for heads that read words: random, cooccurrence, or a file of GloVe, fastText, .npz or .csv",
    )
    global_branch: Literal["none", "mean", "root-mean", "max", "gem"] = Field(
        "none",
        description="linear layer on the pooled feature whose logits are added to the head's, which start at zero; its pooling",
    )
    second_look: int = Field(
        0,
        ge=0,
        le=64,
        description="MCAR: regions of the best classes that are cut out of an image and go through the network again, beside the "
        "image; 0: none",
    )
    projection_width: int = Field(1024, ge=1, le=WIDEST, description="P, width of the embeddings the contrastive losses compare")


class AsymmetricOptions(Section):
    """Options of the classification loss."""

    gamma_neg: float = Field(
        0.0, ge=0, le=100, description="focusing of inactive labels; 0: binary cross-entropy, as in the best published log"
    )
    gamma_pos: float = Field(0.0, ge=0, le=100, description="focusing of active labels")
    clip: float = Field(0.0, ge=0, lt=1, description="probability that is taken off inactive labels; easy ones drop out")
    class_weights: Literal["none", "neg-pos", "effective-number"] = Field(
        "none",
        description="of every classification loss; neg-pos: active labels count as often as there are inactive ones to one; "
        "effective-number: both count by the class-balanced weight (Cui et al., CVPR 2019)",
    )


class SampleToSampleOptions(Section):
    """Options of the sample-to-sample loss and of its memory bank."""

    temperature: float = Field(0.2, gt=0, le=LARGE, description="similarities are divided by this; smaller: sharper contrast")
    bank: Literal["ring", "batch"] = Field(
        "ring",
        description="ring: the last features of each class; batch: one for each place in the batch, compared where the image "
        "there now has the label, as published",
    )
    bank_slots: int = Field(16, ge=0, le=4096, description="remembered features per class, of the ring; 0: no bank")
    bank_classes: Literal["all", "present"] = Field(
        "all", description="entries an anchor is contrasted with: of every class, as published, or of those in the batch"
    )
    bank_min_score: float = Field(0.8, ge=0, le=1, description="an active label is remembered when its score is above this")


class PrototypeToSampleOptions(Section):
    """Options of the prototype-to-sample loss and of its prototypes."""

    temperature: float = Field(0.07, gt=0, le=LARGE, description="similarities are divided by this; smaller: sharper contrast")
    prototype_min_score: float = Field(
        0.85, ge=0, le=1, description="an image counts for the first prototypes when its score is above this"
    )


class ImageToImageOptions(Section):
    """Options of the contrastive loss of whole-image features."""

    temperature: float = Field(0.2, gt=0, le=LARGE, description="similarities are divided by this; smaller: sharper contrast")


class TwoWayOptions(Section):
    """Options of the two-way loss (Kobayashi, CVPR 2023), whose scores are no probabilities."""

    active_temperature: float = Field(4.0, gt=0, le=LARGE, description="logits of active labels are divided by this")
    inactive_temperature: float = Field(1.0, gt=0, le=LARGE, description="logits of inactive labels are divided by this")


class HillOptions(Section):
    """Options of the Hill loss (Zhang et al., 2021), for labels that were missed."""

    margin: float = Field(1.0, ge=0, le=LARGE, description="taken off the logits of active labels")
    height: float = Field(1.5, gt=0, le=LARGE, description="lambda; 1.5: no gradient for inactive labels scored 1")


class HingeOptions(Section):
    """Options of the hinge loss, CPCL's (Zhou et al., TCSVT 2022) on its own head."""

    margin: float = Field(2.0, ge=0, le=LARGE, description="that logits are to be above, or below its negative")


class SplcOptions(Section):
    """Options of self-paced loss correction (Zhang et al., 2021), for labels that were missed."""

    margin: float = Field(1.0, ge=0, le=LARGE, description="taken off the logits of active labels")
    threshold: float = Field(0.6, ge=0, le=1, description="score above which an inactive label counts as an active one")
    gamma: float = Field(2.0, ge=0, le=100, description="focusing of all labels")
    from_epoch: int = Field(2, ge=1, le=LARGE, description="first epoch of a stage in which labels are corrected")


class SelectiveOptions(Section):
    """Options of the selective loss (Ben-Baruch et al., CVPR 2022), for data of whose labels few are annotated."""

    gamma_active: float = Field(0.0, ge=0, le=100, description="focusing of active labels")
    gamma_inactive: float = Field(1.0, ge=0, le=100, description="focusing of inactive labels")
    gamma_unknown: float = Field(4.0, ge=0, le=100, description="focusing of unknown labels, which count as inactive")
    clip: float = Field(0.05, ge=0, lt=1, description="probability that is taken off inactive and unknown labels")
    left_out: int = Field(
        5, ge=0, le=WIDEST, description="unknown labels with the highest scores that take no part, for each image of a batch"
    )
    prior_model: str = Field(
        "", description="run or model file whose mean score is the prior of a class; empty: the active among its known labels"
    )
    max_prior: float = Field(0.5, ge=0, le=1, description="prior above which unknown labels of a class take no part")


class FocalOptions(Section):
    """Options of the focal loss (Lin et al., ICCV 2017)."""

    gamma: float = Field(2.0, ge=0, le=100, description="focusing of all labels")
    alpha: float = Field(0.25, ge=0, le=1, description="share of the active labels in the loss")


class PolynomialOptions(Section):
    """Options of the polynomial loss (Leng et al., ICLR 2022)."""

    epsilon: float = Field(1.0, gt=-1, le=LARGE, description="of the first term; 0: binary cross-entropy")


class DistillationOptions(Section):
    """Options of distillation, from models of all classes or, as in CPSD (IJCAI 2022), of groups of them."""

    teachers: list[str] = Field(
        [], description="runs or model files whose mean logits of each class, by its name, are learned; of all classes together"
    )


class LossSection(Section):
    """Options of each loss term; the stages say which terms are used, with which weight."""

    asymmetric: AsymmetricOptions = AsymmetricOptions()
    sample_to_sample: SampleToSampleOptions = SampleToSampleOptions()
    prototype_to_sample: PrototypeToSampleOptions = PrototypeToSampleOptions()
    image_to_image: ImageToImageOptions = ImageToImageOptions()
    two_way: TwoWayOptions = TwoWayOptions()
    hill: HillOptions = HillOptions()
    hinge: HingeOptions = HingeOptions()
    splc: SplcOptions = SplcOptions()
    selective: SelectiveOptions = SelectiveOptions()
    focal: FocalOptions = FocalOptions()
    polynomial: PolynomialOptions = PolynomialOptions()
    distillation: DistillationOptions = DistillationOptions()


# the loss terms; those named here have no options of their own
LOSSES = (*LossSection.model_fields, "zlpr", "auxiliary", "penalty", "splice_consistency", "dictionary")


class StageSection(Section):
    """One stage of training: how long, how fast, with which losses and which images."""

    epochs: int = Field(80, ge=0, le=LARGE, description="0: the stage is left out, as is one without a loss")
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="adam: with weight_decay in its gradient, as L2; sgd: with momentum 0.9"
    )
    lr: float = Field(5e-5, gt=0, le=1e30, description="peak learning rate")
    backbone_lr_scale: float = Field(1.0, ge=0, le=LARGE, description="learning rate of the backbone as a multiple; 0: frozen")
    head_lr_scale: float = Field(
        1.0, gt=0, le=LARGE, description="learning rate of the head below its linear classifier as a multiple, as in MulCon"
    )
    classifier_lr_scale: float = Field(1.0, gt=0, le=LARGE, description="learning rate of the linear classifier as a multiple")
    global_lr_scale: float = Field(1.0, ge=0, le=LARGE, description="learning rate of the global branch as a multiple; 0: frozen")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate of each layer of the backbone, as a multiple of the next"
    )
    augment: str = Field("none", description="how training images are changed at random")
    views: int = Field(1, ge=1, le=8, description="augmented versions of each image in a batch")
    known_share: float = Field(
        0.0, ge=0, le=1, description="of the labels of an image that are revealed at most, to heads that take known labels"
    )
    mixup: float = Field(0.0, ge=0, le=LARGE, description="alpha of mixup (Zhang et al., ICLR 2018); 0: off")
    cutmix: float = Field(0.0, ge=0, le=LARGE, description="alpha of CutMix (Yun et al., ICCV 2019); 0: off")
    gamma_neg: float | None = Field(
        None, ge=0, le=100, description="focusing of inactive labels in this stage; null: loss.asymmetric.gamma_neg"
    )
    mix: Literal["none", "splice"] = Field(
        "none", description="splice: SpliceMix, a further image for every four, tiled from them; its term is splice_consistency"
    )
    losses: dict[str, Weight] = Field(default_factory=lambda: {"asymmetric": 1.0}, description="weight of each term; 0: unused")

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the loss terms that are used."""
        return {name: weight for name, weight in self.losses.items() if weight != 0}


class FeatureSection(Section):
    """Features that the frozen layers of the backbone compute once, kept on the disk for all runs."""

    once: bool = Field(
        False, description="compute once what the layers frozen by model.freeze_stride give, and train only what follows them"
    )
    views: int = Field(
        2, ge=1, le=64, description="views kept of each training image: as it is, its mirror image, then mild crops"
    )
    precision: Literal["fp16", "fp32"] = Field("fp16", description="of the maps on the disk")
    cache: str = Field("", description="folder of the maps; empty: sadcl/features in the user's cache folder")
    limit_gb: float = Field(
        100.0, gt=0, le=LARGE, description="size of that folder in GB, above which maps used longest ago are removed"
    )


class OptimSection(Section):
    """Decay, the course of the rate, EMA and early stop, the same in every stage, and what comes before and after them."""

    solve_linear: bool = Field(
        False,
        description="before the first stage, fit the global branch, or the pooled head, by logistic regression on the features "
        "as they are; L2 strength by cross-validation on training images",
    )
    time_budget: float = Field(
        0.0,
        ge=0,
        le=MOST,
        description="seconds of the whole run, by which the epochs are chosen before the first stage; 0: as they are",
    )
    lora_rank: int = Field(
        0,
        ge=0,
        le=4096,
        description="LoRA (Hu et al., ICLR 2022): rank of changes that are trained in the place of the backbone's linear layers "
        "and added to them in the model file; for transformers; 0: off",
    )
    weight_decay: float = Field(5e-3, ge=0, le=LARGE, description="of the optimiser")
    decayed: Literal["matrices", "all"] = Field(
        "matrices", description="parameters that weight_decay shrinks; all: biases and norms too, as published with SADCL"
    )
    epsilon: float = Field(
        1e-8, gt=0, le=1, description="of AdamW and Adam; 1e-11 is 1e-8 on the published loss, which is 1,000 times this one"
    )
    warmup: float = Field(0.2, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    schedule: Literal["one-cycle", "cosine", "step", "plateau"] = Field(
        "one-cycle",
        description="course of the learning rate after its rise: OneCycle's, a cosine to zero, a tenth from each milestone on, "
        "or a tenth wherever schedule_patience epochs bring no better mAP",
    )
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.6, 0.8], description="of schedule step: shares of the epochs of a stage; of none the rate is constant"
    )
    schedule_patience: int = Field(5, ge=1, le=LARGE, description="epochs of schedule plateau")
    nesterov: bool = Field(False, description="let sgd look ahead, as Nesterov's momentum")
    clip_grad_norm: float = Field(0.0, ge=0, le=LARGE, description="norm that the gradient is cut to; 0: not cut")
    ema_decay: float = Field(0.9998, ge=0, lt=1, description="share of the averaged weights that stays in each step")
    ema_warmup: bool = Field(False, description="let the EMA follow faster in the first steps; for short runs")
    ema_start: Literal["after-first-step", "first-step"] = Field(
        "after-first-step",
        description="after-first-step: the EMA of a stage starts from the weights that its first step gives; first-step: from "
        "those before it, as published",
    )
    evaluate: Literal["ema", "both"] = Field(
        "ema", description="both: an epoch counts by the better of EMA and network, which is kept, as published"
    )
    select: Literal["best", "last"] = Field(
        "best", description="epoch that is kept: the best on the held-out images, whose mAP is then optimistic, or the last one"
    )
    pseudo_labels: float = Field(
        0.0,
        ge=0,
        le=1,
        description="score of the EMA, above 0.5, from which an unknown label counts as active, and below 1 minus it as "
        "inactive; others stay unknown; 0: off",
    )
    pseudo_from_epoch: int = Field(2, ge=1, le=LARGE, description="first epoch of a stage with pseudo labels")
    evaluate_every: int = Field(
        1, ge=1, le=LARGE, description="epochs between two evaluations; the last epoch of a stage has one"
    )
    patience: int = Field(8, ge=1, le=LARGE, description="epochs without a better mAP before the stage ends")

    @field_validator("pseudo_labels")
    @classmethod
    def _check_pseudo_labels(cls, value: float) -> float:
        """Refuse a score at which a label would be active and inactive at once."""
        if 0 < value <= 0.5:
            raise ValueError(f"give more than 0.5 and not {value:g}, such as 0.9, or 0 for none")
        return value


class ComputeSection(Section):
    """Settings that make training faster or smaller and leave the recipe as it is."""

    compile: bool = Field(False, description="compile the network with torch.compile")
    channels_last: bool = Field(True, description="memory layout of the convolutions")
    accumulate: int = Field(
        1, ge=1, le=LARGE, description="parts that a batch is cut into to save memory; one step of the optimiser for all"
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
    save_every: int = Field(
        0, ge=0, le=MOST, description="steps between two states to resume from; 0: one at the end of each epoch"
    )
    track: str = Field(
        "tensorboard",
        pattern=rf"^(none|{TRACKER}(,{TRACKER})*)$",
        description="none, or where the run is followed beside its own files: tensorboard (where installed), mlflow, wandb, "
        "trackio, or several as tensorboard,mlflow",
    )
    compute: ComputeSection = ComputeSection()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    loss: LossSection = LossSection()
    features: FeatureSection = FeatureSection()
    optim: OptimSection = OptimSection()
    stages: dict[str, StageSection] = Field(
        default_factory=lambda: {
            "classification": StageSection(augment="cutout-randaugment"),
            "contrastive": StageSection(
                augment="fixed-crops", losses={"asymmetric": 1.0, "sample_to_sample": 0.1, "prototype_to_sample": 0.05}
            ),
        },
        description="label features first; prototypes are built from them; then the contrastive losses",
    )

    @field_validator("stages")
    @classmethod
    def _check_stage_names(cls, stages: dict[str, StageSection]) -> dict[str, StageSection]:
        """Refuse names that cannot be part of the name of a file."""
        for name in stages:
            if not re.fullmatch(r"[\w-]{1,50}", name):
                raise PydanticCustomError("stage_name", "a stage is called with letters, digits, _ and -, 50 at most")
        return stages

    def loss_of(self, stage: StageSection) -> LossSection:
        """Return the options of the losses in a stage.

        Example:
            >>> RunConfig().loss_of(StageSection(gamma_neg=4)).asymmetric.gamma_neg
            4.0
        """
        if stage.gamma_neg is None:
            return self.loss
        asymmetric = self.loss.asymmetric.model_copy(update={"gamma_neg": stage.gamma_neg})
        return self.loss.model_copy(update={"asymmetric": asymmetric})

    def bank_slots(self, stage: StageSection) -> int:
        """Return the slots of each class in the memory bank of a stage; 0 where it has no bank.

        Example:
            >>> RunConfig().bank_slots(StageSection(losses={"asymmetric": 1}))
            0
        """
        options = self.loss.sample_to_sample
        if "sample_to_sample" not in stage.weights or not options.bank_slots:
            return 0
        return self.data.batch_size * stage.views if options.bank == "batch" else options.bank_slots

    @property
    def used_stages(self) -> list[str]:
        """The stages that are trained: those with an epoch and a loss."""
        return [name for name, stage in self.stages.items() if stage.epochs > 0 and stage.weights]
