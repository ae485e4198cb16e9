"""Presets: recipes as named layers over the defaults, and how a run's configuration is put together.

A preset says how long, how fast, how large and on which images; a method says what is trained (`sadcl_core.config.methods`). The
published recipes are spelled out in full; the others name what differs from the defaults in `sadcl_core.config.schema`. Unless
one is named, `auto` is used, which `sadcl_core.config.automatic` makes from the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sadcl_core.config.automatic import Facts, choose
from sadcl_core.config.layers import Layer, flatten, resolve_config
from sadcl_core.config.methods import CONTRASTIVE, find_method, with_contrast
from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import UsageError
from sadcl_core.registry import suggest

NOTHING_FROZEN: Layer = {"model": {"freeze_stride": 0, "freeze_batchnorm": False, "freeze_affine": False}}


def _sadcl_r101(img_size: int) -> Layer:
    """SADCL on ResNet-101 (ECAI 2023, implementation details, and the published training script)."""
    scales = {"backbone_lr_scale": 1.0, "head_lr_scale": 1.0, "classifier_lr_scale": 1.0}
    stage = {"epochs": 80, "optimizer": "adamw", "lr": 5e-5, **scales}
    return {
        "seed": 1,
        "data": {"img_size": img_size, "batch_size": 64, "drop_last": True},
        "model": {
            "backbone": "resnet101.tv_in1k",  # torchvision's first weights
            "stride": 32,
            "pretrained": True,
            "freeze_stride": 4,
            "freeze_batchnorm": True,
            "freeze_affine": True,
            "projection_width": 1024,
            "heads": {
                "sarl": {"width": 2048, "attention_heads": 4, "feedforward": 8192, "dropout": 0.1, "initialisation": "xavier"}
            },
        },
        "loss": {
            "asymmetric": {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0},
            "sample_to_sample": {"temperature": 0.2, "bank": "batch", "bank_min_score": 0.8},
            "prototype_to_sample": {"temperature": 0.07, "prototype_min_score": 0.85},
        },
        "optim": {
            "weight_decay": 5e-3,
            "decayed": "all",
            "epsilon": 1e-11,
            "warmup": 0.2,
            "ema_decay": 0.9998,
            "ema_warmup": False,
            "ema_start": "first-step",
            "evaluate": "both",
            "patience": 9,
        },
        "stages": {
            "classification": {**stage, "gamma_neg": 4.0, "augment": "clipped-cutout-randaugment"},
            "contrastive": {**stage, "gamma_neg": 0.0, "augment": "fixed-crops"},
        },
    }


def _shared_recipe(*, img_size: int, batch_size: int, optim: Layer, stage: Layer, asymmetric: Layer | None = None) -> Layer:
    """Return a recipe that several papers share: ResNet-101 of which nothing is frozen, one learning rate for the head."""
    return {
        "data": {"img_size": img_size, "batch_size": batch_size, "drop_last": True},
        "model": {"backbone": "resnet101.tv_in1k", "stride": 32, "pretrained": True, **NOTHING_FROZEN["model"]},
        "loss": {"asymmetric": asymmetric or {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0}},
        "optim": {"warmup": 0.0, "ema_decay": 0.0, "decayed": "all", "patience": stage["epochs"], **optim},
        "stages": _stages(**stage),
    }


def _stages(**changed: object) -> Layer:
    """Return settings of both stages."""
    return dict.fromkeys(("classification", "contrastive"), changed)


def _epochs(count: int, *, milestones: list[float]) -> Layer:
    """Return settings of a schedule of so many epochs, none of which is left out."""
    return {"stages": _stages(epochs=count), "optim": {"schedule": "step", "milestones": milestones, "patience": count}}


def _of_a_sum(batch_size: int, *, weight_decay: float) -> Layer:
    """Return decay and epsilon of Adam beside our mean loss that pull as hard as beside a sum over a batch and COCO's classes."""
    count = batch_size * 80
    return {"weight_decay": weight_decay / count, "epsilon": 1e-8 / count}


def _wildcat() -> Preset:
    """Recipe of ML-GCN, ADD-GCN, TDRG, DSDL and CPCL: SGD at a tenth of the rate for the backbone, a tenth from milestones on."""
    stage: Layer = {"epochs": 50, "optimizer": "sgd", "lr": 0.01, "backbone_lr_scale": 0.1, "augment": "fixed-crops"}
    optim = {"weight_decay": 1e-4, "schedule": "step", "milestones": [0.6, 0.8], "clip_grad_norm": 10.0}
    return Preset(
        "ML-GCN, ADD-GCN, TDRG, DSDL and CPCL as published: SGD, fixed crops, a tenth of the rate from milestones on",
        _shared_recipe(img_size=448, batch_size=16, optim=optim, stage=stage),
        "ML-GCN",
        methods={
            "ml-gcn": _epochs(100, milestones=[0.4, 0.8]),
            "dsdl": {**_epochs(200, milestones=[0.2]), "data": {"batch_size": 32}},
            "add-gcn": {"stages": _stages(lr=0.05)},
            "tdrg": {"stages": _stages(lr=0.03), "data": {"batch_size": 64}, "optim": {"milestones": [0.8]}},
            "cpcl": _epochs(170, milestones=[30 / 170]),
        },
    )


def _asymmetric() -> Preset:
    """Recipe of ASL, ML-Decoder and CCD: Adam, OneCycle, EMA, Cutout and RandAugment."""
    stage: Layer = {"epochs": 40, "optimizer": "adam", "lr": 1e-4, "augment": "cutout-randaugment"}
    decay = _of_a_sum(56, weight_decay=1e-4)
    optim = {**decay, "warmup": 0.2, "ema_decay": 0.9997, "evaluate": "both", "decayed": "matrices"}
    focal = {"gamma_neg": 4.0, "gamma_pos": 0.0, "clip": 0.05}
    debiased = {
        "loss": {"asymmetric": {"gamma_neg": 1.0, "gamma_pos": 1.0, "clip": 0.0}},
        "data": {"batch_size": 128},
        "optim": {**_of_a_sum(128, weight_decay=1e-4), "patience": 80},
        "stages": {"classification": {"epochs": 6}, "contrastive": {"epochs": 80}},
    }
    return Preset(
        "ASL, ML-Decoder and CCD as published, on ResNet-101: Adam, OneCycle, Cutout and RandAugment",
        _shared_recipe(img_size=448, batch_size=56, optim=optim, stage=stage, asymmetric=focal),
        "ML-Decoder",
        methods={"ccd": debiased},
    )


def _square() -> Preset:
    """Recipe of C-Tran and SSGRL: Adam at a small rate, square crops, images of 576 pixels."""
    stage: Layer = {"epochs": 100, "optimizer": "adam", "lr": 1e-5, "augment": "square-crops"}
    frozen: Layer = {
        **_epochs(200, milestones=[]),
        "model": {"freeze_stride": 16},
        "data": {"batch_size": 4},
        "stages": _stages(epochs=200, augment="square-crops-unflipped"),
    }
    return Preset(
        "C-Tran, and SSGRL whose last block alone learns, as published; tested by eval --resize 640 --img-size 576",
        _shared_recipe(img_size=576, batch_size=16, optim={"weight_decay": 0.0, "schedule": "plateau"}, stage=stage),
        "C-Tran",
        methods=dict.fromkeys(("ssgrl", "kggr", "adahgnn"), frozen),
    )


# 0.1 is the published number, beside a loss whose gradient is 8 to 10.5 times smaller than that of its formula, which is what is
# computed here: on it 0.01 pulls as hard. The other is --set stages.contrastive.losses.sample_to_sample=0.1
AS_STRONG = {"sample_to_sample": 0.01}


@dataclass(frozen=True)
class Preset:
    """A recipe.

    Attributes:
        layer: its settings over the defaults.
        source: a row of PAPERS; empty for recipes of our own.
        heads: other settings for a head, by its name.
        methods: other settings for a method, by its name.
        weights: of losses, in the stages in which the method has them.
        needs_init: it starts from a trained model, which has to be named.
    """

    summary: str
    layer: Layer
    source: str = ""
    heads: Mapping[str, Layer] = field(default_factory=dict)
    methods: Mapping[str, Layer] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    needs_init: bool = False


AUTO = "auto"
PRESETS: dict[str, Preset] = {
    AUTO: Preset("any data: chosen from the images, the classes, the weights and the device, with the reasons", {}),
    "sadcl-r101-448": Preset(
        "COCO and NUS-WIDE as published, S2S 0.01 as strong as published; tested at 448 or 576",
        _sadcl_r101(448),
        "SADCL",
        weights=AS_STRONG,
    ),
    "sadcl-r101-512": Preset("the same, trained at 512", _sadcl_r101(512), "SADCL", weights=AS_STRONG),
    "sadcl-r101-576": Preset("the same, trained at 576", _sadcl_r101(576), "SADCL", weights=AS_STRONG),
    "sadcl-r101-448-voc": Preset(
        "VOC 2007 and 2012 as published: from a COCO model, class by class name",
        _sadcl_r101(448),
        "SADCL",
        weights=AS_STRONG,
        needs_init=True,
    ),
    "mulcon-r101-448": Preset(
        "MulCon: what its paper states, the rest as for SADCL; its cosine with warm-up is one cycle here",
        {
            "method": "mulcon",
            "data": {"img_size": 448},
            "model": {
                "backbone": "resnet101",
                "stride": 32,
                "pretrained": True,
                "freeze_stride": 0,
                "freeze_batchnorm": False,
                "projection_width": 128,
                "heads": {
                    "mulcon": {"token_width": 2048, "width": 1024, "attention_heads": 4, "token_blocks": 2, "label_blocks": 1}
                },
            },
            "loss": {"sample_to_sample": {"temperature": 0.2}},
            "optim": {"ema_decay": 0.9997},
            "stages": {
                "classification": {"optimizer": "adamw", "lr": 2e-4},
                "contrastive": {"optimizer": "sgd", "lr": 0.01, "backbone_lr_scale": 0.1, "head_lr_scale": 0.1},
            },
        },
        "MulCon",
    ),
    "wildcat-r101-448": _wildcat(),
    "asl-r101-448": _asymmetric(),
    "ctran-r101-576": _square(),
    "small": Preset(
        "fine-tuning on photos without a GPU, as in docs/results/ablation.md",
        {
            "data": {"img_size": 224, "batch_size": 32},
            "model": {
                "backbone": "mobilenetv2_100",
                "projection_width": 128,
                "heads": {
                    "sarl": {"width": 256, "feedforward": 512},
                    "mulcon": {"token_width": 256, "width": 256},
                    "ml_decoder": {"width": 256, "feedforward": 512},
                },
            },
            "optim": {"ema_decay": 0.99, "ema_warmup": True},
            "stages": {
                "classification": {"epochs": 14, "lr": 1e-3, "backbone_lr_scale": 0.1, "augment": "flip-and-crop"},
                "contrastive": {"epochs": 6, "lr": 2e-4, "backbone_lr_scale": 0.1, "augment": "flip-and-crop"},
            },
        },
        # one linear layer learns well at five times the rate of a transformer
        heads={head: {"stages": _stages(classifier_lr_scale=5.0)} for head in ("pooled", "csra")},
    ),
    "digits": Preset(
        "the built-in scenes of handwritten digits from scratch, as in docs/results/ablation.md",
        {
            "data": {"img_size": 64, "batch_size": 32},
            "model": {
                "backbone": "resnet18",
                "stride": 8,
                "pretrained": False,
                "projection_width": 64,
                "heads": {
                    "sarl": {"width": 128, "feedforward": 256},
                    "mulcon": {"token_width": 128, "width": 128},
                    "ml_decoder": {"width": 128, "feedforward": 256},
                },
            },
            "optim": {"ema_decay": 0.99, "ema_warmup": True, "weight_decay": 1e-2},
            "stages": {
                "classification": {"epochs": 13, "lr": 1e-3, "augment": "shift-and-turn"},
                "contrastive": {"epochs": 5, "lr": 5e-4, "augment": "shift-and-turn"},
            },
        },
    ),
}


PUBLISHED = "sadcl-r101-448"
SINGLE = ("--set", "flag")  # layers of single settings; all others are files, or stand for one


@dataclass(frozen=True)
class Configured:
    """The configuration of a run, with the source of each value.

    Attributes:
        sources: for each dotted key the layer that its value comes from.
        why: why its preset was taken.
        reasons: (what, why) of each choice of `auto`; empty with another preset.
    """

    config: RunConfig
    sources: dict[str, str]
    why: str
    reasons: tuple[tuple[str, str], ...] = ()


def configure(
    layers: Sequence[tuple[str, Layer]],
    *,
    dataset: str,
    split_sizes: Mapping[str, int],
    preset: str | None = None,
    facts: Callable[[], Facts] | None = None,
) -> Configured:
    """Put the configuration of a run together: defaults < method < preset < the user's layers.

    The preset has a layer more for the heads and the methods that it names, and one that freezes nothing where the backbone
    starts from random weights: random layers that never learn help nobody.

    Args:
        layers: (source, nested values) of the user, weakest first: files, `--set`, flags.
        dataset: its name; empty where there is none yet.
        split_sizes: images of each split.
        preset: a row of PRESETS, as a flag names it; unless given, the one that a layer names, else `auto`, and without data the
            published one.
        facts: gives what `auto` chooses by, and is called only for it; from the number of images alone unless given.

    Raises:
        UsageError: a preset, method or setting does not exist, a value is out of bounds, or a file was made for another preset,
            method or start than is asked for.

    Example:
        >>> configured = configure([("flag", {"seed": 3})], dataset="mine", split_sizes={"train": 500}, preset="small")
        >>> configured.config.data.batch_size, configured.sources["data.batch_size"], configured.sources["seed"]
        (32, 'preset small', 'flag')
    """
    layers = [*layers, ("flag", {"preset": preset})] if preset else list(layers)
    name, why = _find_preset(layers, dataset)
    source, recipe = f"preset {name}", PRESETS[name]
    reasons: tuple[tuple[str, str], ...] = ()
    if name == AUTO:
        source, recipe, reasons = _automatic(layers, split_sizes, facts)
    method = next(
        (str(layer["method"]) for _, layer in (*reversed(layers), ("", recipe.layer)) if "method" in layer), RunConfig().method
    )
    row = find_method(method)
    _refuse_file_of_another(layers, "method", method)
    base = [
        (f"method {method}", row.layer),
        (source, recipe.layer),
        (f"{source} for {row.head}", recipe.heads.get(row.head, {})),
        (f"{source} for {method}", recipe.methods.get(method.partition("+")[0], {})),
        (source, _weights_of(recipe, method)),
        ("contrast", _second_stage(method, layers)),
    ]
    start = resolve_config([*base, *layers])[0]
    random = start.model.pretrained is False and not start.model.init_from and not start.features.once
    if random:
        base.append(("no pretrained weights", NOTHING_FROZEN))
    config, sources = resolve_config([*base, *layers, (f"preset {name}", {"preset": name})])
    if random:
        _refuse_frozen_file(layers, config, sources)
    if recipe.needs_init and not config.model.init_from:
        raise UsageError(f"The preset {name} goes on from a trained model. Name it: --init-from RUN_OR_FILE.")
    if config.model.class_map and not config.model.init_from:
        raise UsageError("A class map says which class goes on from which of another model. Name that: --init-from RUN_OR_FILE.")
    return Configured(config, sources, why, reasons)


def _weights_of(recipe: Preset, method: str) -> Layer:
    """Return the weights that a preset gives to the losses of a method."""
    stages = find_method(method).stages
    return {
        "stages": {
            name: {"losses": {k: recipe.weights[k] for k in losses if k in recipe.weights}} for name, losses in stages.items()
        }
    }


def _second_stage(method: str, layers: Sequence[tuple[str, Layer]]) -> Layer:
    """Return the second stage of a method of one stage to which a user gives contrastive losses."""
    given = {key: value for _, layer in layers for key, value in flatten(layer).items()}
    weights = {name: weight for name in CONTRASTIVE if (weight := given.get(f"stages.contrastive.losses.{name}"))}
    row = find_method(method)
    return with_contrast(row, weights) if weights and "contrastive" not in row.stages else {}


def _find_preset(layers: Sequence[tuple[str, Layer]], dataset: str) -> tuple[str, str]:
    """Return the name of the preset and why it is taken."""
    named = [(source, str(layer["preset"])) for source, layer in layers if layer.get("preset")]
    if not named:
        return (AUTO, "none was named") if dataset else (PUBLISHED, "no data set was named")
    source, name = named[-1]
    if name not in PRESETS:
        raise UsageError(f"There is no preset {name!r}. {suggest(name, PRESETS)}")
    _refuse_file_of_another(layers, "preset", name)
    return name, "asked for" if source == "flag" else "named in the configuration"


def _automatic(
    layers: Sequence[tuple[str, Layer]], split_sizes: Mapping[str, int], facts: Callable[[], Facts] | None
) -> tuple[str, Preset, tuple[tuple[str, str], ...]]:
    """Return the name of the layer that is made from the data, the layer as a preset, and the reasons."""
    config = resolve_config(layers)[0]
    model, values = config.model, flatten(config.model_dump())
    given = {"model.second_look": find_method(config.method).layer["model"]["second_look"]}
    given |= {key: values[key] for _, layer in layers for key in flatten(layer) if key in values}
    data = facts() if facts else Facts(split_sizes.get(config.data.train_split, 0))
    if config.features.once:  # random features that nothing trains help nobody
        data = replace(data, pretrained=True)
    if "model.pretrained" in given or model.init_from:
        data = replace(data, pretrained=model.pretrained is not False or bool(model.init_from))
    if isinstance(model.pretrained, str):
        data = replace(data, weights=model.pretrained)
    recipe = choose(data, given, resolve_config([("method", find_method(config.method).layer), *layers])[0])
    return f"auto: {data.images:,} images", replace(PRESETS[AUTO], layer=recipe.layer, heads=recipe.heads), recipe.reasons


def _refuse_file_of_another(layers: Sequence[tuple[str, Layer]], key: str, requested: str) -> None:
    """Raise a UsageError when a file was made for another preset or method than the one that is asked for."""
    for source, layer in layers:
        if source not in SINGLE and (layer.get(key) or requested) != requested:
            raise UsageError(
                f"{source} was made with {key} {layer[key]}, not {requested}. Leave out one of the two, or make another file: "
                f"sadcl train --{key} {requested} --print-config > {requested}.yaml."
            )


def _refuse_frozen_file(layers: Sequence[tuple[str, Layer]], config: RunConfig, sources: Mapping[str, str]) -> None:
    """Raise a UsageError when a file that was made with pretrained weights freezes layers that start from random ones now."""
    files = {source: flatten(layer) for source, layer in layers if source not in SINGLE}
    for name, free in NOTHING_FROZEN["model"].items():
        key = f"model.{name}"
        file = files.get(sources[key], {})
        if getattr(config.model, name) != free and (file.get("model.pretrained") or file.get("model.init_from")):
            raise UsageError(
                f"{sources[key]} was made with pretrained weights, and its {key} would keep random layers as they are. Add "
                "--set model.freeze_stride=0 --set model.freeze_batchnorm=false."
            )
