"""From an evaluation and the scores behind it to a page of errors and a table of suspected label errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sadcl_core.evaluation.candidates import TUNED_HERE, Candidate, tuned_here
from sadcl_core.evaluation.evaluate import Evaluation
from sadcl_core.evaluation.label_errors import write_suspects
from sadcl_core.evaluation.report.page import ClassResult, Measures, Page, Reliability, Suspect, write_page
from sadcl_core.inference.thumbnails import Thumbnails, draw_thumbnails, plain_thumbnails
from sadcl_core.metrics import calibration_error, precision_recall_curves, reliability
from sadcl_core.metrics.label_errors import SuspectedError, suspected_label_errors
from sadcl_core.metrics.mistakes import confusions, pictured, worst_mistakes
from sadcl_core.runtime.progress import Progress, StagedProgress, stage

SUSPECTS = 1000  # rows of the table
SUSPECTS_SHOWN = 60  # with a picture, on the page


@dataclass(frozen=True)
class Written:
    """A file and what is in it."""

    what: str
    path: Path


def write_report(
    candidate: Candidate, result: Evaluation, path: Path, *, page: bool, progress: StagedProgress | None = None
) -> list[Written]:
    """Write the suspected label errors as CSV and, when wanted, the page.

    Args:
        candidate: the scores.
        result: what was measured of them.
        path: of the evaluation's own file; the new ones lie beside it and are named after it.
        page: whether the page is wanted as well.
        progress: told about images that are drawn.

    Raises:
        UsageError: a file cannot be written.
    """
    suspects = suspected_label_errors(
        candidate.scores.scores,
        candidate.scores.targets,
        thresholds=result.thresholds,
        similarity=candidate.similarity,
        most=SUSPECTS,
    )
    table = path.with_name(f"{path.stem}-label-errors.csv")
    write_suspects(table, suspects, candidate.names, candidate.classes)
    written = [Written(f"{len(suspects):,} suspected label errors", table)]
    if page:
        target = path.with_suffix(".html")
        write_page(make_page(candidate, result, suspects, stage(progress, "drawing images")), target)
        written.append(Written("report", target))
    return written


def make_page(
    candidate: Candidate, result: Evaluation, suspects: Sequence[SuspectedError], progress: Progress | None = None
) -> Page:
    """Everything the page says."""
    scores, targets, names = candidate.scores.scores, candidate.scores.targets, candidate.names
    suspected, suspects = len(suspects), suspects[:SUSPECTS_SHOWN]
    worst = worst_mistakes(scores, targets, result.thresholds)
    wanted = [*pictured(worst), *((one.image, one.label) for one in suspects)]
    drawn = _draw(candidate, wanted, progress)
    document = result.as_json()
    curves = precision_recall_curves(scores, targets)
    shown = {one.image for one in suspects} | {one.image for group in worst for one in (*group.false_positives, *group.misses)}
    return Page(
        title=_title(candidate),
        headline=result.line,
        facts=_facts(candidate, result),
        measures=[Measures(name, values) for name, values in result.rows.items()],
        classes=[ClassResult(entry["name"], entry, curve) for entry, curve in zip(document["per_class"], curves, strict=True)],
        reliability=_reliability(candidate),
        mistakes=worst,
        confusions=confusions(scores, targets, result.thresholds),
        suspects=[Suspect(one.image, one.label, one.kind, one.score, one.similarity) for one in suspects],
        suspected=suspected,
        images={image: names[image] for image in shown},
        labels={image: (targets[image] == 1).nonzero()[0].tolist() for image in shown},
        pictures=drawn.pictures,
        notes=(*([f"{TUNED_HERE}."] if tuned_here(candidate) else []), *drawn.notes),
    )


def _reliability(candidate: Candidate) -> list[Reliability]:
    """Of the scores, and of a calibrated model also of what they were before."""
    scores, targets = candidate.scores.scores, candidate.scores.targets
    series = [("scores", scores)]
    if candidate.as_trained is not None:
        series = [("as trained", candidate.as_trained), ("calibrated", scores)]
    found = [(name, reliability(values, targets), calibration_error(values, targets).overall) for name, values in series]
    return [Reliability(name, bins.mean_scores, bins.frequencies, bins.counts, error=error) for name, bins, error in found]


def _draw(candidate: Candidate, wanted: Sequence[tuple[int, int]], progress: Progress | None) -> Thumbnails:
    """With attention where a model was run, without where there are only images, nothing where there are none."""
    if candidate.split is None:
        return Thumbnails({}, ("The scores came without images, so there are no pictures.",))
    if candidate.opened is None:
        return plain_thumbnails(candidate.split, wanted, progress=progress)
    return draw_thumbnails(candidate.opened, candidate.split, wanted, progress=progress)


def _title(candidate: Candidate) -> str:
    about = candidate.about
    return f"{about['dataset']}, split {about['split']}" if "split" in about else candidate.name


def _facts(candidate: Candidate, result: Evaluation) -> list[tuple[str, str]]:
    """What was evaluated, as names and values."""
    about = {
        key: value
        for key, value in candidate.about.items()
        if key in ("model", "dataset", "split", "scores", "labels", "img_size")
    }
    facts = [(key.replace("_", " "), str(value)) for key, value in about.items() if value is not None]
    own = "" if result.own_thresholds is None else " in the published rows, elsewhere above the model's own thresholds"
    facts.append(("labels count above", f"{result.subject.get('thresholds', '0.5')}{own}"))
    if result.uncertainty is not None:
        facts.append(("intervals", f"95 %, {result.uncertainty.resamples:,} resamples of the images"))
    if result.classes_without_positives:
        facts.append(("left out, no image", ", ".join(result.classes_without_positives)))
    return facts
