"""The loss terms of one batch, by name.

A new loss is a function in `sadcl_core.losses`, a row in TERMS, its options in `sadcl_core.config.LossSection`, and a
test file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from sadcl_core.config import LossSection
from sadcl_core.errors import DivergedError
from sadcl_core.losses import asymmetric_loss, prototype_to_sample_loss, sample_to_sample_loss
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

    @cached_property
    def embeddings(self) -> Tensor:
        """(B, K, P), projected once for all terms."""
        return self.classifier.project(self.output.label_features)


def _asymmetric(inputs: LossInputs) -> Tensor:
    options = inputs.options.asymmetric
    return asymmetric_loss(
        inputs.output.logits, inputs.targets, gamma_neg=options.gamma_neg, gamma_pos=options.gamma_pos, clip=options.clip
    )


def _sample_to_sample(inputs: LossInputs) -> Tensor:
    bank = None if inputs.bank is None else inputs.classifier.project(inputs.bank.features)
    return sample_to_sample_loss(
        inputs.embeddings,
        inputs.targets,
        temperature=inputs.options.sample_to_sample.temperature,
        bank=bank,
        bank_mask=None if inputs.bank is None else inputs.bank.filled,
    )


def _prototype_to_sample(inputs: LossInputs) -> Tensor:
    return prototype_to_sample_loss(
        inputs.embeddings,
        inputs.targets,
        prototypes=inputs.classifier.project(inputs.classifier.prototypes),
        temperature=inputs.options.prototype_to_sample.temperature,
    )


@dataclass(frozen=True)
class Term:
    """A loss term: how it is computed, its short name, and whether it needs prototypes and the projection."""

    compute: Callable[[LossInputs], Tensor]
    short: str
    contrastive: bool


TERMS: dict[str, Term] = {
    "asymmetric": Term(_asymmetric, "ASL", contrastive=False),
    "sample_to_sample": Term(_sample_to_sample, "S2S", contrastive=True),
    "prototype_to_sample": Term(_prototype_to_sample, "P2S", contrastive=True),
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
