"""What one sees of a training run: a live bar on a terminal, a line an epoch everywhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sadcl_cli.console import detail, messages, new_table, say, verbosity, warn
from sadcl_core.config.methods import SHORT
from sadcl_core.config.schema import RunConfig
from sadcl_core.training.listeners.events import EpochDone, Event, Note, PrototypesBuilt, StageStarted, StepDone, Transferred
from sadcl_core.training.prototypes import CONFIDENT

if TYPE_CHECKING:
    from rich.progress import Progress

NAMES = {"loss": "loss", **SHORT}  # as they are shown, in this order


class TrainingDisplay:
    """Listens to training; a context manager, so that the bar goes away whatever happens."""

    def __init__(self, config: RunConfig) -> None:
        """The configuration is only read for -v."""
        self.config = config
        self.progress: Progress | None = None
        self.stage = StageStarted("", 0, 0, 0, 0, {})
        self.task: Any = None
        self.since = 0.0
        self.images = 0

    def __enter__(self) -> TrainingDisplay:
        detail(f"configuration: {self.config.model_dump()}")
        if messages().is_terminal and not verbosity.quiet:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.table import Column

            columns = (  # what does not fit into the terminal is cut from the right: first the loss terms
                TextColumn("{task.description}", table_column=Column(min_width=20, no_wrap=True)),
                BarColumn(bar_width=10, table_column=Column(min_width=10)),
                TextColumn("ETA", table_column=Column(min_width=3)),
                TimeRemainingColumn(table_column=Column(min_width=7)),
                TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            )
            self.progress = Progress(*columns, console=messages(), transient=True)
            self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.progress is not None:
            self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, EpochDone):
            self._epoch(event)
        elif isinstance(event, StageStarted):
            self._stage(event)
        elif isinstance(event, PrototypesBuilt):
            self._prototypes(event)
        elif isinstance(event, Transferred):
            self._transferred(event)
        elif isinstance(event, Note):
            (warn if event.warning else say)(event.text)

    def _stage(self, event: StageStarted) -> None:
        self.stage = event
        losses = " + ".join(f"{weight:g} {NAMES[name]}" for name, weight in event.losses.items())
        say(f"stage {event.number}/{event.stages} {event.stage}: {event.epochs} epochs of {event.steps} steps, loss {losses}")
        epoch = event.done // event.steps + 1
        if self.progress is not None:
            if self.task is not None:
                self.progress.remove_task(self.task)
            self.task = self.progress.add_task(
                f"{event.stage} {min(epoch, event.epochs)}/{event.epochs}",
                total=event.epochs * event.steps,
                completed=event.done,
                state="",
            )
        self.since, self.images = time.perf_counter(), 0

    def _step(self, event: StepDone) -> None:
        self.images += event.images
        if self.progress is None:
            return
        speed = self.images / max(time.perf_counter() - self.since, 1e-9)
        terms = "  ".join(f"{NAMES[name]} {value:.2f}" for name, value in event.terms.items())
        self.progress.update(
            self.task,
            completed=(event.epoch - 1) * self.stage.steps + event.step,
            description=f"{self.stage.stage} {event.epoch}/{self.stage.epochs}",
            state=f"{speed:.0f} images/s  {terms}",
        )

    def _epoch(self, event: EpochDone) -> None:
        row = event.row
        terms = "  ".join(f"{NAMES[name]} {row[name]:.4f}" for name in NAMES if isinstance(row.get(name), float))
        best = "  best" if event.best else ""
        epoch = f"{row['epoch']:>3}/{self.stage.epochs}"
        say(f"  epoch {epoch}  {row['images_per_second']:>6.0f} images/s  {terms}  EMA mAP {row['mAP_interpolated']:.2f}{best}")
        self.since, self.images = time.perf_counter(), 0

    def _prototypes(self, event: PrototypesBuilt) -> None:
        made = sum(entry.made_from == CONFIDENT for entry in event.coverage)
        say(f"prototypes: {made} of {len(event.coverage)} classes from images the model is sure of")
        rest = [entry for entry in event.coverage if entry.made_from != CONFIDENT]
        if verbosity.quiet:
            return
        table = new_table("class", "active images", "confident", "prototype from")
        for entry in event.coverage if len(event.coverage) <= 20 or verbosity.verbose else rest[:20]:
            table.add_row(entry.name, f"{entry.positives:,}", f"{entry.confident:,}", entry.made_from)
        if table.row_count:
            messages().print(table, soft_wrap=False)
        if len(rest) > 20 and not verbosity.verbose:
            say(f"and {len(rest) - 20} more classes without a confident image; all are in prototypes.json")

    def _transferred(self, event: Transferred) -> None:
        transfer = event.transfer
        say(f"goes on from {transfer.source}: {transfer.matched} of {len(transfer.classes)} classes matched")
        other = [f"{here} from {there}" for here, there in transfer.classes if there is not None and here != there]
        random = [here for here, there in transfer.classes if there is None]
        for text, names in (
            ("under another name", other),
            ("start at random", random),
            ("other tensors that start at random", transfer.random),
        ):
            if names:
                shown = names if verbosity.verbose else names[:20]
                say(f"  {text}: {', '.join(shown)}{f' and {len(names) - len(shown)} more' if len(names) > len(shown) else ''}")
