"""Metrics: functions of two arrays. Targets are 1 (active), 0 (inactive) or -1 (unknown, left out)."""

from sadcl_core.metrics.average_precision import average_precision
from sadcl_core.metrics.precision_recall import precision_recall

__all__ = ["average_precision", "precision_recall"]
