"""The listeners of every run, from the command line and from Python alike: curves, trackers, an estimate of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import SadclError
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.runtime.packages import is_installed
from sadcl_core.training.listeners.curves import Curves
from sadcl_core.training.listeners.estimate import TimeEstimate
from sadcl_core.training.listeners.events import Event, Listener, Problem
from sadcl_core.training.listeners.figures import DataFigures
from sadcl_core.training.listeners.trackers import Tracker, tracker_names


@contextmanager
def standard_listeners(config: RunConfig, run: RunDirectory, listen: Listener) -> Iterator[Listener]:
    """Yield a listener that passes every event to `listen` and then to the listeners that every run has.

    What one of them cannot write is reported once, as a Problem, and does not disturb the training.
    """
    listeners: dict[str, Any] = {}
    if run.writes:
        listeners = {
            "The estimate": TimeEstimate(listen),
            "curves.png": Curves(run),
            "Figures of the data": DataFigures(run),
            **{name: Tracker(name, config, run) for name in tracker_names(config.track) if is_installed(name)},
        }

    def call(name: str, work: Any) -> None:
        try:
            work()
        except (OSError, SadclError) as error:
            del listeners[name]
            reason = getattr(error, "strerror", None) or error
            listen(Problem(f"{name} cannot be written ({reason}). Training goes on without it."))

    def pass_on(event: Event) -> None:
        listen(event)
        for name, listener in list(listeners.items()):
            call(name, partial(listener, event))

    try:
        yield pass_on
    finally:
        for name, listener in list(listeners.items()):
            call(name, listener.close)
