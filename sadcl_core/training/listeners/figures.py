"""Figures of the data in plots/ of a run: labels that come together, and the first batch of each stage."""

from __future__ import annotations

import time
from pathlib import Path

from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import load_manifest
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.runtime.seeds import drawing_from
from sadcl_core.training.listeners.events import EpochDone, Event, RunStarted, StageStarted

LONG = 60.0  # seconds of a run, from which on a second or two for figures are little


class DataFigures:
    """Draw co-occurrence.png and batch-STAGE.png once a run has lasted long enough for that to cost little."""

    def __init__(self, run: RunDirectory, *, after: float = LONG) -> None:
        """Draw nothing before `after` seconds."""
        self.run, self.after = run, after
        self.config: RunConfig | None = None
        self.stages: list[str] = []
        self.start = time.perf_counter()

    def __call__(self, event: Event) -> None:
        """Draw when an epoch is done."""
        if isinstance(event, RunStarted):
            self.config = event.config
        elif isinstance(event, StageStarted):
            self.stages.append(event.stage)
        elif isinstance(event, EpochDone) and self.stages and time.perf_counter() - self.start >= self.after:
            self.draw()

    def draw(self) -> None:
        """Draw the figures that are not there yet.

        Raises:
            SadclError: a figure cannot be written, or the data cannot be read any more.
        """
        from sadcl_core.plots.co_occurrence import plot_co_occurrence
        from sadcl_core.training.batch_figure import draw_batch

        assert self.config is not None, "the run has started"
        folder = self.run.path / "plots"
        stages, self.stages = self.stages, []
        manifest = load_manifest(Path(self.config.data.manifest))
        if not (folder / "co-occurrence.png").exists():
            plot_co_occurrence(manifest.split(self.config.data.train_split), folder / "co-occurrence.png")
        for stage in stages:
            with drawing_from(0):  # leaves the generators of the training as they are
                draw_batch(self.config, manifest, stage, folder / f"batch-{stage}.png")

    def close(self) -> None:
        """Do nothing: no file is open."""
