"""The Pareto front of finished trials, and the choice of the best.

A trial dominates another if it is no worse in time, drop and size, and better in one of them. Only trials that keep to
the bound count. Times are shares of the original's, drops differences of the metric, sizes shares of the original's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from optimizer.tune.settings import Objective


@dataclasses.dataclass(frozen=True)
class Point:
    """A finished trial that was judged to the end. `time` is None where nothing was timed."""

    number: int
    key: str
    content: str
    """What the model computes, as a name: recipes that lead to the same model have it in common."""
    recipe: str
    """On one line, for people."""
    steps: str
    """The same as TOML, with nothing left to timing."""
    params: dict[str, Any]
    time: float | None
    drop: float
    upper: float
    size: float
    sqnr_db: float
    holds: bool

    @property
    def values(self) -> tuple[float, ...]:
        """What is to be small."""
        return (*(() if self.time is None else (self.time,)), self.drop, self.size)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is no worse in any value and better in some."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def front(points: Sequence[Point]) -> list[Point]:
    """The points within the bound that no other such point dominates, the best times (or sizes) first; of equal points,
    and of those that are one model (timed twice where two workers had it at once), the earliest."""
    held = models(points)
    best = [one for one in held if not any(dominates(other.values, one.values) for other in held)]
    unique = {point.values: point for point in sorted(best, key=lambda point: -point.number)}
    return sorted(unique.values(), key=lambda point: point.values)


def models(points: Sequence[Point]) -> list[Point]:
    """The points within the bound, one for each model: the earliest."""
    return list({point.content: point for point in sorted(points, key=lambda one: -one.number) if point.holds}.values())


def ranked(points: Sequence[Point], objective: Objective) -> list[Point]:
    """Points of a front in the order in which the objective likes them."""
    if objective == "size":
        return sorted(points, key=lambda point: (point.size, point.drop))
    return sorted(points, key=lambda point: (point.time if point.time is not None else 1.0, point.size))
