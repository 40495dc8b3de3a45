"""Statistics of paired timings: log-ratios of blocks, their confidence interval, and the verdict.

Two models are timed in turn, close together in time, so that what disturbs the machine disturbs both. Runs follow each
other too closely to be independent, and tests on single runs or pairs raise false alarms; so consecutive runs form
*blocks*, and a block is one sample::

    d = log( Q(before) / Q(after) )        Q = the quantile `LOW` of the block's runs
    speedup = exp(m),   ci95 = exp(m ± t(0.975, h - 1) · s / ((1 - 2g/n) · √n))

`m` is the mean of the `h = n - 2g` samples that are left when the `g` largest and `g` smallest are set aside, and `s`
the standard deviation with these drawn in to the nearest that is left (Yuen, "The two-sample trimmed t for unequal
population variances", 1974): a sample that another process has spoilt neither moves nor widens the interval. `g` is
the share `ASIDE` of n, rounded down; it is 0 for few samples.

`LOW` lies below the median because disturbance only ever adds time: at twice as many busy threads as cores half of
all runs are interrupted, which spreads the median of a block, and of its pairs' ratios, but not yet a low quantile.

Blocks of one sitting have something in common too, above all where in memory the models were loaded. Given the sitting
of each block, the median over the blocks of each takes the place of the blocks, if there are `MIN_SITTINGS`.

Cases: no block at all is an error; one block has no interval (0, inf); equal times give the interval (1, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from optimizer.report.records import Quantiles

Floats: TypeAlias = npt.NDArray[np.float64]
Ids: TypeAlias = npt.NDArray[np.int64]
Verdict: TypeAlias = Literal["faster", "slower", "inconclusive"]

FLOOR = 0.01
"""Log ratio below which a difference is never called one: 1% is what layout and alignment alone can make."""

LOW = 0.2
"""The quantile that stands for a block's runs."""

ASIDE = 0.15
"""The share of samples set aside at either end."""

MIN_SITTINGS = 4
"""From so many sittings on, they are the samples; Student's factor for fewer is too wide to be of use."""

RESAMPLES = 400

_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_Z_975 = 1.959964


class Estimate(NamedTuple):
    """`before / after` (above 1: the second is faster) with its 95% confidence interval."""

    speedup: float
    lo: float
    hi: float

    @property
    def halfwidth(self) -> float:
        """Half the interval's width, as a log ratio."""
        return math.inf if self.lo <= 0 else math.log(self.hi / self.lo) / 2

    @property
    def reach(self) -> float:
        """The largest log ratio, in either direction, that the interval still holds."""
        return math.inf if self.lo <= 0 else max(abs(math.log(self.lo)), abs(math.log(self.hi)))


class Grouped(NamedTuple):
    """Times of one model, in any unit, and the block of each, ascending; both of shape [runs]."""

    times: Floats
    blocks: Ids

    def low(self) -> Floats:
        """The quantile `LOW` of every block, in order, of shape [blocks]."""
        starts = np.flatnonzero(np.diff(self.blocks, prepend=self.blocks[:1] - 1))
        return np.array([np.quantile(part, LOW) for part in np.split(self.times, starts[1:])])


def estimate(before: Grouped, after: Grouped, sittings: Ids | None = None) -> Estimate:
    """Speed-up of `after` over `before`, measured in the same blocks; `sittings` is of shape [blocks]."""
    if not before.times.size:
        raise ValueError("nothing was measured")
    values = np.log(before.low()) - np.log(after.low())
    if sittings is not None and (found := np.unique(sittings)).size >= MIN_SITTINGS:
        values = np.array([np.median(values[sittings == sitting]) for sitting in found])
    return _interval(values)


class Span(NamedTuple):
    """A figure and the interval it lies in with 95% confidence."""

    value: float
    lo: float
    hi: float


def verdict(lo: float, hi: float, floor: float = FLOOR) -> Verdict:
    """`faster` or `slower` when the whole interval of the speed-up lies beyond 1 by more than `floor` (log ratio)."""
    if lo > math.exp(floor):
        return "faster"
    return "slower" if hi < math.exp(-floor) else "inconclusive"


def quantiles(seconds: Sequence[float] | Floats) -> Quantiles:
    """p50, p90 and p99 in milliseconds of run times in seconds."""
    p50, p90, p99 = np.quantile(np.asarray(seconds, np.float64), [0.5, 0.9, 0.99]) * 1e3
    return Quantiles(float(p50), float(p90), float(p99))


def quantile_span(q: float, runs: Grouped) -> Span:
    """Quantile `q` of all runs with its 95% interval by resampling whole blocks (percentile bootstrap)."""
    return _bootstrap(lambda pick: _quantile(q, runs, pick), runs.blocks)


def quantile_ratio(q: float, before: Grouped, after: Grouped) -> Span:
    """`after / before` of quantile `q` with its 95% interval; both sides are resampled by the same blocks."""
    return _bootstrap(lambda pick: _quantile(q, after, pick) / _quantile(q, before, pick), before.blocks)


def t_975(freedom: int) -> float:
    """The 97.5% point of Student's t; above 10 degrees by the Cornish-Fisher expansion (error below 1e-4)."""
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z, n = _Z_975, float(freedom)
    first = (z**3 + z) / (4 * n)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return z + first + second + third


def _quantile(q: float, runs: Grouped, pick: Ids) -> float:
    """Quantile of the runs of the blocks in `pick`, as often as they stand there."""
    starts, ends = np.searchsorted(runs.blocks, pick), np.searchsorted(runs.blocks, pick, side="right")
    return float(np.quantile(np.concatenate([runs.times[a:b] for a, b in zip(starts, ends, strict=True)]), q))


def _bootstrap(figure: Callable[[Ids], float], blocks: Ids) -> Span:
    ids = np.unique(blocks)
    rng = np.random.default_rng(0)
    drawn = [figure(rng.choice(ids, ids.size)) for _ in range(RESAMPLES)]
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    return Span(figure(ids), float(lo), float(hi))


def _interval(values: Floats) -> Estimate:
    aside = int(ASIDE * values.size)
    ordered = np.sort(values)
    kept = ordered[aside : values.size - aside]
    mean = float(kept.mean())
    if values.size < 2:
        return Estimate(math.exp(mean), 0.0, math.inf)
    spread = float(np.clip(ordered, kept[0], kept[-1]).std(ddof=1)) * values.size / kept.size
    half = t_975(kept.size - 1) * spread / math.sqrt(values.size)
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half))
