"""Rows of pooling ops.

Padding is made explicit: the padded input is brought to exactly the length that the wanted number of windows needs, so
that `ceil_mode`, uneven pads and `auto_pad` are one case. The last window of `ceil_mode` must start inside the input
or its left padding (torch and ONNX Runtime agree). Averages divide by the number of real elements in the window, or,
with `count_include_pad`, of real and padded ones, but never by what only `ceil_mode` added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from optimizer.train.rows.linear import spatial_pads
from optimizer.train.table import Call, Row, Tensor, pads


def _windows(at: Call, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """The pads (begins, ends), and how much further to pad (or, negative, to cut) each end."""
    rank, around = len(kernel), spatial_pads(at, sizes, kernel)
    strides, dilations = at.integers("strides") or [1] * rank, at.integers("dilations") or [1] * rank
    more = []
    for axis in range(rank):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        padded = sizes[axis] + around[axis] + around[axis + rank]
        steps = (padded - span) / strides[axis]
        count = (math.ceil(steps) if at.flag("ceil_mode") else math.floor(steps)) + 1
        if (count - 1) * strides[axis] >= sizes[axis] + around[axis] and at.flag("ceil_mode"):
            count -= 1
        more.append((count - 1) * strides[axis] + span - padded)
    return around, more


def _extend(at: Call, x: Tensor, around: Sequence[int], value: float) -> Tensor:
    return at.functional.pad(x, pads(around), value=value) if any(around) else x


def max_pool(at: Call, x: Tensor) -> Tensor:
    if at.wants(1):
        raise at.refuse("its second output (the indices) is used")
    kernel = at.integers("kernel_shape") or []
    rank = len(kernel)
    around, more = _windows(at, x.shape[2:], kernel)
    full = [*around[:rank], *(end + extra for end, extra in zip(around[rank:], more, strict=True))]
    whole = not x.is_floating_point()
    padded = _extend(at, x.float() if whole else x, full, -math.inf)
    pool = getattr(at.functional, f"max_pool{rank}d")
    found = pool(padded, kernel, at.integers("strides") or [1] * rank, 0, at.integers("dilations") or [1] * rank)
    return found.to(x.dtype)


def _sums(at: Call, x: Tensor, kernel: Sequence[int]) -> Tensor:
    """The sum over each window; of any rank and dilation as a convolution with ones."""
    rank = len(kernel)
    strides, dilations = at.integers("strides") or [1] * rank, at.integers("dilations") or [1] * rank
    if rank == 2 and set(dilations) == {1}:
        return at.functional.avg_pool2d(x, kernel, strides, divisor_override=1)
    planes, ones = x.reshape(-1, 1, *x.shape[2:]), at.torch.ones(1, 1, *kernel, dtype=x.dtype)
    found = at.torch.convolution(planes, ones, None, strides, [0] * rank, dilations, False, [0] * rank, 1)
    return found.reshape(*x.shape[:2], *found.shape[2:])


def average_pool(at: Call, x: Tensor) -> Tensor:
    kernel = at.integers("kernel_shape") or []
    around, more = _windows(at, x.shape[2:], kernel)
    beyond = [0] * len(kernel) + more
    counted = at.torch.ones(1, 1, *x.shape[2:], dtype=x.dtype)
    counted = _extend(at, _extend(at, counted, around, float(at.flag("count_include_pad"))), beyond, 0.0)
    padded = _extend(at, _extend(at, x, around, 0.0), beyond, 0.0)
    return _sums(at, padded, kernel) / _sums(at, counted, kernel)


def lp_pool(at: Call, x: Tensor) -> Tensor:
    kernel, p = at.integers("kernel_shape") or [], at.integer("p", 2)
    around, more = _windows(at, x.shape[2:], kernel)
    padded = _extend(at, _extend(at, x, around, 0.0), [0] * len(kernel) + more, 0.0)
    return _sums(at, padded.abs() ** p, kernel) ** (1 / p)


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


def global_average(at: Call, x: Tensor) -> Tensor:
    return x.mean(_spatial(x), keepdim=True)


def global_max(at: Call, x: Tensor) -> Tensor:
    return x.amax(_spatial(x), keepdim=True)


def global_lp(at: Call, x: Tensor) -> Tensor:
    p = at.integer("p", 2)
    return (x.abs() ** p).sum(_spatial(x), keepdim=True) ** (1 / p)


ROWS = {
    "MaxPool": Row(max_pool),
    "AveragePool": Row(average_pool),
    "LpPool": Row(lp_pool),
    "GlobalAveragePool": Row(global_average),
    "GlobalMaxPool": Row(global_max),
    "GlobalLpPool": Row(global_lp),
}
