"""The events of a training run, as facts for its listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from sadcl_core.config.presets import Configured
    from sadcl_core.config.schema import RunConfig
    from sadcl_core.data.prepare.prepare import DataOrigin
    from sadcl_core.model.weights import LoadedWeights, WeightsSource
    from sadcl_core.runs.run_directory import RunDirectory
    from sadcl_core.training.prototypes import ClassCoverage
    from sadcl_core.training.resume import Resumed
    from sadcl_core.training.transfer import Transfer


class Event:
    """Something that happened; the classes below say what."""


@dataclass(frozen=True)
class DataReady(Event):
    """The data set is there, prepared now or before."""

    data: DataOrigin


@dataclass(frozen=True)
class SettingsChosen(Event):
    """The configuration of a new run is made."""

    configured: Configured


@dataclass(frozen=True)
class RunStarted(Event):
    """A run begins or goes on; its directory is there.

    Attributes:
        config: complete.
        device: kind of it: cpu, cuda or mps.
        precision: fp32, bf16 or fp16.
        train_images: of the split that is trained on.
        resumed: the state that it goes on from; None for a new run.
    """

    run: RunDirectory
    config: RunConfig
    device: str
    precision: str
    processes: int
    train_images: int
    eval_images: int
    resumed: Resumed | None = None


@dataclass(frozen=True)
class WeightsChosen(Event):
    """The backbone is built, and nothing was fetched yet."""

    source: WeightsSource


@dataclass(frozen=True)
class WeightsLoaded(Event):
    """Pretrained weights of the backbone were loaded."""

    weights: LoadedWeights


@dataclass(frozen=True)
class Transferred(Event):
    """Weights were carried over from another model."""

    transfer: Transfer


@dataclass(frozen=True)
class FeaturesPlanned(Event):
    """The features of a frozen backbone are looked up; missing ones are computed next.

    Attributes:
        images: to train on and held out.
        rows: maps of all their views.
        missing: rows that are to be computed.
        size: bytes of all rows.
        new: bytes of the missing ones.
        removed: keys of other features that were removed to make room.
    """

    folder: Path
    images: int
    rows: int
    missing: int
    size: int
    new: int
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeaturesAwaited(Event):
    """Another process computes features in the same folder; this one waits for it."""

    folder: Path


@dataclass(frozen=True)
class FeaturesProgress(Event):
    """So many of the missing rows are computed."""

    done: int
    total: int


@dataclass(frozen=True)
class FeaturesComputed(Event):
    """All features are there; `rows` of them were computed now, in `seconds`."""

    rows: int
    seconds: float


@dataclass(frozen=True)
class StageTakenOver(Event):
    """A stage of another run is used instead of training it again; `best_map` is its best mAP (interpolated, percent)."""

    stage: str
    run: RunDirectory
    best_map: float


@dataclass(frozen=True)
class ScoresCalibrated(Event):
    """The best model, whose scores were no probabilities, was calibrated on the held-out images of a split."""

    split: str
    images: int


@dataclass(frozen=True)
class PassProgress(Event):
    """A pass over images, or the fits of the linear layer, goes on outside the steps: so many of so many are done."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class LinearFitted(Event):
    """The linear layer was fitted by logistic regression.

    Attributes:
        strength: of the L2 regularisation, see `sadcl_core.model.logistic_regression`.
        losses: mean log loss on training images left out, of each strength that was tried.
        map: mAP (interpolated, percent) on the held-out images.
        seconds: pooling the features included.
    """

    strength: float
    losses: Mapping[float, float]
    map: float
    seconds: float


@dataclass(frozen=True)
class ViewsPlanned(Event):
    """The views of each training image were chosen by the time there is.

    Attributes:
        views: of each image.
        most: that the recipe asks for.
        seconds: to compute the features that are missing.
        budget: seconds of the whole run.
    """

    views: int
    most: int
    seconds: float
    budget: float


@dataclass(frozen=True)
class EpochsPlanned(Event):
    """The epochs were chosen by the time there is.

    Attributes:
        epochs: of each stage; none: there is no time for one.
        most: that a budget may choose, of each stage.
        seconds: left for them.
        step_seconds: of a step, measured.
    """

    epochs: Mapping[str, int]
    most: Mapping[str, int]
    seconds: float
    step_seconds: float


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage begins or goes on.

    Attributes:
        number: from 1, of the stages that are trained.
        epochs: of the stage.
        steps: of an epoch.
        done: steps of the stage that were made before the run was resumed.
    """

    stage: str
    number: int
    stages: int
    epochs: int
    steps: int
    losses: Mapping[str, float]
    done: int = 0


@dataclass(frozen=True)
class PrototypesBuilt(Event):
    """The prototypes are built; one entry per class."""

    coverage: tuple[ClassCoverage, ...]


@dataclass(frozen=True)
class StepDone(Event):
    """A step is done; `images` of all processes, `terms` the total loss and each term without its weight, `lr` the peak rate."""

    epoch: int
    step: int
    images: int
    terms: Mapping[str, float]
    lr: float


@dataclass(frozen=True)
class TimeEstimated(Event):
    """Seconds until the end of the run, from its first steps; an early stop may end it sooner."""

    seconds: float
    early_stop: bool


@dataclass(frozen=True)
class EpochDone(Event):
    """An epoch was evaluated. `row` is its line in results.csv, `best` whether its mAP is the best of the stage."""

    row: Mapping[str, float | int | str]
    best: bool


@dataclass(frozen=True)
class StoppedEarly(Event):
    """A stage ends before its last epoch, since no mAP was better than that of `best_epoch`."""

    stage: str
    best_epoch: int


@dataclass(frozen=True)
class MemoryRanOut(Event):
    """Memory of a device ran out; from now on batches are computed in so many micro-batches."""

    device: str
    micro_batches: int


@dataclass(frozen=True)
class StopRequested(Event):
    """A signal asked the run to end; it ends after this step."""


@dataclass(frozen=True)
class Problem(Event):
    """Something failed that does not end the run; `message` is a sentence."""

    message: str


@dataclass(frozen=True)
class ComparisonPlanned(Event):
    """A comparison begins: so many `runs`, and `first_stages` that several of them share, all in `folder`."""

    folder: Path
    runs: int
    first_stages: int


@dataclass(frozen=True)
class RatesChosen(Event):
    """The learning rate of each method of a comparison is chosen."""

    rates: Mapping[str, float]


@dataclass(frozen=True)
class ComparedRunStarted(Event):
    """A run of a comparison is trained now; the events of its training follow.

    Attributes:
        name: METHOD-seedSEED.
        number: from 1, among those of the comparison.
        first_stage: name of the shared first stage that is trained for it now; empty: the run itself is.
    """

    name: str
    number: int
    runs: int
    first_stage: str = ""


@dataclass(frozen=True)
class ComparedRunTrained(Event):
    """A run of a comparison, or a shared first stage, is trained; its evaluation may follow."""

    run: RunDirectory


@dataclass(frozen=True)
class SweepPlanned(Event):
    """A sweep begins or goes on.

    Attributes:
        folder: of the study and of the runs that follow it.
        trials: that there are to be.
        done: of them, before.
        space: the settings that are chosen, each as `KEY=LOW..HIGH` or `KEY=A,B`.
        train_images: a trial is trained on.
        judging_images: of the training split, that a trial is judged by.
    """

    folder: Path
    trials: int
    done: int
    space: tuple[str, ...]
    train_images: int
    judging_images: int


@dataclass(frozen=True)
class HeldOutScored(Event):
    """A model was scored in a trial; `interval` at 95 % of its mAP (interpolated, percent)."""

    interval: tuple[float, float]


@dataclass(frozen=True)
class SweepTrial:
    """A trial of a sweep that is over.

    Attributes:
        number: from 0.
        settings: values that were chosen, by their keys.
        state: complete, pruned or diverged.
        map: highest mAP (interpolated, percent) on the images that it was judged by; NaN before any epoch.
        interval: of it, at 95 %.
    """

    number: int
    settings: Mapping[str, Any]
    state: str
    map: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class TrialDone(Event):
    """A trial of a sweep is over, as are `done` of all `trials`; `best` has the highest mAP so far, None before one has any."""

    trial: SweepTrial
    done: int
    trials: int
    best: SweepTrial | None


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing with an event."""
