"""What a training run draws and logs for other programs while it goes on: curves.png, and TensorBoard where that is installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from sadcl_cli.console import detail, warn
from sadcl_core.training.listeners.events import EpochDone, Event, StageStarted, StepDone

if TYPE_CHECKING:
    from sadcl_core.config.schema import RunConfig
    from sadcl_core.runs.run_directory import RunDirectory
    from sadcl_core.training.listeners.tensorboard import TensorBoard

SHARE = 20  # curves are drawn when the last drawing took less than 1/SHARE of the time since


class TrainingFiles:
    """Listens to training; what it cannot write is said once and does not disturb the training."""

    def __init__(self, config: RunConfig, run: RunDirectory) -> None:
        """Nothing is written before the first event."""
        self.config, self.run = config, run
        self.board: TensorBoard | None = None
        self.drawn, self.cost, self.behind = -float("inf"), 0.0, False

    def __enter__(self) -> TrainingFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.behind:
            self._draw()
        if self.board is not None:
            self._on_board(self.board.close)

    def __call__(self, event: Event) -> None:
        """Write what an event brings."""
        if not self.run.writes:
            return
        if isinstance(event, StageStarted):
            self._start(event)
        if self.board is not None and isinstance(event, StageStarted | StepDone | EpochDone):
            self._on_board(partial(self.board, event))
        if isinstance(event, EpochDone):
            self.behind = True
            if time.perf_counter() - self.drawn > SHARE * self.cost:
                self._draw()

    def _start(self, event: StageStarted) -> None:
        if self.board is not None:
            return
        from sadcl_core.training.listeners.tensorboard import open_board

        self._on_board(lambda: setattr(self, "board", open_board(self.config, self.run, event)))
        detail("TensorBoard is not installed" if self.board is None else f"tensorboard --logdir {self.run.path}")

    def _on_board(self, work: Callable[[], None]) -> None:
        """Write for TensorBoard, or stop doing so when that cannot be."""
        try:
            work()
        except OSError as error:
            self.board = None
            warn(f"TensorBoard's files cannot be written ({error.strerror or error}); training goes on without them.")

    def _draw(self) -> None:
        from sadcl_core.errors import SadclError
        from sadcl_core.plots.curves import plot_curves

        start = time.perf_counter()
        try:
            plot_curves(self.run.read_results(), self.run.path / "plots" / "curves.png", title=str(self.run.path))
        except SadclError as error:
            warn(str(error))
        self.drawn = time.perf_counter()
        self.cost, self.behind = self.drawn - start, False
