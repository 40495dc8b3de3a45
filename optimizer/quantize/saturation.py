"""Weights that cannot overflow 16 bits where the CPU adds products in pairs.

x86 without VNNI multiplies uint8 activations by int8 weights with VPMADDUBSW: the products of each two neighbours in
the order of summation are added in a *signed 16-bit* lane, saturating at ±32767, silently. With q in [low, high] per
input channel, a pair (i, j) of weights of one output channel reaches at most

    max(w_i * low_i, w_i * high_i) + max(w_j * low_j, w_j * high_j)

(and at least the same with min). Where that leaves 16 bits the channel's scale is enlarged just enough; all other
channels keep their 8 bits. So this does what `reduce_range` (7 bits everywhere) is for, at a fraction of its error.

Neighbours: MatMul and Gemm pair k = 2i, 2i + 1. Convolution sums in the order (kernel position, channel) per group.
Depthwise convolution has a kernel of its own, which does not saturate. Confirmed by running each case.
"""

from __future__ import annotations

import numpy as np

from optimizer.model.ports import Array

_TOP = 32767
_ROUNDING = 1.0
"""Rounding to nearest may add half a step to each weight of a pair."""


def limited(rows: Array, scales: Array, low: Array, high: Array) -> Array:
    """`scales` (shape [channels]), enlarged where a pair could saturate.

    `rows` are float weights, shape [channels, k] in the order of summation; `low` and `high` the range of the uint8
    inputs at each k, shape [k] or [channels, k].
    """
    rows, low, high = _even(rows, low, high)
    upper, lower = np.maximum(rows * low, rows * high), np.minimum(rows * low, rows * high)
    most = _pairs(upper).max(axis=1, initial=0.0)
    least = _pairs(lower).min(axis=1, initial=0.0)
    reserve = _TOP - _ROUNDING * float(np.max(high, initial=0.0))
    return np.asarray(np.maximum(scales, np.maximum(most, -least) / reserve), np.float32)


def overflows(integers: Array, low: Array, high: Array) -> Array:
    """Which rows of int8 weights [channels, k] could saturate, boolean [channels]."""
    rows, low, high = _even(integers.astype(np.float32), low, high)
    upper, lower = np.maximum(rows * low, rows * high), np.minimum(rows * low, rows * high)
    return np.asarray((_pairs(upper).max(axis=1, initial=0) > _TOP) | (_pairs(lower).min(axis=1, initial=0) < -_TOP))


def _even(rows: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """All three padded to an even number of columns."""
    if rows.shape[1] % 2 == 0:
        return rows, low, high
    low, high = (
        np.pad(np.broadcast_to(bound, (*bound.shape[:-1], rows.shape[1])), _last(bound)) for bound in (low, high)
    )
    return np.pad(rows, ((0, 0), (0, 1))), low, high


def _last(array: Array) -> list[tuple[int, int]]:
    return [(0, 0)] * (array.ndim - 1) + [(0, 1)]


def _pairs(rows: Array) -> Array:
    return np.asarray(rows[:, 0::2] + rows[:, 1::2])
