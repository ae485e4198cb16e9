"""What sadcl eval was asked for: which models or scores, and whether the options go together, before any long work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

LEAST_RESAMPLES = 100  # for the ends of an interval at 95 % to mean something

# options that a way of using the command would have to ignore
COMPARING, CALIBRATING, SCORES, MODELS = "comparing two", "--calibrate", "--scores", "a model"
IGNORED = {
    COMPARING: (
        *("calibrate", "report", "label_errors", "against", "min_map", "save_scores", "threshold", "topk", "output"),
        "format",
    ),
    CALIBRATING: ("report", "label_errors", "against", "min_map", "save_scores", "threshold", "topk", "bootstrap", "format"),
    SCORES: ("data", "img_size", "limit", "uncalibrated", "device", "precision", "workers", "batch_size"),
    MODELS: ("labels", "logits"),
}


@dataclass(frozen=True)
class Subject:
    """A run or model file, the run that finished last (None), or a file of `scores`."""

    path: Path | None
    scores: bool


def subjects_of(models: list[Path], weights: Path | None, scores: Path | None) -> list[Subject]:
    """The one or two models, or files of scores, that are to be evaluated.

    Raises:
        UsageError: there are more.
    """
    from sadcl_core.errors import UsageError
    from sadcl_core.evaluation.scores_file import is_scores_file

    given = [Subject(one, scores=is_scores_file(one)) for one in (*models, weights) if one is not None]
    given += [] if scores is None else [Subject(scores, scores=True)]
    if len(given) > 2 or (weights is not None and len(given) > 1):
        raise UsageError(
            "One model is evaluated, or two are compared: sadcl eval A B. Name no more than two, and none of them with -w."
        )
    return given or [Subject(None, scores=False)]


def refuse_what_is_ignored(context: typer.Context, subjects: list[Subject]) -> None:
    """Raise a UsageError for an option that was given and would change nothing."""
    from sadcl_core.errors import UsageError
    from sadcl_core.metrics.calibration import parse_objective

    values = context.params
    given = {name for name in values if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    if "json" in given and values["format"] not in ("text", "json"):
        raise UsageError(f"--json and --format {values['format']} are two forms of the same. Give one of them.")
    if values["format"] in ("text", "json"):
        given -= {"format"}
    kinds = {one.scores for one in subjects}
    modes = {
        COMPARING: len(subjects) == 2,
        CALIBRATING: values["calibrate"] is not None,
        SCORES: kinds == {True},
        MODELS: kinds == {False},
    }
    for mode in (mode for mode, used in modes.items() if used):
        for name in (name for name in IGNORED[mode] if name in given):
            raise UsageError(
                f"--{name.replace('_', '-')} does not go with {mode}. Leave it out, or give it to another sadcl eval."
            )
    if values["calibrate"] not in (None, "none"):
        parse_objective(values["calibrate"])
    if values["calibrate"] == "none" and kinds == {True}:
        raise UsageError("--calibrate none is for a model. Name one.")
    least = values["min_map"]
    if least is not None and 0 < least < 1:
        raise UsageError(f"--min-map {least:g} is in percent. Give {100 * least:g} for {100 * least:g} %, or 1 or more.")
    resamples = values["bootstrap"]
    if resamples is not None and resamples < (LEAST_RESAMPLES if resamples or modes[COMPARING] else 0):
        none = "" if modes[COMPARING] else ", or 0 for no intervals"
        raise UsageError(f"--bootstrap {resamples} is too few for an interval. Give {LEAST_RESAMPLES} or more{none}.")


def refuse_bad_places(subjects: list[Subject], *, output: Path | None, save_scores: Path | None, labels: str | None) -> None:
    """Raise a UsageError for places that cannot be written to, or that hold what is read."""
    from sadcl_core.errors import UsageError
    from sadcl_core.evaluation.scores_file import check_target

    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file. Name a folder.")
    if save_scores is None:
        return
    check_target(save_scores)
    inputs = [one.path for one in subjects if one.path is not None] + ([] if labels is None else [Path(labels)])
    if any(save_scores.resolve() == path.resolve() for path in inputs):
        raise UsageError(f"--save-scores {save_scores} would overwrite what is read. Choose another name.")
