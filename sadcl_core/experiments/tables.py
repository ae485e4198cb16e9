"""The numbers of a comparison: mean and spread of each method, paired differences to the first, as tables and as data."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.runtime.files import write_json, write_text

SCHEMA_VERSION = 1
COMMON = 10  # held-out positives from which on a class is called common
MAIN = "mAP_interpolated"
PUBLISHED = "Published figures are of the whole data set, on ResNet-101 unless they name a backbone. "
TITLES = {
    MAIN: "mAP",
    "mAP_non_interpolated": "non-int.",
    "mAP_interpolated_last_epoch": "last epoch",
    "mAP_interpolated_common": f"{COMMON}+ positives",
    "OF1": "OF1",
    "CF1": "CF1",
    "macro_F1": "macro F1",
}


@dataclass(frozen=True)
class ScoredRun:
    """One method with one seed.

    Attributes:
        scores: numbers in percent by their names in TITLES; None: not defined, as after a divergence.
        epochs: trained in all stages.
        seconds: of its own training.
        first_stage: name of the run that its first stage was taken from; empty when it trained its own.
        memory: most MiB that its training held, its first stage included: on the GPU, or of the process; 0: not known.
        lr: learning rate of the first stage that is trained; 0 where none is.
        parameters: of its network; 0 of a run that never began.
    """

    method: str
    seed: int
    scores: Mapping[str, float | None]
    epochs: int
    seconds: float
    first_stage: str = ""
    first_stage_seconds: float = 0.0
    memory: int = 0
    lr: float = 0.0
    parameters: int = 0

    @property
    def all_seconds(self) -> float:
        """Seconds of its training, a shared first stage counted for each run."""
        return self.seconds + self.first_stage_seconds


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds, None where they are not defined: of no value, of one value."""

    mean: float | None
    deviation: float | None

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        return f"{self.mean:.2f}" if self.deviation is None else f"{self.mean:.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True)
class Comparison:
    """Every run of a comparison.

    Attributes:
        epochs: of each stage, at the most.
        runs: every method with every seed.
        versions: of what the first run was trained with.
        folder: of the runs, the tables and the figure.
        published: mAP of each method in print, with how it was measured; empty where the data have no printed table.
    """

    dataset: str
    preset: str
    backbone: str
    epochs: Mapping[str, int]
    runs: tuple[ScoredRun, ...]
    versions: Mapping[str, str]
    folder: Path
    published: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods in the order of the runs; the others are compared with the first."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds in the order of the runs."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    @property
    def seconds(self) -> float:
        """Time of all training, a shared first stage counted once."""
        shared = {run.first_stage: run.first_stage_seconds for run in self.runs}
        return sum(shared.values()) + sum(run.seconds for run in self.runs)

    def values(self, method: str, score: str = MAIN) -> npt.NDArray[np.float64]:
        """Return one number per seed, (S,), NaN where there is none."""
        by_seed = {run.seed: run.scores[score] for run in self.runs if run.method == method}
        return np.array([by_seed[seed] for seed in self.seeds], dtype=np.float64)  # None becomes NaN

    def spread(self, method: str, score: str = MAIN) -> Spread:
        """Return mean and deviation of a method over the seeds."""
        return _spread(self.values(method, score))

    def difference(self, method: str) -> Spread:
        """Return mean and deviation of the difference of the mAP to the first method's with the same seed."""
        return _spread(self.values(method) - self.values(self.methods[0]))

    @property
    def diverged(self) -> list[str]:
        """Runs that have no numbers, since their training diverged."""
        return [f"{run.method} seed {run.seed}" for run in self.runs if run.scores[MAIN] is None]

    def higher(self, method: str) -> int:
        """Return with how many seeds a method is above the first one, of those in which both have a number."""
        return int((self.values(method) > self.values(self.methods[0])).sum())

    def both(self, method: str) -> int:
        """Return with how many seeds a method and the first one have a number."""
        return int((~np.isnan(self.values(method) - self.values(self.methods[0]))).sum())

    def rows(self, scores: Sequence[str] = tuple(TITLES)) -> list[list[str]]:
        """Return the table as text: a header, then a row per method; `scores` are the columns beside the mAP."""
        first = self.methods[0]
        others = [score for score in scores if score != MAIN]
        table = [["method", TITLES[MAIN], *(TITLES[score] for score in others), f"minus {first}", "higher"]]
        for method in self.methods:
            compared = ["", ""]
            if method != first:
                difference = str(self.difference(method))
                compared = [f"{'' if difference[0] == '-' else '+'}{difference}", f"{self.higher(method)}/{self.both(method)}"]
            means = (str(Spread(self.spread(method, score).mean, None)) for score in others)
            table.append([method, str(self.spread(method)), *means, *compared])
        return table

    def costs(self, method: str) -> dict[str, float]:
        """Return a method's rate in its first stage, its median seconds, its most memory (MiB) and its network's parameters."""
        runs = [run for run in self.runs if run.method == method]
        seconds = float(np.median([run.all_seconds for run in runs]))
        memory = max(run.memory for run in runs)
        return {"lr": runs[0].lr, "seconds": round(seconds, 1), "memory": memory, "parameters": runs[0].parameters}

    def markdown(self) -> str:
        """Return the table with the runs and settings that it was made of."""
        header, *rows = self.rows()
        header += ["rate", "seconds", "MiB", "million parameters", *(["published"] if self.published else [])]
        for row, costs in zip(rows, map(self.costs, self.methods), strict=True):
            memory = f"{costs['memory']:.0f}" if costs["memory"] else "-"
            row += [f"{costs['lr']:g}", f"{costs['seconds']:.0f}", memory, f"{costs['parameters'] / 1e6:.2f}"]
            row += [self.published.get(row[0]) or "-"] if self.published else []
        lines = [
            f"| {' | '.join(header)} |",
            f"| {' | '.join('---' for _ in header)} |",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
        epochs = " + ".join(f"{count} {name}" for name, count in self.epochs.items())
        trained = {run.epochs for run in self.runs}
        if trained != {sum(self.epochs.values())}:
            epochs += f" (trained: {min(trained)} to {max(trained)})"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        notes = (
            f"{self.dataset}, preset {self.preset}, {self.backbone}, {epochs} epochs, seeds {', '.join(map(str, self.seeds))}. "
            "Percent, mean ± standard deviation over the seeds. The mAP is the interpolated one unless said otherwise, over all "
            f"classes or over those with {COMMON} or more held-out positives, of the epoch that was best on the held-out images "
            "or of the last one. Differences of the mAP are paired by seed; beside them, with how many seeds it is higher. Rates "
            "are those of the first stage, seconds the median over the seeds, MiB the most memory that training "
            "held, on the GPU or of the process. "
            f"{PUBLISHED if self.published else ''}"
            f"{versions}. Training took {self.seconds / 60:.0f} min."
        )
        return "\n".join([*lines, "", notes, ""])

    def as_csv(self) -> str:
        """Return a row per run."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["method", "seed", *TITLES, "epochs", "seconds", "memory", "lr", "parameters"])
        for run in self.runs:
            scores = (run.scores[name] for name in TITLES)
            costs = (round(run.all_seconds, 1), run.memory, run.lr, run.parameters)
            writer.writerow([run.method, run.seed, *scores, run.epochs, *costs])
        return text.getvalue()

    def as_json(self) -> dict[str, Any]:
        """Return one document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "dataset": self.dataset,
            "preset": self.preset,
            "backbone": self.backbone,
            "epochs": dict(self.epochs),
            "seeds": list(self.seeds),
            "versions": dict(self.versions),
            "seconds": round(self.seconds, 1),
            "compared_with": self.methods[0],
            "methods": [
                {
                    "method": method,
                    **{name: vars(self.spread(method, name)) for name in TITLES},
                    "difference": vars(self.difference(method)),
                    "higher": self.higher(method),
                    **self.costs(method),
                    "published": self.published.get(method, ""),
                    "runs": [{"seed": run.seed, **run.scores} for run in self.runs if run.method == method],
                }
                for method in self.methods
            ],
        }


def save_comparison(comparison: Comparison) -> None:
    """Write comparison.json, comparison.csv and comparison.md into its folder."""
    write_json(comparison.folder / "comparison.json", comparison.as_json())
    write_text(comparison.folder / "comparison.csv", comparison.as_csv())
    write_text(comparison.folder / "comparison.md", comparison.markdown())


def _spread(values: npt.NDArray[np.float64]) -> Spread:
    if np.isnan(values).any():
        return Spread(None, None)
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None)
