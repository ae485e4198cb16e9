"""The check of the EMA, which is the model that is kept and measured."""

from __future__ import annotations

import torch
from timm.utils.model_ema import ModelEmaV3

from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.history import used_stages
from sadcl_core.diagnosis.losses import steps_of
from sadcl_core.diagnosis.verdict import Severity, Verdict, found, passed, there

FORGOTTEN = 1e-6  # a share of the first weights that need not be followed further
SERIOUS, DOUBTFUL = 0.1, 0.01  # share of the first weights that is left, in the first stage
LATER = 0.5  # in a later stage, which starts from a trained model
MEMORIES = 10.0  # times that the EMA should be able to forget everything within a stage


def ema(evidence: Evidence) -> Verdict:
    """Whether the EMA still holds what a stage started from."""
    config, history = there(evidence.config), there(evidence.history)
    optim, findings = config.optim, []
    for number, name in enumerate(used_stages(config)):
        steps = steps_of(evidence, name) if name in history.stages else 0
        left = first_weights_left(optim.ema_decay, steps, warmup=optim.ema_warmup and number == 0)
        severity = _severity(left, first=number == 0) if steps else None
        if severity is not None:
            findings.append(_slow(severity, name, steps, optim.ema_decay, left))
    worst = max(findings, key=lambda finding: finding.numbers["left"], default=None)
    return worst or passed(f"the EMA (decay {optim.ema_decay:g}) has left its first weights behind", decay=optim.ema_decay)


def first_weights_left(decay: float, steps: int, *, warmup: bool) -> float:
    """Share of the EMA after some steps that is the weights of the first step, by timm's own schedule.

    In the first step timm copies the weights; in every later one it keeps `get_decay` of what it has.
    """
    average = ModelEmaV3(torch.nn.Linear(1, 1), decay=decay, use_warmup=warmup)
    left = 1.0
    for step in range(2, steps + 1):
        left *= average.get_decay(step)
        if left < FORGOTTEN:
            return 0.0
    return left


def _severity(left: float, *, first: bool) -> Severity | None:
    if not first:
        return "doubtful" if left > LATER else None
    return "serious" if left > SERIOUS else "doubtful" if left > DOUBTFUL else None


def _slow(severity: Severity, stage: str, steps: int, decay: float, left: float) -> Verdict:
    better = max(0.5, 1 - MEMORIES / steps)
    said = (
        f"After the {steps:,} steps of stage {stage} at decay {decay:g}, {left:.1%} of the EMA, which is the model that is kept "
        "and measured, still are the weights of its first step."
    )
    action = f"Train again with an EMA that is as quick as the run is short: --set optim.ema_decay={better:.4g}"
    return found(severity, said, action, stage=stage, steps=steps, decay=decay, left=left, better_decay=better)
