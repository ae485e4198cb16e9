"""Presets: recipes as named layers over the defaults, and how a run's configuration is put together.

A preset says how long, how fast, how large and on which images; what is trained is a method (`sadcl_core.config.methods`). The
published recipes are spelled out in full; the others name what differs from the defaults in `sadcl_core.config.schema`. The one
that is taken when nobody names one, `auto`, is made from the data by `sadcl_core.config.automatic`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sadcl_core.config.automatic import Facts, choose
from sadcl_core.config.methods import find_method
from sadcl_core.config.schema import Layer, RunConfig, StageSection, flatten, resolve_config
from sadcl_core.errors import UsageError
from sadcl_core.registry import suggest


def _sadcl_r101(img_size: int) -> Layer:
    """SADCL on ResNet-101 (ECAI 2023, implementation details, and the published training script)."""
    scales = {"backbone_lr_scale": 1.0, "head_lr_scale": 1.0, "classifier_lr_scale": 1.0}
    stage = {"epochs": 80, "optimizer": "adamw", "lr": 5e-5, **scales}
    return {
        "seed": 1,
        "data": {"img_size": img_size, "batch_size": 64},
        "model": {
            "backbone": "resnet101",
            "stride": 32,
            "pretrained": True,
            "freeze_stride": 4,
            "freeze_batchnorm": True,
            "projection_width": 1024,
            "heads": {"sarl": {"width": 2048, "attention_heads": 4, "feedforward": 8192, "dropout": 0.1}},
        },
        "loss": {
            "asymmetric": {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0},
            "sample_to_sample": {"temperature": 0.2, "bank_min_score": 0.8},
            "prototype_to_sample": {"temperature": 0.07, "prototype_min_score": 0.85},
        },
        "optim": {"weight_decay": 5e-3, "warmup": 0.2, "ema_decay": 0.9998, "ema_warmup": False, "patience": 8},
        "stages": {
            "classification": {**stage, "augment": "cutout-randaugment"},
            "contrastive": {**stage, "augment": "fixed-crops"},
        },
    }


@dataclass(frozen=True)
class Preset:
    """A recipe.

    Attributes:
        summary: for what it is.
        layer: the settings.
        source: a row of PAPERS it is from; empty for recipes of our own.
        heads: what a head needs otherwise, by its name.
        needs_init: it goes on from a trained model, which must be given.
    """

    summary: str
    layer: Layer
    source: str = ""
    heads: Mapping[str, Layer] = field(default_factory=dict)
    needs_init: bool = False


AUTO = "auto"
PRESETS: dict[str, Preset] = {
    AUTO: Preset("any data: chosen from the images, the classes, the weights and the device, and said why", {}),
    "sadcl-r101-448": Preset("COCO and NUS-WIDE as published; tested at 448 or 576", _sadcl_r101(448), "SADCL"),
    "sadcl-r101-512": Preset("the same, trained at 512", _sadcl_r101(512), "SADCL"),
    "sadcl-r101-576": Preset("the same, trained at 576", _sadcl_r101(576), "SADCL"),
    "sadcl-r101-448-voc": Preset(
        "VOC 2007 and 2012 as published: from a COCO model, class by class name", _sadcl_r101(448), "SADCL", needs_init=True
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
    "small": Preset(
        "fine-tuning on photos without a GPU, as in docs/results/ablation.md",
        {
            "data": {"img_size": 224, "batch_size": 32},
            "model": {
                "backbone": "mobilenetv2_100",
                "projection_width": 128,
                "heads": {"sarl": {"width": 256, "feedforward": 512}, "mulcon": {"token_width": 256, "width": 256}},
            },
            "optim": {"ema_decay": 0.99, "ema_warmup": True},
            "stages": {
                "classification": {"epochs": 14, "lr": 1e-3, "backbone_lr_scale": 0.1, "augment": "flip-and-crop"},
                "contrastive": {"epochs": 6, "lr": 2e-4, "backbone_lr_scale": 0.1, "augment": "flip-and-crop"},
            },
        },
        # one linear layer learns well at five times the rate of a transformer
        heads={
            "pooled": {"stages": {"classification": {"classifier_lr_scale": 5.0}, "contrastive": {"classifier_lr_scale": 5.0}}}
        },
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
                "heads": {"sarl": {"width": 128, "feedforward": 256}, "mulcon": {"token_width": 128, "width": 128}},
            },
            "optim": {"ema_decay": 0.99, "ema_warmup": True, "weight_decay": 1e-2},
            "stages": {
                "classification": {"epochs": 13, "lr": 1e-3, "augment": "shift-and-turn"},
                "contrastive": {"epochs": 5, "lr": 5e-4, "augment": "shift-and-turn"},
            },
        },
    ),
}


NOTHING_FROZEN: dict[str, Any] = {"freeze_stride": 0, "freeze_batchnorm": False}  # of the model section
PUBLISHED = "sadcl-r101-448"
SAID = ("--set", "flag")  # layers of single settings


@dataclass(frozen=True)
class Configured:
    """A configuration, where each of its values came from, and why its preset was taken.

    Attributes:
        reasons: what `auto` chose, and why; none with another preset.
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
    """Put a run's configuration together: defaults < method < preset < the user's layers.

    A method brings its head and losses, and without pretrained weights nothing is frozen: random layers that never learn help
    nobody. Both stand above a file that was made for another method, or with pretrained weights, and below whatever else
    was said.

    Args:
        layers: (where it comes from, nested values) of the user, weakest first.
        dataset: its name. Empty: there is none yet.
        split_sizes: images of each split.
        preset: a row of PRESETS; unless given, the one a layer names, else `auto`, and without data the published one.
        facts: what `auto` chooses by, asked for only then; from the number of images alone when left out.

    Raises:
        UsageError: there is no such preset or method, or a value does not exist or is out of bounds.
    """
    layers = [*layers, ("flag", {"preset": preset})] if preset else layers
    given = {key: value for _, layer in layers for key, value in flatten(layer).items()}
    chosen, why = _chosen(layers, dataset)
    method = str(given.get("method", flatten(PRESETS[chosen].layer).get("method", RunConfig().method)))
    row = find_method(method)
    source, recipe = f"preset {chosen}", PRESETS[chosen]
    reasons: tuple[tuple[str, str], ...] = ()
    if chosen == AUTO:
        source, recipe, reasons = _automatic(layers, given, split_sizes, facts)
    stack = [(source, recipe.layer), *layers, (f"preset {chosen}", {"preset": chosen})]

    def of_another(values: Mapping[str, Any]) -> bool:
        return bool(values.get("method", method) != method)

    _insert(stack, f"{source} for {row.head}", _rates_of_head(recipe, row.head), above=of_another, lowest=1)
    _insert(stack, f"method {method}", row.layer, above=of_another)
    _freeze(stack, layers, flatten(recipe.layer))
    config, sources = resolve_config(stack)
    _check_start(config)
    return Configured(config, sources, why, reasons)


def _chosen(layers: Sequence[tuple[str, Layer]], dataset: str) -> tuple[str, str]:
    """Return the name of the preset and why it is taken.

    Raises:
        UsageError: there is none of this name, or a flag names another than the other layers.
    """
    named = [(source, str(layer["preset"])) for source, layer in layers if layer.get("preset")]
    if not named:
        return (AUTO, "none was named") if dataset else (PUBLISHED, "no data set was named")
    source, preset = named[-1]
    if preset not in PRESETS:
        raise UsageError(f"There is no preset {preset!r}. {suggest(preset, PRESETS)}")
    others = [other for _, other in named if other != preset]
    if source == "flag" and others:
        raise UsageError(f"The configuration was made with preset {others[0]}, not {preset}. Give the one or the other.")
    return preset, "asked for" if source == "flag" else "named in the configuration"


def _automatic(
    layers: Sequence[tuple[str, Layer]],
    given: Mapping[str, Any],
    split_sizes: Mapping[str, int],
    facts: Callable[[], Facts] | None,
) -> tuple[str, Preset, tuple[tuple[str, str], ...]]:
    """The recipe for the data at hand as a preset, the name of its layer, and the reasons.

    Raises:
        UsageError: a value of the user does not exist or is out of bounds.
    """
    config = resolve_config(layers)[0]
    values = flatten(config.model_dump())
    said = {key: values[key] for key in given if key in values}
    model, images = config.model, split_sizes.get(config.data.train_split, 0)
    known = facts() if facts else Facts(images)
    if "model.pretrained" in said or model.init_from:
        known = replace(known, pretrained=model.pretrained is not False or bool(model.init_from))
    if isinstance(model.pretrained, str):
        known = replace(known, weights=model.pretrained)
    recipe = choose(known, said)
    preset = replace(PRESETS[AUTO], layer=recipe.layer, heads=recipe.heads)
    return f"auto: {known.images:,} images", preset, recipe.reasons


def _freeze(stack: list[tuple[str, Layer]], layers: Sequence[tuple[str, Layer]], recipe: Mapping[str, Any]) -> None:
    """Freeze nothing without pretrained weights, and what the recipe freezes with them, above a file made the other way."""
    model = resolve_config(stack)[0].model
    if model.pretrained is False and not model.init_from:
        _insert(stack, "no pretrained weights", {"model": NOTHING_FROZEN}, above=lambda values: _starts_random(values) is False)
    elif any(_starts_random(flatten(values)) for _, values in layers):
        frozen = {name: recipe.get(f"model.{name}", getattr(RunConfig().model, name)) for name in NOTHING_FROZEN}
        _insert(stack, "pretrained weights", {"model": frozen}, above=lambda values: bool(_starts_random(values)))


def _insert(
    stack: list[tuple[str, Layer]],
    name: str,
    layer: Layer,
    *,
    above: Callable[[Mapping[str, Any]], bool],
    lowest: int = 0,
) -> None:
    """Put what follows from a setting below all layers, but above the last file or model that was made for another value of it.

    What was said by itself, with --set or a flag, is never put below.
    """
    others = [place for place, (name, values) in enumerate(stack) if name not in SAID and above(flatten(values))]
    stack.insert(max(others[-1] + 1 if others else 0, lowest), (name, layer))


def _rates_of_head(preset: Preset, head: str) -> Layer:
    """What a preset says for a head: its row, and the defaults for what it says for other heads only."""
    layer: dict[str, Any] = {}
    for name in (*(name for name in preset.heads if name != head), head):
        for stage, values in preset.heads.get(name, {}).get("stages", {}).items():
            own = preset.layer["stages"].get(stage, {})
            usual = {key: own.get(key, StageSection.model_fields[key].default) for key in values}
            layer.setdefault(stage, {}).update(values if name == head else usual)
    return {"stages": layer} if layer else {}


def _check_start(config: RunConfig) -> None:
    """Refuse what speaks of another model where none is named."""
    if config.model.init_from:
        return
    if PRESETS[config.preset].needs_init:
        raise UsageError(f"The preset {config.preset} goes on from a trained model. Name it: --init-from RUN_OR_FILE.")
    if config.model.class_map:
        raise UsageError("A class map says which class goes on from which of another model. Name that: --init-from RUN_OR_FILE.")


def _starts_random(values: Mapping[str, Any]) -> bool | None:
    """Whether a layer's backbone starts from random weights; None when it does not say."""
    if values.get("model.init_from"):
        return False
    return None if "model.pretrained" not in values else values["model.pretrained"] in (False,)
