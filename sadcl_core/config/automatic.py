"""The preset `auto`: settings from a few facts of the data, the weights and the device, each with its reason.

Nothing here looks at an image or a tensor. `sadcl_core.config.presets` lays the result under the user's own settings; they are
passed in, so that settings that depend on them follow. Constants without a source were measured on the built-in digits, a part of
VOC 2007 and 80 photos of COCO (docs/results/defaults.md); many photos on a GPU get the published recipe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from sadcl_core.config.backbones import CANDIDATES
from sadcl_core.config.layers import Layer, flatten, nest
from sadcl_core.config.methods import CONTRASTIVE
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

CPU_SECONDS = 600.0  # of a run on a CPU, where nobody says how long it may take
LINEAR_IMAGES, LINEAR_LABELS = 200_000, 20_000_000  # above which a fit takes long beside the rest: images, and images x classes
# of the last stage of a backbone: on 942 photos, one seed (docs/results/frozen.md)
LAST_EPOCHS, LAST_STEPS, LAST_LR = 4, 236, 3e-4
LAST_SECOND = 0.25  # epochs of its second stage as a share
GLOBAL_LR = 0.03  # of the fitted layer, as a multiple: it only follows the features as they change
SIDES = {"cpu": 224, "mps": 320, "cuda": 448}  # px; 448 as published
ONCE_SIDE = 288  # px, of features computed once: 3 points more than at 224, the size of the weights (docs/results/frozen.md)
SIDES_FROM_SCRATCH = {"cpu": 64, "mps": 128, "cuda": 224}  # half the side is four times the epochs; 64 on VOC, the others by eye
# floats of one activation of the head, B x K x feedforward: 128 MiB and 1 GiB
HEAD_FLOATS = {"cpu": 2**25, "mps": 2**27, "cuda": 2**28}
# backbones whose name a weights file may carry, by what a device computes in a sensible time
BACKBONES = {"cpu": "mobilenetv2_100", "mps": "resnet50", "cuda": "resnet50"}
NAMES = (
    "mobilenetv2_100",
    "tf_efficientnet_lite0",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    *(row.name.partition(".")[0] for row in CANDIDATES),
)
DEVICES = {"cpu": "a CPU", "mps": "an Apple GPU", "cuda": "a GPU"}  # in reasons
CHAINS = re.compile(r"^(?:tf_)?(?:mobilenetv2|efficientnet|resnet|resnext|convnext|hgnetv2|repvit)")  # cut at stride 16
PATCHES = re.compile(r"^(?:vit|deit3?|beit(?:v2)?|eva(?:02)?)_.*patch(\d+)")  # their only stride


@dataclass(frozen=True)
class Facts:
    """Facts by which settings are chosen, before anything is trained.

    Attributes:
        images: of the training split.
        classes: K.
        short_side: median of the shorter sides in pixels; None when it is not known.
        pretrained: whether the backbone starts from trained weights; None where the user leaves it open.
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
        """True where the papers' means are there: many photos, ImageNet weights, a GPU."""
        return bool(self.pretrained) and self.device == "cuda" and self.images >= PUBLISHED_IMAGES

    @property
    def tiny(self) -> bool:
        """True for images so small that each pixel counts."""
        return self.short_side is not None and self.short_side <= TINY


@dataclass(frozen=True)
class Recipe:
    """Settings as a layer of a configuration, what a head needs otherwise by its name, and (what, why) of each choice."""

    layer: Layer
    heads: Mapping[str, Layer]
    reasons: tuple[tuple[str, str], ...]


@dataclass
class _Choices:
    """Settings by dotted key as they are chosen, and the reasons; the user's own values count for those that depend on them.

    `config` is that of the method and the user alone: reasons name no setting of another head, loss or stage.
    """

    facts: Facts
    given: Mapping[str, Any]
    config: RunConfig
    values: dict[str, Any] = field(default_factory=dict)
    reasons: list[tuple[str, str]] = field(default_factory=list)

    @property
    def once(self) -> bool:
        """True where features are computed once, see `_choose_features`."""
        return "features.once" in self.values

    @property
    def losses(self) -> set[str]:
        """Names of the losses in the stages that are trained."""
        return {name for stage in self.config.used_stages for name in self.config.stages[stage].weights}

    def choose(self, key: str, value: Any) -> Any:
        """Choose a value and return the one that counts."""
        self.values[key] = value
        return self.value(key)

    def value(self, key: str) -> Any:
        """Return the value that counts: the user's if it has the type of the chosen one, and is positive if it is a number."""
        chosen: Any = self.values[key]
        given: Any = self.given.get(key, chosen)
        if type(given) is not type(chosen):  # options of heads are not checked yet
            return chosen
        return given if isinstance(given, str) or given > 0 else chosen

    def explain(self, reason: str, formats: Mapping[str, str]) -> None:
        """Note the reason of settings, each shown in its format; those that the user gave are left out."""
        texts = [text.format(self.value(key)) for key, text in formats.items() if key not in self.given]
        if texts:
            self.reasons.append((", ".join(texts), reason))


def choose(facts: Facts, given: Mapping[str, Any] | None = None, config: RunConfig | None = None) -> Recipe:
    """Return the recipe for these facts; settings that depend on the user's, dotted keys with valid values, follow them.

    `config` has the method's and the user's settings, SADCL's unless given: the reasons are of what it trains.

    Example:
        >>> recipe = choose(Facts(images=942, classes=20, short_side=216, pretrained=True))
        >>> recipe.layer["data"], recipe.layer["stages"]["classification"]["epochs"]
        ({'img_size': 288, 'batch_size': 16}, 4)
        >>> recipe.reasons[0]
        ('mobilenetv2_100', 'a CPU, 942 images')
    """
    pretrained = not facts.tiny if facts.pretrained is None else facts.pretrained  # ImageNet weights for all but tiny images
    choices = _Choices(replace(facts, pretrained=pretrained), given or {}, config or RunConfig())
    _choose_backbone(choices)
    _choose_features(choices)
    _choose_size(choices)
    _choose_head(choices)
    _choose_freezing(choices)
    _choose_stages(choices)
    _choose_averaging(choices)
    # one linear layer learns well at several times the rate of a transformer (docs/results/ablation.md)
    own = {"classifier_lr_scale": 5.0} if pretrained else {"backbone_lr_scale": 3.0, "classifier_lr_scale": 3.0}
    heads: dict[str, Layer] = {head: {"stages": dict.fromkeys(STAGES, own)} for head in ("pooled", "csra")}
    if choices.values.get("optim.solve_linear"):
        heads = {  # it is the linear layer itself
            "pooled": {
                "model": {"global_branch": "none", "heads": {"pooled": {"standardise": True}}},
                "stages": {name: {"classifier_lr_scale": GLOBAL_LR} for name in STAGES},
            }
        }
    return Recipe(nest(choices.values), heads, tuple(choices.reasons))


def _choose_backbone(choices: _Choices) -> None:
    """Choose the start and the backbone: as published where the papers' means are there, else what the device trains in time."""
    facts = choices.facts
    if "model.pretrained" not in choices.given and not facts.pretrained:
        choices.values["model.pretrained"] = False
        choices.explain(
            f"images of about {facts.short_side} px are far from what ImageNet weights know; --pretrained hub takes them",
            {"model.pretrained": "from scratch"},
        )
    stem = PurePath(facts.weights).name.lower()
    named = next((name for name in NAMES if re.match(rf"{name}(?![0-9a-z])", stem)), "")
    if named:
        choice, reason = named, "the file of the weights is called so"
    elif facts.published:
        choice, reason = "resnet101", f"as published: {facts.images:,} images and a GPU"
    elif facts.pretrained:
        choice, reason = BACKBONES[facts.device], f"{DEVICES[facts.device]}, {facts.images:,} images"
    else:
        deep = facts.device == "cuda" and facts.images >= PUBLISHED_IMAGES
        choice = "resnet50" if deep else "resnet18"
        reason = f"from scratch on {facts.images:,} images, {DEVICES[facts.device]}"
    choices.choose("model.backbone", choice)
    choices.explain(reason, {"model.backbone": "{}"})


def _choose_size(choices: _Choices) -> None:
    """Choose image size and stride: enough pixels for the weights, no more than the images have or the device can compute."""
    facts = choices.facts
    patch = PATCHES.match(choices.value("model.backbone"))
    size = _size(facts, once=choices.once)
    if patch:
        size = max(1, size // int(patch[1])) * int(patch[1])
    size = choices.choose("data.img_size", size)
    if patch:
        stride = int(patch[1])
    elif facts.pretrained or size >= 224:  # trained weights are used to their end
        stride = 32
    else:  # from scratch a map of 8 x 8 or, of photos made small, 4 x 4 locations and more
        stride = 8 if facts.tiny or size < 64 else 16
    choices.choose("model.stride", stride)
    pixels = "of unknown size" if facts.short_side is None else f"of about {facts.short_side} px"
    choices.explain(
        f"images {pixels}, {DEVICES[facts.device]}, {'pretrained' if facts.pretrained else 'from scratch'}",
        {"data.img_size": "img_size {}", "model.stride": "stride {}"},
    )


def _size(facts: Facts, *, once: bool) -> int:
    side = facts.short_side or 10**4
    if facts.published:
        return SIDES["cuda"]
    if facts.pretrained:
        return min(ONCE_SIDE if once else SIDES[facts.device], max(TINY, _round_up(side * CONTEXT, 32)))
    if facts.tiny:
        return max(32, _round_up(side, 8))
    return min(SIDES_FROM_SCRATCH[facts.device], _round_up(side, 32))


def _choose_head(choices: _Choices) -> None:
    """Choose batch and widths: a head is learned from the images there are, and its activations have to fit into memory."""
    facts = choices.facts
    batch, own, feedforward = _fitting(facts, choices.given.get("data.batch_size"))
    choices.choose("data.batch_size", batch)
    width = choices.choose("model.heads.sarl.width", own)
    choices.choose("model.heads.sarl.feedforward", max(1, feedforward * width // own))
    if not facts.published:  # as narrow as SARL; ML-Decoder, whose queries do not grow with the classes, as if they were few
        few = dict(zip(("width", "feedforward"), _widths(facts), strict=True))
        widths: Layer = {
            "ml_decoder": few,
            "c_tran": few,
            **{head: {"width": own, "inner": own // 2} for head in ("ssgrl", "adahgnn")},
            **{head: {"width": own} for head in ("add_gcn", "generated", "p_gcn", "ms_cma", "cpcl", "rnn_att")},
            "tdrg": {"width": own // 2, "feedforward": feedforward},
            "sst": {"width": min(own, 256), "feedforward": min(feedforward, 512)},
        }
        choices.values.update(flatten({"model": {"heads": widths}}))
    choices.choose("model.heads.mulcon.token_width", width)
    choices.choose("model.heads.mulcon.width", own // 2 if facts.published else width)
    choices.choose("model.projection_width", max(1, width // 2))
    choices.explain(f"{facts.images:,} images, {facts.classes:,} classes", {"data.batch_size": "batch_size {}"})
    reason = "as published" if facts.published else f"the head is learned from {facts.images:,} images alone"
    keys = {f"model.heads.{choices.config.model.head}.width": "width {}"}
    keys = {key: text for key, text in keys.items() if key in choices.values}
    if any(choices.values[key] < _widths(facts)[0] for key in keys) and own < _widths(facts)[0]:
        reason = f"the features of {facts.classes:,} classes have to fit into memory"
    projection = {"model.projection_width": "projection_width {}"} if choices.losses & {*CONTRASTIVE} else {}
    choices.explain(reason, {**keys, **projection})
    key = "loss.sample_to_sample.bank_classes"
    if facts.classes >= BANK_CLASSES:
        choices.choose(key, "present")
    if facts.classes >= BANK_CLASSES and "sample_to_sample" in choices.losses:
        choices.explain(f"{facts.classes:,} classes: a bank of all costs more than the rest", {key: "bank_classes {}"})


def _fitting(facts: Facts, given_batch: int | None) -> tuple[int, int, int]:
    """Return batch, width and feed-forward width of SARL, made smaller in turn until the activations of the head fit."""
    width, feedforward = _widths(facts)
    batch = given_batch or _batch(facts)
    room = HEAD_FLOATS[facts.device] // max(1, facts.classes)
    for least_width, least_batch in ((512, 32), (256, 16), (128, 1)):
        while width > least_width and batch * feedforward > room:
            width, feedforward = width // 2, feedforward // 2
        while given_batch is None and batch > least_batch and batch * feedforward > room:
            batch //= 2
    return batch, width, feedforward


def _widths(facts: Facts) -> tuple[int, int]:
    """Return D of SARL and its feed-forward width: 2048, 8192 as published; 256 on 942 photos; 128 from scratch on digits."""
    if facts.published:
        return 2048, 8192
    if not facts.pretrained:
        return (256, 512) if facts.images >= PUBLISHED_IMAGES else (128, 256)
    return (512, 1024) if facts.device == "cuda" else (256, 512)


def _batch(facts: Facts) -> int:
    """Return 64 as published, 32 on fewer images, 16 where an epoch has fewer than STEPS_AN_EPOCH; 8 was worse on 80 photos."""
    if facts.device == "cuda" and facts.images >= PUBLISHED_IMAGES:
        return 64
    return 32 if facts.images >= 32 * STEPS_AN_EPOCH else 16


def _choose_features(choices: _Choices) -> None:
    """Compute the features of frozen layers once where that saves hours: trained weights without a GPU.

    A linear layer is fitted on them first, in seconds; then the last stage of the backbone and the head are trained, which costs
    a fifth of training all layers and gains 2 to 4 points of mAP on 942 photos (docs/results/frozen.md).
    """
    facts, backbone = choices.facts, choices.value("model.backbone")
    fits = CHAINS.match(backbone) or PATCHES.match(backbone)
    given = choices.given  # a second look needs the images
    refused = given.get("model.init_from") or given.get("model.second_look") or given.get("features.once") is False
    if not (facts.pretrained and facts.device == "cpu" and fits) or refused:
        return
    choices.values.update({"features.once": True, "features.views": 3, "optim.select": "last", "optim.evaluate_every": 4})
    trained = bool(choices.config.used_stages)
    if "features.once" not in given:
        views = {"features.views": "in {} views"} if trained else {}
        rest = ", and what is left of ten for the last stage of the backbone" if trained else ""
        choices.explain(f"a CPU: in minutes{rest}", {"features.once": "features of the frozen layers computed once", **views})
    choices.values["optim.time_budget"] = CPU_SECONDS
    if facts.images <= LINEAR_IMAGES and facts.images * facts.classes <= LINEAR_LABELS:
        choices.values.update({"model.global_branch": "root-mean", "optim.solve_linear": True})
        if choices.config.model.head != "pooled":
            choices.explain(
                "it carries rare classes; the head learns the rest",
                {"model.global_branch": "a linear layer beside the head, fitted first"},
            )
        elif trained:
            reason = "it is the head, and then only follows the features"
            choices.explain(reason, {"optim.solve_linear": "a linear layer fitted first"})


def _choose_freezing(choices: _Choices) -> None:
    """Freeze the first stage of trained weights, as published, or all but the last to compute them once; no random ones."""
    if not choices.config.used_stages:
        return  # a method that fits a linear layer alone keeps the whole backbone as it is
    trained, once = choices.facts.pretrained, choices.once
    stride = 0 if not trained else 4 if not once else 16 if CHAINS.match(choices.value("model.backbone")) else 64
    choices.values["model.freeze_stride"] = stride
    choices.values["model.freeze_batchnorm"] = trained
    reason = "edges and colours are known" if not once else "the last stage is what has to adapt"
    choices.explain(
        reason if trained else "there is nothing yet to keep",
        {"model.freeze_stride": f"frozen up to stride {stride}, and BatchNorm" if trained else "nothing frozen"},
    )


def _choose_stages(choices: _Choices) -> None:
    """Choose epochs, rates and augmentation of both stages; those of the second follow the user's values of the first."""
    facts, batch, once = choices.facts, choices.value("data.batch_size"), choices.once
    few = max(LAST_EPOCHS, math.ceil(LAST_STEPS / _steps_an_epoch(facts, batch)))
    epochs = choices.choose(f"stages.{STAGES[0]}.epochs", few if once else _epochs(facts, batch))
    steps = epochs * _steps_an_epoch(facts, batch)
    lr, backbone_scale = _rates(facts, batch=batch, width=choices.value("model.heads.sarl.width"), steps=steps)
    if once:
        lr, backbone_scale = LAST_LR, 1.0
    shorter = 1.0 if facts.published else LAST_SECOND if once else SECOND_STAGE
    slower = 1.0 if facts.published else 0.2 if facts.pretrained else 0.5  # as the presets `small` and `digits`
    augment = ("shift-and-turn",) * 2 if facts.tiny else ("flip-and-crop",) * 2
    for name, change in zip(STAGES, ("cutout-randaugment", "fixed-crops") if facts.published else augment, strict=True):
        if name != STAGES[0]:
            epochs = choices.choose(f"stages.{name}.epochs", max(1, round(epochs * shorter)))
        lr = choices.choose(f"stages.{name}.lr", float(f"{lr:.2g}"))
        if facts.pretrained:
            choices.choose(f"stages.{name}.backbone_lr_scale", backbone_scale)
        if once:
            choices.choose(f"stages.{name}.global_lr_scale", GLOBAL_LR)
        choices.choose(f"stages.{name}.augment", change)
        lr *= slower
    if not choices.config.used_stages:
        return
    first, *later = (f"stages.{name}." for name in choices.config.used_stages)
    choices.explain(
        f"{facts.images:,} images: the fewer, the more often each is seen",
        {f"{first}epochs": "epochs {}", **{f"{name}epochs": "then {}" for name in later}},
    )
    scale = {f"{first}backbone_lr_scale": "times {:g} in the backbone"} if facts.pretrained else {}
    reason = "as published" if facts.published else "the backbone only has to adapt" if facts.pretrained else "all from scratch"
    choices.explain(reason, {f"{first}lr": "lr {:g}", **{f"{name}lr": "then {:g}" for name in later}, **scale})
    kept = "small pictures may be signs or digits, which mean something else in a mirror" if facts.tiny else "mild, for photos"
    choices.explain("as published" if facts.published else kept, {f"{first}augment": "augment {}"})


def _steps_an_epoch(facts: Facts, batch: int) -> int:
    return math.ceil(max(1, facts.images) / batch)


def _rates(facts: Facts, *, batch: int, width: int, steps: int) -> tuple[float, float]:
    """Return the peak rate of a stage of so many steps, and the backbone's as a multiple.

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
    """Return the epochs of the first stage: with the root of the images, so that ten times the images take three times as long.

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


def ema_decay(steps: int) -> float:
    """Return the decay of the EMA for a stage of so many steps.

    Example:
        >>> ema_decay(819), ema_decay(20)
        (0.9902, 0.8)
    """
    return round(min(PUBLISHED_DECAY, max(LEAST_DECAY, 1 - EMA_MEMORIES / max(steps, 1))), 4)


def _choose_averaging(choices: _Choices) -> None:
    """Choose the decay of the EMA by the steps of the first stage that is trained, and the patience by its epochs."""
    facts = choices.facts
    keys = [f"stages.{name}.epochs" for name in STAGES]
    epochs = next((count for key in keys if (count := int(choices.given.get(key, choices.values[key])))), 1)
    steps = epochs * _steps_an_epoch(facts, choices.value("data.batch_size"))
    choices.choose("optim.ema_decay", ema_decay(steps))
    choices.values["optim.ema_warmup"] = not facts.published
    choices.choose("optim.weight_decay", 5e-3 if facts.pretrained else 1e-2)
    choices.choose("optim.patience", PUBLISHED_PATIENCE if facts.published else max(PUBLISHED_PATIENCE, epochs))
    if choices.config.used_stages:
        choices.explain(f"{steps:,} steps in the first stage", {"optim.ema_decay": "ema_decay {:g}"})


def _round_up(pixels: float, multiple: int) -> int:
    return math.ceil(pixels / multiple) * multiple
