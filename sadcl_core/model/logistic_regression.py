"""L2-regularised logistic regression of every label on the same features: exact, for all labels at once, with unknown labels.

It is the linear probe of the literature (Kornblith et al., "Do Better ImageNet Models Transfer Better?", CVPR 2019): frozen
features, standardised, and a strength of the regularisation chosen by cross-validation on the training images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STRENGTHS = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)  # strong to weak; of 80 to 100,000 images one lies within
FOLDS = 5
ITERATIONS = 200  # of L-BFGS, which ends before where it has converged
SKETCH = 12  # of a fold: its loss is known to three digits then, and the next strength goes on from there

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LogisticRegression:
    """A linear classifier of K labels on standardised features.

    Attributes:
        weight: (K, D), for features less `mean`, over `deviation`.
        bias: (K,).
        mean: (D,), of the training features.
        deviation: (D,), their standard deviation; 1 where a feature is constant.
        strength: lambda in `sum of log losses + lambda / 2 * sum of squared weights`; scikit-learn's C is 1 / lambda.
        losses: mean log loss per known label on images left out, of each strength tried, strong to weak.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor
    strength: float
    losses: dict[float, float]

    def logits(self, features: Tensor) -> Tensor:
        """Return (N, K) for features (N, D)."""
        return F.linear((features - self.mean) / self.deviation, self.weight, self.bias)


def fit_logistic_regression(
    features: Tensor,
    targets: Tensor,
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
    seed: int = 1,
    progress: Progress | None = None,
) -> LogisticRegression:
    """Fit all labels, with the strength whose log loss on images left out is least; it is the same for all labels.

    A label that is never active, or never inactive, gets no weights and the logarithm of its odds, half an image added to both.

    Args:
        features: (N, V, D) of V views of N images; each view counts 1 / V, and the strength is chosen on the first ones.
        targets: (N, K), 1, 0 or -1 for unknown, which counts nothing.
        strengths: strong to weak; weaker ones are not tried after the loss has risen twice. A single one is taken.
        folds: parts of the images, each left out once.
        seed: of the folds.
        progress: called with the number of fits that are done, of how many at most.

    Raises:
        ValueError: there are fewer images than folds, or no strength.

    Example:
        >>> features = torch.tensor([[[0.0]], [[1.0]], [[2.0]], [[3.0]]])
        >>> fit = fit_logistic_regression(features, torch.tensor([[0], [0], [1], [1]]), strengths=(0.1,))
        >>> [round(value, 1) for value in fit.logits(features[:, 0])[:, 0].tolist()]
        [-3.7, -1.2, 1.2, 3.7]
    """
    if not strengths or (len(strengths) > 1 and len(features) < folds):
        raise ValueError(f"{len(features)} images and {len(strengths)} strengths: at least {folds} and 1 are needed")
    count, views, _ = features.shape
    flat = features.float().flatten(0, 1)
    mean, deviation = flat.mean(dim=0), flat.std(dim=0, correction=0)
    deviation = deviation.where(deviation > 1e-6, 1)
    flat = (flat - mean) / deviation
    basis = _principal_axes(flat)
    flat = flat @ basis
    rows = targets.repeat_interleave(views, dim=0)
    solvable = ((targets == 1).any(dim=0) & (targets == 0).any(dim=0)).nonzero()[:, 0]
    losses: dict[float, float] = {}
    if len(strengths) > 1 and len(solvable):
        generator = torch.Generator().manual_seed(seed)
        parts = torch.randperm(count, generator=generator) % folds
        losses = _cross_validate(flat[::views], targets[:, solvable], strengths, parts, progress)
    strength = min(losses, key=losses.__getitem__) if losses else strengths[-1]
    weight, bias = flat.new_zeros(targets.shape[1], flat.shape[1]), _log_odds(targets)
    if len(solvable):
        weight[solvable], bias[solvable] = _solve(flat, rows[:, solvable], views, strength, iterations=ITERATIONS)
    return LogisticRegression(weight @ basis.T, bias, mean, deviation, strength, losses)


def _principal_axes(features: Tensor) -> Tensor:
    """Return (D, R): the weights lie in its span, and columns of features (N, D) times it are uncorrelated; R <= min(N, D)."""
    if len(features) < features.shape[1]:
        rows: Tensor = torch.linalg.svd(features, full_matrices=False)[2]
        return rows.T
    axes: Tensor = torch.linalg.eigh(features.T @ features)[1]
    return axes


def _cross_validate(
    features: Tensor, targets: Tensor, strengths: Sequence[float], parts: Tensor, progress: Progress | None
) -> dict[float, float]:
    """Return the log loss on the parts left out for each strength; each fit starts from the one of the strength before."""
    folds = int(parts.max()) + 1
    fits: list[tuple[Tensor, Tensor] | None] = [None] * folds
    losses: dict[float, float] = {}
    for number, strength in enumerate(strengths):
        total = 0.0
        for fold in range(folds):
            train, left_out = parts != fold, parts == fold
            fit = _solve(features[train], targets[train], 1, strength, iterations=SKETCH, start=fits[fold])
            fits[fold] = fit
            total += float(_log_losses(F.linear(features[left_out], *fit), targets[left_out]).sum())
            if progress is not None:
                progress(number * folds + fold + 1, len(strengths) * folds)
        losses[strength] = total / max(int((targets >= 0).sum()), 1)
        if sum(loss > min(losses.values()) for loss in list(losses.values())[-2:]) == 2:
            break
    return losses


def _solve(
    features: Tensor, targets: Tensor, views: int, strength: float, *, iterations: int, start: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return weights (K, D) and biases (K,) that minimise log losses over views plus strength / 2 times the squared weights.

    L-BFGS works on coordinates in which the curvature is about 1 in every direction: that of the loss where all features weigh
    nothing. On principal axes it is a product of one factor a label and one a feature.
    """
    odds = _log_odds(targets)
    if start is None:
        start = features.new_zeros(targets.shape[1], features.shape[1]), odds
    spread = (odds.sigmoid() * odds.sigmoid().neg().add(1))[:, None]
    scales = ((spread * features.square().sum(dim=0) / views + strength).rsqrt(), (spread[:, 0] * len(features) / views).rsqrt())
    scaled_weight, scaled_bias = ((tensor / scale).requires_grad_() for tensor, scale in zip(start, scales, strict=True))
    optimizer = torch.optim.LBFGS(
        [scaled_weight, scaled_bias],
        max_iter=iterations,
        history_size=20,
        tolerance_grad=1e-4,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        weight, bias = scaled_weight * scales[0], scaled_bias * scales[1]
        total = _log_losses(F.linear(features, weight, bias), targets).sum() / views + strength / 2 * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    return (scaled_weight * scales[0]).detach(), (scaled_bias * scales[1]).detach()


def _log_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each label (N, K), 0 where it is unknown."""
    known = targets >= 0
    return F.binary_cross_entropy_with_logits(logits, targets.clamp(min=0).to(logits.dtype), reduction="none") * known


def _log_odds(targets: Tensor) -> Tensor:
    """Return (K,), the logarithm of active over inactive labels, half of one added to each."""
    return torch.log(((targets == 1).sum(dim=0) + 0.5) / ((targets == 0).sum(dim=0) + 0.5))
