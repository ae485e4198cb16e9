"""The trials of a sweep: short runs with chosen settings, judged by images of the training split, in a study of Optuna."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from sadcl_core.config.presets import Configured
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DivergedError, UsageError
from sadcl_core.evaluation.intervals import bootstrap_intervals
from sadcl_core.experiments.space import Parameter
from sadcl_core.inference.score import Scores
from sadcl_core.metrics import average_precisions
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.runtime.files import regular
from sadcl_core.runtime.seeds import seed_of
from sadcl_core.training.listeners import events
from sadcl_core.training.listeners.events import EpochDone, Event, HeldOutScored, LinearFitted, Listener, SweepTrial
from sadcl_core.training.recipe import TrainingRecipe
from sadcl_core.training.run import start_run

RESAMPLES = 200  # for the interval of an epoch
STUDY = "study.log"  # Optuna's journal
SHOWN = (
    *(events.WeightsChosen, events.Problem, events.StopRequested, events.MemoryRanOut),
    *(events.FeaturesAwaited, events.FeaturesPlanned, events.FeaturesProgress, events.FeaturesComputed),
)


class JudgedRecipe(TrainingRecipe):
    """Say of every model that is scored how sure its mAP is."""

    def score(self, classifier: Classifier) -> Scores:
        """Score, and tell listeners the interval."""
        scored = super().score(classifier)
        precisions = average_precisions(scored.scores, scored.targets)
        intervals = bootstrap_intervals(scored.scores, scored.targets, precisions, RESAMPLES)
        self.listen(HeldOutScored(intervals.map_interpolated))
        return scored


@dataclass(frozen=True)
class Study:
    """Optuna's study of a sweep, in its folder, and the settings that are chosen."""

    study: optuna.Study
    space: tuple[Parameter, ...]

    @classmethod
    def open(cls, folder: Path, space: Sequence[Parameter], *, first: dict[str, Any], settings: str) -> Study:
        """Open the study in a folder, or begin one with a trial of the settings of the recipe.

        The first trial has the values of the recipe in `first`, by key, and draws the others; `settings` are all else that the
        trials depend on.

        Raises:
            UsageError: the folder holds a study of other settings, or a damaged one.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with suppress(FileNotFoundError):
                regular(folder / STUDY)
            storage = JournalStorage(JournalFileBackend(str(folder / STUDY)))
            study = optuna.create_study(storage=storage, study_name="sweep", direction="maximize", load_if_exists=True)
            stored = study.user_attrs.get("settings", settings)
        except Exception as error:  # whatever a damaged file leads to
            raise UsageError(f"{folder / STUDY} cannot be read ({type(error).__name__}). Choose another place with -o.") from None
        if stored != settings:
            raise UsageError(f"{folder} holds a sweep of other settings, data or ranges. Choose another place with -o.")
        if not study.trials:
            study.set_user_attr("settings", settings)
            study.enqueue_trial(first)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # that were stopped
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
        return cls(study, tuple(space))

    @property
    def trials(self) -> tuple[SweepTrial, ...]:
        """Trials that are over, in their order."""
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        return tuple(_trial_of(trial) for trial in self.study.get_trials(deepcopy=False, states=states))

    @property
    def best(self) -> list[SweepTrial]:
        """Trials that came to their end, the highest mAP first, each of other settings."""
        best: dict[str, SweepTrial] = {}
        for trial in sorted((trial for trial in self.trials if trial.state == "complete"), key=lambda t: (-t.map, t.number)):
            best.setdefault(str(trial.settings), trial)
        return list(best.values())

    def run_trial(
        self, configure: Callable[[dict[str, Any], str], Configured], manifest: Manifest, folder: Path, listen: Listener
    ) -> SweepTrial:
        """Train with settings that the study asks for; the files of the trial in the folder of the sweep are removed at its end.

        `configure` takes the chosen values and a name of their source; the manifest is that of `part_of_training`.

        Raises:
            KeyboardInterrupt: the trial is made again when the sweep goes on.
        """
        self.study.sampler = optuna.samplers.TPESampler(seed=seed_of("trial", len(self.study.trials)) % 2**32)
        trial = self.study.ask({parameter.key: _distribution(parameter) for parameter in self.space})
        judge, run = Judge(self.study, trial, listen), RunDirectory(folder / "trial")
        try:
            configured = configure(trial.params, f"trial {trial.number}")
            config, sources = configured.config, configured.sources
            start_run(config, sources, manifest, run, exist_ok=run.path.exists(), listen=judge, recipe_class=JudgedRecipe)
            self.study.tell(trial, judge.best)
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        except DivergedError:
            trial.set_user_attr("diverged", True)
            self.study.tell(trial, state=TrialState.PRUNED)
        finally:
            shutil.rmtree(run.path, ignore_errors=True)
        return self.trials[-1]


class Judge:
    """Report the epochs of a trial to its study, and end it once it is surely worse than the best trial was then.

    Surely: the upper end of its interval is below the lower end of the best one's at the same epoch of the same stage.
    """

    def __init__(self, study: optuna.Study, trial: optuna.Trial, listen: Listener) -> None:
        """Look for the best trial so far."""
        self.trial, self.listen = trial, listen
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self.rival: dict[str, Any] = max(complete, key=lambda t: t.value or 0.0).user_attrs if complete else {}
        self.interval: tuple[float, float] | None = None  # of the EMA, which is scored first
        self.epochs, self.best = 0, 0.0

    def __call__(self, event: Event) -> None:
        """Hear of an epoch.

        Raises:
            TrialPruned: the trial is to end.
        """
        if isinstance(event, HeldOutScored):
            self.interval = self.interval or event.interval
        elif isinstance(event, LinearFitted):
            self.interval = None
        elif isinstance(event, EpochDone) and self.interval is not None:
            value, interval = float(event.row["mAP_interpolated"]), self.interval
            epoch, self.interval = f"{event.row['stage']} {event.row['epoch']}", None
            self.epochs += 1
            if value >= self.best:
                self.best = value
                self.trial.set_user_attr("interval", interval)
            self.trial.set_user_attr(epoch, interval)
            self.trial.report(value, self.epochs)
            if epoch in self.rival and interval[1] < self.rival[epoch][0]:
                raise optuna.TrialPruned
        elif isinstance(event, SHOWN):
            self.listen(event)


def _distribution(parameter: Parameter) -> BaseDistribution:
    low, high = parameter.low, parameter.high
    if low is None or high is None:
        return CategoricalDistribution(parameter.choices)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=parameter.log)
    return FloatDistribution(low, high, log=parameter.log)


def _trial_of(trial: FrozenTrial) -> SweepTrial:
    state = "diverged" if trial.user_attrs.get("diverged") else "complete" if trial.state == TrialState.COMPLETE else "pruned"
    value = max(trial.intermediate_values.values(), default=float("nan"))
    low, high = trial.user_attrs.get("interval", (float("nan"), float("nan")))
    return SweepTrial(trial.number, dict(trial.params), state, value, (low, high))
