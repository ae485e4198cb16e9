"""Score the images of a split with an exported model; imports no torch."""

from __future__ import annotations

import time

import numpy as np

from sadcl_core.data.batches import read_batches
from sadcl_core.data.shards import image_sources
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.evaluation.localise import LocalisationObserver, cannot_be_localised
from sadcl_core.evaluation.scored_split import ScoredSplit, scored_by
from sadcl_core.inference.onnx_model import ATTENTION, BATCH_SIZE, LOGITS, PROBABILITIES, OnnxModel, sigmoid
from sadcl_core.runtime.progress import Progress


def score_exported(
    model: OnnxModel, split: Split, *, workers: int | None = None, limit: int | None = None, progress: Progress | None = None
) -> ScoredSplit:
    """Return the scores of an exported model on a split; arguments and attention as of `score_split`.

    Raises:
        DataError: an image cannot be read.
        NotFiniteError: the model gives NaN.
    """
    count = len(split) if limit is None else min(limit, len(split))
    scores, as_trained = np.empty((2, count, len(model.card.classes)), np.float32)
    targets = split.all_targets()[:count]
    observer = None if cannot_be_localised(split) else LocalisationObserver(split)
    names = (LOGITS, PROBABILITIES, *([] if observer is None else [ATTENTION]))
    start = time.perf_counter()
    for batch in read_batches(image_sources(split, count), model.read, batch_size=BATCH_SIZE, workers=workers):
        if batch.errors:
            raise DataError(batch.errors[min(batch.errors)])
        logits, probabilities, *attention = model.outputs(batch.images, names)
        scores[batch.indices], as_trained[batch.indices] = model.calibrated(logits, probabilities), sigmoid(logits)
        if observer is not None:
            observer.add(attention[0], targets[batch.indices], batch.indices)
        if progress is not None:
            progress(batch.indices[-1] + 1, count)
    seconds, localisation = time.perf_counter() - start, None if observer is None else observer.result()
    measured = {"targets": targets, "seconds": seconds, "localisation": localisation}
    return scored_by(model, split, limit, scores=scores, as_trained=as_trained, how={}, **measured)
