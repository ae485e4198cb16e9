"""The loss terms of one batch, by name.

A new loss is a function in `sadcl_core.losses`, a row in TERMS, its options in `sadcl_core.config.LossSection`, and a
test file; its short name stands in `sadcl_core.methods.SHORT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from sadcl_core.config import LossSection
from sadcl_core.errors import DivergedError
from sadcl_core.losses import asymmetric_loss, image_to_image_loss, prototype_to_sample_loss, sample_to_sample_loss
from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.model.memory_bank import MemoryBank


@dataclass
class LossInputs:
    """What a term may look at."""

    classifier: Classifier
    output: ClassifierOutput
    targets: Tensor  # (B, K), on the device
    bank: MemoryBank | None
    options: LossSection

    @property
    def active(self) -> Tensor:
        """(B, K), true where the label is active, not where it is unknown."""
        return self.targets == 1


def _asymmetric(inputs: LossInputs) -> Tensor:
    options = inputs.options.asymmetric
    return asymmetric_loss(
        inputs.output.logits, inputs.targets, gamma_neg=options.gamma_neg, gamma_pos=options.gamma_pos, clip=options.clip
    )


def _sample_to_sample(inputs: LossInputs) -> Tensor:
    options, project = inputs.options.sample_to_sample, inputs.classifier.project
    bank, bank_labels = None, None
    if inputs.bank is not None:
        chosen = inputs.bank.filled  # (M, K)
        if options.bank_classes == "present":
            chosen = chosen & inputs.active.any(dim=0)
        bank, bank_labels = project(inputs.bank.features[chosen]), chosen.nonzero()[:, 1]
    return sample_to_sample_loss(
        project(inputs.output.label_features[inputs.active]),  # (N, P), the active labels alone
        inputs.active.nonzero()[:, 1],
        temperature=options.temperature,
        bank=bank,
        bank_labels=bank_labels,
    )


def _prototype_to_sample(inputs: LossInputs) -> Tensor:
    present = inputs.active.any(dim=0).nonzero()[:, 0]  # (C,), classes without an active label have no term
    project = inputs.classifier.project
    return prototype_to_sample_loss(
        project(inputs.output.label_features[:, present]),  # (B, C, P)
        inputs.targets[:, present],
        prototypes=project(inputs.classifier.prototypes[present]),
        temperature=inputs.options.prototype_to_sample.temperature,
    )


def _image_to_image(inputs: LossInputs) -> Tensor:
    images = inputs.output.label_features.mean(dim=1)  # (B, D); of the pooled head, the pooled feature itself
    return image_to_image_loss(
        inputs.classifier.project(images), inputs.targets, temperature=inputs.options.image_to_image.temperature
    )


@dataclass(frozen=True)
class Term:
    """A loss term: how it is computed, and whether it compares projected features."""

    compute: Callable[[LossInputs], Tensor]
    contrastive: bool


TERMS: dict[str, Term] = {
    "asymmetric": Term(_asymmetric, contrastive=False),
    "sample_to_sample": Term(_sample_to_sample, contrastive=True),
    "prototype_to_sample": Term(_prototype_to_sample, contrastive=True),
    "image_to_image": Term(_image_to_image, contrastive=True),
}


def loss_terms(inputs: LossInputs, names: Iterable[str]) -> dict[str, Tensor]:
    """The named terms, unweighted."""
    return {name: TERMS[name].compute(inputs) for name in names}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """What is minimised.

    Raises:
        DivergedError: a term is not finite; the message names it.
    """
    total: Tensor | None = None
    for name, term in terms.items():
        part = weights[name] * term
        total = part if total is None else total + part
    assert total is not None, "a stage has at least one loss"
    if not bool(total.isfinite()):
        broken = next((name for name, term in terms.items() if not bool(term.isfinite())), "total")
        raise DivergedError(
            f"The loss term {broken} is not a finite number. Lower the learning rate with --lr, or use --precision fp32."
        )
    return total
