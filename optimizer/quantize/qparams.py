"""Scales and zero points: how real numbers become 8-bit integers.

``q = saturate(round(x / scale) + zero_point)``, ``x' = (q - zero_point) * scale``, rounding half to even.

Activations: uint8 over a range [low, high] that holds 0, so that zero (padding, Relu) is exact:
``scale = (high - low) / 255``, ``zero_point = round(-low / scale)``. A range that ends at 0 keeps zero_point 0 or 255
exactly, which lets the saturation stand in for Relu; one that starts at a Clip's bound likewise never leaves it.

Ranges from a histogram h with bin centres x:
  * ``minmax``: what was seen;
  * ``percentile``: the shortest range around zero with at most 0.0005 of the values beyond each end;
  * ``mse``: the shrunk range [a * low, b * high] of least ``sum h * (x - x')**2``;
  * ``entropy``: the shrunk range of least Kullback-Leibler divergence from the values inside it, clipped ones counted
    at its ends, to what their 256 levels tell of them (Migacz 2017, on both tails; an exact zero counts for nothing).

Weights: int8 in [-127, 127], zero point 0, one scale per output channel, shrunk from the largest magnitude where that
lowers the squared error.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

import numpy as np

from optimizer.calibrate.observers import Histogram
from optimizer.model.ports import Array

Method: TypeAlias = Literal["mse", "minmax", "percentile", "entropy"]

_TAIL = 0.0005
_SHRINK = np.linspace(1.0, 0.3, 36)
_TINY = 1e-12
_NOTHING = 1e-24
"""Span of a range that counts as none. Signals do fade to 1e-13 in networks that are not trained."""


@dataclasses.dataclass(frozen=True)
class QParams:
    """uint8 parameters of one activation tensor."""

    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        return (255 - self.zero_point) * self.scale

    def quantize(self, array: Array) -> Array:
        """uint8 of `array`, any shape."""
        return np.asarray(np.clip(np.rint(array / self.scale) + self.zero_point, 0, 255), np.uint8)

    def fake(self, array: Array) -> Array:
        """`array` as float32 after a round trip through uint8."""
        rounded = np.clip(np.rint(array / self.scale) + self.zero_point, 0, 255) - self.zero_point
        return np.asarray(rounded * self.scale, np.float32)


def from_range(low: float, high: float) -> QParams:
    """uint8 parameters for the range [low, high], widened to hold 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    span = high - low
    if span < _NOTHING:
        return QParams(1.0 / 255, 0)
    scale = np.float32(span / 255)
    if low and high:
        # Nudge: zero must fall on an integer, which moves both ends by less than half a step.
        zero_point = int(np.rint(-low / float(scale)))
        return QParams(float(scale), min(max(zero_point, 0), 255))
    # One-sided: float32 rounding of the scale must not push the far end beyond a Clip's bound.
    if 255 * float(scale) > span:
        scale = np.nextafter(scale, np.float32(0))
    return QParams(float(scale), 0 if not low else 255)


def activation(histogram: Histogram, method: Method, low: float, high: float) -> QParams:
    """Parameters for a tensor seen as `histogram` whose values are clipped to [low, high] anyway."""
    if histogram.empty:
        return from_range(0.0, 1.0)
    seen = max(min(histogram.low, 0.0), low), min(max(histogram.high, 0.0), high)
    if method == "minmax":
        return from_range(*seen)
    counts, centers = _within(histogram, low, high)
    return from_range(*_METHODS[method](counts, centers, *seen))


def weight_scales(weight: Array, axis: int, shrink: bool = True) -> Array:
    """float32 scale per output channel (`axis` of `weight`), shape [channels]."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float32)
    top = np.maximum(np.abs(rows).max(axis=1, initial=0.0), _TINY)
    best, error, work = top / 127, np.full(len(rows), np.inf), np.empty_like(rows)
    for share in np.linspace(1.0, 0.7, 16) if shrink else (1.0,):
        scale = np.asarray(top * share / 127, np.float32)
        np.divide(rows, scale[:, None], out=work)
        np.rint(work, out=work)
        np.clip(work, -127, 127, out=work)
        work *= scale[:, None]
        work -= rows
        found = np.einsum("ok,ok->o", work, work)
        better = found < error
        best, error = np.where(better, scale, best), np.where(better, found, error)
    return np.asarray(best, np.float32)


def along(scales: Array, axis: int, ndim: int) -> Array:
    """`scales` shaped so that it broadcasts along `axis` of an array with `ndim` axes."""
    return scales.reshape([-1 if i == axis else 1 for i in range(ndim)])


def round_weight(weight: Array, scales: Array, axis: int) -> Array:
    """int8 of `weight`, nearest, in [-127, 127]."""
    return np.asarray(np.clip(np.rint(weight / along(scales, axis, weight.ndim)), -127, 127), np.int8)


def _within(histogram: Histogram, low: float, high: float) -> tuple[Array, Array]:
    used = np.flatnonzero(histogram.counts)
    return histogram.counts[used], np.clip(histogram.centers[used], low, high)


def _percentile(counts: Array, centers: Array, low: float, high: float) -> tuple[float, float]:
    order = np.cumsum(counts) / counts.sum()
    first, last = np.searchsorted(order, [_TAIL, 1 - _TAIL])
    return max(low, min(float(centers[first]), 0.0)), min(high, max(float(centers[min(last, len(centers) - 1)]), 0.0))


def _mse(counts: Array, centers: Array, low: float, high: float) -> tuple[float, float]:
    def error(bounds: tuple[float, float]) -> float:
        rounded = from_range(*bounds).fake(centers)
        return float(np.sum(counts * np.square(centers - rounded)))

    return _search(error, low, high)


def _entropy(counts: Array, centers: Array, low: float, high: float) -> tuple[float, float]:
    counts = _without_zero(counts, centers)
    share = counts / counts.sum()

    def divergence(bounds: tuple[float, float]) -> float:
        return _divergence(share, centers, from_range(*bounds))

    return _search(divergence, low, high)


def _without_zero(counts: Array, centers: Array) -> Array:
    """`counts` with at most its neighbours' in the bin of zero: an exact zero, of Relu or padding, costs nothing."""
    distance = np.abs(centers)
    zero = distance == distance.min()
    return counts if zero.all() else np.where(zero, np.minimum(counts, counts[~zero].max()), counts)


def _divergence(share: Array, centers: Array, params: QParams) -> float:
    """Of the bins inside the range, clipped values counted in its end bins, from what 256 levels make of them.

    The levels know nothing of what was clipped: else a range would lose nothing by clipping.
    """
    levels = np.rint(centers / params.scale).astype(np.int64) + params.zero_point
    inside = np.flatnonzero((levels >= 0) & (levels <= 255))
    if not len(inside):
        return np.inf
    first, last = inside[0], inside[-1]
    kept, levels = share[first : last + 1], levels[first : last + 1]
    mass, bins = np.bincount(levels, kept, 256), np.bincount(levels, minlength=256)
    spread = (mass / np.maximum(bins, 1))[levels] / kept.sum()
    clipped = kept.copy()
    clipped[0] += share[:first].sum()
    clipped[-1] += share[last + 1 :].sum()
    return float(np.sum(clipped * np.log(clipped / spread)))


def _search(error: object, low: float, high: float) -> tuple[float, float]:
    """The best of the ranges [a * low, b * high]: first a = b, then each end alone around the best."""
    assert callable(error)
    both = [(low * share, high * share) for share in _SHRINK]
    best = min(both, key=error)
    if low and high:
        best = min([best, *((low * share, best[1]) for share in _SHRINK)], key=error)
        best = min([best, *((best[0], high * share) for share in _SHRINK)], key=error)
    return best


_METHODS = {"percentile": _percentile, "mse": _mse, "entropy": _entropy}
