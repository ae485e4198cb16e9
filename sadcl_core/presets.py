"""Methods and presets: named layers over the defaults, and how a run's configuration is put together from them.

A method of the papers is a head with its losses. A preset is a recipe for a kind of data. Both only name what differs
from the defaults in `sadcl_core.config`, which are SADCL as published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sadcl_core.config import Layer, RunConfig, flatten, resolve_config
from sadcl_core.errors import UsageError
from sadcl_core.registry import suggest

# What a head is trained with unless told otherwise: a method of the papers is a head plus its losses.
METHODS: dict[str, Layer] = {
    "sarl": {"stages": {"contrastive": {"losses": {"sample_to_sample": 0.1, "prototype_to_sample": 0.05}}}},
    "pooled": {"stages": {"contrastive": {"losses": {"sample_to_sample": 0.0, "prototype_to_sample": 0.0}}}},
}

PRESETS: dict[str, Layer] = {
    # the published recipe: the defaults above, nothing changed
    "sadcl-r101-448": {},
    # fine-tuning an ImageNet backbone on a few hundred to ten thousand photos, feasible without a GPU
    "small": {
        "data": {"img_size": 224, "batch_size": 32},
        "model": {
            "backbone": "mobilenetv2_100",
            "projection_width": 128,
            "heads": {"sarl": {"width": 256, "feedforward": 512}},
        },
        "optim": {"ema_decay": 0.99, "ema_warmup": True},
        "stages": {
            "classification": {"epochs": 14, "lr": 1e-3, "backbone_lr_scale": 0.1, "augment": "flip-and-crop"},
            "contrastive": {"epochs": 6, "lr": 2e-4, "backbone_lr_scale": 0.1, "augment": "flip-and-crop"},
        },
    },
    # the built-in scenes of handwritten digits, a backbone from scratch
    "digits": {
        "data": {"img_size": 64, "batch_size": 32},
        "model": {
            "backbone": "resnet18",
            "stride": 8,
            "pretrained": False,
            "projection_width": 64,
            "heads": {"sarl": {"width": 128, "feedforward": 256}},
        },
        "optim": {"ema_decay": 0.99, "ema_warmup": True, "weight_decay": 1e-2},
        "stages": {
            "classification": {"epochs": 13, "lr": 1e-3, "augment": "shift-and-turn"},
            "contrastive": {"epochs": 5, "lr": 5e-4, "augment": "shift-and-turn"},
        },
    },
}


NOTHING_FROZEN: Layer = {"model": {"freeze_stride": 0, "freeze_batchnorm": False}}
SMALL_DATA = 10_000  # training images below which the small recipe is the default


@dataclass(frozen=True)
class Configured:
    """A configuration, where each of its values came from, and why its preset was taken."""

    config: RunConfig
    sources: dict[str, str]
    why: str


def configure(
    layers: Sequence[tuple[str, Layer]], *, dataset: str, split_sizes: Mapping[str, int], preset: str | None = None
) -> Configured:
    """Put a run's configuration together: defaults < method < preset < the user's layers.

    A head brings its losses, and without pretrained weights nothing is frozen: random layers that never learn help nobody.
    Both stand above a file that was made for another head, or with pretrained weights, and below whatever else was said.

    Args:
        layers: (where it comes from, nested values) of the user, weakest first.
        dataset: its name; one with a preset of the same name takes that.
        split_sizes: images of each split.
        preset: a row of PRESETS; unless given, the one a layer names, else chosen from the data.

    Raises:
        UsageError: there is no such preset, or a value does not exist or is out of bounds.
    """
    flat = [flatten(layer) for _, layer in layers]
    given = {key: value for values in flat for key, value in values.items()}
    named = str(given.get("preset") or "")
    if preset and named and preset != named:
        raise UsageError(f"The configuration was made with preset {named}, not {preset}. Give the one or the other.")
    chosen, why = preset or named, "asked for" if preset else "named in the configuration"
    if not chosen:
        defaults = RunConfig().data
        chosen, why = choose_preset(dataset, split_sizes.get(str(given.get("data.train_split", defaults.train_split)), 0))
    if chosen not in PRESETS:
        raise UsageError(f"There is no preset {chosen!r}. {suggest(chosen, PRESETS)}")
    stack = [(f"preset {chosen}", PRESETS[chosen]), *layers, (f"preset {chosen}", {"preset": chosen})]
    head = given.get("model.head", RunConfig().model.head)
    _insert(stack, f"head {head}", METHODS.get(str(head), {}), because=("model.head", head))
    pretrained = given.get("model.pretrained", flatten(PRESETS[chosen]).get("model.pretrained", True))
    if pretrained is False:
        _insert(stack, "no pretrained weights", NOTHING_FROZEN, because=("model.pretrained", False))
    config, sources = resolve_config(stack)
    return Configured(config, sources, why)


def _insert(stack: list[tuple[str, Layer]], name: str, layer: Layer, *, because: tuple[str, Any]) -> None:
    """Put what follows from a setting below all layers, but above the last one that was made for another value of it."""
    key, value = because
    others = [place for place, (_, values) in enumerate(stack) if flatten(values).get(key, value) != value]
    stack.insert(others[-1] + 1 if others else 0, (name, layer))


def choose_preset(dataset: str, train_images: int) -> tuple[str, str]:
    """The preset for a data set nobody gave one for, and the reason in a few words."""
    if dataset in PRESETS:
        return dataset, "the data set has its own"
    if train_images < SMALL_DATA:
        return "small", f"{train_images:,} training images, fewer than {SMALL_DATA:,}"
    return "sadcl-r101-448", f"{train_images:,} training images, {SMALL_DATA:,} or more"
