"""plots/curves.png of a run, drawn while it goes on."""

from __future__ import annotations

import time

from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.listeners.events import EpochDone, Event, RunStarted

SHARE = 20  # curves are drawn when the last drawing took less than 1/SHARE of the time since
FIRST = 1.0  # seconds that the first drawing is taken to need, so that a run of seconds draws once, at its end


class Curves:
    """Draw losses and mAP after an epoch, so often that it costs little, and at the end."""

    def __init__(self, run: RunDirectory) -> None:
        """Draw nothing yet."""
        self.run = run
        self.split = ""
        self.drawn, self.cost, self.behind = time.perf_counter(), FIRST, False

    def __call__(self, event: Event) -> None:
        """Draw when an epoch is done."""
        if isinstance(event, RunStarted):
            self.split = event.config.data.eval_split
        elif isinstance(event, EpochDone):
            self.behind = True
            if time.perf_counter() - self.drawn > SHARE * self.cost:
                self.draw()

    def close(self) -> None:
        """Draw the epochs that are not in the figure yet."""
        if self.behind:
            self.draw()

    def draw(self) -> None:
        """Draw all epochs.

        Raises:
            SadclError: the figure cannot be written.
        """
        from sadcl_core.plots.curves import plot_curves

        start = time.perf_counter()
        self.behind = False
        rows, path = self.run.read_results(), self.run.path / "plots" / "curves.png"
        plot_curves(rows, path, title=str(self.run.path), split=self.split, steps=self.run.read_metrics())
        self.drawn = time.perf_counter()
        self.cost = self.drawn - start
