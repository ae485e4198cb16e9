"""Build the page of errors from an evaluation and the scores behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sadcl_core.evaluation.report.page import Page, Series
from sadcl_core.inference.load import Model
from sadcl_core.metrics import bin_sums, precision_recall_curves
from sadcl_core.metrics.mistakes import confusions, pictured, worst_mistakes
from sadcl_core.runtime.progress import Progress

if TYPE_CHECKING:
    from sadcl_core.evaluation.result import Evaluation
    from sadcl_core.evaluation.scored_split import ScoredSplit

SUSPECTS_SHOWN = 60  # with a picture
TUNED_HERE = (
    "The model was calibrated on these very images: numbers at its own thresholds, and the calibration error, are too good here."
)


def make_page(scored: ScoredSplit, result: Evaluation, progress: Progress | None = None) -> Page:
    """Collect everything that the page shows."""
    scores, targets, thresholds = scored.scores, scored.targets, result.thresholds
    suspects = (result.suspects or ())[:SUSPECTS_SHOWN]
    worst = worst_mistakes(scores, targets, thresholds)
    places = [*pictured(worst), *((one.image, one.label) for one in suspects)]
    notes = [TUNED_HERE] if result.tuned_here else []
    pictures = {}
    if scored.split is None:
        notes.append("The scores came without images, so there are no pictures.")
    else:
        from sadcl_core.inference.thumbnails import draw_thumbnails

        model = scored.model if isinstance(scored.model, Model) else None
        drawn = draw_thumbnails(model, scored.split, places, progress=progress)
        pictures, notes = drawn.pictures, [*notes, *drawn.notes]
    series = [("scores", scores)]
    if scored.as_trained is not None:
        series = [("as trained", scored.as_trained), ("calibrated", scores)]
    bins = [(name, bin_sums(values, targets)) for name, values in series]
    shown = {one.image for one in suspects} | {one.image for group in worst for one in (*group.false_positives, *group.misses)}
    about = scored.about
    return Page(
        title=f"{about['dataset']}, split {about['split']}" if "split" in about else scored.name,
        result=result,
        facts=_facts(result),
        curves=precision_recall_curves(scores, targets),
        reliability=[Series(name, sums.reliability(), sums.errors().overall) for name, sums in bins],
        mistakes=worst,
        confusions=confusions(scores, targets, thresholds),
        suspects=suspects,
        images={image: scored.names[image] for image in shown},
        labels={image: (targets[image] == 1).nonzero()[0].tolist() for image in shown},
        pictures=pictures,
        notes=notes,
    )


def _facts(result: Evaluation) -> list[tuple[str, str]]:
    """Return what was evaluated, as names and values."""
    subject = result.subject
    keys = [key for key in ("dataset", "split", "img_size", "model", "scores", "labels") if subject.get(key) is not None]
    facts = [(key.replace("_", " "), str(subject[key])) for key in keys]
    own = " in the published rows, elsewhere above the model's own thresholds" if "own_thresholds" in result.rows else ""
    facts.append(("labels count above", f"{subject.get('thresholds', '0.5')}{own}"))
    if "resamples" in result.numbers:
        facts.append(("intervals", f"95 %, {result.numbers['resamples']:,} resamples of the images"))
    if result.classes_without_positives:
        facts.append(("left out, no image", ", ".join(result.classes_without_positives)))
    if result.classes_without_negatives:
        facts.append(("left out of the mAP, no image without them", ", ".join(result.classes_without_negatives)))
    return facts
