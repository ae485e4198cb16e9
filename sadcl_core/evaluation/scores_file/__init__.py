"""Scores of any program, read from a file and matched with labels, so that they can be evaluated without a model."""

from sadcl_core.evaluation.scores_file.match import Matched, match_labels, match_paths
from sadcl_core.evaluation.scores_file.read import ScoresFile, is_scores_file, read_scores
from sadcl_core.evaluation.scores_file.write import check_target, write_scores

__all__ = [
    "Matched",
    "ScoresFile",
    "check_target",
    "is_scores_file",
    "match_labels",
    "match_paths",
    "read_scores",
    "write_scores",
]
