"""Everything that is looked for in a run.

A new check is a function of the evidence in one of the files beside this one, a row in CHECKS, its row in docs/doctor.md, and a
test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sadcl_core.diagnosis import averaging, ending, held_out, labels, losses, rates, scores, start
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.verdict import SEVERITIES, NotThereError, Verdict


@dataclass(frozen=True)
class Check:
    """A row of the list: what is looked for, in a few words, and the function that looks."""

    name: str
    looks_for: str
    look: Callable[[Evidence], Verdict]


@dataclass(frozen=True)
class Checked:
    """A check and what it came to."""

    check: Check
    verdict: Verdict


CHECKS = (  # of findings that are as bad, the first one is told first: what may be the cause of others
    Check("ended", "a run that failed, diverged, was interrupted or killed, or still works", ending.ended),
    Check("model-file", "a model file that is damaged or holds what is no number", ending.model_file),
    Check("label-names", "classes of the data that are not those of the model, or in another order", labels.label_names),
    Check("swapped-labels", "scores of a class that fit the labels of another", scores.swapped_labels),
    Check("same-images", "held-out images that were trained on, by path and by content", labels.same_images),
    Check("frozen", "layers that were frozen at random weights", start.frozen),
    Check("pretrained", "tensors that the file of pretrained weights lacked", start.pretrained_missing),
    Check("ema", "an EMA too slow for the number of steps", averaging.ema),
    Check("rate-too-high", "a loss that jumped, rose or stopped being a number", rates.rate_too_high),
    Check("rate-too-low", "a loss that hardly moved, or training that ended while it got better", rates.rate_too_low),
    Check("learned-nothing", "a classification loss that needs no image to be reached", losses.learned_nothing),
    Check("collapsed", "scores that are the same for every image", scores.collapsed),
    Check("saturated", "scores next to 0 or 1 that are wrong", scores.saturated),
    Check("at-chance", "classes whose images are ranked no better than by chance", scores.at_chance),
    Check("never-predicted", "classes that never reach their threshold", scores.never_predicted),
    Check("overfitting", "a training loss that falls while the held-out mAP falls", held_out.overfitting),
    Check("best-and-last", "a last epoch far below the best one", held_out.best_and_last),
    Check("few-positives", "classes with too few training images", labels.few_positives),
    Check("data-changed", "data that were prepared anew since the training", labels.data_changed),
)


def diagnose(evidence: Evidence) -> list[Checked]:
    """Every check: what was found, the worst first, then the rest in the order of the list."""
    checked = list(_look(evidence))
    worst = {severity: place for place, severity in enumerate(SEVERITIES)}
    return sorted(checked, key=lambda entry: len(worst) if entry.verdict.severity is None else worst[entry.verdict.severity])


def _look(evidence: Evidence) -> Iterator[Checked]:
    for check in CHECKS:
        try:
            verdict = check.look(evidence)
        except NotThereError as error:
            verdict = Verdict("not checked", str(error))
        yield Checked(check, verdict)


def as_json(checked: Checked) -> dict[str, Any]:
    """For one document; what is no finite number is null."""
    verdict = checked.verdict
    return {
        "name": checked.check.name,
        "looks_for": checked.check.looks_for,
        "status": verdict.status,
        "severity": verdict.severity,
        "said": verdict.said,
        "action": verdict.action or None,
        "evidence": _plain(verdict.numbers),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
