"""Observers: what calibration remembers of a stream of tensors. Each is a commutative monoid.

``update(batch)`` folds in one array, ``merge(other)`` another observer of the same kind; memory does not depend on how
many samples were seen, and the order of updates and merges does not change the result (up to float rounding of sums).

`Histogram` counts values in bins whose edges are multiples of a power of two, ``[i * 2**e, (i + 1) * 2**e)`` for
``-BINS <= i < BINS``. The exponent e is the smallest with the largest magnitude seen below ``BINS * 2**e``; when it
grows by one, neighbouring bins are added in pairs. Edges of a coarser histogram are edges of the finer one, so that
merging is exact whatever the order. Minimum and maximum are kept exactly; of a large batch only a strided part is
counted. Infinities and NaN, as attention masks have them, enter nothing but the note that there were some.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from optimizer.model.ports import Array

BINS = 2048
"""Bins on each side of zero."""
_COUNTED = 16384
"""Values counted per update; the rest of a larger batch only enters minimum and maximum."""
_LANES = 8
"""Numbers in a row from which adding them in float32 pays."""
_FINEST = -1022
"""The exponent of the finest bins: the inverse of their width is still a number."""


@dataclasses.dataclass
class Histogram:
    """Distribution of all elements of a tensor. `counts` has 2 * BINS bins of width ``2 ** exponent``."""

    counts: Array = dataclasses.field(default_factory=lambda: np.zeros(2 * BINS, np.float64))
    exponent: int = _FINEST
    low: float = math.inf
    high: float = -math.inf
    infinite: bool = False
    """Whether there were values that are not finite."""

    def update(self, batch: Array) -> None:
        flat = batch.reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            self.infinite = True
            self.update(flat[np.isfinite(flat)])
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        step = -(-flat.size // _COUNTED)
        # A stride that shares a factor with the inner dimension would look at a few channels only.
        while math.gcd(step, flat.size) > 1:
            step += 1
        counted = flat[::step].astype(np.float64)
        self._widen(_exponent(max(abs(self.low), abs(self.high))))
        index = np.floor(counted * 2.0**-self.exponent).astype(np.int64) + BINS
        weight = flat.size / counted.size
        self.counts += np.bincount(np.clip(index, 0, 2 * BINS - 1), minlength=2 * BINS) * weight

    def merge(self, other: Histogram) -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.infinite = self.infinite or other.infinite
        self._widen(other.exponent)
        self.counts += _coarser(other.counts, self.exponent - other.exponent)

    @property
    def centers(self) -> Array:
        """The middle of each bin."""
        centers: Array = np.ldexp(np.arange(-BINS, BINS) + 0.5, self.exponent)
        return centers

    @property
    def empty(self) -> bool:
        return self.low > self.high

    def _widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = _coarser(self.counts, exponent - self.exponent)
            self.exponent = exponent


@dataclasses.dataclass
class Channels:
    """Per-channel count, mean, mean square, minimum and maximum along one axis of a tensor."""

    axis: int
    count: int = 0
    total: Array = dataclasses.field(default_factory=lambda: np.zeros(1))
    squares: Array = dataclasses.field(default_factory=lambda: np.zeros(1))
    low: Array = dataclasses.field(default_factory=lambda: np.full(1, np.inf))
    high: Array = dataclasses.field(default_factory=lambda: np.full(1, -np.inf))

    def update(self, batch: Array) -> None:
        if batch.size == 0:
            return
        others = tuple(axis for axis in range(batch.ndim) if axis != self.axis % batch.ndim)
        self.count += batch.size // batch.shape[self.axis]
        total, squares = _sums(batch, self.axis % batch.ndim)
        self.total, self.squares = self.total + total, self.squares + squares
        self.low, self.high = np.minimum(self.low, batch.min(others)), np.maximum(self.high, batch.max(others))

    def merge(self, other: Channels) -> None:
        self.count += other.count
        self.total, self.squares = self.total + other.total, self.squares + other.squares
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)

    @property
    def mean(self) -> Array:
        return np.asarray(self.total / max(self.count, 1))

    @property
    def second(self) -> Array:
        """Mean square per channel."""
        return np.asarray(self.squares / max(self.count, 1))

    @property
    def variance(self) -> Array:
        return np.asarray(np.maximum(self.second - self.mean**2, 0.0))


def _sums(batch: Array, axis: int) -> tuple[Array, Array]:
    """Sums and sums of squares along all axes but one. What lies behind it is added in float32, pair by pair, which is
    twice as fast; runs that end there would be added one by one, so float64 it is."""
    inner = batch.shape[axis + 1 :]
    if math.prod(inner) < _LANES or not batch.flags.c_contiguous:
        others = tuple(i for i in range(batch.ndim) if i != axis)
        return batch.sum(others, dtype=np.float64), np.square(batch, dtype=np.float32).sum(others, dtype=np.float64)
    runs = batch.reshape(-1, batch.shape[axis], math.prod(inner)).astype(np.float32, copy=False)
    squares = np.einsum("bcp,bcp->bc", runs, runs)
    return runs.sum(2).sum(0, dtype=np.float64), squares.sum(0, dtype=np.float64)


def _exponent(magnitude: float) -> int:
    """The smallest e with ``magnitude < BINS * 2**e``."""
    return _FINEST if magnitude == 0.0 else max(_FINEST, math.frexp(magnitude)[1] - BINS.bit_length() + 1)


def _coarser(counts: Array, steps: int) -> Array:
    """The same histogram with bins 2**steps times as wide, centred on the same zero."""
    if steps == 0 or not counts.any():
        return counts.copy() if steps == 0 else np.zeros_like(counts)
    old = np.arange(-BINS, BINS) >> min(steps, 62)
    return np.asarray(np.bincount(old + BINS, weights=counts, minlength=2 * BINS))
