"""Checks of the learning rate, by what it did to the loss."""

from __future__ import annotations

import math

import numpy as np

from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.history import Record
from sadcl_core.diagnosis.losses import advice, baselines_of, hardly_moved, last_loss, peak_rate, rise, tenth
from sadcl_core.diagnosis.verdict import NotThereError, Verdict, found, passed, there

SPIKE = 1.5  # times the loss of an untrained classifier
ROSE = 1.2  # times the lowest loss of a stage, or the first of all
JUMP, JUMPS = 1.1, 1 / 3  # an epoch's loss against the one before; a larger share of such epochs is erratic
NOISE = 0.1  # of what the loss fell by in the stage: smaller rises are those of a few steps near zero
LEAST_EPOCHS = 5  # of a stage, to say whether it had levelled off
STEADY_POINTS, STEADY_LOSS = 1.0, 0.05  # still improving over the last quarter: mAP points, and share of the loss


def rate_too_high(evidence: Evidence) -> Verdict:
    """Whether the loss jumped, rose, or stopped being a number."""
    history, action = there(evidence.history), tenth(evidence)
    broken = sum(not math.isfinite(row.loss) for row in (*history.steps, *history.epochs))
    if broken:
        said = f"The loss was no finite number in {broken:,} of the lines that were written down."
        return found("serious", said, action, lines=broken)
    first = next(iter(history.stages))
    losses = [row.classification for row in (*history.steps_of(first), *history.stages[first])]
    highest, start = max((loss for loss in losses if math.isfinite(loss)), default=0.0), _untrained(evidence)
    if highest > SPIKE * start:
        said = f"In stage {first} the classification loss rose to {highest:.3g}; that of an untrained classifier is {start:.3g}."
        return found("serious", said, action, highest=highest, untrained=start)
    grown = rise(history)
    if grown > ROSE:
        said = f"The classification loss of an epoch rose to {grown:.2f} times that of the first."
        return found("serious" if _above_baseline(evidence) else "doubtful", said, action, rise=grown)
    for name, rows in history.stages.items():
        said = _unsteady(name, rows)
        if said:
            return found("doubtful", said, action, stage=name, losses=[row.comparable for row in rows])
    return passed(f"the loss neither jumped nor rose (peak learning rate {peak_rate(history):.2g})", highest=highest)


def _untrained(evidence: Evidence) -> float:
    """The classification loss of a score of 0.5 for everything; that of plain cross-entropy does not depend on the data."""
    try:
        return baselines_of(evidence).half
    except NotThereError:
        options = there(evidence.config).loss.asymmetric
        plain = options.class_weights == "none" and not options.gamma_neg and not options.gamma_pos and not options.clip
        return math.log(2) if plain else math.inf


def _above_baseline(evidence: Evidence) -> bool:
    """Whether the loss ended above what needs no image, as far as that is known."""
    try:
        return last_loss(there(evidence.history)) >= baselines_of(evidence).constant
    except NotThereError:
        return False


def _unsteady(stage: str, rows: tuple[Record, ...]) -> str:
    """How the loss of a stage's epochs rose or jumped, as a sentence; empty where it did not."""
    losses = np.array([row.comparable for row in rows])
    if len(losses) < 3:
        return ""
    lowest, last = float(losses.min()), float(losses[-1])
    if last > ROSE * lowest and last - lowest > NOISE * (float(losses[0]) - lowest):
        where = f"{lowest:.4f} in epoch {rows[int(losses.argmin())].epoch}"
        return f"In stage {stage} the training loss rose from {where} to {last:.4f} in the last one."
    jumped = (losses[1:] > JUMP * losses[:-1]) & (losses[1:] - losses[:-1] > NOISE * (losses[0] - lowest))
    jumps = float(jumped.mean())
    if len(losses) > LEAST_EPOCHS and jumps > JUMPS:
        return f"In stage {stage} the training loss rose by more than 10 % in {jumps:.0%} of the epochs."
    return ""


def rate_too_low(evidence: Evidence) -> Verdict:
    """Whether the loss hardly moved, or training ended while it was still getting better."""
    history = there(evidence.history)
    if not there(evidence.state).whole:
        raise NotThereError("the run did not train all stages")
    try:
        last, limits = last_loss(history), baselines_of(evidence)
    except NotThereError:
        return _levelled_off(*list(history.stages.items())[-1])
    if hardly_moved(history, limits) and limits.half > 1.01 * limits.constant:  # else the two cannot be told apart
        return found(
            "serious",
            f"The classification loss ended at {last:.4f}, nearer to the {limits.half:.4f} of an untrained classifier than to "
            f"the {limits.constant:.4f} that need no image.",
            advice(evidence),
            loss=last,
            untrained=limits.half,
            best_constant=limits.constant,
            lr=peak_rate(history),
        )
    return _levelled_off(*list(history.stages.items())[-1])


def _levelled_off(stage: str, rows: tuple[Record, ...]) -> Verdict:
    """Whether a stage was still getting better in its last quarter."""
    if len(rows) < LEAST_EPOCHS:
        raise NotThereError(f"stage {stage} has fewer than {LEAST_EPOCHS} epochs")
    epochs = max(1, len(rows) // 4)
    before, last = rows[-1 - epochs], rows[-1]
    rise, fall = last.held_out_map - before.held_out_map, 1 - last.comparable / max(before.comparable, 1e-12)
    numbers = {"stage": stage, "epochs": epochs, "mAP_rise": rise, "loss_fall": fall}
    best_last = last.held_out_map >= max(row.held_out_map for row in rows)
    if not (best_last and rise > STEADY_POINTS and fall > STEADY_LOSS):
        return passed(f"stage {stage} had levelled off: mAP {rise:+.1f} points over its last quarter", **numbers)
    said = (
        f"Stage {stage} was still getting better when it ended: over its last quarter the mAP rose by {rise:.1f} points and "
        f"the loss fell by {fall:.0%}, and the last epoch is the best."
    )
    return found("doubtful", said, f"Train longer: --set stages.{stage}.epochs={2 * len(rows)}", **numbers)
