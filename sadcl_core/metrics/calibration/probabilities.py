"""Scores that are probabilities: a temperature and a bias per class, those of rare classes drawn towards the global ones.

    calibrated = sigmoid(logit(score) / T + b)

With b this is Platt's scaling (1999, "Probabilistic outputs for support vector machines"); T alone is the temperature
scaling of Guo et al. (ICML 2017, "On calibration of modern neural networks"), here of one binary decision per class. Both
are found by maximum likelihood on held-out images, with a Gaussian prior on (log T, b): first one pair for all decisions
together, around T = 1 and b = 0, then one pair per class around the global one. The map never falls, so within a class
the ranking, and all that depends on it, stays: average precision, and what a tuned threshold can reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from sadcl_core.metrics.arrays import ROW_BLOCK, Scores, row_blocks
from sadcl_core.metrics.calibration.columns import LOGIT_LIMIT, Column, cells, checked_probabilities, clipped_logit, columns

Values = npt.NDArray[np.float64]

STEPS = 32  # per unit of logit: the mean logit of each cell stands for its scores, which moves T by a part in 1,000
GLOBAL_SPREAD = (1.0, 3.0)  # standard deviations of the prior on the global log T and b
CLASS_SPREAD = (0.3, 1.0)  # the same of a class's around the global ones
LOG_T_LIMIT = 3.0  # T within 1/20..20
BIAS_LIMIT = 20.0


@dataclass(frozen=True)
class ProbabilityMap:
    """calibrated = sigmoid(logit(score) / temperature + bias), per class.

    Attributes:
        temperatures: (K,) above 0; above 1 the scores were too sure.
        biases: (K,).
        global_temperature: of all decisions together.
        global_bias: the same.
        fitted: (K,) false where the global pair stands in, for a class without a positive or without a negative.
    """

    temperatures: Values
    biases: Values
    global_temperature: float
    global_bias: float
    fitted: npt.NDArray[np.bool_]

    def of_class(self, scores: Scores, k: int) -> Scores:
        """Return the scores (N,) of class k, mapped as `apply_probabilities` does."""
        mapped: Scores = apply_probabilities(scores[:, None], self.temperatures[k : k + 1], self.biases[k : k + 1])[:, 0]
        return mapped


def before_calibration(thresholds: npt.ArrayLike, probabilities: ProbabilityMap) -> npt.NDArray[np.float64]:
    """Return the thresholds (K,) of the scores as they were that decide as the given ones do of calibrated scores.

    Example:
        >>> tempered = ProbabilityMap(np.array([2.0]), np.array([0.0]), 2.0, 0.0, np.array([True]))
        >>> before_calibration([0.75], tempered)
        array([0.9])
    """
    values = np.asarray(thresholds, dtype=np.float64)
    with np.errstate(divide="ignore"):
        shifted = (logit(values) - probabilities.biases) * probabilities.temperatures
    return np.asarray(expit(shifted))  # 0 and 1 stay what they are


def fit_probabilities(
    scores: npt.ArrayLike, targets: npt.ArrayLike, *, spread: tuple[float, float] = CLASS_SPREAD, steps: int = STEPS
) -> ProbabilityMap:
    """Fit temperature and bias of each class; use images the model was not trained on.

    Args:
        scores: (N, K) in 0..1; logits beyond 16 on either side, exact 0 and 1 among them, are taken as 16.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        spread: standard deviations of a class's log T and b around the global ones.
        steps: cells per unit of logit; the mean logit of each cell stands for its scores.

    Returns:
        The map; T = 1 and b = 0 when no decision is known.

    Raises:
        ValueError: see `sadcl_core.metrics.calibration.columns.checked_probabilities`.

    Example:
        >>> fitted = fit_probabilities([[0.2], [0.2], [0.2], [0.8]], [[1], [1], [0], [1]])
        >>> bool(fitted.biases[0] > 0)  # the scores were too low
        True
    """
    score_array, target_array = checked_probabilities(scores, targets)
    classes = [_gather(column, steps) for column in columns(score_array, target_array)]
    pooled = sum(classes, start=_gather(Column(score_array[:0].ravel(), score_array[:0].ravel()), steps))
    shared = _fit(pooled, (0.0, 0.0), GLOBAL_SPREAD)
    fitted = np.array([0 < positives.sum() < counts.sum() for counts, positives, _ in classes], dtype=bool)
    pairs = [_fit(each, shared, spread) if use else shared for each, use in zip(classes, fitted, strict=True)]
    log_temperatures, biases = np.array(pairs).reshape(-1, 2).T
    return ProbabilityMap(np.exp(log_temperatures), biases, float(np.exp(shared[0])), shared[1], fitted)


def apply_probabilities(
    scores: npt.ArrayLike, temperatures: npt.ArrayLike, biases: npt.ArrayLike, *, block: int = ROW_BLOCK
) -> Scores:
    """Map scores to probabilities, class by class; a higher score never gets a lower probability.

    Exact 0 and 1 are taken for their nearest neighbours inside, so each comes out the same as that neighbour. Other scores
    can only meet where the result is rounded to its type, close to 1 or by underflow to 0.

    Args:
        scores: (N, K) in 0..1.
        temperatures: (K,) above 0.
        biases: (K,).
        block: entries mapped together.

    Returns:
        (N, K), float64 for float64, else float32.

    Raises:
        ValueError: the shapes do not fit, or a temperature is not above 0.

    Example:
        >>> apply_probabilities([[0.9], [0.5]], [2.0], [0.0])
        array([[0.75],
               [0.5 ]])
    """
    array = np.asarray(scores)
    array = array if array.dtype == np.float64 else array.astype(np.float32, copy=False)
    scale, shift = np.asarray(temperatures, dtype=np.float64), np.asarray(biases, dtype=np.float64)
    if array.ndim != 2 or scale.shape != array.shape[1:] or shift.shape != scale.shape:
        raise ValueError(f"scores {array.shape} must be (N, K), temperatures {scale.shape} and biases {shift.shape} (K,)")
    if not (scale > 0).all():
        raise ValueError("temperatures must be above 0")
    result = np.empty_like(array)
    one = array.dtype.type(1)
    inside = np.nextafter(0 * one, one), np.nextafter(one, 0 * one)
    for rows in row_blocks(array.shape, block):
        result[rows] = expit(logit(np.clip(array[rows], *inside).astype(np.float64)) / scale + shift)
    return result


def _gather(column: Column, steps: int) -> Values:
    """Return (3, cells): decisions, positives, and the sum of logits in each cell of the logit scale."""
    size = 2 * LOGIT_LIMIT * steps + 1
    logits = clipped_logit(np.concatenate([column.positives, column.negatives]))
    where = cells(logits, steps)
    positives = where[: len(column.positives)]
    sums = np.bincount(where, weights=logits, minlength=size)
    return np.stack([np.bincount(where, minlength=size), np.bincount(positives, minlength=size), sums])


def _fit(gathered: Values, prior: tuple[float, float], spread: tuple[float, float]) -> tuple[float, float]:
    """Return the most probable (log T, b): least negative log-likelihood plus half the squared distance from the prior."""
    centre, width = np.array(prior), np.array(spread)
    counts, positives, sums = gathered[:, gathered[0] > 0]
    logits = sums / counts

    def loss(pair: Values) -> tuple[float, Values]:
        scaled = logits * np.exp(-pair[0])  # logit / T
        raised = scaled + pair[1]
        away = (pair - centre) / width
        excess = counts * expit(raised) - positives  # derivative by `raised`
        likelihood = (counts * np.logaddexp(0, raised) - positives * raised).sum()
        slope = np.array([-(excess * scaled).sum(), excess.sum()]) + away / width
        return float(likelihood + (away**2).sum() / 2), slope

    limits = [(-LOG_T_LIMIT, LOG_T_LIMIT), (-BIAS_LIMIT, BIAS_LIMIT)]
    best = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=limits, options={"ftol": 1e-12, "gtol": 1e-8})
    return float(best.x[0]), float(best.x[1])
