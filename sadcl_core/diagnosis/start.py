"""Checks of what training started from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sadcl_core.config.schema import RunConfig
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.history import used_stages
from sadcl_core.diagnosis.verdict import Absent, NotThereError, Verdict, found, named, passed, there
from sadcl_core.errors import SadclError
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.weights import LoadedWeights, load_file

MISSING_SERIOUS = 0.2  # of the tensors of the backbone


def frozen(evidence: Evidence) -> Verdict:
    """Whether layers that start from random weights were never trained."""
    config = there(evidence.config)
    model, stages = config.model, used_stages(config)
    if model.pretrained is not False or model.init_from:
        return passed(f"the backbone starts from trained weights: {_source(config)}")
    if stages and all(stage.backbone_lr_scale == 0 for stage in stages.values()):
        first = next(iter(stages))
        said = "The learning rate of the backbone is 0 in every stage, and it starts at random weights: what it sees is chance."
        return found("serious", said, f"Train it: --set stages.{first}.backbone_lr_scale=1")
    if model.freeze_stride > 0:
        what = "whole backbone is" if model.freeze_stride >= model.stride else f"layers up to stride {model.freeze_stride} are"
        said = f"The {what} frozen at random weights (freeze_stride {model.freeze_stride}): what they see is chance."
        return found("serious", said, "Train them: --set model.freeze_stride=0", freeze_stride=model.freeze_stride)
    if model.freeze_batchnorm:
        said = "The BatchNorm statistics are frozen as they are before any training, so they normalise nothing."
        return found("doubtful", said, "Let them be learned: --set model.freeze_batchnorm=false")
    return passed("nothing is frozen")


def pretrained_missing(evidence: Evidence) -> Verdict:
    """Whether the file of pretrained weights lacked tensors of the backbone."""
    config = there(evidence.config)
    source = config.model.pretrained
    if config.model.init_from or not isinstance(source, str):
        return passed(f"no file with weights of the backbone was given: {_source(config)}")
    path = Path(source)
    if not path.is_file():
        raise NotThereError(f"the file of pretrained weights, {source}, is not here")
    known = "" if isinstance(evidence.state, Absent) else evidence.state.files.get("pretrained", "")
    if known and known != _digest(path):
        raise NotThereError(f"{source} is not the file any more that the run started from")
    return _missing(config, _load(config, path))


def _missing(config: RunConfig, loaded: LoadedWeights) -> Verdict:
    count, missing = loaded.matched + len(loaded.missing), len(loaded.missing)
    if not missing:
        return passed(f"{loaded.source} has all {count:,} tensors of {config.model.backbone}", tensors=count, missing=0)
    return found(
        "serious" if missing > MISSING_SERIOUS * count else "doubtful",
        f"{loaded.source} lacks {missing:,} of the {count:,} tensors of {config.model.backbone}, which started at random: "
        f"{named(list(loaded.missing))}.",
        f"Take weights of {config.model.backbone} itself, with --pretrained",
        tensors=count,
        missing=missing,
    )


def _load(config: RunConfig, path: Path) -> LoadedWeights:
    model = config.model
    try:
        return load_file(Backbone(model.backbone, stride=model.stride, img_size=config.data.img_size), path)
    except SadclError as error:
        raise NotThereError(str(error)) from None


def _source(config: RunConfig) -> str:
    """Where the weights of the backbone are from."""
    model = config.model
    if model.init_from:
        return f"those of {model.init_from}"
    if isinstance(model.pretrained, str):
        return f"those of {model.pretrained}"
    return "timm's own" if model.pretrained else "it starts at random"


def _digest(path: Path) -> str:
    """Of a file, as training writes it down."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotThereError(f"{path} cannot be read ({error.strerror})") from None
