"""How much to prune where the bound is not on size: a search over a share that stays.

By latency: the expected share of the time whose measured share is nearest to the wanted one. What is measured falls
with what is expected, but in steps and with noise, so the bracket is cut where a straight line between its ends says
(kept off the ends), a few times.
By drop: the smallest share of MACs (of weights that are not zero) whose answers hold, by bisection; the first try is
the smallest step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from optimizer.errors import BoundMissed

NEAR = 0.05
"""A latency counts as met within this share of the wanted one."""
SMALLEST_STEP = 0.95
"""The share that stays after the least pruning that is tried."""
_LEAST = 0.1
_TRIES = 8
_HALVINGS = 4

Found = TypeVar("Found")


def by_latency(measure: Callable[[float], float | None], wanted: float) -> tuple[float, float]:
    """The expected share, and the measured one, nearest to the `wanted` share of the time (all in 0..1).

    `measure` returns None where a share is out of reach. Raises `BoundMissed` if none comes within `NEAR` of `wanted`.
    """
    low, high = (0.0, 0.0), (1.0, 1.0)
    best: tuple[float, float] | None = None
    share = wanted
    for _ in range(_TRIES):
        found = measure(share)
        if found is not None and (best is None or abs(found - wanted) < abs(best[1] - wanted)):
            best = share, found
        if found is not None and abs(found - wanted) <= NEAR / 2 * wanted:
            break
        low, high = (low, (share, found)) if found is not None and found > wanted else ((share, found or 0.0), high)
        share = _between(low, high, wanted)
    if best is None or abs(best[1] - wanted) > NEAR * wanted:
        near = f"the nearest is {best[1]:.2f}" if best else "no share can be reached"
        raise BoundMissed(f"--latency {wanted:g} is not met within {NEAR:.0%}: {near}; nothing was written")
    return best


def _between(low: tuple[float, float], high: tuple[float, float], wanted: float) -> float:
    (a, at_a), (b, at_b) = low, high
    part = (wanted - at_a) / (at_b - at_a) if at_b > at_a else 0.5
    return a + (b - a) * min(max(part, 0.2), 0.8)


def by_drop(attempt: Callable[[float], Found | None], what: str) -> Found:
    """What the smallest share of `what` that holds gave; `attempt` returns None for one that does not.

    Raises `BoundMissed` if not even the smallest step holds.
    """
    best = attempt(SMALLEST_STEP)
    if best is None:
        raise BoundMissed(
            f"not even with {1 - SMALLEST_STEP:.0%} of the {what} gone does --max-drop hold; nothing was written"
        )
    low, high = _LEAST, SMALLEST_STEP
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = attempt(middle)
        best, low, high = (best, middle, high) if found is None else (found, low, middle)
    return best
