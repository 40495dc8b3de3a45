"""Rows of ops that reduce or order along axes: ReduceX, softmaxes, arg-max, top-k, cumulative sums.

Axes come as an attribute or, later (ReduceSum at 13, the others at 18), as an input. Without axes all are reduced,
unless `noop_with_empty_axes` says that nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from optimizer.train.rows.shape import axes_of
from optimizer.train.table import Call, Row, Tensor, numbers

Over = Callable[[Call, Tensor, list[int], bool], Tensor]


def _sum(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    return _sum(at, x, axes, keep) // math.prod(x.shape[axis] for axis in axes)


def _max(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _extreme(at, x, axes, keep, "amax", -math.inf)


def _min(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _extreme(at, x, axes, keep, "amin", math.inf)


def _extreme(at: Call, x: Tensor, axes: list[int], keep: bool, name: str, empty: float) -> Tensor:
    if x.numel():
        return getattr(at.torch, name)(x, axes, keepdim=keep)
    return at.torch.full_like(_sum(at, x, axes, keep), empty)


def _prod(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _l1(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(at, x.abs(), axes, keep)


def _l2(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(at, x * x, axes, keep).sqrt().to(x.dtype)


def _log_sum(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(at, x, axes, keep).log()


def _log_sum_exp(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return at.torch.logsumexp(x, axes, keepdim=keep)


def _sum_square(at: Call, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(at, x * x, axes, keep)


def _reduce(over: Over) -> Callable[..., Tensor]:
    def compute(at: Call, x: Tensor, axes: Tensor = None) -> Tensor:
        found = axes_of(at, axes)
        if not found and at.flag("noop_with_empty_axes"):
            return over(at, x.unsqueeze(-1), [-1], False)
        if x.ndim == 0:
            return over(at, x.reshape(1), [0], False)
        return over(at, x, found or list(range(x.ndim)), at.flag("keepdims", True))

    return compute


def _softmax(name: str) -> Callable[..., Tensor]:
    def compute(at: Call, x: Tensor) -> Tensor:
        function = getattr(at.torch, name)
        if at.opset >= 13:
            return function(x, at.integer("axis", -1))
        axis = at.integer("axis", 1) % max(x.ndim, 1)
        return function(x.reshape(math.prod(x.shape[:axis]), -1), -1).reshape(x.shape)

    return compute


def hardmax(at: Call, x: Tensor) -> Tensor:
    axis = at.integer("axis", -1 if at.opset >= 13 else 1) % x.ndim
    flat = x if at.opset >= 13 else x.reshape(math.prod(x.shape[:axis]), -1)
    on = axis if at.opset >= 13 else 1
    found = at.torch.zeros_like(flat).scatter(on, flat.argmax(on, keepdim=True), 1)
    return found.reshape(x.shape)


def _arg(name: str) -> Callable[..., Tensor]:
    def compute(at: Call, x: Tensor) -> Tensor:
        axis, find = at.integer("axis", 0), getattr(at.torch, name)
        if not at.flag("select_last_index"):
            return find(x, axis, keepdim=at.flag("keepdims", True))
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=at.flag("keepdims", True))

    return compute


def top_k(at: Call, x: Tensor, k: Tensor = None) -> tuple[Tensor, Tensor]:
    """Sorted stably, because ONNX gives the lower index first among equals."""
    count, axis = at.integer("k", 0) if k is None else numbers(k)[0], at.integer("axis", -1)
    values, index = at.torch.sort(x, dim=axis, descending=at.flag("largest", True), stable=True)
    return values.narrow(axis, 0, count), index.narrow(axis, 0, count)


def _cumulative(name: str) -> Callable[..., Tensor]:
    def compute(at: Call, x: Tensor, axis: Tensor) -> Tensor:
        on, backwards = numbers(axis)[0], at.flag("reverse")
        x = x.flip(on) if backwards else x
        found = getattr(at.torch, name)(x, on, dtype=x.dtype)
        if at.flag("exclusive"):
            first = at.torch.full_like(x.narrow(on, 0, 1), 0 if name == "cumsum" else 1)
            found = at.torch.cat([first, found.narrow(on, 0, x.shape[on] - 1)], on)
        return found.flip(on) if backwards else found

    return compute


ROWS = {
    "ReduceSum": Row(_reduce(_sum)),
    "ReduceMean": Row(_reduce(_mean)),
    "ReduceMax": Row(_reduce(_max)),
    "ReduceMin": Row(_reduce(_min)),
    "ReduceProd": Row(_reduce(_prod)),
    "ReduceL1": Row(_reduce(_l1)),
    "ReduceL2": Row(_reduce(_l2)),
    "ReduceLogSum": Row(_reduce(_log_sum)),
    "ReduceLogSumExp": Row(_reduce(_log_sum_exp)),
    "ReduceSumSquare": Row(_reduce(_sum_square)),
    "Softmax": Row(_softmax("softmax")),
    "LogSoftmax": Row(_softmax("log_softmax")),
    "Hardmax": Row(hardmax, smooth=False),
    "ArgMax": Row(_arg("argmax"), smooth=False),
    "ArgMin": Row(_arg("argmin"), smooth=False),
    "TopK": Row(top_k),
    "CumSum": Row(_cumulative("cumsum")),
    "CumProd": Row(_cumulative("cumprod")),
}
