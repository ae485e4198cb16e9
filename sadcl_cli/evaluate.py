"""sadcl eval: every number of a model on held-out images, each under the name of its convention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from sadcl_cli import options
from sadcl_cli.console import show, stages, verbosity

OBJECTIVE = "f1"
NO_CALIBRATION = "none"
NO_READING = ("threshold", "group_by")  # of the options of prepare-data: the first is that of scores here

# options that a way of using the command would have to ignore
COMPARING, CALIBRATING, SCORES, MODELS = "comparing two", "--calibrate", "--scores", "a model"
IGNORED = {
    COMPARING: (
        *("objective", "report", "label_errors", "against", "min_map", "save_scores", "threshold", "topk", "output"),
        *("tta", "resize", "known_share", "format"),
    ),
    CALIBRATING: (
        *("report", "label_errors", "against", "min_map", "save_scores", "threshold", "topk", "bootstrap"),
        *("tta", "resize", "known_share", "format"),
    ),
    SCORES: (
        *("data", "img_size", "tta", "resize", "known_share", "limit", "uncalibrated"),
        *("device", "precision", "workers", "batch_size"),
    ),
    MODELS: ("labels", "logits", "by_order", "label_threshold", *(name for name in options.READING if name not in NO_READING)),
}


class EvaluateCommand(TyperCommand):
    """Let --calibrate stand alone, for its usual objective."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the usual objective behind a --calibrate that stands alone."""
        filled = options.standing_alone(args, "--calibrate", OBJECTIVE, takes=lambda word: not Path(word).exists())
        return super().parse_args(ctx, filled)


@options.takes_verbosity
@options.takes_reading(but=NO_READING)
def evaluate_command(
    context: typer.Context,
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN_OR_FILE] [RUN_OR_FILE]",
            help="As -w; two are compared on the same images.",
            autocompletion=options.complete_run,
            show_default=False,
        ),
    ] = None,
    weights: options.Weights = None,
    data: options.Data = None,
    split: options.Split = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", metavar="FILE", help="Evaluate scores of any other tool: .npy, .npz, .csv or .parquet."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="FILE|DIR|NAME",
            help="The labels of --scores: any label file.",
            autocompletion=options.complete_dataset,
        ),
    ] = None,
    *,
    logits: Annotated[bool, typer.Option("--logits", help="The --scores are logits, before the sigmoid.")] = False,
    by_order: Annotated[
        bool, typer.Option("--by-order", help="Only one of --scores and --labels names its images; they are in the same order.")
    ] = False,
    topk: Annotated[
        int, typer.Option("--topk", min=1, max=options.MOST, help="Also count only the k best labels of each image.")
    ] = 3,
    threshold: options.Threshold = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="[f1|precision>=P|recall>=R|none]",
            help="Choose thresholds per class, and calibrate the scores, on these images; kept in the model. none: undo it.",
        ),
    ] = None,
    uncalibrated: options.Uncalibrated = False,
    report: Annotated[bool, typer.Option("--report", help="Also write a page to look at the errors: one HTML file.")] = False,
    label_errors: Annotated[
        bool, typer.Option("--label-errors", help="Also write a table of labels that are probably missing or wrong.")
    ] = False,
    format: Annotated[
        Literal["text", "md", "latex", "csv", "json"],
        typer.Option("--format", help="md, latex and csv: a row for the published table."),
    ] = "text",
    against: Annotated[
        str | None, typer.Option("--against", metavar="paper|FILE", help="Beside the published rows, or those of a CSV file.")
    ] = None,
    min_map: Annotated[
        float | None, typer.Option("--min-map", min=0, max=100, help="Exit with 6 when the interpolated mAP is below this.")
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option("--bootstrap", metavar="N", min=0, max=100_000, help="Resamples for the intervals; 1,000 on usual data."),
    ] = None,
    save_scores: Annotated[
        Path | None, typer.Option("--save-scores", metavar="FILE", help="Also write all scores: .npz, .csv or .parquet.")
    ] = None,
    img_size: options.ImgSize = None,
    tta: options.Tta = "none",
    resize: options.Resize = 0,
    known_share: Annotated[
        float,
        typer.Option("--known-share", metavar="SHARE", help="Give this share of the labels of each image, to a model of C-Tran."),
    ] = 0.0,
    batch_size: options.BatchSize = 32,
    limit: options.Limit = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    workers: options.Workers = None,
    output: options.Output = None,
    json: options.Json = False,
    label_threshold: Annotated[
        float | None,
        typer.Option(
            "--label-threshold", min=0, max=1, help="Fractions in --labels from here on are present, those below absent."
        ),
    ] = None,
    **label_options: Any,
) -> None:
    """Evaluate: mAP in both conventions with its interval, precision, recall and F1 over all labels and the top k, AP per class.

    Writes a JSON and a CSV file into the run.
    """
    from sadcl_cli.display import evaluation as display
    from sadcl_core.evaluation.calibrate import calibrate, remove_calibration
    from sadcl_core.evaluation.evaluate import evaluate
    from sadcl_core.evaluation.two_models import compare_models
    from sadcl_core.runtime.launcher import is_main_process

    subjects = [*(models or []), *(path for path in (weights, scores) if path is not None)]
    _refuse(context, subjects, named=weights is not None)
    subject = subjects[0] if subjects else None
    verbosity.quiet = verbosity.quiet or not is_main_process()
    format = "json" if json else format
    if objective == NO_CALIBRATION:
        show(f"{remove_calibration(subject)} is as it was trained")
        return
    with stages() as progress:
        how: dict[str, Any] = {
            "data": data,
            "split": split,
            "labels": labels,
            "label_options": {"threshold": label_threshold, **label_options},
            "logits": logits,
            "by_order": by_order,
            "img_size": img_size,
            "batch_size": batch_size,
            "limit": limit,
            "device": device,
            "precision": precision,
            "workers": workers,
            "listen": display.tell if is_main_process() else None,
            "progress": progress,
        }
        if len(subjects) == 2:
            result: Any = compare_models(*subjects, bootstrap=bootstrap, uncalibrated=uncalibrated, **how)
        elif objective is not None:
            result = calibrate(subject, objective, output=output, **how)
        else:
            result = evaluate(
                subject,
                topk=topk,
                threshold=threshold,
                uncalibrated=uncalibrated,
                report=report,
                label_errors=label_errors,
                against=against,
                bootstrap=bootstrap,
                save_scores=save_scores,
                output=output,
                tta=tta,
                resize=resize,
                known_share=known_share,
                **how,
            )
    if not is_main_process():
        return
    if len(subjects) == 2:
        display.show_paired(result, json=format == "json")
    elif objective is not None:
        display.show_calibration(result, json=format == "json")
    else:
        display.show_evaluation(result, format=format, topk=topk, thresholds_requested=bool(threshold))
        result.require_map(min_map)


def _refuse(context: typer.Context, subjects: list[Path], *, named: bool) -> None:
    """Raise an error for options that contradict each other, or that would be ignored."""
    from sadcl_core.errors import DataError, UsageError
    from sadcl_core.evaluation.scores_file import is_scores_file
    from sadcl_core.runs.card import is_checkpoint

    values = context.params
    scores, objective, least = values["scores"], values["objective"], values["min_map"]
    if len(subjects) > 2 or (named and len(subjects) > 1):
        raise UsageError(
            "One model is evaluated, or two are compared: sadcl eval A B. Name no more than two, and none of them with -w."
        )
    given = {
        param.name: param.opts[0]
        for param in context.command.params
        if getattr(context.get_parameter_source(str(param.name)), "name", "") == "COMMANDLINE"
    }
    if "json" in given and values["format"] not in ("text", "json"):
        raise UsageError(f"--json and --format {values['format']} are two forms of the same. Give one of them.")
    if values["format"] in ("text", "json"):
        given.pop("format", None)
    if any(is_checkpoint(path) for path in subjects):
        given.pop("classes", None)  # which it has no names of
    kinds = {is_scores_file(path) or path == scores for path in subjects} or {False}
    modes = {COMPARING: len(subjects) == 2, CALIBRATING: objective is not None, SCORES: kinds == {True}, MODELS: kinds == {False}}
    for mode in (mode for mode, used in modes.items() if used):
        for option in (given[name] for name in IGNORED[mode] if name in given):
            raise UsageError(f"{option} does not go with {mode}. Leave it out, or give it to another sadcl eval.")
    if objective == NO_CALIBRATION and kinds == {True}:
        raise UsageError("--calibrate none is for a model. Name one.")
    if least is not None and 0 < least < 1:
        raise UsageError(f"--min-map {least:g} is in percent. Give {100 * least:g} for {100 * least:g} %, or 1 or more.")
    if scores is not None and not is_scores_file(scores):
        raise DataError(f"{scores} is not a file of scores. Save the scores as .npy, .npz, .csv or .parquet.")
