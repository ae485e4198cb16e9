"""Predictions of any program, read from a file and put beside their labels, so that they can be evaluated without a model."""

from sadcl_core.evaluation.score_files.matching import Matched, match_labels
from sadcl_core.evaluation.score_files.paths import match_paths
from sadcl_core.evaluation.score_files.reading import holds_scores, read_scores
from sadcl_core.evaluation.score_files.values import ScoreFile
from sadcl_core.evaluation.score_files.writing import refuse_target, write_scores

__all__ = ["Matched", "ScoreFile", "holds_scores", "match_labels", "match_paths", "read_scores", "refuse_target", "write_scores"]
