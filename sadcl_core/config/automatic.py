"""The recipe for data nobody tuned for: from a few facts to settings, each with its reason.

Nothing here looks at an image or a tensor. `sadcl_core.config.presets` lays the result under the user's own settings, which are
known here, so that settings that depend on them follow. Constants without a source were measured on the built-in digits, a part
of VOC 2007 and 80 photos of COCO (docs/results/defaults.md); on a GPU the published recipe is taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from sadcl_core.config.layers import Layer, nest
from sadcl_core.config.schema import RunConfig

PUBLISHED_IMAGES = 10_000  # from here on a GPU and ImageNet weights are used as published; the papers' smallest set has 5,011
PUBLISHED_VIEWS = 80 * 82_783  # images seen in a stage: 80 epochs of COCO 2014 (SADCL, implementation details)
PUBLISHED_LR = 5e-5  # of every layer (the same)
PUBLISHED_PATIENCE = 8  # (the same)
PUBLISHED_DECAY = 0.9998  # the longest memory of the EMA that is ever needed (the same)

TINY = 96  # px; below, a picture is looked at as it is: a digit scene of 64 px is known at stride 8
CPU_VIEWS = 160_000  # images seen in a stage: about two hours on one core at 20 to 25 images/s
CONTEXT = 2.5  # ImageNet weights know objects of a hundred pixels and more: small pictures are enlarged by this much at most
STEPS_AN_EPOCH = 40  # fewer images than this many batches of 32 make smaller ones: many small steps learn more than few large
LEAST_STEPS = 300  # of a stage: 80 photos are learned by heart in them, and 42 steps leave them near chance
USUAL_STEPS = 700  # of a stage on 942 photos
EMA_MEMORIES = 8.0  # time constants of the EMA in a stage: 0.99 in the 819 steps of digits
LEAST_DECAY = 0.8  # of fewer than 40 steps, where the warm-up of the EMA keeps it lower anyway
MOST_LR = 2e-3  # SARL falls at 3e-3 on digits (docs/results/ablation.md)
STAGES = tuple(RunConfig().stages)
SECOND_STAGE = 0.4  # epochs of the second stage as a share: it starts from a trained model
BANK_CLASSES = 1000  # from here on the bank of every class costs more than all else (docs/results/losses.md)

SIDES = {"cpu": 224, "mps": 320, "cuda": 448}  # px; 448 as published
SIDES_FROM_SCRATCH = {"cpu": 64, "mps": 128, "cuda": 224}  # half the side is four times the epochs; 64 on VOC, the others by eye
# floats of one activation of the head, B x K x feedforward: 128 MiB and 1 GiB
HEAD_FLOATS = {"cpu": 2**25, "mps": 2**27, "cuda": 2**28}
# backbones whose name a weights file may carry, by what a device computes in a sensible time
BACKBONES = {"cpu": "mobilenetv2_100", "mps": "resnet50", "cuda": "resnet50"}
KNOWN = ("mobilenetv2_100", "resnet18", "resnet34", "resnet50", "resnet101")
PATCHES = re.compile(r"^(?:vit|deit3?|beit(?:v2)?|eva(?:02)?)_.*patch(\d+)")  # their only stride


@dataclass(frozen=True)
class Facts:
    """What is known before anything is trained.

    Attributes:
        images: of the training split.
        classes: K.
        short_side: median of the shorter sides in pixels; None when it is not known.
        pretrained: whether the backbone starts from trained weights; None when nobody has said.
        device: cpu, mps or cuda.
        weights: name of the file with the weights, if one was given.
    """

    images: int
    classes: int = 1
    short_side: int | None = None
    pretrained: bool | None = None
    device: str = "cpu"
    weights: str = ""

    @property
    def published(self) -> bool:
        """Whether this is what the papers had: many photos, ImageNet weights, a GPU."""
        return bool(self.pretrained) and self.device == "cuda" and self.images >= PUBLISHED_IMAGES

    @property
    def tiny(self) -> bool:
        """Whether the pictures are so small that each pixel of them counts."""
        return self.short_side is not None and self.short_side <= TINY


@dataclass(frozen=True)
class Recipe:
    """Settings as a layer of a configuration, what a head needs otherwise by its name, and (what, why) of each choice."""

    layer: Layer
    heads: Mapping[str, Layer]
    reasons: tuple[tuple[str, str], ...]


@dataclass
class _Choices:
    """Settings by dotted key as they are chosen; what the user said counts for those that depend on it."""

    facts: Facts
    said: Mapping[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    reasons: list[tuple[str, str]] = field(default_factory=list)

    def take(self, key: str, value: Any) -> Any:
        """Choose a value; returns the one that counts."""
        self.values[key] = value
        return self.of(key)

    def of(self, key: str) -> Any:
        """The value that counts: the user's, if it is of the kind expected here."""
        own: Any = self.values[key]
        said: Any = self.said.get(key, own)
        if type(said) is not type(own):  # options of heads are not checked yet
            return own
        return said if (said if isinstance(said, str) else said > 0) else own

    def because(self, why: str, what: Mapping[str, str]) -> None:
        """Note the reason of settings; `what` says by key how each is shown. What the user said himself is not listed."""
        texts = [text.format(self.of(key)) for key, text in what.items() if key not in self.said]
        if texts:
            self.reasons.append((", ".join(texts), why))


def choose(facts: Facts, said: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe for these facts.

    Args:
        facts: see `Facts`.
        said: dotted keys and valid values of the user: they are not chosen again, and what depends on them follows.
    """
    choices = _Choices(replace(facts, pretrained=_pretrained(facts)), said or {})
    _start(choices)
    _backbone(choices)
    _pictures(choices)
    _head(choices)
    _freezing(choices)
    _stages(choices)
    _averaging(choices)
    return Recipe(nest(choices.values), _heads(choices.facts), tuple(choices.reasons))


def _pretrained(facts: Facts) -> bool:
    """What was said, else ImageNet weights for all but tiny pictures."""
    return not facts.tiny if facts.pretrained is None else facts.pretrained


def _start(choices: _Choices) -> None:
    """Say so where trained weights are not taken though nobody refused them."""
    if "model.pretrained" not in choices.said and not choices.facts.pretrained:
        choices.values["model.pretrained"] = False
        choices.because(
            f"images of about {choices.facts.short_side} px are far from what ImageNet weights know; --pretrained hub takes them",
            {"model.pretrained": "from scratch"},
        )


def _backbone(choices: _Choices) -> None:
    """As published where the papers' means are there, else what the device trains in a sensible time."""
    facts = choices.facts
    named = _named_in(facts.weights)
    if named:
        choice, why = named, "the file of the weights is called so"
    elif facts.published:
        choice, why = "resnet101", f"as published: {facts.images:,} images and a GPU"
    elif facts.pretrained:
        choice, why = BACKBONES[facts.device], f"{_device(facts)}, {facts.images:,} images"
    else:
        deep = facts.device == "cuda" and facts.images >= PUBLISHED_IMAGES
        choice, why = "resnet50" if deep else "resnet18", f"from scratch on {facts.images:,} images, {_device(facts)}"
    choices.take("model.backbone", choice)
    choices.because(why, {"model.backbone": "{}"})


def _named_in(weights: str) -> str:
    """The backbone that a weights file is named after; empty when its name does not say."""
    stem = PurePath(weights).name.lower()
    return next((name for name in KNOWN if re.match(rf"{name}(?![0-9a-z])", stem)), "")


def _pictures(choices: _Choices) -> None:
    """Size and stride: enough pixels for the weights, no more than the pictures have or the device can take."""
    facts = choices.facts
    patch = PATCHES.match(choices.of("model.backbone"))
    size = _size(facts)
    if patch:
        size = max(1, size // int(patch[1])) * int(patch[1])
    size = choices.take("data.img_size", size)
    choices.take("model.stride", int(patch[1]) if patch else _stride(facts, size))
    pixels = "of unknown size" if facts.short_side is None else f"of about {facts.short_side} px"
    choices.because(
        f"images {pixels}, {_device(facts)}, {'pretrained' if facts.pretrained else 'from scratch'}",
        {"data.img_size": "img_size {}", "model.stride": "stride {}"},
    )


def _size(facts: Facts) -> int:
    side = facts.short_side or 10**4
    if facts.published:
        return SIDES["cuda"]
    if facts.pretrained:
        return min(SIDES[facts.device], max(TINY, _up(side * CONTEXT, 32)))
    if facts.tiny:
        return max(32, _up(side, 8))
    return min(SIDES_FROM_SCRATCH[facts.device], _up(side, 32))


def _stride(facts: Facts, size: int) -> int:
    """Trained weights are used to their end; from scratch a map of 8 x 8 or, of photos made small, 4 x 4 locations and more."""
    if facts.pretrained or size >= 224:
        return 32
    return 8 if facts.tiny or size < 64 else 16


def _head(choices: _Choices) -> None:
    """Batch and widths: a head has to be learned from the images there are, and its activations have to fit."""
    facts = choices.facts
    batch, widths = _fitting(facts, choices.said.get("data.batch_size"))
    choices.take("data.batch_size", batch)
    own = widths[0]
    width = choices.take("model.heads.sarl.width", own)
    choices.take("model.heads.sarl.feedforward", max(1, widths[1] * width // own))
    choices.take("model.heads.mulcon.token_width", width)
    choices.take("model.heads.mulcon.width", own // 2 if facts.published else width)
    choices.take("model.projection_width", max(1, width // 2))
    many = f"{facts.images:,} images, {facts.classes:,} classes"
    choices.because(many, {"data.batch_size": "batch_size {}"})
    choices.because(
        _why_so_wide(facts, own),
        {"model.heads.sarl.width": "width {}", "model.projection_width": "projection_width {}"},
    )
    if facts.classes >= BANK_CLASSES:
        key = "loss.sample_to_sample.bank_classes"
        choices.take(key, "present")
        choices.because(f"{facts.classes:,} classes: a bank of all costs more than the rest", {key: "bank_classes {}"})


def _why_so_wide(facts: Facts, width: int) -> str:
    if width < _widths(facts)[0]:
        return f"the features of {facts.classes:,} classes have to fit into memory"
    return "as published" if facts.published else f"the head is learned from {facts.images:,} images alone"


def _fitting(facts: Facts, asked: int | None) -> tuple[int, tuple[int, int]]:
    """Batch, and width and feed-forward width of SARL, made smaller in turn until the activations of the head fit."""
    width, feedforward = _widths(facts)
    batch = asked or _batch(facts)
    room = HEAD_FLOATS[facts.device] // max(1, facts.classes)
    for least_width, least_batch in ((512, 32), (256, 16), (128, 1)):
        while width > least_width and batch * feedforward > room:
            width, feedforward = width // 2, feedforward // 2
        while asked is None and batch > least_batch and batch * feedforward > room:
            batch //= 2
    return batch, (width, feedforward)


def _widths(facts: Facts) -> tuple[int, int]:
    """D of SARL and its feed-forward width: 2048 and 8192 as published, 256 on 942 photos, 128 from scratch on digits."""
    if facts.published:
        return 2048, 8192
    if not facts.pretrained:
        return (256, 512) if facts.images >= PUBLISHED_IMAGES else (128, 256)
    return (512, 1024) if facts.device == "cuda" else (256, 512)


def _batch(facts: Facts) -> int:
    """64 as published, 32 on fewer images, 16 where an epoch would not have STEPS_AN_EPOCH steps; 8 were worse on 80 photos."""
    if facts.device == "cuda" and facts.images >= PUBLISHED_IMAGES:
        return 64
    return 32 if facts.images >= 32 * STEPS_AN_EPOCH else 16


def _freezing(choices: _Choices) -> None:
    """Random layers that never learn help nobody; trained ones keep their first stage, as published."""
    trained = choices.facts.pretrained
    choices.values["model.freeze_stride"] = 4 if trained else 0
    choices.values["model.freeze_batchnorm"] = trained
    choices.because(
        "edges and colours are known" if trained else "there is nothing yet to keep",
        {"model.freeze_stride": "frozen up to stride 4, and BatchNorm" if trained else "nothing frozen"},
    )


def _stages(choices: _Choices) -> None:
    """Epochs, rates and augmentation of both stages; those of the second follow what the user says of the first."""
    facts, batch = choices.facts, choices.of("data.batch_size")
    epochs = choices.take(f"stages.{STAGES[0]}.epochs", _epochs(facts, batch))
    steps = epochs * _steps_an_epoch(facts, batch)
    lr, backbone_scale = _rates(facts, batch=batch, width=choices.of("model.heads.sarl.width"), steps=steps)
    shorter = 1.0 if facts.published else SECOND_STAGE
    slower = 1.0 if facts.published else 0.2 if facts.pretrained else 0.5  # as the presets `small` and `digits`
    for name, augment in zip(STAGES, _augment(facts), strict=True):
        if name != STAGES[0]:
            epochs = choices.take(f"stages.{name}.epochs", max(1, round(epochs * shorter)))
        lr = choices.take(f"stages.{name}.lr", float(f"{lr:.2g}"))
        if facts.pretrained:
            choices.take(f"stages.{name}.backbone_lr_scale", backbone_scale)
        choices.take(f"stages.{name}.augment", augment)
        lr *= slower
    _explain_stages(choices)


def _steps_an_epoch(facts: Facts, batch: int) -> int:
    return math.ceil(max(1, facts.images) / batch)


def _explain_stages(choices: _Choices) -> None:
    facts = choices.facts
    first, second = (f"stages.{name}." for name in STAGES)
    choices.because(
        f"{facts.images:,} images: the fewer, the more often each is seen",
        {f"{first}epochs": "epochs {}", f"{second}epochs": "then {}"},
    )
    rates = {f"{first}lr": "lr {:g}", f"{second}lr": "then {:g}"}
    slower = {f"{first}backbone_lr_scale": "the backbone at {:g} of it"} if facts.pretrained else {}
    why = "as published" if facts.published else "the backbone only has to adapt" if facts.pretrained else "all from scratch"
    choices.because(why, {**rates, **slower})
    kept = "small pictures may be signs or digits, which mean something else in a mirror" if facts.tiny else "mild, for photos"
    choices.because("as published" if facts.published else kept, {f"{first}augment": "augment {}"})


def _rates(facts: Facts, *, batch: int, width: int, steps: int) -> tuple[float, float]:
    """Peak rate of a stage of so many steps, and the backbone's as a multiple.

    Adam's rate goes with the noise of a step, which is the root of the batch; a new head that has few steps needs larger ones,
    up to those of a batch of 32: 80 photos in batches of 16 are 4 points better so.
    """
    if facts.published:
        return PUBLISHED_LR, 1.0
    lr = 1e-3 * math.sqrt(batch / 32)
    if not facts.pretrained:
        return min(MOST_LR, lr), 1.0
    lr = min(MOST_LR, max(lr, min(1e-3, lr * math.sqrt(USUAL_STEPS / steps))))
    return lr * min(1.0, 256 / width), 0.1


def _epochs(facts: Facts, batch: int) -> int:
    """Epochs of the first stage: with the root of the images, so that ten times the images take three times as long.

    With ImageNet weights 12 on 942 photos and 60, for LEAST_STEPS, on 80; from scratch 40 on 942 photos and 18 on 2,000 scenes of
    digits.
    """
    images = max(1, facts.images)
    as_published = max(5, min(80, PUBLISHED_VIEWS // images))
    if facts.published or (facts.device == "cuda" and images >= PUBLISHED_IMAGES):
        return as_published
    scale, enough = (370, 8) if facts.pretrained else (800, 12) if facts.tiny else (1230, 12)
    longer = 2 if facts.device == "cuda" else 1  # where an epoch costs seconds
    least = max(math.ceil(LEAST_STEPS / _steps_an_epoch(facts, batch)), min(enough, max(3, CPU_VIEWS // images)))
    return max(least, min(LEAST_STEPS, round(longer * scale / math.sqrt(images))))


def _augment(facts: Facts) -> tuple[str, str]:
    if facts.published:
        return "cutout-randaugment", "fixed-crops"
    return ("shift-and-turn",) * 2 if facts.tiny else ("flip-and-crop",) * 2


def _averaging(choices: _Choices) -> None:
    """Decay of the EMA from the steps of the first stage that is trained, patience from its epochs."""
    facts = choices.facts
    epochs = _first_epochs(choices)
    steps = epochs * _steps_an_epoch(facts, choices.of("data.batch_size"))
    decay = min(PUBLISHED_DECAY, max(LEAST_DECAY, 1 - EMA_MEMORIES / steps))
    choices.take("optim.ema_decay", round(decay, 4))
    choices.values["optim.ema_warmup"] = not facts.published
    choices.take("optim.weight_decay", 5e-3 if facts.pretrained else 1e-2)
    choices.take("optim.patience", PUBLISHED_PATIENCE if facts.published else max(PUBLISHED_PATIENCE, epochs))
    choices.because(f"{steps:,} steps in the first stage", {"optim.ema_decay": "ema_decay {:g}"})


def _first_epochs(choices: _Choices) -> int:
    """Of the first stage that has any; a stage the user leaves out has none."""
    keys = [f"stages.{name}.epochs" for name in STAGES]
    counts = [int(choices.said.get(key, choices.values[key])) for key in keys]
    return next((count for count in counts if count), 1)


def _heads(facts: Facts) -> dict[str, Layer]:
    """One linear layer learns well at several times the rate of a transformer (docs/results/ablation.md)."""
    from_scratch = {"backbone_lr_scale": 3.0, "classifier_lr_scale": 3.0}  # all the layers there are
    own = {"classifier_lr_scale": 5.0} if facts.pretrained else from_scratch
    return {"pooled": {"stages": dict.fromkeys(STAGES, own)}}


def _device(facts: Facts) -> str:
    return {"cpu": "a CPU", "mps": "an Apple GPU", "cuda": "a GPU"}[facts.device]


def _up(pixels: float, multiple: int) -> int:
    return math.ceil(pixels / multiple) * multiple
