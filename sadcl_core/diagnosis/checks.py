"""Everything that is looked for in a run.

A new check is a function of the evidence in one of the files beside this one, a row in CHECKS, its row in docs/doctor.md, and a
test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sadcl_core.diagnosis import checks_data, checks_loss, checks_run, checks_scores
from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.findings import SEVERITIES, Finding, outcome


@dataclass(frozen=True)
class Check:
    """A row of the list: the name of a check, the illness that it looks for, and the function that looks."""

    name: str
    looks_for: str
    look: Callable[[Evidence], Finding]


CHECKS = (  # of findings of one severity, the first comes first: it may be the cause of others
    Check("ended", "a run that failed, diverged, was interrupted or killed, or still works", checks_run.ended),
    Check("model-file", "a model file that is damaged or holds values that are not finite", checks_run.model_file),
    Check("label-names", "classes of the data that are not those of the model, or in another order", checks_data.label_names),
    Check("swapped-labels", "scores of a class that fit the labels of another", checks_scores.swapped_labels),
    Check("same-images", "held-out images that were trained on, by path and by content", checks_data.same_images),
    Check("images-of-init", "held-out images that a model before this run was trained on", checks_data.images_of_init),
    Check("frozen", "layers that were frozen at random weights", checks_run.frozen),
    Check("pretrained", "tensors that the file of pretrained weights lacked", checks_run.pretrained_missing),
    Check("ema", "an EMA too slow for the number of steps", checks_run.ema),
    Check("rate-too-high", "a loss that jumped, rose, or became infinite or NaN", checks_loss.rate_too_high),
    Check("rate-too-low", "a loss that hardly moved, or training that ended while it got better", checks_loss.rate_too_low),
    Check("learned-nothing", "a classification loss that needs no image to be reached", checks_loss.learned_nothing),
    Check("collapsed", "scores that are the same for every image", checks_loss.collapsed),
    Check("saturated", "scores next to 0 or 1 that are wrong", checks_scores.saturated),
    Check("at-chance", "classes whose images are ranked no better than by chance", checks_scores.at_chance),
    Check("never-predicted", "classes that never reach their threshold", checks_scores.never_predicted),
    Check("overfitting", "a training loss that falls while the held-out mAP falls", checks_loss.overfitting),
    Check("best-and-last", "a last epoch far below the best one", checks_loss.best_and_last),
    Check("few-positives", "classes with too few training images", checks_data.few_positives),
    Check("data-changed", "data that were prepared again since the training", checks_data.data_changed),
)


def examine(evidence: Evidence, checks: Sequence[Check] = CHECKS) -> tuple[Finding, ...]:
    """Return the finding of every check: first the faults, the worst first, then the rest in the order of the checks."""
    findings = [replace(outcome(check.look, evidence), name=check.name, looks_for=check.looks_for) for check in checks]
    worst_first = (*SEVERITIES, None)
    return tuple(sorted(findings, key=lambda finding: worst_first.index(finding.severity)))
