"""Metrics: functions of two arrays. Targets are 1 (active), 0 (inactive) or -1 (unknown, left out)."""

from sadcl_core.metrics.average_precision import AveragePrecisions, average_precisions, two_sided_precisions
from sadcl_core.metrics.bootstrap import (
    BootstrapSamples,
    bootstrap_average_precision,
    default_samples,
    interval,
    mean_over_classes,
)
from sadcl_core.metrics.calibration_error import BinSums, CalibrationError, Reliability, bin_sums, calibration_error
from sadcl_core.metrics.hamming_loss import hamming_loss
from sadcl_core.metrics.label_ranking import LabelRanking, label_ranking
from sadcl_core.metrics.localisation import Localisation, box_cover, box_energy, pointing_hit, points_in_boxes
from sadcl_core.metrics.per_image import PerImage, per_image
from sadcl_core.metrics.precision_recall import NAMES, Counts, class_ratios, decision_counts, precision_recall, ratios
from sadcl_core.metrics.precision_recall_curve import Curve, precision_recall_curves

__all__ = [
    "NAMES",
    "AveragePrecisions",
    "BinSums",
    "BootstrapSamples",
    "CalibrationError",
    "Counts",
    "Curve",
    "LabelRanking",
    "Localisation",
    "PerImage",
    "Reliability",
    "average_precisions",
    "bin_sums",
    "bootstrap_average_precision",
    "box_cover",
    "box_energy",
    "calibration_error",
    "class_ratios",
    "decision_counts",
    "default_samples",
    "hamming_loss",
    "interval",
    "label_ranking",
    "mean_over_classes",
    "per_image",
    "pointing_hit",
    "points_in_boxes",
    "precision_recall",
    "precision_recall_curves",
    "ratios",
    "two_sided_precisions",
]
