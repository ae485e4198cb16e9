"""Checks of the course of training: the loss, the learning rate, what came of them, and the held-out mAP of each epoch."""

from __future__ import annotations

import math

import numpy as np
import torch

from sadcl_core.diagnosis.baselines import Baselines
from sadcl_core.diagnosis.checks_run import ema, lower_rate
from sadcl_core.diagnosis.checks_scores import SAME, spread, swapped_labels
from sadcl_core.diagnosis.evidence import Evidence, classification_options
from sadcl_core.diagnosis.findings import Finding, NotCheckedError, Severity, found, listed, outcome, passed
from sadcl_core.diagnosis.history import History, Record
from sadcl_core.losses import asymmetric_loss
from sadcl_core.losses.asymmetric import MIN_PROBABILITY

CLEAR = 0.9  # of the loss that needs no image; a trained model is below
TOO_FEW_STEPS, FEW_STEPS = 50, 300  # a network learns nothing in fewer than the first, and seldom much in fewer than the second
ROSE_ADVICE, ROSE = 1.1, 1.2  # times the loss of the first epoch, or the lowest of a stage
STILL = 0.05  # share of the loss by which it differs from epoch to epoch when nothing is learned
SPIKE = 1.5  # times the loss of an untrained classifier
JUMP, JUMPS = 1.1, 1 / 3  # an epoch's loss against the one before; a larger share of such epochs is erratic
NOISE = 0.1  # of what the loss fell by in the stage: smaller rises are those of a few steps near zero
LEAST_EPOCHS = 5  # of a stage, to say whether it had levelled off
STEADY_POINTS, STEADY_LOSS = 1.0, 0.05  # still improving over the last quarter: mAP points, and share of the loss
FALL, FALL_SERIOUS = 1.0, 5.0  # mAP points lost since the best epoch
GAIN = 0.1  # share that the training loss fell meanwhile
LEARNED = 0.5  # of the loss that needs no image; images that were learned cost less
LATE = 2  # epochs after the best one
FAR = 2.0  # mAP points from the best epoch to the last


def rate_too_high(evidence: Evidence) -> Finding:
    """Check that the loss neither jumped, nor rose, nor became infinite or NaN."""
    history = evidence.need("history", evidence.history)
    limits, action = evidence.baselines, lower_rate(evidence)
    broken = sum(not math.isfinite(row.loss) for row in (*history.steps, *history.epochs))
    if broken:
        return found("serious", f"The loss is not finite in {broken:,} of the recorded lines.", action, lines=broken)
    untrained = math.inf if limits is None else limits.half
    first = next(iter(history.stages))
    rows = (*history.steps_of(first), *history.stages[first])
    highest = max((row.classification for row in rows if math.isfinite(row.classification)), default=0.0)
    if highest > SPIKE * untrained:
        message = f"In stage {first} the classification loss rose to {highest:.3g}; an untrained classifier has {untrained:.3g}."
        return found("serious", message, action, highest=highest, untrained=untrained)
    if history.rise > ROSE:
        last = history.last_loss
        severity: Severity = "serious" if last is not None and limits is not None and last >= limits.constant else "doubtful"
        message = f"The classification loss of an epoch rose to {history.rise:.2f} times that of the first."
        return found(severity, message, action, rise=history.rise)
    for name, rows in history.stages.items():
        message = _unsteady(name, rows)
        if message:
            return found("doubtful", message, action, stage=name, losses=[row.comparable for row in rows])
    return passed(f"the loss neither jumped nor rose (peak learning rate {history.peak_rate:.2g})", highest=highest)


def _unsteady(stage: str, rows: tuple[Record, ...]) -> str:
    """Return how the loss of a stage's epochs rose or jumped, as a sentence; an empty text if it did not."""
    losses = np.array([row.comparable for row in rows])
    if len(losses) < 3:
        return ""
    lowest, last = float(losses.min()), float(losses[-1])
    noise = NOISE * (float(losses[0]) - lowest)
    if last > ROSE * lowest and last - lowest > noise:
        epoch = rows[int(losses.argmin())].epoch
        return f"In stage {stage} the training loss rose from {lowest:.4f} in epoch {epoch} to {last:.4f} in the last one."
    jumps = float(((losses[1:] > JUMP * losses[:-1]) & (np.diff(losses) > noise)).mean())
    if len(losses) > LEAST_EPOCHS and jumps > JUMPS:
        return f"In stage {stage} the training loss rose by more than 10 % in {jumps:.0%} of the epochs."
    return ""


def rate_too_low(evidence: Evidence) -> Finding:
    """Check that the loss moved, and that training did not end while it was still getting better."""
    history, state = evidence.need("history", evidence.history), evidence.need("state", evidence.state)
    limits = evidence.baselines
    if not state.finished:
        raise NotCheckedError("the run did not train all stages")
    last = history.last_loss
    if last is None or limits is None or not _hardly_moved(history, last, limits) or limits.half <= 1.01 * limits.constant:
        return _levelled_off(*list(history.stages.items())[-1])
    return found(
        "serious",
        f"The classification loss ended at {last:.4f}, nearer to the {limits.half:.4f} of an untrained classifier than to "
        f"the {limits.constant:.4f} that need no image.",
        advice(evidence),
        loss=last,
        untrained=limits.half,
        best_constant=limits.constant,
        lr=history.peak_rate,
    )


def _hardly_moved(history: History, last: float, limits: Baselines) -> bool:
    """Return True if the loss still is nearer to that of an untrained classifier than to the best that needs no image.

    Above that of an untrained one, it also must have been the same all the time: else it was thrown there.
    """
    losses = history.losses
    return last > (limits.half + limits.constant) / 2 and (last < limits.half or min(losses) > (1 - STILL) * max(losses))


def _levelled_off(stage: str, rows: tuple[Record, ...]) -> Finding:
    """Check that a stage was not still getting better in its last quarter."""
    if len(rows) < LEAST_EPOCHS:
        raise NotCheckedError(f"stage {stage} has fewer than {LEAST_EPOCHS} epochs")
    epochs = max(1, len(rows) // 4)
    before, last = rows[-1 - epochs], rows[-1]
    rise, fall = last.held_out_map - before.held_out_map, 1 - last.comparable / max(before.comparable, 1e-12)
    numbers = {"stage": stage, "epochs": epochs, "mAP_rise": rise, "loss_fall": fall}
    if last.held_out_map < best_of(rows).held_out_map or rise <= STEADY_POINTS or fall <= STEADY_LOSS:
        return passed(f"stage {stage} had levelled off: mAP {rise:+.1f} points over its last quarter", **numbers)
    message = (
        f"Stage {stage} was still getting better when it ended: over its last quarter the mAP rose by {rise:.1f} points and "
        f"the loss fell by {fall:.0%}, and the last epoch is the best."
    )
    return found("doubtful", message, f"Train longer: --set stages.{stage}.epochs={2 * len(rows)}", **numbers)


def learned_nothing(evidence: Evidence) -> Finding:
    """Check that the classification loss ended clearly below what needs no image."""
    config, limits = evidence.need("config", evidence.config), evidence.need("baselines", evidence.baselines)
    last = evidence.need("history", evidence.history).last_loss
    if last is None:
        raise NotCheckedError("results.csv has no classification loss")
    stages = [config.stages[name] for name in evidence.stages]
    mixed = any(stage.mixup or stage.cutmix for stage in stages)  # has a floor even when all is known
    numbers = {"loss": last, "frequencies": limits.frequency, "best_constant": limits.constant, "all_inactive": limits.inactive}
    text = (
        f"he classification loss ended at {last:.4f}; giving every image each class's share of active labels costs "
        f"{limits.frequency:.4f}, the best score that is the same for every image {limits.constant:.4f}, and all labels inactive "
        f"{limits.inactive:.4f}"
    )
    if last < (1.0 if mixed else CLEAR) * limits.constant:
        return passed(f"t{text}", **numbers)
    severity: Severity = "serious" if last >= limits.constant else "doubtful"
    return found(severity, f"T{text}: the model has learned next to nothing from the images.", advice(evidence), **numbers)


def advice(evidence: Evidence) -> str:
    """Return what to do with a model that did not learn: longer, faster, another EMA, or else slower."""
    history, limits, last = evidence.history, evidence.baselines, evidence.last_loss
    steps = [evidence.steps(name) for name in history.stages] if history is not None else [None]
    if history is None or limits is None or last is None or None in steps:
        return lower_rate(evidence)
    total = sum(count or 0 for count in steps)
    longer = f"{total:,} steps are few. Train longer, with more --epochs or a smaller -b"
    if total < TOO_FEW_STEPS:
        return longer
    if history.rise > ROSE_ADVICE:
        return lower_rate(evidence)
    if _hardly_moved(history, last, limits):
        return f"Train again with ten times the learning rate: --lr {10 * history.peak_rate:.2g}"
    if last < CLEAR * limits.constant:
        return "Its training loss is better than that, so let the EMA, which is what is kept, follow: --set optim.ema_warmup=true"
    return longer if total < FEW_STEPS and last < limits.constant else lower_rate(evidence)


def collapsed(evidence: Evidence) -> Finding:
    """Check that scores depend on the image."""
    scored = evidence.need("scored", evidence.scored)
    if len(scored.scores) < 2:
        raise NotCheckedError("fewer than two images were scored")
    spreads = spread(scored)
    same = [scored.classes[k] for k in np.flatnonzero(spreads < SAME)]
    middle = float(np.median(spreads))
    numbers = {"classes": same[:100], "count": len(same), "median_spread": middle}
    if not same:
        return passed(f"scores differ from image to image (median standard deviation of the logits {middle:.2f})", **numbers)
    return found(
        "serious" if len(same) >= len(spreads) / 2 else "doubtful",
        f"{len(same)} of {len(spreads)} classes have the same score for every image, within {SAME:.0%} of the odds: "
        f"{listed(same)}. The network does not look at the images any more, or not yet.",
        advice(evidence),
        **numbers,
    )


def overfitting(evidence: Evidence) -> Finding:
    """Check that the held-out mAP did not fall while the training loss did, and that what was learned carries over."""
    history = evidence.need("history", evidence.history)
    for name, rows in reversed(history.stages.items()):
        if not overfitted(rows):
            continue
        best, last = best_of(rows), rows[-1]
        fall, gain = best.held_out_map - last.held_out_map, 1 - last.comparable / best.comparable
        return found(
            "serious" if fall >= FALL_SERIOUS else "doubtful",
            f"In stage {name} the mAP fell by {fall:.1f} points after epoch {best.epoch}, while the training loss fell by "
            f"{gain:.0%}: it learned its images by heart.",
            f"The last epoch is the one that is kept: train fewer, --set stages.{name}.epochs={best.epoch}, or mix the images"
            if _keeps_last(evidence)
            else f"The best epoch is the one that is kept; for a better one, mix the images: --set stages.{name}.mixup=0.2",
            stage=name,
            mAP_fall=fall,
            loss_fall=gain,
            best_epoch=best.epoch,
        )
    return _nothing_carried_over(evidence) or passed("the held-out mAP did not fall while the training loss did")


def _nothing_carried_over(evidence: Evidence) -> Finding | None:
    """Return a finding if training images are learned and held-out ones are not; None otherwise, and where that is unknown."""
    config, limits, trained, scored = evidence.config, evidence.baselines, evidence.last_loss, evidence.scored
    if config is None or limits is None or trained is None or scored is None or config.loss.asymmetric.class_weights != "none":
        return None
    if any(outcome(check, evidence).status != "passed" for check in (ema, swapped_labels)):  # which look the same
        return None
    options = classification_options(config)
    logits = torch.logit(torch.from_numpy(scored.as_trained.astype("float64")), eps=MIN_PROBABILITY)
    loss = asymmetric_loss(
        logits, torch.from_numpy(scored.targets), gamma_neg=options.gamma_neg, gamma_pos=options.gamma_pos, clip=options.clip
    )
    held_out = float(loss)
    if trained > LEARNED * limits.constant or held_out < CLEAR * limits.constant:
        return None
    random = config.model.pretrained is False and not config.model.init_from
    return found(
        "doubtful",
        f"On the images that were trained on the classification loss is {trained:.4f}, on those held out {held_out:.4f}, where "
        f"{limits.constant:.4f} need no image: it learned its images by heart, and what it learned does not carry over.",
        "Start from pretrained weights: --pretrained"
        if random
        else f"Add images, or mix those there are: --set stages.{evidence.stages[0]}.mixup=0.2",
        training_loss=trained,
        held_out_loss=held_out,
        best_constant=limits.constant,
    )


def _keeps_last(evidence: Evidence) -> bool:
    """Return True if a run keeps the last epoch of a stage."""
    return evidence.config is not None and evidence.config.optim.select == "last"


def overfitted(rows: tuple[Record, ...]) -> bool:
    """Return True if the mAP fell for some epochs of a stage while the training loss went on falling."""
    best, last = best_of(rows), rows[-1]
    lost = best.held_out_map - last.held_out_map >= FALL and last.epoch - best.epoch >= LATE
    return lost and last.comparable <= (1 - GAIN) * best.comparable


def best_of(rows: tuple[Record, ...]) -> Record:
    """Return the epoch with the highest mAP."""
    return max(rows, key=lambda row: row.held_out_map)


def best_and_last(evidence: Evidence) -> Finding:
    """Check that the run did not end far below its best epoch for another reason than overfitting."""
    history = evidence.need("history", evidence.history)
    best, last = best_of(history.epochs), history.epochs[-1]
    fall = best.held_out_map - last.held_out_map
    text = (
        f"he best EMA mAP, {best.held_out_map:.2f} in epoch {best.epoch} of stage {best.stage}, lies {fall:.2f} points above "
        "that of the last epoch"
    )
    numbers = {"best": best.held_out_map, "last": last.held_out_map, "best_stage": best.stage, "best_epoch": best.epoch}
    if fall < FAR or any(overfitted(rows) for rows in history.stages.values()):
        return passed(f"t{text}", **numbers)
    rates = [row.lr for row in history.steps_of(last.stage) if math.isfinite(row.lr)]
    rate = max(rates, default=history.peak_rate) / 2
    kept = "last epoch; to end nearer to the best" if _keeps_last(evidence) else "best epoch; to get beyond it"
    action = f"Commands take the {kept}, halve the rate: --set stages.{last.stage}.lr={rate:.2g}"
    return found("doubtful" if fall >= FALL_SERIOUS else "minor", f"T{text}.", action, **numbers)
