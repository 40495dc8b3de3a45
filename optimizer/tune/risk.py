"""How far accuracy falls on samples that nobody has seen, judged from few.

Counting is too coarse for that: among 20 samples one changed answer is 5%. But every sample tells more than whether
its answer changed. The *margin* of an answer is the score of what is right (its label, or where there are none what
the original answers) less the best other score: it is right where the margin is above 0. Compression adds an error to
the margin, ``e = margin after - margin before``, which is measured on samples that no step has seen, whereas margins
before are known of all samples, since the original learnt from none of them. With errors as a normal distribution::

    P(right after | margin m) = Φ((m + mean(e)) / sd(e))
    fall of a sample          = [m > 0] - P(right after)
    drop                      = mean fall over all samples, but at least what was counted less two standard errors
    upper                     = drop + √(A² + B²)

A is CONFIDENCE standard errors of the mean fall over samples; B is by how much more the mean falls where mean(e) lies
CONFIDENCE standard errors lower and sd(e) is as large as it may be, seen from so few errors.

Cases: scores that are probabilities are compared by their logarithms; without error nothing falls; one single sample
has no spread, so its error itself stands for it. Metrics that are no shares of right answers are judged by parts of
the samples (`spread`): mean and standard error of their drops.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from optimizer.model.ports import Array

CONFIDENCE = 0.84
"""One-sided 80%."""
SURE = 2.0
"""One-sided 98%: so sure must a count be to overrule the estimate."""


@dataclasses.dataclass(frozen=True)
class Risk:
    """A drop as a difference of the metric (positive = worse), and what it stays below with some confidence."""

    drop: float
    upper: float


def margins(scores: Array, right: Array) -> Array:
    """Of rows of scores, shape [rows, classes], the margins of the classes `right`, shape [rows]."""
    rows = np.arange(len(scores))
    values = _logarithms(scores.astype(np.float64))
    own = values[rows, right]
    values[rows, right] = -np.inf
    found: Array = own - values.max(-1)
    return found


def from_margins(every: Array, before: Array, after: Array) -> Risk:
    """The risk, from the original's margins on all samples, and both models' on the samples held back."""
    errors = after - before
    shift, spread = float(errors.mean()), _deviation(errors)
    falls = _falls(every, shift, spread)
    worse = _falls(every, shift - CONFIDENCE * spread / math.sqrt(errors.size), spread * _widening(errors.size))
    error = CONFIDENCE * float(falls.std()) / math.sqrt(len(falls))
    counted = (before > 0).astype(np.float64) - (after > 0)
    least = float(counted.mean() - SURE * counted.std() / math.sqrt(len(counted)))
    drop = max(float(falls.mean()), least)
    return Risk(drop, drop + math.hypot(error, max(float(worse.mean() - falls.mean()), 0.0)))


def spread(drops: Sequence[float]) -> Risk:
    """The risk from the drops of several equal parts of the samples."""
    found = np.asarray(drops, np.float64)
    error = float(found.std(ddof=1)) / math.sqrt(found.size) if found.size > 1 else 0.0
    return Risk(float(found.mean()), float(found.mean()) + CONFIDENCE * error)


def _falls(every: Array, shift: float, spread: float) -> Array:
    """How far each sample falls, as the probability that it is no longer right."""
    right = (every > 0).astype(np.float64)
    found: Array = right - (_normal((every + shift) / spread) if spread else every + shift > 0)
    return found


def _widening(count: int) -> float:
    """By how much a standard deviation from `count` samples may be too small: the root of its degrees of freedom over
    their chi-square quantile, by Wilson and Hilferty's cube."""
    freedom = max(count - 1, 1)
    cube = 1 - 2 / (9 * freedom) - CONFIDENCE * math.sqrt(2 / (9 * freedom))
    return float(max(cube, 0.3) ** -1.5)


def _deviation(errors: Array) -> float:
    return float(errors.std(ddof=1)) if errors.size > 1 else float(abs(errors).max())


def _normal(values: Array) -> Array:
    """The cumulative normal distribution."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in values])


def _logarithms(scores: Array) -> Array:
    if scores.min() < 0 or not np.allclose(scores.sum(-1), 1, atol=1e-3):
        return scores
    found: Array = np.log(np.maximum(scores, 1e-12))
    return found
