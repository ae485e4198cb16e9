"""The share of images in which each class is active, as the selective loss needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sadcl_core.config.schema import DataSection
from sadcl_core.data.loader import make_loader
from sadcl_core.data.split import Split
from sadcl_core.errors import UsageError
from sadcl_core.inference.load import read_card_of_setting
from sadcl_core.inference.score import score
from sadcl_core.runs.card import ModelCard
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.run_directory import find_model


def card_of_first_model(path: str, classes: Sequence[str]) -> ModelCard:
    """Return the card of a model whose mean scores are the prior.

    Raises:
        DataError: there is no such model.
        UsageError: it lacks a class; see also `read_card_of_setting`.
    """
    card = read_card_of_setting("loss.selective.prior_model", path)
    missing = [name for name in classes if name not in card.classes]
    if missing:
        raise UsageError(
            f"loss.selective.prior_model={path} has no class {missing[0]!r} (missing: {len(missing):,} of {len(classes):,}). "
            "Name a model of these classes."
        )
    return card


def class_prior(
    split: Split, path: str, data: DataSection, *, device: torch.device, precision: str, progress: Callable[[int, int], None]
) -> Tensor:
    """Return (K,) the share of images in which each class is active: the mean score of a first model, or by the known labels.

    Ben-Baruch et al. (CVPR 2022) take the scores of a model that was trained with unknown labels left out. With an empty path the
    known labels decide.

    Raises:
        SadclError: as `card_of_first_model`, and for images that cannot be read.
    """
    if not path:
        return torch.from_numpy(split.active_shares())
    classes = split.manifest.classes
    card = card_of_first_model(path, classes)
    loader = make_loader(split, card.preprocessing.resize, batch_size=data.batch_size, workers=data.workers)
    first = load_model(find_model(Path(path))[0]).classifier.to(device).eval()
    scored = score(first, loader, card=card, device=device, precision=precision, progress=progress)
    return torch.from_numpy(scored.scores).float().mean(dim=0)[[card.classes.index(name) for name in classes]]
