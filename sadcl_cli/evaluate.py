"""sadcl eval: every number of a model on held-out images, each under the name of its convention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperCommand

from sadcl_cli.console import counting, say, show, show_json, stages, verbosity, warn, write
from sadcl_cli.display.model import open_model, open_split
from sadcl_cli.evaluation_display import show_calibration, show_evaluation, show_paired, show_rows
from sadcl_cli.evaluation_request import Subject, refuse_bad_places, refuse_what_is_ignored, subjects_of
from sadcl_cli.options import (
    BatchSize,
    Data,
    Debug,
    Device,
    ImgSize,
    Json,
    Limit,
    Output,
    Precision,
    Quiet,
    Split,
    Threshold,
    Uncalibrated,
    Verbose,
    Weights,
    Workers,
    complete_dataset,
    complete_run,
    standing_alone,
)

if TYPE_CHECKING:
    from sadcl_core.evaluation.candidates import Candidate
    from sadcl_core.evaluation.evaluate import Evaluation

PAPER_TOPK = 3  # the published tables have "All" and "Top-3"
OBJECTIVE = "f1"
NO_CALIBRATION = "none"
OURS = "ours"  # in the column `method` of a table


class EvaluateCommand(TyperCommand):
    """Lets --calibrate stand alone, for its usual objective."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See the class."""
        filled = standing_alone(args, "--calibrate", OBJECTIVE, takes=lambda word: not Path(word).exists())
        return super().parse_args(ctx, filled)


@dataclass(frozen=True)
class Asked:
    """What is to be scored, and how, as it was asked for."""

    data: str | None
    split: str | None
    labels: str | None
    logits: bool
    img_size: int | None
    batch_size: int
    limit: int | None
    device: str
    precision: str
    workers: int | None
    thresholds: tuple[str, ...]
    uncalibrated: bool
    calibrate: bool
    against: str | None
    similarity: bool


def evaluate(
    context: typer.Context,
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN_OR_FILE] [RUN_OR_FILE]",
            help="As -w; two are compared on the same images.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    weights: Weights = None,
    data: Data = None,
    split: Split = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", metavar="FILE", help="Evaluate scores of any other tool: .npy, .npz, .csv or .parquet."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="FILE|DIR|NAME",
            help="What is true, for --scores: any label file.",
            autocompletion=complete_dataset,
        ),
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The --scores are logits, before the sigmoid.")] = False,
    topk: Annotated[int, typer.Option("--topk", min=1, help="Also count only the k best labels of each image.")] = PAPER_TOPK,
    threshold: Threshold = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="[f1|precision>=P|recall>=R|none]",
            help="Choose thresholds per class, and calibrate the scores, on these images; kept in the model. none: undo it.",
        ),
    ] = None,
    uncalibrated: Uncalibrated = False,
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
    img_size: ImgSize = None,
    batch_size: BatchSize = 32,
    limit: Limit = None,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = None,
    output: Output = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Evaluate: mAP in both conventions with its interval, precision, recall and F1 over all labels and the top k, AP per class.

    Writes a JSON and a CSV file into the run.
    """
    subjects = subjects_of(models or [], weights, scores)
    refuse_what_is_ignored(context, subjects)
    refuse_bad_places(subjects, output=output, save_scores=save_scores, labels=labels)

    from sadcl_core.evaluation.evaluate import below, save_evaluation
    from sadcl_core.runtime.distributed import get_rank, process_group

    format = "json" if json else format
    asked = Asked(
        data=data,
        split=split,
        labels=labels,
        logits=logits,
        img_size=img_size,
        batch_size=batch_size,
        limit=limit,
        device=device,
        precision=precision,
        workers=workers,
        thresholds=tuple(threshold or ()),
        uncalibrated=uncalibrated or calibrate is not None,
        calibrate=calibrate is not None,
        against=against,
        similarity=report or label_errors,
    )
    if calibrate == NO_CALIBRATION:
        _take_away(subjects[0])
        return
    with process_group():
        verbosity.quiet = verbosity.quiet or get_rank() > 0
        candidates = _all_scored(subjects, asked)
        if get_rank() > 0:
            return  # the first process does the rest
    if len(candidates) == 2:
        _compare(candidates, resamples=bootstrap, json=format == "json")
        return
    (candidate,) = candidates
    folder = output or (candidate.opened.folder("eval") if candidate.opened else Path("eval"))
    if calibrate is not None:
        _calibrate(candidate, calibrate, folder=folder, json=format == "json")
        return
    result = _measure(candidate, threshold or [], topk=topk, resamples=bootstrap, folder=folder)
    path = save_evaluation(result, folder)
    _show(result, topk=topk, format=format, against=against)
    (show if format == "text" else say)(f"results saved to {path} and .csv")
    _save_more(candidate, result, path, report=report, label_errors=label_errors, save_scores=save_scores)
    below(result, min_map)


def _all_scored(subjects: list[Subject], asked: Asked) -> list[Candidate]:
    """The one or two candidates; a file of scores without labels takes those of the model beside it."""
    done: dict[int, Candidate] = {}
    for number in sorted(range(len(subjects)), key=lambda number: subjects[number].scores):
        done[number] = _scored(subjects[number], asked, beside=next(iter(done.values()), None))
    return [done[number] for number in range(len(subjects))]


def _scored(subject: Subject, asked: Asked, beside: Candidate | None = None) -> Candidate:
    """Score the images with a model, or read a file of scores."""
    from sadcl_core.evaluation.calibrate import refuse_to_store
    from sadcl_core.evaluation.candidates import read_candidate, score_split
    from sadcl_core.evaluation.published_rows import find_table
    from sadcl_core.inference.split import refuse_trained_on
    from sadcl_core.inference.thresholds import choose
    from sadcl_core.runtime.distributed import main_process_first

    if subject.path is not None and subject.scores:
        candidate, said, doubts = read_candidate(
            subject.path, asked.labels, logits=asked.logits, split=asked.split, beside=beside
        )
        say(said)
        for doubt in doubts:
            warn(doubt)
        return candidate
    with main_process_first():  # data sets are prepared by one process and found by the others
        opened = open_model(
            subject.path, device=asked.device, precision=asked.precision, img_size=asked.img_size, uncalibrated=asked.uncalibrated
        )
        card = opened.card
        choose(asked.thresholds, card.classes, card.thresholds, calibrated=bool(card.temperatures))  # before any long work
        find_table(asked.against, card.classes)
        if asked.calibrate:
            refuse_to_store(opened)
        images = open_split(opened, data=asked.data, split=asked.split)
        if asked.calibrate:
            refuse_trained_on(opened, images)
    with counting("scoring images") as count:
        return score_split(
            opened,
            images,
            batch_size=asked.batch_size,
            workers=asked.workers,
            limit=asked.limit,
            similarity=asked.similarity,
            progress=count,
        )


def _measure(candidate: Candidate, asked: list[str], *, topk: int, resamples: int | None, folder: Path) -> Evaluation:
    """Every number of a candidate; what is said at the same time is which thresholds were used."""
    from sadcl_core.evaluation.candidates import TUNED_HERE, tuned_here
    from sadcl_core.evaluation.evaluate import evaluate_candidate
    from sadcl_core.inference.thresholds import choose

    calibrated = None if candidate.opened is None else candidate.as_trained is not None
    limits = choose(asked, candidate.classes, candidate.own_thresholds, calibrated=calibrated) if asked else None
    if limits is not None:
        say(f"labels above {limits.description}")
    if tuned_here(candidate):
        say(TUNED_HERE)
    with counting("resampling images") as count:
        return evaluate_candidate(
            candidate,
            folder,
            limits=limits,
            topk=tuple(sorted({PAPER_TOPK, topk})),
            resamples=_resamples(candidate, resamples),
            progress=count,
        )


def _resamples(candidate: Candidate, asked: int | None) -> int:
    """How many resamples of the images: what was asked, else what suits their number."""
    from sadcl_core.metrics import default_samples

    return default_samples(*candidate.scores.scores.shape) if asked is None else asked


def _save_more(
    candidate: Candidate, result: Evaluation, path: Path, *, report: bool, label_errors: bool, save_scores: Path | None
) -> None:
    """What was asked for beside the numbers: scores, suspected label errors, the page."""
    if save_scores is not None:
        from sadcl_core.errors import UsageError
        from sadcl_core.evaluation.scores_file import write_scores

        if save_scores.resolve() in {path.with_suffix(end).resolve() for end in (".json", ".csv", ".html")}:
            raise UsageError(f"--save-scores {save_scores} is where the evaluation itself is. Choose another name.")
        write_scores(save_scores, candidate.scores.scores, candidate.classes, candidate.images)
        kind = "calibrated scores (as trained: --uncalibrated)" if candidate.as_trained is not None else "scores"
        say(f"{kind} saved to {save_scores}")
    if report or label_errors:
        from sadcl_core.evaluation.report.build import write_report

        with stages() as progress:
            for written in write_report(candidate, result, path, page=report, progress=progress):
                say(f"{written.what} saved to {written.path}")


def _calibrate(candidate: Candidate, objective: str, *, folder: Path, json: bool) -> None:
    """Calibrate, put it into the model file where there is one, and show what it is good for."""
    from sadcl_core.evaluation.calibrate import calibrate, save_calibration, store
    from sadcl_core.metrics.calibration import parse_objective

    made = calibrate(candidate, parse_objective(objective))
    path = save_calibration(made, folder)
    if json:
        show_json(made.as_json())
    else:
        show_calibration(made)
    (say if json else show)(f"thresholds saved to {path}, for --threshold {path}")
    if candidate.opened is not None:
        store(made, candidate.opened)
        say(
            f"stored in {candidate.opened.path}: sadcl predict uses it from now on; --uncalibrated leaves it out, and "
            "sadcl eval --calibrate none takes it away"
        )


def _take_away(subject: Subject) -> None:
    """Make a model what it was before it was calibrated."""
    from sadcl_core.evaluation.calibrate import take_away

    opened = open_model(subject.path, device="cpu")
    take_away(opened)
    show(f"{opened.path} is as it was trained")


def _compare(candidates: list[Candidate], *, resamples: int | None, json: bool) -> None:
    """Set the second beside the first."""
    from sadcl_core.evaluation.two_models import compare

    first, second = candidates
    with counting("resampling images") as count:
        paired = compare(first, second, resamples=_resamples(first, resamples), progress=count)
    if json:
        show_json(paired.as_json())
    else:
        show_paired(paired)


def _show(result: Evaluation, *, topk: int, format: str, against: str | None) -> None:
    """The numbers in the form that was asked for."""
    from sadcl_core.evaluation.published import COLUMNS
    from sadcl_core.evaluation.published_rows import beside, find_table, render, row_of
    from sadcl_core.inference.thresholds import DEFAULT

    table = find_table(against, result.classes)
    limits = result.subject["thresholds"]
    method = OURS if limits == str(DEFAULT) else f"{OURS}, above {limits}"
    row = row_of(result, table, method=method, train_size=result.subject.get("train_size"))
    rows, columns = [row], list(COLUMNS if table is None else table.columns)
    if against is not None and table is not None:
        set_beside = beside(row, table)
        rows, columns = list(set_beside.rows), list(set_beside.columns)
        say(set_beside.said)
    if format == "json":
        show_json({**result.as_json(), **({} if against is None else {"against": rows})})
    elif format == "text":
        if against is not None:
            show_rows(rows, columns)
        show_evaluation(result, topk)
    else:
        say(result.line)
        write(render(rows, columns, cast("Literal['md', 'latex', 'csv']", format)))
