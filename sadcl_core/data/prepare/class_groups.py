"""Groups of classes by what occurs together in the training split, each stored as a data set for a teacher, as in CPSD."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.shape import shape_classes
from sadcl_core.data.statistics import LabelStatistics, label_statistics
from sadcl_core.errors import UsageError


def class_groups(statistics: LabelStatistics, number: int, *, apart: bool = False, seed: int = 0) -> list[list[int]]:
    """Divide K classes into groups by spectral clustering, as CPSD (IJCAI 2022) does.

    The affinity of two classes is the mean of sqrt(P(j | i)) and sqrt(P(i | j)); see `LabelStatistics.conditional`. With
    `apart`, by 1 less the affinity, classes that rarely occur together are put together.

    Returns:
        Indices of classes, each once; fewer groups where classes cannot be told apart.

    Example:
        >>> together = np.array([[9, 8, 0, 1], [8, 9, 1, 0], [0, 1, 9, 7], [1, 0, 7, 9]])
        >>> counts = LabelStatistics(np.diag(together), together, known=np.full((4, 4), 9))
        >>> class_groups(counts, 2), class_groups(counts, 2, apart=True)
        ([[0, 1], [2, 3]], [[0, 2], [1, 3]])
    """
    from sklearn.cluster import SpectralClustering  # takes a second

    roots = np.sqrt(statistics.conditional())
    affinity = (roots + roots.T) / 2
    if apart:
        affinity = 1 - affinity
    clustering = SpectralClustering(number, affinity="precomputed", random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Graph is not fully connected")  # classes that never occur with another one
        groups = clustering.fit_predict(affinity)
    return sorted(np.flatnonzero(groups == group).tolist() for group in np.unique(groups))


def write_class_groups(manifest: Manifest, number: int, folder: Path, *, seed: int = 0) -> dict[Path, tuple[str, ...]]:
    """Store a manifest for each group of classes that occur together, and for each of classes that rarely do.

    Returned are the folder of each and its classes. All have the images and splits of the whole; a folder is called together-1 or
    apart-1, from 1.

    Raises:
        UsageError: there are too few classes.
        MachineError: the disk is full.
    """
    classes = manifest.classes
    if not 2 <= number < len(classes):
        raise UsageError(f"--class-groups {number}: give 2 groups or more, and fewer than the {len(classes)} classes.")
    statistics = label_statistics(manifest.split("train" if "train" in manifest.splits else "all"))
    groups = {}
    for kind in ("together", "apart"):
        for place, group in enumerate(class_groups(statistics, number, apart=kind == "apart", seed=seed), start=1):
            part = shape_classes(manifest, merge={}, keep=[classes[k] for k in group])
            part.description = replace(part.description, name=f"{manifest.description.name}-{kind}-{place}")
            groups[folder / f"{kind}-{place}"] = part.save(folder / f"{kind}-{place}").classes
    return groups
