"""The check whether the loss got below what needs no image, and what other checks ask of losses and rates."""

from __future__ import annotations

import math

import numpy as np

from sadcl_core.diagnosis.baselines import Baselines, baselines
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.history import History, used_stages
from sadcl_core.diagnosis.verdict import Absent, NotThereError, Severity, Verdict, found, passed, there

CLEAR = 0.9  # of the loss that needs no image; a trained model is below
TOO_FEW_STEPS, FEW_STEPS = 50, 300  # a network learns nothing in fewer than the first, and seldom much in fewer than the second
ROSE = 1.1  # times the loss of the first epoch
STILL = 0.05  # share of the loss by which it differs from epoch to epoch when nothing is learned
LAST = 3  # rows whose mean is the loss that training ended at


def learned_nothing(evidence: Evidence) -> Verdict:
    """Whether the classification loss got clearly below what needs no image."""
    config, limits = there(evidence.config), baselines_of(evidence)
    last = last_loss(there(evidence.history))
    mixed = any(stage.mixup or stage.cutmix for stage in used_stages(config).values())  # costs something even when it is known
    numbers = {"loss": last, "frequencies": limits.frequency, "best_constant": limits.constant, "all_inactive": limits.inactive}
    told = (
        f"the classification loss ended at {last:.4f}; saying each class's share of active labels for every image costs "
        f"{limits.frequency:.4f}, the best score that is the same for every image {limits.constant:.4f}, and all labels inactive "
        f"{limits.inactive:.4f}"
    )
    if last < (1.0 if mixed else CLEAR) * limits.constant:
        return passed(told, **numbers)
    severity: Severity = "serious" if last >= limits.constant else "doubtful"
    said = f"T{told[1:]}: the model has learned next to nothing from the images."
    return found(severity, said, advice(evidence), **numbers)


def advice(evidence: Evidence) -> str:
    """What to do with a model that did not learn: longer, faster, with another EMA, or slower where nothing speaks for these."""
    try:
        history, limits = there(evidence.history), baselines_of(evidence)
        steps, last = sum(steps_of(evidence, name) for name in history.stages), last_loss(history)
    except NotThereError:
        return tenth(evidence)
    longer = f"{steps:,} steps are few. Train longer, with more --epochs or a smaller -b"
    if steps < TOO_FEW_STEPS:
        return longer
    if rise(history) > ROSE:
        return tenth(evidence)
    if hardly_moved(history, limits):
        return f"Train again with ten times the learning rate: --lr {10 * peak_rate(history):.2g}"
    if last < CLEAR * limits.constant:
        return "Its training loss is better than that, so let the EMA, which is what is kept, follow: --set optim.ema_warmup=true"
    return longer if steps < FEW_STEPS and last < limits.constant else tenth(evidence)


def rise(history: History) -> float:
    """The highest classification loss of an epoch, as a multiple of that of the first; 1 where none was written down."""
    losses = [row.classification for row in history.epochs if math.isfinite(row.classification)]
    return max(losses) / losses[0] if losses and losses[0] > 0 else 1.0


def tenth(evidence: Evidence) -> str:
    """The advice to lower the learning rate."""
    stages = {} if isinstance(evidence.config, Absent) else used_stages(evidence.config)
    rate = max((stage.lr for stage in stages.values()), default=None)
    return f"Train again with a tenth of the learning rate: --lr {'' if rate is None else f'{rate / 10:.2g}'}".strip()


def hardly_moved(history: History, limits: Baselines) -> bool:
    """Whether the loss still is nearer to that of an untrained classifier than to the best that needs no image.

    Above that of an untrained one, it also must have been the same all the time: else it was thrown there.
    """
    losses = [row.classification for row in history.epochs if math.isfinite(row.classification)]
    last = last_loss(history)
    return last > (limits.half + limits.constant) / 2 and (last < limits.half or min(losses) > (1 - STILL) * max(losses))


def baselines_of(evidence: Evidence) -> Baselines:
    """The losses that need no image, on the labels of the training split.

    Raises:
        NotThereError: the labels are not to be had, or images were drawn so that their shares are others.
    """
    config = there(evidence.config)
    if config.data.sampler != "uniform":
        raise NotThereError(f"images were drawn by {config.data.sampler}, so classes had other shares than in the data")
    split = evidence.train_split
    active, unknown = split.class_counts(), split.unknown_counts()
    try:
        return baselines(config.loss.asymmetric, active, len(split) - active - unknown)
    except ValueError as error:
        raise NotThereError(str(error)) from None


def last_loss(history: History) -> float:
    """The classification loss at the end: the mean of the last rows, fewer in a short run.

    Raises:
        NotThereError: none was written down.
    """
    values = [row.classification for row in history.epochs if math.isfinite(row.classification)]
    if not values:
        raise NotThereError("results.csv has no classification loss")
    return float(np.mean(values[-min(LAST, 1 + len(values) // 4) :]))


def peak_rate(history: History) -> float:
    """The highest learning rate that was written down."""
    return max((row.lr for row in (*history.epochs, *history.steps) if math.isfinite(row.lr)), default=math.nan)


def steps_of(evidence: Evidence, stage: str) -> int:
    """Steps of the finished epochs of a stage.

    Raises:
        NotThereError: how many an epoch has is not known.
    """
    history = there(evidence.history)
    each = history.steps_per_epoch(stage)
    if not each:
        each = math.ceil(len(evidence.train_split) / there(evidence.config).data.batch_size)
    return each * max(row.epoch for row in history.stages[stage])
