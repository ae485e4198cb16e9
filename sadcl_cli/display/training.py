"""Show a training run: a live bar on a terminal, a line an epoch everywhere."""

from __future__ import annotations

import time
from contextlib import ExitStack
from shlex import quote
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sadcl_cli.console import detail, messages, new_table, say, show, stages, verbosity, warn
from sadcl_cli.display.prepare import say_origin
from sadcl_core.config.backbones import terms_of
from sadcl_core.config.methods import METHODS, SHORT
from sadcl_core.config.presets import PRESETS
from sadcl_core.runs.card import LINEAR, read_card
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.runtime.words import counted, gigabytes
from sadcl_core.training.listeners import events
from sadcl_core.training.listeners.events import Event
from sadcl_core.training.time_budget import free_stages

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

    from sadcl_core.training.run import TrainingResult

NAMES = {"loss": "loss", **SHORT}  # as they are shown, in this order
LATE = 1.1  # times a time budget, from which on it was not kept
LOST = 1.0  # points of mAP below the fitted linear layer, from which on it is said
FEW = 100  # held-out images, below which the best epoch is much a matter of chance
MAX_NAMES = 20  # classes or tensors that are named without -v


class TrainingDisplay:
    """Listen to training and show it; a context manager, so that the bar goes away whatever happens.

    Attributes:
        run: the event that the run started; None before.
        unfinished: folder of features while some of them are being computed; else None.
    """

    def __init__(self) -> None:
        """Show nothing before the first event."""
        self.run: events.RunStarted | None = None
        self.stage: events.StageStarted | None = None
        self.bar: Progress | None = None
        self.task: Any = None
        self.unfinished: Path | None = None
        self.since, self.images = 0.0, 0
        self.preparing = ExitStack()  # holds the bars of preparing data while that goes on
        self.report: Any = None
        self.began, self.budget = time.perf_counter(), 0.0
        self.planned: events.EpochsPlanned | None = None
        self.passes: Any = None  # the task of a pass in the bar, off a terminal True; None: no pass goes on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.preparing.__exit__(kind, error, trace)
        self.stop_bar()

    def progress(self, what: str, done: int, total: int, *, brief: bool = True) -> None:
        """Show how far work is that no stage of the training is."""
        if self.report is None:
            self.report = self.preparing.enter_context(stages(brief=brief))
        self.report(what, done, total)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if not isinstance(event, events.PassProgress):
            self.end_pass()
        if isinstance(event, events.RunStarted):
            self.run = event
            self.start_bar()
        elif isinstance(event, events.DataReady):
            self.end_progress()
        elif isinstance(event, events.SettingsChosen):
            config = event.configured.config
            given = config.used_stages and not free_stages(config, event.configured.sources)
            self.budget = 0.0 if given else config.optim.time_budget  # epochs that were given know no time
        elif isinstance(event, events.EpochsPlanned):
            self.planned = event
        show: Any = {
            events.RunStarted: self.show_run,
            events.FeaturesPlanned: self.show_features,
            events.FeaturesProgress: self.show_computing,
            events.FeaturesComputed: self.show_computed,
            events.PassProgress: self.show_pass,
            events.StageStarted: self.show_stage,
            events.StepDone: self.show_step,
            events.EpochDone: self.show_epoch,
        }.get(type(event), SHOWN.get(type(event), show_note))
        show(event)

    def end_progress(self) -> None:
        """Remove the bars of what is over."""
        self.preparing.close()
        self.report = None

    def show_run(self, event: events.RunStarted) -> None:
        """Show what is trained, on what, and where a resumed run goes on."""
        config = event.config
        detail(f"configuration: {config.model_dump()}")
        detail(f"tracked by: {config.track}; tensorboard --logdir {quote(str(event.run.path))}")
        processes = f", {event.processes} processes" if event.processes > 1 else ""
        model = config.model
        say(
            f"method {config.method}: {model.head} head on {model.backbone} at stride {model.stride}, "
            f"{event.device}, {event.precision}{processes}"
        )
        if config.loss.distillation.teachers:
            say(f"learns the logits of {', '.join(config.loss.distillation.teachers)}")
        self.show_images(event)
        if event.resumed is not None:
            progress, changes = event.resumed.progress, event.resumed.changes
            step = f", step {progress.step}" if progress.step else ""
            other = ", ".join(f"{key} {before} -> {now}" for key, (before, now) in changes.items())
            place = f"stage {progress.stage}, epoch {progress.epoch}{step}"
            say(f"resumes {event.run.path} at {place}{f'; with {other}' if other else ''}")

    @property
    def chooses(self) -> bool:
        """Return True if the run keeps its best epoch, and not its last one."""
        return self.run is not None and self.run.config.optim.select == "best"

    def show_images(self, event: events.RunStarted) -> None:
        """Show how many images train, and how many judge."""
        data, best = event.config.data, self.chooses
        kept = "the best epoch is chosen on" if best else "the last epoch is kept; nothing is chosen on the"
        say(
            f"trains on {counted(event.train_images, 'image')} of split {data.train_split}; {kept} "
            f"{event.eval_images:,} of split {data.eval_split}{', whose mAP is optimistic' if best else ''}"
        )
        if event.eval_images < FEW and best:
            say(f"{event.eval_images} images are few to choose an epoch by: some points of mAP between two are chance")

    def show_features(self, event: events.FeaturesPlanned) -> None:
        """Show what the features take, before they are computed."""
        self.stop_bar()  # of an earlier run
        self.unfinished = event.folder if event.missing else None
        for key in event.removed:
            say(f"features: removed {key}, used longest ago")
        rest = f"{event.missing:,} of them are computed now ({gigabytes(event.new)})" if event.missing else "all are there"
        images, views = counted(event.images, "image"), counted(event.rows, "view")
        say(f"features: {images} in {views}, {gigabytes(event.size)} in {event.folder}; {rest}")

    def show_computing(self, event: events.FeaturesProgress) -> None:
        """Show how far the features are."""
        self.progress("computing features", event.done, event.total)

    def show_computed(self, event: events.FeaturesComputed) -> None:
        """Show how fast features were computed."""
        in_lines = self.report is not None and not messages().is_terminal  # which say it
        self.end_progress()
        self.unfinished = None
        if event.rows and not in_lines:
            speed = event.rows / max(event.seconds, 1e-9)
            say(f"features: {counted(event.rows, 'view')} computed in {event.seconds:.0f} s, {speed:.0f} a second")

    def show_pass(self, event: events.PassProgress) -> None:
        """Show how far a pass is: a second task of the live bar, off a terminal a line where it takes long."""
        if self.bar is None:
            self.passes = True
            self.progress(event.what, event.done, event.total, brief=False)
        elif self.passes is None:
            self.passes = self.bar.add_task(event.what, total=event.total, completed=event.done, state="")
        else:
            self.bar.update(self.passes, description=event.what, total=event.total, completed=event.done)

    def end_pass(self) -> None:
        """Remove a pass that is over."""
        if self.passes is not None and self.bar is not None:
            self.bar.remove_task(self.passes)
        elif self.passes:
            self.end_progress()
        self.passes = None

    def show_result(self, result: TrainingResult) -> None:
        """Show the mAP of the model that is kept, and where the run is."""
        what = f"{'best ' if self.chooses else ''}{result.weights}"
        show(f"{what} mAP {result.best_map:.2f} interpolated (stage {result.stage}, epoch {result.epoch})")
        self.show_published(result)
        show(f"results saved to {result.run}")

    def show_published(self, result: TrainingResult) -> None:
        """Show what was published of the method, where the recipe is a published one and the data have a printed table."""
        assert self.run is not None, "the run is over"
        config = self.run.config
        if PRESETS[config.preset].source:
            from sadcl_core.evaluation.published import published_figures

            data, figures = published_figures(config.method, read_card(result.model).classes)
            if figures:
                show(f"published of {config.method} on {data}: mAP {figures}; which are comparable: sadcl eval --against paper")

    def show_untrained_head(self, result: TrainingResult) -> None:
        """Warn if the model that is kept is a fitted linear layer beside a head without an epoch, and say why."""
        if read_card(result.model).head_is_trained:
            return
        why = "no epoch was asked for"
        if self.stage is not None:
            why = "no epoch came to a higher mAP"
        elif self.planned is not None:
            why = "no epoch fitted into the time"
        warn(f"only the linear layer was fitted: {why}. The head beside it is not trained, and its features of labels are random")

    def show_worse_than_linear(self, result: TrainingResult) -> None:
        """Warn if the last epoch is kept, and the linear layer that was fitted before it was better."""
        if self.chooses:
            return
        rows = RunDirectory(result.run).read_results()
        linear = next((float(row["mAP_interpolated"]) for row in rows if row["stage"] == LINEAR), 0.0)
        if result.best_map < linear - LOST:
            warn(
                f"the last epoch is {linear - result.best_map:.1f} points of mAP below the linear layer that was fitted before "
                f"it, {linear:.2f}: try --method linear-probe, or fewer --epochs. Held-out images chose nothing yet; the mAP of "
                "what is chosen by them is optimistic"
            )

    def show_time(self) -> None:
        """Show how long a run with a time budget took, and what ten times as much would try."""
        if not self.budget:
            return
        took = time.perf_counter() - self.began
        more = "a larger backbone (--list-sizes)"
        if self.planned is not None and self.planned.epochs != self.planned.most:
            epochs = " and ".join(map(str, self.planned.most.values()))
            more = f"up to {epochs} epochs (--time-budget {max(1, round(10 * took / 60))}m), then {more}"
        over = f"more than the time budget of {spoken(self.budget)}" if took > LATE * self.budget else ""
        say(f"took {spoken(took)}, {over or f'time budget {spoken(self.budget)}'}; ten times as long would try {more}")

    def start_bar(self) -> None:
        """Start the live bar, on a terminal."""
        if self.bar is not None or verbosity.quiet or not messages().is_terminal:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        columns = (  # what does not fit into the terminal is cut from the right: first the loss terms
            TextColumn("{task.description}", table_column=Column(min_width=20, no_wrap=True)),
            BarColumn(bar_width=10, table_column=Column(min_width=10)),
            TextColumn("ETA", table_column=Column(min_width=3)),
            TimeRemainingColumn(table_column=Column(min_width=7)),
            TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        self.bar = Progress(*columns, console=messages(), transient=True)
        self.bar.start()

    def stop_bar(self) -> None:
        """Remove the bar until another run starts."""
        if self.bar is not None:
            self.bar.stop()
        self.bar = self.task = None

    def show_stage(self, event: events.StageStarted) -> None:
        """Show a line on a stage, and begin its bar."""
        self.stage = event
        losses = " + ".join(f"{weight:g} {NAMES[name]}" for name, weight in event.losses.items())
        epochs = f"{counted(event.epochs, 'epoch')} of {counted(event.steps, 'step')}"
        say(f"stage {event.number}/{event.stages} {event.stage}: {epochs}, loss {losses}")
        if self.bar is not None:
            if self.task is not None:
                self.bar.remove_task(self.task)
            epoch = min(event.done // event.steps + 1, event.epochs)
            total = event.epochs * event.steps
            description = f"{event.stage} {epoch}/{event.epochs}"
            self.task = self.bar.add_task(description, total=total, completed=event.done, state="")
        self.since, self.images = time.perf_counter(), 0

    def show_step(self, event: events.StepDone) -> None:
        """Move the bar."""
        self.images += event.images
        if self.bar is None or self.stage is None:
            return
        speed = self.images / max(time.perf_counter() - self.since, 1e-9)
        terms = "  ".join(f"{NAMES[name]} {value:.2f}" for name, value in event.terms.items())
        self.bar.update(
            self.task,
            completed=(event.epoch - 1) * self.stage.steps + event.step,
            description=f"{self.stage.stage} {event.epoch}/{self.stage.epochs}",
            state=f"{speed:.0f} images/s  {terms}",
        )

    def show_epoch(self, event: events.EpochDone) -> None:
        """Show a line on an epoch."""
        row = event.row
        epochs = self.stage.epochs if self.stage is not None else 0
        terms = "  ".join(f"{NAMES[name]} {row[name]:.4f}" for name in NAMES if isinstance(row.get(name), float))
        best = "  best" if event.best and self.chooses else ""
        speed = f"{row['images_per_second']:>6.0f} images/s"
        network = f", network {row['mAP_interpolated_network']:.2f}" if "mAP_interpolated_network" in row else ""
        say(f"  epoch {row['epoch']:>3}/{epochs}  {speed}  {terms}  EMA mAP {row['mAP_interpolated']:.2f}{network}{best}")
        self.since, self.images = time.perf_counter(), 0


def show_source(event: events.WeightsChosen) -> None:
    """Show the backbone and whose weights it starts from, with their licence, before they are fetched."""
    source = event.source
    text = f"backbone {source.backbone}: {source.parameters / 1e6:.1f} million parameters"
    if not source.hub:
        say(f"{text}, weights from {source.file}" if source.file else f"{text}, random weights")
        return
    text += (
        f", weights {source.hub} {'fetched before' if source.cached else 'from the hub'}, licence {source.licence or 'unknown'}"
    )
    match terms_of(source.licence):
        case "non-commercial":
            warn(f"{text}: not for commercial use")
        case "own terms":
            warn(f"{text}: it has terms of its own, which you accept by using them")
        case _:
            say(text)


def show_weights(event: events.WeightsLoaded) -> None:
    """Show what came of loading pretrained weights."""
    weights = event.weights
    text = f"pretrained weights from {weights.source}: {weights.matched} tensors"
    seems = f"; the file seems to hold the weights of {weights.other}" if weights.other else ""
    if weights.missing:
        warn(f"{text}, {len(weights.missing)} missing ({', '.join(weights.missing[:3])} ...){seems}")
    elif weights.other:
        warn(f"{text}, none missing, but {len(weights.unused)} of the file not needed{seems}")
    else:
        say(f"{text}, none missing, {len(weights.unused)} of the file not needed")


def show_transfer(event: events.Transferred) -> None:
    """Show which classes and tensors go on from another model."""
    transfer = event.transfer
    say(f"goes on from {transfer.source}: {transfer.matched} of {len(transfer.classes)} classes matched")
    for text, names in (
        ("under another name", [f"{here} from {there}" for here, there in transfer.classes if there not in (None, here)]),
        ("start at random", [here for here, there in transfer.classes if there is None]),
        ("other tensors that start at random", transfer.random),
    ):
        if names:
            shown = names if verbosity.verbose else names[:MAX_NAMES]
            say(f"  {text}: {', '.join(shown)}{f' and {len(names) - len(shown)} more' if len(names) > len(shown) else ''}")


def show_prototypes(event: events.PrototypesBuilt) -> None:
    """Show how prototypes were made."""
    coverage = event.coverage
    rest = [entry for entry in coverage if not entry.confident]
    say(f"prototypes: {len(coverage) - len(rest)} of {len(coverage)} classes from images the model is sure of")
    if verbosity.quiet:
        return
    table = new_table("class", "active images", "confident", "prototype from")
    for entry in coverage if len(coverage) <= MAX_NAMES or verbosity.verbose else rest[:MAX_NAMES]:
        table.add_row(entry.name, f"{entry.positives:,}", f"{entry.confident:,}", entry.made_from)
    if table.row_count:
        messages().print(table, soft_wrap=False)
    if len(rest) > MAX_NAMES and not verbosity.verbose:
        say(f"and {len(rest) - MAX_NAMES} more classes without a confident image; all are in prototypes.json")


def show_settings(event: events.SettingsChosen) -> None:
    """Show the preset, and what was chosen from the data with the reason of each."""
    config, sources = event.configured.config, event.configured.sources
    say(f"preset {config.preset}: {event.configured.why}")
    recipe = PRESETS[config.preset]
    own = [name for name, method in METHODS.items() if method.source == recipe.source] if recipe.source else []
    if own and sources["method"] == "default" and config.method not in own:
        whose = recipe.summary.partition(" as published")[0].rstrip(",")
        warn(f"trains {config.method}, since no method was named, with the preset of {whose}. Name one: --method {own[0]}")
    for what, why in event.configured.reasons:
        say(f"auto: {what} ({why})")


def show_views(event: events.ViewsPlanned) -> None:
    """Show how many views the time budget leaves, where that is not as the recipe has it or takes long."""
    fewer = f" in place of {event.most}" if event.views < event.most else ""
    over = event.seconds > event.budget / 2
    if fewer or over:
        views = counted(event.views, "view")
        share = f", more than half of the time budget of {spoken(event.budget)}" if over else ""
        text = f"features: about {spoken(event.seconds)} for {views} of each training image{fewer}{share}"
        (warn if over else say)(text)


def show_calibration(event: events.ScoresCalibrated) -> None:
    """Show that the best model was calibrated, why and on what."""
    say(
        f"scores of this loss are no probabilities: calibrated for F1 on split {event.split}, {counted(event.images, 'image')}; "
        "sadcl eval --calibrate none takes it away"
    )


def show_note(event: Event) -> None:
    """Show the events that are one sentence."""
    match event:
        case events.StageTakenOver():
            say(f"stage {event.stage} from {event.run.path}, best mAP {event.best_map:.2f}")
        case events.LinearFitted():
            say(
                f"linear layer: L2 strength {event.strength:g}, the best of {len(event.losses)} in cross-validation on training "
                f"images; mAP {event.map:.2f} on held-out images, {event.seconds:.0f} s"
            )
        case events.EpochsPlanned():
            epochs = " and ".join(f"{count} of {stage}" for stage, count in event.epochs.items())
            left = f"{spoken(event.seconds)} are left" if event.seconds > 0 else "no time is left"
            say(f"{left}, a step takes {event.step_seconds:.2f} s: epochs {epochs}")
        case events.FeaturesAwaited():
            say(f"waits for another process that computes features in {event.folder}")
        case events.TimeEstimated():
            early = "; early stop may end it sooner" if event.early_stop else ""
            say(f"about {spoken(event.seconds)} to go, from the first steps{early}")
        case events.StoppedEarly():
            say(f"stage {event.stage} ends early: no better mAP since epoch {event.best_epoch}")
        case events.MemoryRanOut():
            warn(
                f"memory ran out on {event.device}: batches are now computed in {event.micro_batches} micro-batches whose "
                "gradients are added, one step for all as before; contrasts are within a micro-batch and with the bank. "
                f"To start so: --accumulate {event.micro_batches}"
            )
        case events.Problem():
            warn(event.message)
        case events.StopRequested():
            say("finishing the step and saving; again to end at once")


SHOWN: dict[type, Any] = {
    events.DataReady: lambda event: say_origin(event.data),
    events.SettingsChosen: show_settings,
    events.WeightsChosen: show_source,
    events.WeightsLoaded: show_weights,
    events.Transferred: show_transfer,
    events.PrototypesBuilt: show_prototypes,
    events.ViewsPlanned: show_views,
    events.ScoresCalibrated: show_calibration,
}


def spoken(seconds: float) -> str:
    """Return a length of time in words, rounded as an estimate is.

    Example:
        >>> spoken(42), spoken(90), spoken(600), spoken(86400)
        ('40 seconds', '1.5 minutes', '10 minutes', '24.0 hours')
    """
    if seconds < 90:
        return f"{max(round(seconds, -1), 10):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.2g} minutes"
    return f"{seconds / 3600:.1f} hours"
