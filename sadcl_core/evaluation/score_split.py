"""Score the images of a split with a model, and look at its attention and label features in the same pass."""

from __future__ import annotations

from contextlib import nullcontext

from sadcl_core.data.loader import make_loader
from sadcl_core.data.split import Split
from sadcl_core.evaluation.localise import LocalisationObserver, cannot_be_localised
from sadcl_core.evaluation.scored_split import ScoredSplit, scored_by
from sadcl_core.evaluation.similarity import SimilarityObserver
from sadcl_core.inference.embedding_index import fingerprint
from sadcl_core.inference.feature_cache import open_stored
from sadcl_core.inference.load import Model
from sadcl_core.inference.score import Observer, score
from sadcl_core.runtime.progress import Progress


def score_split(
    model: Model,
    split: Split,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    similarity: bool = False,
    known_share: float = 0.0,
    progress: Progress | None = None,
) -> ScoredSplit:
    """Return the scores of a model on a split; several processes share the images, and each returns all scores.

    Where images have boxes, the attention is compared with them. A run with a frozen backbone whose features of the split are
    still there reads them instead of the images.

    The split has the classes in the model's order. With `similarity` the label features are compared with the prototypes, if the
    model has any; `known_share` of the labels of each image are given with it, and left out of the targets.

    Raises:
        DataError: an image cannot be read.
        NotFiniteError: the model gives NaN.
    """
    card, count = model.card, len(split) if limit is None else min(limit, len(split))
    attention = None if model.resize or cannot_be_localised(split) else LocalisationObserver(split)  # boxes are of whole images
    cosines = SimilarityObserver(model.classifier, count) if similarity and card.has_prototypes else None
    observers: list[Observer] = [observer for observer in (attention, cosines) if observer is not None]
    as_stored = model.tta == "none" and not model.resize and not card.model.second_look
    with open_stored(model, split, limit=limit) if as_stored else nullcontext() as features:
        scored = score(
            model.classifier,
            make_loader(split, model.preprocessing.resize, batch_size=batch_size, workers=workers, limit=limit)
            if features is None
            else features.loader(split, batch_size=batch_size, limit=limit),
            card=card.as_trained,
            device=model.device,
            precision=model.precision,
            tta=model.tta,
            known_share=known_share,
            observers=observers,
            progress=progress,
        )
    how = {
        "tta": "" if model.tta == "none" else model.tta,
        "resize": model.resize,
        "known_share": known_share,
        "fingerprint": fingerprint(model.classifier.state_dict()),
    }
    return scored_by(
        model,
        split,
        limit,
        scores=card.calibrated_scores(scored.scores),
        as_trained=scored.scores,
        targets=scored.targets,
        seconds=scored.seconds,
        how={name: value for name, value in how.items() if value},
        localisation=None if attention is None else attention.result(),
        similarity=None if cosines is None else cosines.result(),
    )
