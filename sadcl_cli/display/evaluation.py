"""The sentences and tables of sadcl eval; the numbers are those of `sadcl_core.evaluation.columns`."""

from __future__ import annotations

import math
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal, cast

from sadcl_cli.console import fits, new_table, say, show, show_json, show_table, warn, write
from sadcl_cli.display.model import model_sentence, say_split
from sadcl_cli.display.prepare import reading_sentences
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from sadcl_core.evaluation.calibrate import Calibration
    from sadcl_core.evaluation.columns import Column
    from sadcl_core.evaluation.published import Row
    from sadcl_core.evaluation.result import Evaluation
    from sadcl_core.evaluation.scored_split import Fact
    from sadcl_core.evaluation.two_models import Difference, PairedComparison

SHORT_ROW = ("method", "note", "test_size", "mAP", "CF1", "OF1", "comparable")  # of a printed table, on a narrow terminal
CLEAR = 0.5  # points of F1 that make a difference
MOST_MOVED = 20  # classes of a comparison that are listed


def tell(fact: Fact) -> None:
    """Say what was opened: a model, its images, or a file of scores with its labels."""
    from sadcl_core.evaluation.scores_file import Matched

    if isinstance(fact, Matched):
        say(fact.description)
        for sentence in reading_sentences(fact.interpretation):
            say(f"labels {sentence}")
        for warning in fact.warnings:
            warn(warning)
    elif isinstance(fact, tuple):
        say_split(*fact)
    else:
        say(model_sentence(fact))


def show_evaluation(result: Evaluation, *, format: str, topk: int, thresholds_requested: bool) -> None:
    """Show an evaluation: as text, as JSON, or as a row in the form of a table; and say what was written."""
    if thresholds_requested:
        say(f"labels above {result.subject['thresholds']}")
    if result.tuned_here:
        say(
            "The model was calibrated on these very images: numbers at its own thresholds, and the calibration error, "
            "are too good here"
        )
    if result.against is not None:
        say(result.against.description)
    if format == "json":
        show_json({**result.as_json(), **({} if result.against is None else {"against": result.against.rows})})
    elif format == "text":
        if result.against is not None:
            _show_rows(result.against.rows, result.against.columns)
        _show_text(result, topk)
    else:
        from sadcl_core.evaluation.published_rows import render, rows_with_ours

        say(result.summary)
        table = result.against or rows_with_ours(result)
        write(render(table.rows, table.columns, cast("Literal['md', 'latex', 'csv']", format)))
    (show if format == "text" else say)(f"results saved to {result.files['json']} and .csv")
    if "scores" in result.files:
        calibrated = "calibrated" in result.subject
        say(f"{'calibrated scores (as trained: --uncalibrated)' if calibrated else 'scores'} saved to {result.files['scores']}")
    if "label_errors" in result.files:
        count = len(result.suspects or ())
        say(f"{count:,} suspected label errors, as many as are estimated to be, saved to {result.files['label_errors']}")
    if "report" in result.files:
        say(f"report saved to {result.files['report']}")


def _show_text(result: Evaluation, topk: int) -> None:
    """Show the classes, the paper's rows, the other numbers, and last, where it is seen, the one line."""
    from sadcl_core.evaluation.columns import MEASURES, NUMBERS
    from sadcl_core.evaluation.result import row_title

    show_table(_class_table(result))
    table = new_table("%", *(column.title for column in MEASURES))
    for key, values in result.rows.items():
        if not key.startswith("top") or key == f"top{topk}":
            table.add_row(row_title(key), *(_number(column.value(values), column.decimals) for column in MEASURES))
    show_table(table)
    if "localisation" in result.numbers:
        pointing, centre, energy, area = (_number(value) for value in result.numbers["localisation"].values())
        show(
            f"attention: pointing game {pointing}, the centre of the image {centre} · {energy} % in the boxes, {area} % by chance"
        )
    if result.classes_without_positives:
        show(f"left out, no image in this split: {', '.join(result.classes_without_positives)}")
    if result.classes_without_negatives:
        names = ", ".join(result.classes_without_negatives)
        show(f"left out of the mAP, active in every image where they are known, so that any scores are perfect: {names}")
    show("AP: interpolated, in percent; AP non-int.: as scikit-learn has it; precision, recall, F1 above the threshold")
    numbers = [
        f"{column.title} {_number(result.numbers[column.key], column.decimals)}"
        for column in NUMBERS
        if column.rank is not None and (not column.needs or result.subject.get(column.needs))
    ]
    speed = result.numbers["images_per_second"]
    show(" · ".join([*numbers, *([f"{speed:.0f} images/s"] if speed else [])]))
    show(result.summary)


def _class_table(result: Evaluation) -> Table:
    """Return a row per class, with as many columns as there is room for; an interval follows its number."""
    from sadcl_core.evaluation.columns import INTERVAL, PER_CLASS

    columns = [
        column
        for column in PER_CLASS
        if column.rank is not None and column.key in result.per_class and (not column.needs or result.subject.get(column.needs))
    ]
    order = [column.key for column in columns]
    columns.sort(key=lambda column: order.index(column.key.removesuffix(INTERVAL)))
    for rank in range(max(column.rank or 0 for column in columns), -1, -1):
        kept = [column for column in columns if (column.rank or 0) <= rank]
        table = new_table("class", *(column.title for column in kept))
        for k, name in enumerate(result.classes):
            if result.per_class["positives"][k]:  # the others are named below
                table.add_row(name, *(_cell(column, result.per_class[column.key][k]) for column in kept))
        if fits(table):
            break
    return table


def _cell(column: Column[Any], value: Any) -> str:
    if getattr(value, "ndim", 0):
        low, high = value
        return "-" if math.isnan(low) else f"[{low:.{column.decimals}f}, {high:.{column.decimals}f}]"
    return _number(value, column.decimals)


def show_calibration(calibration: Calibration, *, json: bool) -> None:
    """Show the thresholds of the classes and what they are good for on held-out images, and say where they are."""
    if json:
        show_json(calibration.as_json())
    else:
        _show_calibration_text(calibration)
    path = calibration.path
    (say if json else show)(f"thresholds saved to {path}, for --threshold {quote(str(path))}")
    if calibration.scored.model is not None:
        say(
            f"stored in {calibration.scored.model.path}: sadcl predict uses it from now on; --uncalibrated leaves it out, and "
            "sadcl eval --calibrate none takes it away"
        )


def _show_calibration_text(calibration: Calibration) -> None:
    from sadcl_core.evaluation.columns import MEASURES

    benefit, thresholds, objective = calibration.benefit, calibration.thresholds, calibration.objective
    aim = [] if objective.at_least is None else [f"{objective.kind}, held out"]
    table = new_table("class", "images", "alone", "used", "F1 at 0.5", "F1, held out", *aim)
    for k, name in enumerate(calibration.scored.classes):
        table.add_row(
            name,
            f"{thresholds.positives[k]:,}",
            *("never" if value >= 1 else f"{value:.3f}" for value in (thresholds.own[k], thresholds.values[k])),
            _number(100 * benefit.class_f1_before[k]),
            _number(100 * benefit.class_f1_after[k]),
            *(_number(100 * benefit.achieved[k]) for _ in aim),
        )
    show_table(table)
    rows = new_table("%, on images held out", *(column.title for column in MEASURES))
    named = {"0.5, as trained": benefit.before, "one threshold": benefit.shared, "one per class": benefit.after}
    for title, values in named.items():
        rows.add_row(title, *(_number(100 * column.value(values), column.decimals) for column in MEASURES))
    show_table(rows)
    before, after = benefit.error_before.overall, benefit.error_after.overall
    where = "" if calibration.scored.model else ", by the temperatures and biases in the file"
    show(f"expected calibration error, held out: {before:.4f} before, {after:.4f} after{where}")
    show(_verdict(calibration))


def _verdict(calibration: Calibration) -> str:
    """Say whether thresholds per class are worth it."""
    benefit, objective, thresholds = calibration.benefit, calibration.objective, calibration.thresholds
    if benefit.held is not None and objective.at_least is not None:
        active = [k for k, count in enumerate(thresholds.positives) if count]
        reached = sum(bool(benefit.held[k]) for k in active)
        names = [name for name, value in zip(calibration.scored.classes, thresholds.values, strict=True) if value >= 1]
        never = f"; no threshold reaches it, so never predicted: {', '.join(names)}" if names else ""
        aim = f"a {objective.kind} of {objective.at_least:g}"
        return f"{aim} is reached on images held out in {reached} of {len(active)} classes{never}"
    own = 100 * benefit.after["macro_F1"]
    rival = 100 * max(benefit.before["macro_F1"], benefit.shared["macro_F1"])
    verdict = "about as good as" if abs(own - rival) < CLEAR else "better than" if own > rival else "worse than"
    return (
        f"on images held out, one threshold per class is {verdict} the better of the other two rows: "
        f"macro F1 {own:.1f}, {rival:.1f}"
    )


def show_paired(paired: PairedComparison, *, json: bool) -> None:
    """Show the difference of two models, and the classes that moved."""
    if json:
        show_json(paired.as_json())
        return
    table = new_table("class", "first", "second", "difference", "95 %")
    for name, difference in paired.moved[:MOST_MOVED]:
        table.add_row(
            name, f"{difference.first:.2f}", f"{difference.second:.2f}", f"{difference.value:+.2f}", _interval(difference)
        )
    if paired.moved:
        show_table(table)
    more = f", the {MOST_MOVED} largest above" if len(paired.moved) > MOST_MOVED else ""
    moved = counted(len(paired.moved), "class", "classes")
    show(f"{moved} moved{more}; about {paired.by_chance:.1f} would if the two were equally good in all")
    show(f"first   {paired.names[0]}")
    show(f"second  {paired.names[1]}")
    for title, difference in (("interpolated", paired.map_interpolated), ("non-interpolated", paired.map_non_interpolated)):
        verdict = "" if difference.clear else ", which is within chance"
        show(
            f"mAP {difference.first:.2f} → {difference.second:.2f} {title}: {difference.value:+.2f} {_interval(difference)}"
            f"{verdict} · {counted(paired.images, 'image')} · {paired.resamples:,} resamples"
        )


def _show_rows(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Show the rows of a printed table and ours, in a few columns where it is narrow, and below what holds for all rows."""
    from sadcl_core.evaluation.published_rows import ABOUT, DIFFERENCE, print_cell, shared_differences

    sentence = ""
    if columns[-len(ABOUT) :] == ABOUT:
        sentence, rows = shared_differences(rows)
    few = [name for name in columns if name in SHORT_ROW or name.startswith(DIFFERENCE)]
    for shown in (columns, few):
        table = new_table(*shown)
        for row in rows:
            table.add_row(*(print_cell(row.get(name), name) for name in shown), style="bold" if row is rows[-1] else None)
        if fits(table):
            break
    show_table(table)
    if sentence:
        show(sentence)


def _interval(difference: Difference) -> str:
    return f"[{difference.low:+.2f}, {difference.high:+.2f}]"


def _number(value: float, decimals: int = 1) -> str:
    return "-" if math.isnan(value) else f"{value:,.{decimals}f}"
