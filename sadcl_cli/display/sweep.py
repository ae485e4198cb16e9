"""Show a sweep: its trials as they end, and what came of them."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from sadcl_cli.console import new_table, say, show, show_table
from sadcl_cli.display.comparison import ComparisonDisplay, show_comparison
from sadcl_core.config.yaml import on_one_line
from sadcl_core.runtime.words import counted
from sadcl_core.training.listeners.events import Event, FeaturesComputed, FeaturesPlanned, SweepPlanned, SweepTrial, TrialDone

if TYPE_CHECKING:
    from sadcl_core.experiments.sweep import Sweep

SHOWN = 10  # trials in the table, the best


class SweepDisplay(ComparisonDisplay):
    """Listen to a sweep, a line a trial, and to the comparison that ends it.

    Attributes:
        sweep: the event that it was planned; None before.
    """

    sweep: SweepPlanned | None = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case SweepPlanned():
                self.sweep = event
                again = f", {event.done} of them done before" if event.done else ""
                say(f"{counted(event.trials, 'trial')} in {event.folder}{again}")
                say(
                    f"each trains on {event.train_images:,} of the training images and is judged by {event.judging_images:,} "
                    "others of them; the held-out images take no part"
                )
                for text in event.space:
                    say(f"  chosen: {text}")
            case TrialDone():
                self.stop_bar()
                mark = "  best" if event.best is not None and event.best.number == event.trial.number else ""
                name = f"{event.done}/{event.trials} trial-{event.trial.number}"
                say(f"{name}  {map_of(event.trial)}  {settings_of(event.trial)}{mark}")
            case FeaturesPlanned() if not event.missing and self.plan is None:  # a line a trial would say nothing
                pass
            case FeaturesComputed() if not event.rows and self.plan is None:
                pass
            case _:
                super().__call__(event)


def map_of(trial: SweepTrial) -> str:
    """Return the mAP of a trial with its interval, and whether it ended before its end.

    Example:
        >>> map_of(SweepTrial(3, {}, "pruned", 61.234, (58.0, 64.0)))
        'mAP 61.23 [58.0, 64.0] pruned'
    """
    state = "" if trial.state == "complete" else f" {trial.state}"
    if trial.map != trial.map:
        return f"no mAP{state}"
    low, high = trial.interval
    interval = f" [{low:.1f}, {high:.1f}]" if low == low else ""
    return f"mAP {trial.map:.2f}{interval}{state}"


def settings_of(trial: SweepTrial) -> str:
    """Return the chosen values.

    Example:
        >>> settings_of(SweepTrial(3, {"optim.weight_decay": 0.00123456, "seed": 2}, "complete", 60.0, (58.0, 64.0)))
        'optim.weight_decay=0.00123 seed=2'
    """
    return " ".join(
        f"{key}={f'{value:.3g}' if isinstance(value, float) else on_one_line(value)}" for key, value in trial.settings.items()
    )


def show_sweep(sweep: Sweep, dataset: str) -> None:
    """Show the best trials, the comparison, and how to train with the best settings."""
    complete = sorted((trial for trial in sweep.trials if trial.state == "complete"), key=lambda trial: -trial.map)
    table = new_table("trial", "mAP [95 %] on training images left out", "settings", wrap=True)
    for trial in complete[:SHOWN]:
        table.add_row(str(trial.number), map_of(trial).removeprefix("mAP "), settings_of(trial))
    show_table(table)
    counts = {state: sum(trial.state == state for trial in sweep.trials) for state in ("pruned", "diverged")}
    rest = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    show(f"{len(complete)} of {len(sweep.trials)} trials came to their end{f'; {rest}' if rest else ''}")
    show_comparison(sweep.comparison)
    show(f"results saved to {sweep.folder}: sweep.json, {sweep.comparison.folder.name}/comparison.md")
    what, whole = "the best settings on the training images", ""
    if sweep.limit:
        what, whole = f"the best settings on {sweep.limit:,} images, here with all", " --set data.limit=0"
    show(f"{what}: sadcl train {quote(dataset)} -c {quote(str(sweep.config))}{whole}")
