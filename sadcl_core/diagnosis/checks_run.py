"""Checks of how a run ended, of its model file, and of what training started from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from shlex import quote

import torch
from timm.utils.model_ema import ModelEmaV3

from sadcl_core.config.schema import ModelSection
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.findings import Finding, NotCheckedError, Severity, found, listed, passed
from sadcl_core.diagnosis.history import RunState
from sadcl_core.errors import SadclError
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.weights import load_file
from sadcl_core.runs.run_directory import DIVERGED, RUNNING

MISSING_SERIOUS = 0.2  # of the tensors of the backbone
FORGOTTEN = 1e-6  # share of the first weights in an EMA that need not be followed further
LEFT_SERIOUS, LEFT_DOUBTFUL = 0.1, 0.01  # share of the first weights that is left, in the first stage
LEFT_LATER = 0.5  # in a later stage, which starts from a trained model
MEMORIES = 10.0  # times that the EMA should be able to forget everything within a stage


def ended(evidence: Evidence) -> Finding:
    """Check how the run ended; the action is what to type next."""
    state, run = evidence.need("state", evidence.state), evidence.run
    numbers = {"status": state.status, "why": state.ended, "resumable": state.resumable}
    if state.finished:
        return passed("all stages were trained", **numbers)
    if state.alive:
        action = f"Wait until it ends, then look again: sadcl doctor {quote(str(run))}"
        return found("minor", "The run is still training; this is about what it has done so far.", action, **numbers)
    if state.status == DIVERGED:
        return found("serious", f"Training diverged: {_sentence(state.ended)}", lower_rate(evidence), **numbers)
    if state.resumable:
        action = f"Go on from where it stopped: sadcl train --resume {quote(str(run))}"
    else:
        action = f"It kept no state to go on from. Train again: {_command(evidence)}"
    return found("doubtful" if state.status == "interrupted" else "serious", _how_it_stopped(state), action, **numbers)


def _how_it_stopped(state: RunState) -> str:
    if state.status in (RUNNING, "starting"):
        process = f" on {state.host}, where it may still work" if state.host else ", and its process is gone"
        return f"The run never said that it ended: its status is {state.status}{process}. It was killed, or the machine stopped."
    reason = f": {_sentence(state.ended)}" if state.ended else "."
    return f"The run did not train all stages; its status is {state.status or 'unknown'}{reason}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _command(evidence: Evidence) -> str:
    """Return what to type to train again."""
    data = evidence.config.data if evidence.config else None
    given = quote(str(data.manifest or data.dataset)) if data else "DATA"
    return f"sadcl train {given} -c {quote(f'{evidence.run}/config.yaml')}"


def lower_rate(evidence: Evidence) -> str:
    """Return the advice to train with a tenth of the learning rate."""
    rate = max((evidence.config.stages[name].lr for name in evidence.stages), default=None) if evidence.config else None
    return f"Train again with a tenth of the learning rate: --lr {'' if rate is None else f'{rate / 10:.2g}'}".strip()


def model_file(evidence: Evidence) -> Finding:
    """Check that the model file can be read and holds finite numbers."""
    files = [evidence.run / "weights" / f"{name}.safetensors" for name in ("best", "last")]
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        raise NotCheckedError("the run has no model file")
    action = f"Take the other model file of the run, or train again: {_command(evidence)}"
    broken = evidence.broken_weights
    if broken is None:
        return found("serious", f"The model cannot be opened: {_sentence(evidence.reasons['broken_weights'])}", action)
    if broken:
        message = f"{path} holds values that are not finite in {len(broken)} tensors: {listed(broken)}."
        return found("serious", message, action, tensors=len(broken))
    return passed(f"{path.name} can be read and holds finite numbers")


def frozen(evidence: Evidence) -> Finding:
    """Check that no layer that starts from random weights is left untrained."""
    config, stages = evidence.need("config", evidence.config), evidence.stages
    model = config.model
    if model.pretrained is not False or model.init_from:
        return passed(f"the backbone starts from trained weights: {_start(model)}")
    if stages and all(config.stages[name].backbone_lr_scale == 0 for name in stages):
        message = (
            "The learning rate of the backbone is 0 in every stage, and it starts at random weights: its features are random."
        )
        return found("serious", message, f"Train it: --set stages.{stages[0]}.backbone_lr_scale=1")
    if model.freeze_stride > 0:
        what = "whole backbone is" if model.freeze_stride >= model.stride else f"layers up to stride {model.freeze_stride} are"
        message = f"The {what} frozen at random weights (freeze_stride {model.freeze_stride}): the features are random."
        return found("serious", message, "Train them: --set model.freeze_stride=0", freeze_stride=model.freeze_stride)
    if model.freeze_batchnorm:
        message = "The BatchNorm statistics are frozen as they are before any training, so they normalise nothing."
        return found("doubtful", message, "Let them be learned: --set model.freeze_batchnorm=false")
    return passed("nothing is frozen")


def pretrained_missing(evidence: Evidence) -> Finding:
    """Check that the file of pretrained weights has all tensors of the backbone."""
    config = evidence.need("config", evidence.config)
    model = config.model
    if model.init_from or not isinstance(model.pretrained, str):
        return passed(f"no file with weights of the backbone was given: {_start(model)}")
    path = Path(model.pretrained)
    fingerprint = evidence.state.files.get("pretrained", "") if evidence.state else ""
    try:
        with path.open("rb") as file:
            if fingerprint and fingerprint != hashlib.file_digest(file, "sha256").hexdigest():
                raise NotCheckedError(f"{path} is not the file any more that the run started from")
        loaded = load_file(Backbone(model.backbone, stride=model.stride, img_size=config.data.img_size), path)
    except OSError as error:
        raise NotCheckedError(f"the file of pretrained weights, {path}, cannot be read ({error.strerror})") from None
    except SadclError as error:
        raise NotCheckedError(str(error)) from None
    count, missing = loaded.matched + len(loaded.missing), len(loaded.missing)
    if not missing:
        return passed(f"{loaded.source} has all {count:,} tensors of {model.backbone}", tensors=count, missing=0)
    return found(
        "serious" if missing > MISSING_SERIOUS * count else "doubtful",
        f"{loaded.source} lacks {missing:,} of the {count:,} tensors of {model.backbone}, which started at random: "
        f"{listed(list(loaded.missing))}.",
        f"Take weights of {model.backbone} itself, with --pretrained",
        tensors=count,
        missing=missing,
    )


def _start(model: ModelSection) -> str:
    """Return where the weights of the backbone come from."""
    if model.init_from or isinstance(model.pretrained, str):
        return f"those of {model.init_from or model.pretrained}"
    return "timm's own" if model.pretrained else "it starts at random"


def ema(evidence: Evidence) -> Finding:
    """Check that the EMA, which is the model that is kept and measured, has forgotten what each stage started from."""
    config, _ = evidence.need("config", evidence.config), evidence.need("history", evidence.history)
    findings, decay = [], config.optim.ema_decay
    for number, stage in enumerate(evidence.stages):
        steps = evidence.need("train", evidence.steps(stage))  # which are counted where none was written down
        left = first_weights_left(decay, steps, warmup=config.optim.ema_warmup and number == 0)
        severity: Severity | None = "doubtful" if left > LEFT_LATER else None
        if number == 0:
            severity = "serious" if left > LEFT_SERIOUS else "doubtful" if left > LEFT_DOUBTFUL else None
        if steps and severity is not None:
            better = max(0.5, 1 - MEMORIES / steps)
            message = (
                f"After the {steps:,} steps of stage {stage} at decay {decay:g}, {left:.1%} of the EMA, which is the model that "
                "is kept and measured, still are the weights of its first step."
            )
            action = f"Train again with an EMA that is as quick as the run is short: --set optim.ema_decay={better:.4g}"
            numbers = {"stage": stage, "steps": steps, "decay": decay, "left": left, "better_decay": better}
            findings.append(found(severity, message, action, **numbers))
    worst = max(findings, key=lambda finding: finding.numbers["left"], default=None)
    return worst or passed(f"the EMA (decay {decay:g}) has left its first weights behind", decay=decay)


def first_weights_left(decay: float, steps: int, *, warmup: bool) -> float:
    """Return the share of the weights of the first step in the EMA after some steps, by timm's own schedule.

    In the first step timm copies the weights; in every later one it keeps `get_decay` of what it has.

    Example:
        >>> round(first_weights_left(0.9, 3, warmup=False), 4)
        0.81
    """
    average = ModelEmaV3(torch.nn.Linear(1, 1), decay=decay, use_warmup=warmup)
    left = 1.0
    for step in range(2, steps + 1):
        left *= average.get_decay(step)
        if left < FORGOTTEN:
            return 0.0
    return left
