"""Calibration on held-out images: thresholds per class, scores that are probabilities, and what both are worth.

Arrays in, arrays out. Targets are 1 (active), 0 (inactive) or -1 (unknown, left out).
"""

from sadcl_core.metrics.calibration.cross_fitting import CrossFit, cross_fit
from sadcl_core.metrics.calibration.objective import Objective, parse_objective
from sadcl_core.metrics.calibration.probabilities import (
    ProbabilityMap,
    apply_probabilities,
    before_calibration,
    fit_probabilities,
)
from sadcl_core.metrics.calibration.thresholds import TunedThresholds, choose_thresholds, global_threshold

__all__ = [
    "CrossFit",
    "Objective",
    "ProbabilityMap",
    "TunedThresholds",
    "apply_probabilities",
    "before_calibration",
    "choose_thresholds",
    "cross_fit",
    "fit_probabilities",
    "global_threshold",
    "parse_objective",
]
