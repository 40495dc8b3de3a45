"""The figures that gates speak of, each with the interval it lies in.

Intervals of ratios of times are widened by the noise floor: what two copies of one model differ by must not miss a
gate. Starts are few, so their interval is their range; sizes, counts and answers are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from optimizer.bench.gates import Figure
from optimizer.bench.measure import Race, Start
from optimizer.report.records import Accuracy, Change, Result
from optimizer.runtime import stats
from optimizer.runtime.stats import Span

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def gather(result: Result, race: Race, lane: int, starts: Sequence[Sequence[Start]]) -> dict[str, Figure]:
    """All figures of the candidate on `lane` of the race; `starts` holds baseline's and candidate's, or nothing."""
    found = {**exact(result), **times(race, lane)}
    if result.throughput is not None:
        found["throughput"] = _throughput(race, lane, result.throughput.after)
    return found | (_started(*starts) if starts else {})


def exact(result: Result) -> dict[str, Figure]:
    """The figures that need no measuring."""
    found = {"size": _exact(result.size_bytes), "params": _exact(result.params), "macs": _exact(result.macs)}
    return found | (_answers(result.accuracy) if result.accuracy else {})


def times(race: Race, lane: int) -> dict[str, Figure]:
    """Latency and its quantiles, in milliseconds and as ratios `after / before`."""
    found = {name: _quantile(race, lane, q) for name, q in _QUANTILES.items()}
    return found | {"latency": Figure(found["p50"].after, widened(inverse(Span(*race.speedup(lane))), race.floor))}


def _quantile(race: Race, lane: int, q: float) -> Figure:
    runs = race.times.runs
    ratio, after = stats.quantile_ratio(q, runs[0], runs[lane]), stats.quantile_span(q, runs[lane])
    return Figure(Span(*(value * 1e3 for value in after)), widened(ratio, race.floor))


def _throughput(race: Race, lane: int, rate: float) -> Figure:
    """The rate is the inverse of a median time, and so is its interval."""
    wall = stats.quantile_span(0.5, race.times.counted[lane])
    ratio = widened(Span(*race.speedup(lane)), race.floor)
    return Figure(Span(rate, rate * wall.value / wall.hi, rate * wall.value / wall.lo), ratio)


def _started(before: Sequence[Start], after: Sequence[Start]) -> dict[str, Figure]:
    figures: dict[str, Callable[[Start], float]] = {
        "load": lambda start: start.load * 1e3,
        "first_run": lambda start: start.first_run * 1e3,
        "memory": lambda start: start.memory,
    }
    found = {}
    for name, of in figures.items():
        ones, others = [of(start) for start in before], [of(start) for start in after]
        ratios = [other / one for one, other in zip(ones, others, strict=True)]
        found[name] = Figure(_range(others), _range(ratios))
    return found


def _answers(grade: Accuracy) -> dict[str, Figure]:
    found = {"drop": grade.drop}
    if grade.quantities:
        found |= {"cosine": grade.cosine, "sqnr": grade.sqnr_db, "max_error": grade.max_error}
    if grade.agreement is not None:
        found["agreement"] = grade.agreement
    ratio = _point(grade.after / grade.before) if grade.before and math.isfinite(grade.before) else None
    return {"accuracy": Figure(_point(grade.after), ratio)} | {
        name: Figure(_point(value)) for name, value in found.items()
    }


def _exact(change: Change[int]) -> Figure:
    return Figure(_point(change.after), _point(change.after / change.before) if change.before else None)


def _point(value: float) -> Span:
    return Span(value, value, value)


def _range(values: Sequence[float]) -> Span:
    return Span(float(np.median(values)), min(values), max(values))


def inverse(span: Span) -> Span:
    """1 / `span`, which may be open at 0 and at infinity."""
    return Span(1 / span.value, 1 / span.hi if span.hi else math.inf, 1 / span.lo if span.lo else math.inf)


def widened(span: Span, floor: float) -> Span:
    """`span` with its ends moved apart by `floor`, a log ratio."""
    return Span(span.value, span.lo * math.exp(-floor), span.hi * math.exp(floor))
