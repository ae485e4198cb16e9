"""The equations as naive loops over plain numbers, written from the formulas and from nothing else."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def unit(vector: Tensor) -> Tensor:
    return vector / vector.pow(2).sum().sqrt()


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_neg: float,
    gamma_pos: float,
    clip: float,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
    known: int | None = None,
) -> Tensor:
    losses = []
    for b in range(len(logits)):
        for k in range(logits.shape[1]):
            share = float(targets[b, k])
            if share < 0:
                continue
            p = 1 / (1 + torch.exp(-logits[b, k]))
            q = (1 - p + clip).clamp(max=1) if clip else 1 - p
            active = -((1 - p.detach()) ** gamma_pos) * torch.log(p.clamp(min=1e-5))
            inactive = -((1 - q.detach()) ** gamma_neg) * torch.log(q.clamp(min=1e-5))
            if active_weights is not None:
                active = active * active_weights[k]
            if inactive_weights is not None:
                inactive = inactive * inactive_weights[k]
            losses.append(share * active + (1 - share) * inactive)
    return torch.stack(losses).sum() / (len(losses) if known is None else known)


def selective(
    logits: Tensor,
    targets: Tensor,
    *,
    gammas: tuple[float, float, float],
    clip: float,
    left_out: int,
    prior: Tensor,
    max_prior: float,
    active_weights: Tensor,
    inactive_weights: Tensor,
) -> float:
    gamma_active, gamma_inactive, gamma_unknown = gammas
    unknown = [(float(logits[b, k]), b, k) for b in range(len(logits)) for k in range(logits.shape[1]) if targets[b, k] < 0]
    left = {(b, k) for _, b, k in sorted(unknown, reverse=True)[: left_out * len(logits)]}
    left |= {(b, k) for _, b, k in unknown if prior[k] > max_prior}
    total = 0.0
    for b in range(len(logits)):
        for k in range(logits.shape[1]):
            p, share = 1 / (1 + math.exp(-float(logits[b, k]))), float(targets[b, k])
            q = min(1 - p + clip, 1.0)
            gamma = gamma_unknown if share < 0 else gamma_inactive
            active = (1 - p) ** gamma_active * -math.log(p) * float(active_weights[k])
            inactive = (1 - q) ** gamma * -math.log(q) * float(inactive_weights[k])
            if (b, k) not in left:
                total += inactive if share < 0 else share * active + (1 - share) * inactive
    return total / logits.numel()


def sample_to_sample(
    embeddings: Tensor,
    targets: Tensor,
    *,
    temperature: float,
    bank: Tensor | None = None,
    bank_mask: Tensor | None = None,
) -> Tensor:
    anchors = [(unit(embeddings[b, k]), k) for b in range(len(targets)) for k in range(targets.shape[1]) if targets[b, k] == 1]
    remembered = []
    if bank is not None:
        for m in range(len(bank)):
            for k in range(bank.shape[1]):
                if bank_mask is None or bank_mask[m, k]:
                    remembered += [(unit(bank[m, k]), k)]
    total = embeddings.sum() * 0
    for i, (z_i, class_i) in enumerate(anchors):
        others = [pair for j, pair in enumerate(anchors) if j != i] + remembered
        positives = [z for z, k in others if k == class_i]
        if not positives:
            continue
        denominator = sum((torch.exp(z_i @ z / temperature) for z, _ in others), start=torch.zeros((), dtype=z_i.dtype))
        for z_p in positives:
            total = total - torch.log(torch.exp(z_i @ z_p / temperature) / denominator) / len(positives)
    return total / max(len(anchors), 1)


def image_to_image(embeddings: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    total = embeddings.sum() * 0
    count = len(embeddings)
    for i in range(count):
        others = [j for j in range(count) if j != i]
        alike = [j for j in others if any(targets[i, k] == 1 and targets[j, k] == 1 for k in range(targets.shape[1]))]
        if not alike:
            continue
        similar = {j: torch.exp(unit(embeddings[i]) @ unit(embeddings[j]) / temperature) for j in others}
        denominator = sum(similar.values(), start=torch.zeros((), dtype=embeddings.dtype))
        for j in alike:
            total = total - torch.log(similar[j] / denominator) / len(alike)
    return total / max(count, 1)


def prototype_to_sample(embeddings: Tensor, targets: Tensor, prototypes: Tensor, *, temperature: float) -> Tensor:
    total = embeddings.sum() * 0
    active = int((targets == 1).sum())
    for k in range(targets.shape[1]):
        if not (targets[:, k] == 1).any():
            continue
        above = torch.zeros((), dtype=embeddings.dtype)
        below = torch.zeros((), dtype=embeddings.dtype)
        for i in range(len(targets)):
            if targets[i, k] < 0:
                continue
            e = torch.exp(unit(prototypes[k]) @ unit(embeddings[i, k]) / temperature)
            below = below + e
            if targets[i, k] == 1:
                above = above + e
        total = total - torch.log(above / below)
    return total / max(active, 1)
