"""Statistics of paired timings: blocked log-ratios, their confidence interval, and the verdict.

Two models are timed in pairs, close together in time, so that what disturbs the machine disturbs both. A pair gives
``d = log(before / after)``. Consecutive pairs share their disturbances, so single pairs are no independent samples and
tests on them raise false alarms; pairs are therefore grouped into *blocks*, each block is reduced to the median of its
``d`` (one preempted run cannot move it), and the interval is Student's over the block values::

    speedup = exp(mean(m)),   ci95 = exp(mean(m) ± t(0.975, n - 1) · sd(m) / √n)      m = medians of the n blocks

Pairs from several processes have a further disturbance in common, the memory layout of their process: give the
process as a *cluster* and, with `MIN_CLUSTERS` or more of them, the mean of each cluster takes the place of a block.

Cases: no pair at all is an error; one block has no interval (0, inf); equal times give the interval (1, 1).
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

MIN_CLUSTERS = 4
"""From so many processes on, their means are the samples; Student's factor for fewer is too wide to be of use."""

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


def estimate(
    before: Sequence[float] | Floats, after: Sequence[float] | Floats, blocks: Ids, clusters: Ids | None = None
) -> Estimate:
    """Speed-up of `after` over `before`: times in any unit, ids of their blocks and clusters, all of shape [pairs]."""
    ratios = np.log(np.asarray(before, np.float64)) - np.log(np.asarray(after, np.float64))
    if not ratios.size:
        raise ValueError("no pairs were measured")
    ids, first = np.unique(blocks, return_index=True)
    values = np.array([np.median(ratios[blocks == block]) for block in ids])
    if clusters is not None and np.unique(clusters).size >= MIN_CLUSTERS:
        homes = clusters[first]
        values = np.array([values[homes == home].mean() for home in np.unique(homes)])
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


def quantile_span(q: float, runs: Floats, blocks: Ids, seed: int = 0) -> Span:
    """Quantile `q` of `runs` with its 95% interval by resampling whole blocks (percentile bootstrap)."""
    return _bootstrap(lambda pick: _quantile(q, runs, blocks, pick), blocks, seed)


def quantile_ratio(q: float, before: Floats, before_blocks: Ids, after: Floats, after_blocks: Ids) -> Span:
    """`after / before` of quantile `q` with its 95% interval; both sides are resampled by the same blocks."""
    return _bootstrap(
        lambda pick: _quantile(q, after, after_blocks, pick) / _quantile(q, before, before_blocks, pick),
        before_blocks,
        0,
    )


def t_975(freedom: int) -> float:
    """The 97.5% point of Student's t; above 10 degrees by the Cornish-Fisher expansion (error below 1e-4)."""
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z, n = _Z_975, float(freedom)
    first = (z**3 + z) / (4 * n)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return z + first + second + third


def _quantile(q: float, runs: Floats, blocks: Ids, pick: Ids) -> float:
    """Quantile of the runs of the blocks in `pick`, as often as they stand there; `blocks` is sorted."""
    starts, ends = np.searchsorted(blocks, pick), np.searchsorted(blocks, pick, side="right")
    return float(np.quantile(np.concatenate([runs[a:b] for a, b in zip(starts, ends, strict=True)]), q))


def _bootstrap(figure: Callable[[Ids], float], blocks: Ids, seed: int) -> Span:
    ids = np.unique(blocks)
    rng = np.random.default_rng(seed)
    drawn = [figure(rng.choice(ids, ids.size)) for _ in range(RESAMPLES)]
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    return Span(figure(ids), float(lo), float(hi))


def _interval(values: Floats) -> Estimate:
    mean = float(values.mean())
    if values.size < 2:
        return Estimate(math.exp(mean), 0.0, math.inf)
    half = t_975(values.size - 1) * float(values.std(ddof=1)) / math.sqrt(values.size)
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half))
