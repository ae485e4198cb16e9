"""The loss terms of one batch, by name, and the module that computes them.

A new loss is a function in `sadcl_core.losses`, a row in TERMS, its options in `sadcl_core.config.schema.LossSection`, and a
test file; its short name stands in `sadcl_core.config.methods.SHORT`.

Several processes hold a share of the batch each. They gather what a term compares before it is computed, so that each of them
has the loss of the whole batch, contrasts with the labels of all, and, averaged over processes, its exact gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sadcl_core import losses
from sadcl_core.config.schema import LossSection
from sadcl_core.data.splicing import Splices
from sadcl_core.data.transforms import Inputs
from sadcl_core.errors import DivergedError
from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.model.known_labels import reveal
from sadcl_core.model.memory_bank import MemoryBank, confident
from sadcl_core.model.second_look import BRANCH
from sadcl_core.runtime.distributed import all_gather, all_gather_with_grad, all_reduce

Counted = Literal["known", "active", "images"]  # what a term is a mean over
LEAST_COSINE = 0.1  # of words and decoded words, by which a loss is divided


@dataclass
class LossInputs:
    """The inputs of a term.

    Attributes:
        targets: (B, K), 1, 0 or -1 for unknown, or what lies between where images were mixed; of this process.
        class_weights: (K,) of active and of inactive labels, or None.
        epoch: of the stage, from 1.
        first: place of the first of these images in the batch of this process.
        prior: (K,) share of the images in which each class is active, by the labels that are known; or None.
        splices: cells of the spliced images behind the others, or None.
        teacher_logits: (B, K), or None.
    """

    classifier: Classifier
    output: ClassifierOutput
    targets: Tensor
    bank: MemoryBank | None
    options: LossSection
    class_weights: tuple[Tensor, Tensor] | None = None
    epoch: int = 1
    first: int = 0
    prior: Tensor | None = None
    splices: Splices | None = None
    teacher_logits: Tensor | None = None

    @property
    def weights(self) -> dict[str, Tensor | None]:
        """The class weights, as every classification loss takes them."""
        return dict(zip(("active_weights", "inactive_weights"), self.class_weights or (None, None), strict=True))

    @cached_property
    def active(self) -> Tensor:
        """(B, K), true where the label is active, not where it is unknown or mixed."""
        return self.targets == 1

    @cached_property
    def all_targets(self) -> Tensor:
        """(B, K) of all processes."""
        return all_gather(self.targets)

    @cached_property
    def all_contrasted(self) -> Tensor:
        """(B, K) of all processes, where labels that are neither active nor inactive are unknown."""
        mixed = (self.all_targets > 0) & (self.all_targets < 1)
        return self.all_targets.masked_fill(mixed, -1)


def _asymmetric(inputs: LossInputs) -> Tensor:
    return _classification(inputs, inputs.output.logits)


def _auxiliary(inputs: LossInputs) -> Tensor:
    weights, branches = {**inputs.classifier.head.AUXILIARY, BRANCH: 1.0}, inputs.output.auxiliary
    terms = [weight * _classification(inputs, branches[name]) for name, weight in weights.items() if weight and name in branches]
    return torch.stack(terms).sum()


def _penalty(inputs: LossInputs) -> Tensor:
    """Return the mean over the images of the penalty that the head itself computes."""
    return all_gather_with_grad(inputs.output.measures["penalty"]).mean()


def _dictionary(inputs: LossInputs) -> Tensor:
    """Return the part that DSDL (Zhou et al., AAAI 2021) adds to the classification loss C: (C + beta R) / c - C.

    R is the distance of feature and reconstruction plus lambda times the length of the coefficients, mean over the images; c is
    the cosine of words and decoded words. Both norms are of a whole batch there, and do not depend on its size here.
    """
    options, measures = inputs.classifier.head.options, inputs.output.measures
    residual, coefficients, words = (
        all_gather_with_grad(measures[name]).mean() for name in ("residual", "coefficients", "words")
    )
    classification = _classification(inputs, inputs.output.logits)
    reconstruction: Tensor = options.reconstruction * (residual + options.ridge * coefficients)
    return (classification + reconstruction) / words.clamp(min=LEAST_COSINE) - classification


def _classification(inputs: LossInputs, logits: Tensor) -> Tensor:
    """Return the loss of logits (B, K) of the head or of one of its branches."""
    options = inputs.options.asymmetric
    return losses.asymmetric_loss(
        all_gather_with_grad(logits),
        inputs.all_targets,
        gamma_neg=options.gamma_neg,
        gamma_pos=options.gamma_pos,
        clip=options.clip,
        **inputs.weights,
    )


def _loss_of_logits(inputs: LossInputs, loss: Callable[..., Tensor], **options: Any) -> Tensor:
    """Return a loss of the logits and targets of all processes, with the class weights."""
    return loss(all_gather_with_grad(inputs.output.logits), inputs.all_targets, **options, **inputs.weights)


def _of_logits(loss: Callable[..., Tensor], name: str = "") -> Callable[[LossInputs], Tensor]:
    """Return the term of a function of logits and targets, whose keywords are the options in a part of `LossSection`."""

    def compute(inputs: LossInputs) -> Tensor:
        return _loss_of_logits(inputs, loss, **(getattr(inputs.options, name).model_dump() if name else {}))

    return compute


def _splc(inputs: LossInputs) -> Tensor:
    options = inputs.options.splc
    correct = inputs.epoch >= options.from_epoch
    return _loss_of_logits(inputs, losses.splc_loss, correct=correct, **options.model_dump(exclude={"from_epoch"}))


def _selective(inputs: LossInputs) -> Tensor:
    options = inputs.options.selective
    return _loss_of_logits(inputs, losses.selective_loss, prior=inputs.prior, **options.model_dump(exclude={"prior_model"}))


def _distillation(inputs: LossInputs) -> Tensor:
    assert inputs.teacher_logits is not None, "refused by check_teachers"
    return losses.distillation_loss(all_gather_with_grad(inputs.output.logits), all_gather(inputs.teacher_logits))


def _splice_consistency(inputs: LossInputs) -> Tensor:
    """Return the mean over cells of BCE between the scores of a cell and of the image that it shows, which is not changed."""
    splices, logits = inputs.splices, inputs.output.logits
    cost = logits[:0].sum(dim=1)  # of each cell; a process with a single image has no spliced one
    if splices is not None:
        cells = tuple(splices.cells(maps[-len(splices.sources) :]) for maps in inputs.output.maps)
        scores = logits.detach()[splices.sources.flatten()].sigmoid()
        costs = F.binary_cross_entropy_with_logits(inputs.classifier.classify(cells).logits, scores, reduction="none")
        cost = costs.float().mean(dim=1) * splices.shown.flatten()
    cost = all_gather_with_grad(cost.float())
    return cost.sum() / max(len(cost), 1)


def _sample_to_sample(inputs: LossInputs) -> Tensor:
    options, project = inputs.options.sample_to_sample, inputs.classifier.project
    bank, bank_labels = None, None
    if inputs.bank is not None:
        slots = inputs.bank.contrasted(inputs.active, inputs.first)  # (M, K)
        if options.bank_classes == "present":
            slots = slots & (inputs.all_targets == 1).any(dim=0)
        slot, bank_labels = slots.nonzero(as_tuple=True)  # once, since a GPU waits for the count each time
        bank = project(inputs.bank.features[slot, bank_labels])
    image, label = inputs.active.nonzero(as_tuple=True)
    return losses.sample_to_sample_loss(
        all_gather_with_grad(project(inputs.output.label_features[image, label])),  # (N, P), the active labels alone
        all_gather(label),
        temperature=options.temperature,
        bank=bank,
        bank_labels=bank_labels,
    )


def _prototype_to_sample(inputs: LossInputs) -> Tensor:
    present = (inputs.all_contrasted == 1).any(dim=0).nonzero()[:, 0]  # (C,), classes without an active label have no term
    project = inputs.classifier.project
    return losses.prototype_to_sample_loss(
        all_gather_with_grad(project(inputs.output.label_features[:, present])),  # (B, C, P)
        inputs.all_contrasted[:, present],
        prototypes=project(inputs.classifier.prototypes[present]),
        temperature=inputs.options.prototype_to_sample.temperature,
    )


def _image_to_image(inputs: LossInputs) -> Tensor:
    images = inputs.output.label_features.mean(dim=1)  # (B, D); of the pooled head, the pooled feature itself
    return losses.image_to_image_loss(
        all_gather_with_grad(inputs.classifier.project(images)),
        inputs.all_targets,
        temperature=inputs.options.image_to_image.temperature,
    )


@dataclass(frozen=True)
class Term:
    """A loss term: its function, the labels or images it is a mean over, and the parts it trains beside backbone and head.

    Attributes:
        probabilities: whether a model trained with it scores labels with probabilities.
        by_epoch: whether it depends on the epoch.
        uses_unknown: whether it learns from unknown labels.
        measures: the entries of `HeadOutput.measures` that it reads.
    """

    compute: Callable[[LossInputs], Tensor]
    over: Counted
    projection: bool = False
    prototypes: bool = False
    probabilities: bool = True
    by_epoch: bool = False
    uses_unknown: bool = False
    measures: frozenset[str] = frozenset()


TERMS: dict[str, Term] = {
    "asymmetric": Term(_asymmetric, over="known"),
    "sample_to_sample": Term(_sample_to_sample, over="active", projection=True),
    "prototype_to_sample": Term(_prototype_to_sample, over="active", projection=True, prototypes=True),
    "image_to_image": Term(_image_to_image, over="images", projection=True),
    "two_way": Term(_of_logits(losses.two_way_loss, "two_way"), over="images", probabilities=False),
    "hill": Term(_of_logits(losses.hill_loss, "hill"), over="known", probabilities=False),
    "hinge": Term(_of_logits(losses.hinge_loss, "hinge"), over="known", probabilities=False),
    "splc": Term(_splc, over="known", probabilities=False, by_epoch=True),
    "selective": Term(_selective, over="images", probabilities=False, uses_unknown=True),
    "focal": Term(_of_logits(losses.focal_loss, "focal"), over="known", probabilities=False),
    "polynomial": Term(_of_logits(losses.polynomial_loss, "polynomial"), over="known"),
    "distillation": Term(_distillation, over="images", uses_unknown=True),
    "zlpr": Term(_of_logits(losses.zlpr_loss), over="images", probabilities=False),
    "auxiliary": Term(_auxiliary, over="known"),
    "penalty": Term(_penalty, over="images", measures=frozenset({"penalty"})),
    "splice_consistency": Term(_splice_consistency, over="images"),
    "dictionary": Term(_dictionary, over="known", measures=frozenset({"residual", "coefficients", "words"})),
}


def loss_terms(inputs: LossInputs, names: Iterable[str]) -> dict[str, Tensor]:
    """Return the named terms, without their weights."""
    return {name: TERMS[name].compute(inputs) for name in names}


def totals(targets: Sequence[Tensor]) -> dict[Counted, float]:
    """Return how many labels or images the terms are means over, in targets (B, K) of all processes; at least 1.

    Example:
        >>> totals([torch.tensor([[1, 0], [-1, 1]]), torch.tensor([[0, 0]])])
        {'known': 5.0, 'active': 2.0, 'images': 3.0}
    """
    sums = [[float((some >= 0).sum()), float((some == 1).sum()), float(len(some))] for some in targets]
    known, active, images = all_reduce(torch.tensor(sums, dtype=torch.float64).sum(dim=0)).clamp(min=1).tolist()
    return {"known": known, "active": active, "images": images}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the sum of the terms times their weights, which is minimised.

    Example:
        >>> terms = {"asymmetric": torch.tensor(2.0), "image_to_image": torch.tensor(1.0)}
        >>> weighted_sum(terms, {"asymmetric": 1, "image_to_image": 0.5})
        tensor(2.5000)
    """
    total: Tensor | None = None
    for name, term in terms.items():
        part = weights[name] * term
        total = part if total is None else total + part
    assert total is not None, "a stage has at least one loss"
    return total


def refuse_not_finite(values: Mapping[str, float], *, where: str) -> None:
    """Raise a DivergedError if a loss is not finite; the message names the term.

    Example:
        >>> refuse_not_finite({"loss": 0.5}, where="step 1")
    """
    broken = [name for name, value in values.items() if not abs(value) < float("inf")]
    if broken:
        name = next((name for name in broken if name != "loss"), "total")
        raise DivergedError(
            f"The loss term {name} is not a finite number ({where}). Lower the learning rate with --lr, or use --precision fp32."
        )


class TrainingStep(nn.Module):
    """From images and targets to loss terms: all of a step that uses weights, so that it can be wrapped as one module."""

    def __init__(
        self,
        classifier: Classifier,
        *,
        terms: Iterable[str],
        options: LossSection,
        bank: MemoryBank | None = None,
        class_weights: tuple[Tensor, Tensor] | None = None,
        prior: Tensor | None = None,
        known_share: float = 0.0,
    ) -> None:
        """Take names of rows of TERMS, weights of active and of inactive labels (K,), `prior` (K,), and the share to reveal."""
        super().__init__()
        self.classifier = classifier
        self.terms = tuple(terms)
        self.options = options
        self.bank = bank
        self.class_weights = class_weights
        self.prior = prior
        self.known_share = known_share
        self.epoch = 1

    def reveal(self, targets: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the labels (B, K) that are given with the images, if any, and those that are left to learn; drawn by torch."""
        return reveal(targets, share=self.known_share) if self.known_share else (None, targets)

    def forward(
        self,
        images: Inputs,
        targets: Tensor,
        first: int = 0,
        splices: Splices | None = None,
        teacher_logits: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Compute a batch or a micro-batch of normalised images (B, 3, S, S), or maps in their place, and `LossInputs`.

        Returns:
            The terms of all processes together, without weights, and what the bank is to remember of this process: features
            (n, D), their places in the batch and classes (n, 2).
        """
        known, targets = self.reveal(targets)
        output = self.classifier(images, known=known)
        inputs = LossInputs(
            self.classifier,
            output,
            targets,
            self.bank,
            self.options,
            class_weights=self.class_weights,
            epoch=self.epoch,
            first=first,
            prior=self.prior,
            splices=splices,
            teacher_logits=teacher_logits,
        )
        terms = loss_terms(inputs, self.terms)
        if self.bank is None:
            return terms, output.logits.new_empty(0, self.classifier.head.width), targets.new_empty(0, 2)
        scores = output.logits.detach().float().sigmoid()
        min_score = self.options.sample_to_sample.bank_min_score
        features, places = confident(output.label_features, targets, scores, min_score=min_score)
        return terms, features, places + torch.tensor([first, 0], device=places.device)
