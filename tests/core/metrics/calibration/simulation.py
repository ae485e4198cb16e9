"""Classes of long-tailed frequency with scores whose truth is known, so that nothing is left to the luck of a test set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """N images, K classes; evidence is normal around +-d/2, log-odds are d * evidence + logit(frequency).

    The model's logit is (log-odds - bias) * temperature, so that fitting should find `temperature` and `bias`.
    """

    scores: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int8]
    frequency: Values
    distance: Values
    temperature: Values
    bias: Values

    def macro_f1(self, thresholds: npt.ArrayLike) -> float:
        """Of infinitely many new images."""
        odds = logit(np.clip(thresholds, 1e-12, 1 - 1e-12)) / self.temperature + self.bias
        evidence = (odds - logit(self.frequency)) / self.distance
        right = self.frequency * norm.sf(evidence - self.distance / 2)
        wrong = (1 - self.frequency) * norm.sf(evidence + self.distance / 2)
        return float((2 * right / (right + wrong + self.frequency)).mean())


def world(seed: int, *, images: int = 1000, classes: int = 60, rarest: int = 2, commonest: int = 400) -> World:
    rng = np.random.default_rng(seed)
    frequency = np.exp(rng.uniform(np.log(rarest), np.log(commonest), classes)) / images
    distance = rng.uniform(1.5, 4.5, classes)
    active = rng.random((images, classes)) < frequency
    evidence = rng.normal(size=active.shape) + np.where(active, distance / 2, -distance / 2)
    temperature, bias = np.exp(rng.normal(0, 0.2, classes)), rng.normal(0, 0.6, classes)
    logits = temperature * (distance * evidence + logit(frequency) - bias)
    return World(expit(logits).astype(np.float32), active.astype(np.int8), frequency, distance, temperature, bias)
