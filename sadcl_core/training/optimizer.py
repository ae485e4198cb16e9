"""The optimiser of a stage: which parameters learn, at which rate, on which schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from sadcl_core.config.schema import OptimSection, StageSection
from sadcl_core.model.classifier import Classifier

MOMENTUM = 0.9  # of SGD


def set_trainable(classifier: Classifier, *, backbone: bool, projection: bool, prototypes: bool) -> None:
    """Let the parts that a stage trains have gradients, and no others."""
    classifier.backbone.freeze(entirely=not backbone)
    classifier.projection.requires_grad_(projection)
    classifier.prototypes.requires_grad_(prototypes)


def make_optimizer(classifier: Classifier, stage: StageSection, optim: OptimSection) -> Optimizer:
    """Make the optimiser: backbone and head have their own rates; biases, norms and other vectors are decayed if asked.

    Raises:
        UsageError: rates are to decay by layer, and timm does not know the layers of the backbone.
    """
    groups: dict[tuple[float, bool], list[Tensor]] = defaultdict(list)
    depths = classifier.backbone.depths() if stage.layer_decay < 1 and stage.backbone_lr_scale > 0 else {}
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            groups[stage.lr * lr_scale(classifier, stage, name, depths), optim.decayed == "all" or parameter.ndim >= 2].append(
                parameter
            )
    settings = [
        {"params": parameters, "lr": lr, "weight_decay": optim.weight_decay if decayed else 0.0}
        for (lr, decayed), parameters in groups.items()
    ]
    # on a CPU one loop over each tensor in place of ten: a step of AdamW takes a tenth of the time
    fused = next(classifier.parameters()).device.type == "cpu" or None
    if stage.optimizer == "sgd":
        return SGD(settings, momentum=MOMENTUM, nesterov=optim.nesterov, fused=fused)
    return (AdamW if stage.optimizer == "adamw" else Adam)(settings, eps=optim.epsilon, fused=fused)


def lr_scale(classifier: Classifier, stage: StageSection, name: str, depths: Mapping[str, int]) -> float:
    """Return the learning rate of a parameter as a multiple of the stage's."""
    part, _, inner = name.partition(".")
    if part == "backbone":
        return stage.backbone_lr_scale * stage.layer_decay ** depths.get(inner.removeprefix("net."), 0)
    if part == "head":
        return stage.classifier_lr_scale if inner in classifier.head.CLASSIFIER else stage.head_lr_scale
    return stage.global_lr_scale if part == "global_branch" else 1.0


def make_schedule(
    optimizer: Optimizer, optim: OptimSection, *, steps: int, done: int = 0, drops: Callable[[], int] = int
) -> LRScheduler:
    """Make the schedule of all steps of a stage, some of them done perhaps, for an optimiser whose groups have the highest rates.

    `drops` gives how often `plateau` has made the rate smaller.
    """
    if optim.schedule == "one-cycle":
        return one_cycle(optimizer, steps=steps, warmup=optim.warmup, done=done)
    factor = partial(rate_factor, optim, steps=steps, drops=drops)
    schedule = LambdaLR(optimizer, factor)  # keeps the rates of the groups as those that factors are of
    return LambdaLR(optimizer, factor, last_epoch=done - 1) if done else schedule


def rate_factor(optim: OptimSection, step: int, *, steps: int, drops: Callable[[], int] = int) -> float:
    """Return the learning rate of a step, from 0, as a multiple of the highest, for every schedule but OneCycle.

    Example:
        >>> optim = OptimSection(schedule="step", milestones=[0.5], warmup=0.2)
        >>> [rate_factor(optim, step, steps=10) for step in (0, 1, 2, 4, 5, 9)]
        [0.5, 1.0, 1.0, 1.0, 0.1, 0.1]
        >>> round(rate_factor(OptimSection(schedule="cosine", warmup=0), 5, steps=10), 6)
        0.5
    """
    rising = round(optim.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if optim.schedule == "cosine":
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising)))
    passed = sum(step >= share * steps for share in optim.milestones) if optim.schedule == "step" else drops()
    return float(0.1**passed)


def apply_drop(schedule: LRScheduler) -> None:
    """Give an optimiser the rate that its schedule has for the next step, after a drop that it did not know of."""
    if isinstance(schedule, LambdaLR):
        for group, highest, factor in zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = highest * factor(schedule.last_epoch)


def one_cycle(optimizer: Optimizer, *, steps: int, warmup: float, done: int = 0) -> OneCycleLR:
    """Make the OneCycle schedule of all steps of a stage, some of them done perhaps.

    The rise takes two steps at least, which the scheduler needs. Rates depend on the number of the step and nothing else, so a
    stage that is resumed, or made longer, has the rates that it would have had from the start.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    total = max(steps, 3)
    cycles = isinstance(optimizer, Adam)  # AdamW is one, too; its betas move against the rate, as published
    cycle: dict[str, Any] = {"max_lr": peaks, "total_steps": total, "pct_start": max(warmup, 2 / total), "cycle_momentum": cycles}
    schedule = OneCycleLR(optimizer, **cycle)
    return OneCycleLR(optimizer, **cycle, last_epoch=min(done, total) - 1) if done else schedule
