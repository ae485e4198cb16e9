"""What sadcl eval shows on a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from sadcl_cli.console import fits, new_table, show, show_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from sadcl_core.evaluation.calibrate import Calibrated
    from sadcl_core.evaluation.evaluate import Evaluation
    from sadcl_core.evaluation.published import Row
    from sadcl_core.evaluation.two_models import Difference, Paired

CF1 = {"CF1": "CF1 (of CP, CR)", "macro_F1": "CF1 (macro)"}
SHORT_ROW = ("method", "note", "test_size", "mAP", "CF1", "OF1")  # of a printed table, on a narrow terminal
CLEAR = 0.5  # points of F1 below which nothing is said to be better
MOST_MOVED = 20  # classes of a comparison that are listed


def show_evaluation(result: Evaluation, topk: int) -> None:
    """The classes, the paper's rows, and last, where it is seen, the one line."""
    show_table(_classes(result))
    table = new_table("%", *(CF1.get(name, name) for name in result.all_labels))
    for title, values in result.rows.items():
        if title in (f"Top-{k}" for k in result.top if k != topk):
            continue
        table.add_row(title, *(_number(value) for value in values.values()))
    show_table(table)
    if result.subject.get("difficult"):
        show(f"mAP {_number(result.map_eleven_point)} 11-point, as in the devkit of VOC 2007")
    if result.localisation is not None:
        means = result.localisation.means()
        pointing, centre, energy, area = (_number(100 * means[name]) for name in ("pointing", "centre", "energy", "area"))
        show(
            f"attention: pointing game {pointing}, the centre of the image {centre} · {energy} % in the boxes, {area} % by chance"
        )
    if result.classes_without_positives:
        show(f"left out, no image in this split: {', '.join(result.classes_without_positives)}")
    show("AP: interpolated, in percent; AP non-int.: as scikit-learn has it; P, R, F1 above the threshold")
    speed = f" · {result.images_per_second:.0f} images/s" if result.images_per_second else ""
    show(f"expected calibration error {result.calibration_error:.4f}{speed}")
    show(result.line)


class Column(NamedTuple):
    """A column of the table of classes; a narrow terminal loses those with the highest `rank` first."""

    title: str
    rank: int
    cell: Callable[[int], str]


def _classes(result: Evaluation) -> Table:
    """A row per class, with as many columns as there is room for."""
    columns = _columns(result)
    for rank in range(max(column.rank for column in columns), -1, -1):
        chosen = [column for column in columns if column.rank <= rank]
        table = new_table("class", *(column.title for column in chosen))
        for k, name in enumerate(result.classes):
            table.add_row(name, *(column.cell(k) for column in chosen))
        if fits(table):
            break
    return table


def _columns(result: Evaluation) -> list[Column]:
    columns = [
        Column("images", 0, lambda k: f"{result.positives[k]:,}"),
        Column("AP", 0, lambda k: _number(result.ap_interpolated[k], 2)),
    ]
    if sure := result.uncertainty:
        columns.append(Column("95 %", 1, lambda k: _range(*sure.ap_interpolated[k])))
    columns.append(Column("AP non-int.", 0, lambda k: _number(result.ap_non_interpolated[k], 2)))
    if result.subject.get("difficult"):
        columns.append(Column("11-point", 3, lambda k: _number(result.ap_eleven_point[k], 2)))
    columns += [
        Column("threshold", 5, lambda k: f"{result.thresholds[k]:.2f}"),
        Column("P", 4, lambda k: _number(result.precision[k])),
        Column("R", 4, lambda k: _number(result.recall[k])),
        Column("F1", 2, lambda k: _number(result.f1[k])),
    ]
    if places := result.localisation:
        columns.append(Column("pointing", 3, lambda k: _number(100 * places.pointing[k])))
        columns.append(Column("in boxes", 3, lambda k: _number(100 * places.energy[k])))
    return columns


def show_calibration(made: Calibrated) -> None:
    """Thresholds of the classes, and what they are good for on images that they were not made on."""
    benefit, thresholds = made.benefit, made.thresholds
    asked = made.objective.kind if made.objective.at_least is not None else ""
    table = new_table("class", "images", "alone", "used", "F1 at 0.5", "F1, held out", *([f"{asked}, held out"] if asked else []))
    for k, name in enumerate(made.candidate.classes):
        table.add_row(
            name,
            f"{thresholds.positives[k]:,}",
            _threshold(thresholds.own[k]),
            _threshold(thresholds.values[k]),
            _number(100 * benefit.class_f1_before[k]),
            _number(100 * benefit.class_f1_after[k]),
            *([_number(100 * benefit.achieved[k])] if asked else []),
        )
    show_table(table)
    rows = new_table("%, on images held out", *(CF1.get(name, name) for name in benefit.before))
    named = {"0.5, as trained": benefit.before, "one threshold": benefit.shared, "one per class": benefit.after}
    for title, values in named.items():
        rows.add_row(title, *(_number(100 * value) for value in values.values()))
    show_table(rows)
    before, after = benefit.error_before.overall, benefit.error_after.overall
    where = "" if made.candidate.opened else ", by the temperatures and biases in the file"
    show(f"expected calibration error, held out: {before:.4f} before, {after:.4f} after{where}")
    show(_verdict(made))


def _threshold(value: float) -> str:
    return "never" if value >= 1 else f"{value:.3f}"


def _verdict(made: Calibrated) -> str:
    """Whether thresholds per class are worth it, in a sentence."""
    benefit, objective = made.benefit, made.objective
    if benefit.held is not None and objective.at_least is not None:
        known = [k for k, count in enumerate(made.thresholds.positives) if count]
        reached = sum(bool(benefit.held[k]) for k in known)
        names = [name for name, value in zip(made.candidate.classes, made.thresholds.values, strict=True) if value >= 1]
        never = f"; no threshold reaches it, so never said: {', '.join(names)}" if names else ""
        said = f"a {objective.kind} of {objective.at_least:g} is reached on images held out in {reached} of {len(known)} classes"
        return said + never
    own, rival = (100 * row["macro_F1"] for row in (benefit.after, max(benefit.before, benefit.shared, key=_macro_f1)))
    verdict = "about as good as" if abs(own - rival) < CLEAR else "better than" if own > rival else "worse than"
    said = f"on images held out, one threshold per class is {verdict} the better of the other two rows"
    return f"{said}: macro F1 {own:.1f}, {rival:.1f}"


def _macro_f1(row: dict[str, float]) -> float:
    return row["macro_F1"]


def show_paired(paired: Paired) -> None:
    """The difference, and the classes that moved."""
    table = new_table("class", "first", "second", "difference", "95 %")
    for name, difference in paired.moved[:MOST_MOVED]:
        table.add_row(
            name, f"{difference.first:.2f}", f"{difference.second:.2f}", f"{difference.value:+.2f}", _interval(difference)
        )
    if paired.moved:
        show_table(table)
    more = f", the {MOST_MOVED} largest above" if len(paired.moved) > MOST_MOVED else ""
    show(f"{len(paired.moved)} classes moved{more}; about {paired.by_chance:.1f} would if the two were equally good in all")
    show(f"first   {paired.names[0]}")
    show(f"second  {paired.names[1]}")
    for title, difference in (("interpolated", paired.map_interpolated), ("non-interpolated", paired.map_non_interpolated)):
        verdict = "" if difference.clear else ", which is within chance"
        show(
            f"mAP {difference.first:.2f} → {difference.second:.2f} {title}: {difference.value:+.2f} {_interval(difference)}"
            f"{verdict} · {paired.images:,} images · {paired.resamples:,} resamples"
        )


def show_rows(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Rows of a printed table and ours, in its columns."""
    from sadcl_core.evaluation.published_rows import DIFFERENCE, written

    few = [name for name in columns if name in SHORT_ROW or name.startswith(DIFFERENCE)]
    for chosen in (columns, few):
        table = new_table(*chosen)
        for row in rows:
            table.add_row(*(written(row.get(name), name) for name in chosen), style="bold" if row is rows[-1] else None)
        if fits(table):
            break
    show_table(table)


def _interval(difference: Difference) -> str:
    return f"[{difference.low:+.2f}, {difference.high:+.2f}]"


def _range(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"[{low:.1f}, {high:.1f}]"


def _number(value: float, digits: int = 1) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
