"""Show a comparison: its runs while they are trained, and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sadcl_cli.console import new_table, say, show, show_table
from sadcl_cli.display.training import TrainingDisplay
from sadcl_core.runtime.words import counted
from sadcl_core.training.listeners.events import (
    ComparedRunStarted,
    ComparedRunTrained,
    ComparisonPlanned,
    Event,
    Problem,
    RatesChosen,
    RunStarted,
    WeightsChosen,
)

if TYPE_CHECKING:
    from sadcl_core.experiments.tables import Comparison


class ComparisonDisplay(TrainingDisplay):
    """Listen to a comparison and show every run of it under its headline.

    Attributes:
        plan: the event that the comparison was planned; None before.
    """

    plan: ComparisonPlanned | None = None

    def __init__(self) -> None:
        """Show nothing before the first event."""
        super().__init__()
        self.shown: list[object] = []  # what many runs share, and is shown once

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case ComparisonPlanned():
                self.plan = event
                stages = counted(event.first_stages, "shared first stage")
                shared = f" and {stages}" if event.first_stages else ""
                say(f"{event.runs} runs{shared} in {event.folder}")
            case RatesChosen():
                say(f"rates, chosen on training images: {', '.join(f'{name} {rate:g}' for name, rate in event.rates.items())}")
            case ComparedRunStarted():
                self.stop_bar()
                say(f"{event.number}/{event.runs} {event.name}{': the first stage, shared' if event.first_stage else ''}")
            case ComparedRunTrained():
                self.stop_bar()
            case Problem() | WeightsChosen() if not self.is_new(event):
                pass
            case _:
                super().__call__(event)

    def show_images(self, event: RunStarted) -> None:
        """Show how many images train, and how many judge, where they are others than before."""
        data = event.config.data
        if self.is_new((event.train_images, event.eval_images, data.train_split, data.eval_split, event.config.optim.select)):
            super().show_images(event)

    def is_new(self, what: object) -> bool:
        """Return whether something has not been shown, and note that it is."""
        new = what not in self.shown
        self.shown += [what] if new else []
        return new


def show_comparison(comparison: Comparison) -> None:
    """Show a row per method."""
    from sadcl_core.experiments.tables import COMMON

    header, *rows = comparison.rows(("mAP_interpolated_common", "OF1"))
    table = new_table(*(title.replace(" ", "\n") for title in header))
    for column in table.columns[1:]:  # where it is narrow, names are folded and never numbers
        column.no_wrap = True
    for row in rows:
        table.add_row(*row)
    show_table(table)
    seeds = ", ".join(map(str, comparison.seeds))
    show(f"percent, mean ± standard deviation over the seeds {seeds}; differences are paired by seed")
    if comparison.published:
        figures = "; ".join(f"{method} {figure}" for method, figure in comparison.published.items())
        show(f"published, of the whole data set: {figures}")
    show(f"{COMMON}+ positives: the mAP of the classes with {COMMON} or more held-out positives")
