"""The rows of a class that is added to a trained model: a classifier of this class alone, which shares all other weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sadcl_core.data.batches import read_batches
from sadcl_core.data.images import ImageSource
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.load import Model
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.heads.interface import LinearHead
from sadcl_core.model.logistic_regression import STRENGTHS, LogisticRegression, fit_logistic_regression
from sadcl_core.runtime.device import autocast
from sadcl_core.runtime.progress import Progress
from sadcl_core.training.extend import LEAST_PHOTOS

BATCH = 32  # images that show the class, and as many others, of a step
LEARNING_RATE = 3e-3
MOST_BYTES = 1 << 30  # of feature maps that are in memory
STEPS = 60  # of a head of which no layer is solved
PASS = 32  # images of which the head keeps what it computes

Maps = tuple[Tensor, ...]


def refuse_joined(model: Model) -> None:
    """Raise unless a class can be added to a model while the others stay as they are.

    Raises:
        UsageError: in its head the classes look at each other, or share their queries.
    """
    config, extendable = model.card.model, model.classifier.head.extendable
    if extendable:  # also with a class more, which may have to share the query of another
        with torch.device("meta"):
            count, size = len(model.classes) + 1, model.card.img_size
            extendable = Classifier(config, num_classes=count, img_size=size, initialise=False).head.extendable
    if not extendable:
        raise UsageError(
            f"The classes of {model.path} look at each other or share queries in its head {config.head}, so that a new class "
            f"would change the scores of the others. Train with the class among the labels: sadcl train DATA --init-from "
            f"{model.path}."
        )


def images_in_memory(model: Model) -> int:
    """Return of how many images the feature maps may be in memory."""
    size = model.preprocessing.img_size
    maps = _features(model, torch.zeros(1, 3, size, size, dtype=torch.uint8))
    return MOST_BYTES // sum(features.nbytes for features in maps)


class ClassRows:
    """Feature maps of N images, with targets (N,) of 1 where a new class is shown, and the fit of its rows on some of them.

    The rows are trained in `steps` after the linear layer is solved; None: STEPS where none is solved, else 0. Images that cannot
    be read are left out of the N.

    Attributes:
        readable: which of the images that were given are there.
        errors: position -> why an image could not be read.

    Raises:
        DataError: fewer than 2 images of the class can be read, or none without it.
    """

    def __init__(
        self,
        model: Model,
        images: Sequence[ImageSource],
        targets: npt.NDArray[np.int64],
        *,
        steps: int | None,
        seed: int,
        batch_size: int,
        workers: int | None,
        progress: Progress | None,
    ) -> None:
        """Read the images, and find the class that tells those with the new class best from the others."""
        self.model, self.seed = model, seed
        solved = model.classifier.linear is not None or isinstance(model.classifier.head, LinearHead)
        self.steps = steps if steps is not None else 0 if solved else STEPS
        self.errors: dict[int, str] = {}
        parts, done = [], 0
        for batch in read_batches(images, model.read, batch_size=batch_size, workers=workers):
            self.errors |= batch.errors
            if batch.images:
                parts.append(_features(model, torch.stack(batch.images)))
            done += len(batch.sources)
            if progress is not None:
                progress(done, len(images))
        self.readable = np.array([number not in self.errors for number in range(len(images))])
        targets = targets[self.readable]
        if self.errors and (targets.sum() < LEAST_PHOTOS or targets.all()):
            raise DataError(f"Too few of the images can be read to add a class. {self.errors[min(self.errors)]}")
        self.maps: Maps = tuple(torch.cat(maps) for maps in zip(*parts, strict=True))
        self.targets = torch.from_numpy(targets).to(model.device)
        self.strengths: tuple[float, ...] = STRENGTHS
        with torch.no_grad():
            everything = self._batches(torch.arange(len(targets), device=model.device))
            logits = torch.cat([model.classifier.classify(part).logits for part in everything]).float()
        shown, spread = self.targets == 1, logits.std(dim=0).clamp(min=1e-6)
        self.nearest = int(((logits[shown].mean(dim=0) - logits[~shown].mean(dim=0)) / spread).argmax())

    def fit(self, used: npt.NDArray[np.bool_]) -> Classifier:
        """Return a classifier of the class alone after a fit on the images (N,) that are used."""
        whole, card = self.model.classifier, self.model.card
        row = Classifier(card.model, num_classes=1, img_size=card.img_size, initialise=False)
        state = whole.state_dict().items()
        row.assign({name: tensor[[self.nearest]].clone() if name in whole.per_class else tensor for name, tensor in state})
        row.eval().requires_grad_(False)
        rows = torch.from_numpy(np.flatnonzero(used)).to(self.targets.device)
        with torch.no_grad():
            self._solve(row, rows)
        trained = [p.requires_grad_() for name, p in row.named_parameters() if name in whole.per_class and name != "prototypes"]
        self._train(row, rows, trained)
        row.requires_grad_(False)
        features = [row.classify(part).label_features for part in self._batches(rows[self.targets[rows] == 1])]
        row.prototypes.copy_(torch.cat(features).float().mean(dim=0))
        return row

    @torch.no_grad()
    def scores(self, row: Classifier, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return the scores (n,) in 0..1 of the images (N,) that are chosen."""
        rows = torch.from_numpy(np.flatnonzero(chosen)).to(self.targets.device)
        logits = torch.cat([row.classify(part).logits[:, 0] for part in self._batches(rows)])
        return np.asarray(logits.float().sigmoid().cpu().numpy())

    def _batches(self, rows: Tensor) -> Iterator[Maps]:
        """Yield the maps of some of the images, a few at a time."""
        for part in rows.split(PASS):
            yield tuple(features[part] for features in self.maps)

    def _solve(self, row: Classifier, rows: Tensor) -> None:
        """Solve the linear layer of a class; a head beside it starts from nothing."""
        head, linear = row.head, row.linear
        if linear is not None:
            pooled = torch.cat([linear.pool(part[-1]) for part in self._batches(rows)])
            linear.assign(self._regression(pooled[:, None], rows), restandardise=False)
            if linear is not head:
                row.silence_head()
        elif isinstance(head, LinearHead):
            features = torch.cat([row.classify(part).label_features for part in self._batches(rows)])
            fit = self._regression(features, rows)
            weight = fit.weight / fit.deviation
            head.weight.copy_(weight)
            head.bias.copy_(fit.bias - weight @ fit.mean)

    def _regression(self, features: Tensor, rows: Tensor) -> LogisticRegression:
        """Return the fit on features (n, 1, D) of some images; the first one chooses the strength for all."""
        fit = fit_logistic_regression(features, self.targets[rows, None], strengths=self.strengths, seed=self.seed)
        self.strengths = (fit.strength,)
        return fit

    def _train(self, row: Classifier, rows: Tensor, parameters: list[Tensor]) -> None:
        """Train the rows of the class on some images of each kind, which count as all images of the kind do."""
        optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        generator = torch.Generator().manual_seed(self.seed)
        kinds = [rows[self.targets[rows] == kind] for kind in (1, 0)]
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / self.steps)
            optimizer.zero_grad()
            for kind in kinds:
                drawn = kind[torch.randperm(len(kind), generator=generator)[:BATCH].to(kind.device)]
                logits = torch.cat([row.classify(part).logits[:, 0] for part in self._batches(drawn)]).float()
                loss = F.binary_cross_entropy_with_logits(logits, self.targets[drawn].float())
                (loss * len(kind) / len(rows)).backward()
            optimizer.step()


def joined(whole: Classifier, row: Classifier) -> dict[str, Tensor]:
    """Return the state of a classifier with the class of another behind its own; shared tensors are from the first."""
    new = row.state_dict()
    return {
        name: torch.cat([tensor, new[name].to(tensor)]) if name in whole.per_class else tensor
        for name, tensor in whole.state_dict().items()
    }


@torch.no_grad()
def _features(model: Model, images: Tensor) -> Maps:
    with autocast(model.device, model.precision):
        return model.classifier.features(model.preprocessing.normalise(images.to(model.device)))
