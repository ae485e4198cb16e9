"""Show a comparison: its runs while they are trained, and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sadcl_cli.console import new_table, say, show, show_table
from sadcl_cli.display.training import TrainingDisplay
from sadcl_core.training.listeners.events import (
    ComparedRunStarted,
    ComparedRunTrained,
    ComparisonPlanned,
    Event,
    Problem,
    RatesChosen,
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
        self.shown: list[Event] = []  # of those that are the same in many runs

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case ComparisonPlanned():
                self.plan = event
                shared = f" and {event.first_stages} shared first stages" if event.first_stages else ""
                say(f"{event.runs} runs{shared} in {event.folder}")
            case RatesChosen():
                say(f"rates, chosen on training images: {', '.join(f'{name} {rate:g}' for name, rate in event.rates.items())}")
            case ComparedRunStarted():
                self.stop_bar()
                say(f"{event.number}/{event.runs} {event.name}{': the first stage, shared' if event.first_stage else ''}")
            case ComparedRunTrained():
                self.stop_bar()
            case Problem() | WeightsChosen() if event in self.shown:
                pass
            case _:
                self.shown += [event] if isinstance(event, Problem | WeightsChosen) else []
                super().__call__(event)


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
    show(f"{COMMON}+ positives: the mAP of the classes with {COMMON} or more held-out positives")
