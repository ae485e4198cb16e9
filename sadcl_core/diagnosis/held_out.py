"""Checks of what held-out images say of training, from epoch to epoch and at its end."""

from __future__ import annotations

import math

import torch

from sadcl_core.config.schema import AsymmetricOptions
from sadcl_core.diagnosis.averaging import ema
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.history import Record, used_stages
from sadcl_core.diagnosis.losses import CLEAR, baselines_of, last_loss, peak_rate
from sadcl_core.diagnosis.scores import swapped_labels
from sadcl_core.diagnosis.verdict import NotThereError, Verdict, found, passed, there
from sadcl_core.losses import asymmetric_loss
from sadcl_core.losses.asymmetric import MIN_PROBABILITY

FALL, FALL_SERIOUS = 1.0, 5.0  # mAP points lost since the best epoch
GAIN = 0.1  # share that the training loss fell meanwhile
KNOWN = 0.5  # of the loss that needs no image; images that were learned cost less
LATE = 2  # epochs after the best one
FAR = 2.0  # mAP points from the best epoch to the last


def overfitting(evidence: Evidence) -> Verdict:
    """Whether the training loss went on falling while the held-out mAP fell, or without any gain on held-out images."""
    for name, rows in reversed(there(evidence.history).stages.items()):
        if not overfitted(rows):
            continue
        best, last = best_of(rows), rows[-1]
        fall, gain = best.held_out_map - last.held_out_map, 1 - last.comparable / best.comparable
        return found(
            "serious" if fall >= FALL_SERIOUS else "doubtful",
            f"In stage {name} the mAP fell by {fall:.1f} points after epoch {best.epoch}, while the training loss fell by "
            f"{gain:.0%}: it learned its images by heart.",
            f"The best epoch is the one that is kept; for a better one, mix the images: --set stages.{name}.mixup=0.2",
            stage=name,
            mAP_fall=fall,
            loss_fall=gain,
            best_epoch=best.epoch,
        )
    return _nothing_carried_over(evidence) or passed("the held-out mAP did not fall while the training loss did")


def _nothing_carried_over(evidence: Evidence) -> Verdict | None:
    """Whether training images are known and held-out ones are not, from the first epoch on; None where that cannot be told."""
    try:
        config, limits, trained = there(evidence.config), baselines_of(evidence), last_loss(there(evidence.history))
        elsewhere = [check(evidence).status for check in (ema, swapped_labels)]  # which look the same
        held_out = _held_out_loss(evidence, config.loss.asymmetric)
    except NotThereError:
        return None
    if "found" in elsewhere or trained > KNOWN * limits.constant or held_out < CLEAR * limits.constant:
        return None
    random = config.model.pretrained is False and not config.model.init_from
    return found(
        "doubtful",
        f"On the images that were trained on the classification loss is {trained:.4f}, on those held out {held_out:.4f}, where "
        f"{limits.constant:.4f} need no image: it learned its images by heart, and what it learned does not carry over.",
        "Start from pretrained weights: --pretrained"
        if random
        else f"Add images, or mix those there are: --set stages.{next(iter(used_stages(config)))}.mixup=0.2",
        training_loss=trained,
        held_out_loss=held_out,
        best_constant=limits.constant,
    )


def _held_out_loss(evidence: Evidence, options: AsymmetricOptions) -> float:
    """The classification loss on the images that were scored.

    Raises:
        NotThereError: there are none, or classes are weighted.
    """
    scored = there(evidence.scored)
    if options.class_weights != "none":
        raise NotThereError("classes are weighted")
    logits = torch.logit(torch.from_numpy(scored.as_trained.astype("float64")), eps=MIN_PROBABILITY)
    loss = asymmetric_loss(
        logits, torch.from_numpy(scored.targets), gamma_neg=options.gamma_neg, gamma_pos=options.gamma_pos, clip=options.clip
    )
    return float(loss)


def overfitted(rows: tuple[Record, ...]) -> bool:
    """Whether the epochs of a stage look so."""
    best, last = best_of(rows), rows[-1]
    lost = best.held_out_map - last.held_out_map >= FALL and last.epoch - best.epoch >= LATE
    return lost and last.comparable <= (1 - GAIN) * best.comparable


def best_of(rows: tuple[Record, ...]) -> Record:
    """The epoch with the highest mAP."""
    return max(rows, key=lambda row: row.held_out_map)


def best_and_last(evidence: Evidence) -> Verdict:
    """Whether the run ended far below its best epoch for another reason than overfitting."""
    history = there(evidence.history)
    best, last = best_of(history.epochs), history.epochs[-1]
    fall = best.held_out_map - last.held_out_map
    told = (
        f"the best EMA mAP, {best.held_out_map:.2f} in epoch {best.epoch} of stage {best.stage}, lies {fall:.2f} points above "
        "that of the last epoch"
    )
    numbers = {"best": best.held_out_map, "last": last.held_out_map, "best_stage": best.stage, "best_epoch": best.epoch}
    if fall < FAR or any(overfitted(rows) for rows in history.stages.values()):
        return passed(told, **numbers)
    rate = max((row.lr for row in history.steps_of(last.stage) if math.isfinite(row.lr)), default=peak_rate(history)) / 2
    action = f"Commands take the best epoch; to get beyond it, halve the rate: --set stages.{last.stage}.lr={rate:.2g}"
    return found("doubtful" if fall >= FALL_SERIOUS else "minor", f"T{told[1:]}.", action, **numbers)
