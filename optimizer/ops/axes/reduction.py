"""Reductions, norms, soft-max and pools.

A sum over an axis is exact if what goes is zero there; a mean, a variance or a maximum is not, so that axis stays whole
(norms: unless statistics over what is left are asked for). Parameters of a norm go with their axis. Windows and
resampled axes are never pruned.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optimizer.ops.axes.moves import position
from optimizer.ops.axes.pointwise import broadcast
from optimizer.ops.axes.rule import MS, Axis, Cut, Layout, Op, Refuse, fixed, rule

_SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
_KEEP_ZERO = (*_SUMS, "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")


@rule(*_KEEP_ZERO, "ReduceLogSumExp")
def reduce(op: Op) -> Sequence[Layout | None]:
    """Sums contract their axes, the others need them whole."""
    x, axes = op.input(0), op.numbers("axes", 1)
    if not axes:
        axes = [] if op.number("noop_with_empty_axes", 0) else list(range(len(x)))
    over = {position(axis, len(x)) for axis in axes}
    for axis in over:
        if op.node.op_type in _SUMS:
            op.contract(x[axis])
        elif x[axis].size != 1:
            _whole(op, x[axis])
    return (_reduced(op, x, over, op.node.op_type in _KEEP_ZERO),)


def _whole(op: Op, axis: Axis) -> None:
    if op.node.op_type == "ReduceMean":
        op.statistics(axis)
    else:
        op.freeze("needs this axis whole", axis)


def _reduced(op: Op, x: Layout, over: set[int], zero: bool) -> Layout:
    kept = (
        fixed(1) if i in over else op.axis(axis.labels, zero and axis.zero, axis.open)
        for i, axis in enumerate(x)
        if i not in over or op.number("keepdims", 1)
    )
    return tuple(kept)


@rule("ArgMax", "ArgMin")
def arg(op: Op) -> Sequence[Layout | None]:
    """Positions are numbers, so the axis stays whole."""
    x = op.input(0)
    axis = position(op.number("axis", 0), len(x))
    op.freeze("gives positions on this axis", x[axis])
    return (_reduced(op, x, {axis}, zero=False),)


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(op: Op) -> Sequence[Layout | None]:
    """The axis (before opset 13 with all that follow) stays whole."""
    x = op.input(0)
    first = position(op.number("axis", -1 if op.version >= 13 else 1), len(x))
    op.freeze("normalizes over this axis", *x[first : first + 1 if op.version >= 13 else None])
    return (tuple(op.axis(axis.labels, False, axis.open) for axis in x),)


@rule("LpNormalization")
def lp_norm(op: Op) -> Sequence[Layout | None]:
    """Divided by the norm over `axis`, which zeros that go do not change."""
    x = op.input(0)
    op.contract(x[position(op.number("axis", -1), len(x))])
    return (x,)


@rule("CumSum", "CumProd", "TopK", "ReverseSequence", "Trilu")
def ordered(op: Op) -> Sequence[Layout | None]:
    """Order matters along the axis (ReverseSequence: the first two; Trilu: the last two)."""
    x = op.input(0)
    if op.node.op_type in ("CumSum", "CumProd"):
        found = op.const(1)
        axes = list(range(len(x))) if found is None else [int(found.reshape(()))]
    elif op.node.op_type == "TopK":
        axes = [op.number("axis", -1)]
    else:
        axes = [0, 1] if op.node.op_type == "ReverseSequence" else [-1, -2]
    others = (axis for index in range(1, len(op.node.inputs)) for axis in op.input(index))
    op.freeze("goes along this axis in order", *(x[axis] for axis in axes), *others)
    sizes = op.dims()
    out = [fixed(sizes[i]) if i in {position(a, len(x)) for a in axes} else axis for i, axis in enumerate(x)]
    return tuple(out), tuple(op.axis(axis.labels, False, axis.open) for axis in out)


def _channels(op: Op, x: Layout, params: Sequence[int]) -> Axis:
    """Axis 1 with its parameters; the result is zero where a scale and a bias are."""
    own = [op.input(index)[0] for index in params if op.has(index)]
    aligned = op.align(x[1], *own)
    return op.axis(aligned.labels, all(axis.zero for axis in own[:2]), aligned.open)


@rule("BatchNormalization", raw=(4,))
def batch_norm(op: Op) -> Sequence[Layout | None]:
    """One mean and variance per channel."""
    if op.number("training_mode", 0) or op.number("spatial", 1) == 0 or any(op.used(index) for index in (1, 2, 3, 4)):
        raise Refuse("trains, or is per pixel")
    x = op.input(0)
    channels = _channels(op, x, (1, 2, 3, 4))
    rest = [op.axis(axis.labels, False, axis.open) for axis in (x[0], *x[2:])]
    return ((rest[0], channels, *rest[1:]),)


@rule("InstanceNormalization")
def instance_norm(op: Op) -> Sequence[Layout | None]:
    """Statistics over height and width of each channel."""
    x = op.input(0)
    op.statistics(*x[2:])
    return ((op.axis(x[0].labels, False, x[0].open), _channels(op, x, (1, 2)), *x[2:]),)


def regroup_norm(node: ir.Node, cut: Cut) -> None:
    """`num_groups` becomes the number of groups that stay."""
    groups = node.attributes.get_int("num_groups", 1)
    kept = cut.keep(node.inputs[0], 1).reshape(groups, -1).any(1).sum()
    node.attributes["num_groups"] = ir.AttrInt64("num_groups", int(kept))


@rule("GroupNormalization", patch=regroup_norm)
def group_norm(op: Op) -> Sequence[Layout | None]:
    """Whole groups can go; scale and bias are per channel, before opset 21 per group."""
    x, groups = op.input(0), op.number("num_groups", 1)
    row, column = op.split(x[1], groups, len(x[1].labels) // groups)
    op.statistics(column, *x[2:])
    if op.version >= 21:
        channels = _channels(op, x, (1, 2))
    else:
        op.align(row, op.input(1)[0], op.input(2)[0])
        channels = op.axis(x[1].labels, op.input(1)[0].zero and op.input(2)[0].zero)
    return ((op.axis(x[0].labels, False, x[0].open), channels, *x[2:]),)


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_norm(op: Op) -> Sequence[Layout | None]:
    """Statistics over the last axes, from `axis` on; scale and bias are aligned with them."""
    x = op.input(0)
    axis = position(op.number("axis", -1), len(x))
    op.statistics(*x[axis:])
    y = broadcast(op, [x, *(op.input(index) for index in (1, 2) if op.has(index))], lambda zeros: all(zeros[1:]))
    y = tuple(op.axis(a.labels, a.zero and i >= axis, a.open) for i, a in enumerate(y))
    moments = tuple(fixed(1) if i >= axis else op.axis(a.labels, False, a.open) for i, a in enumerate(x))
    return y, moments, moments


@rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MS)
def skip_layer_norm(op: Op) -> Sequence[Layout | None]:
    """x + skip (+ bias) is normalized over the last axis; the sum itself is the fourth result."""
    bias = 4 if op.node.op_type == "SkipLayerNormalization" else 3
    total = broadcast(op, [op.input(index) for index in (0, 1, bias) if op.has(index)], all)
    op.statistics(total[-1])
    y = broadcast(op, [total, *(op.input(index) for index in range(2, bias) if op.has(index))], lambda zeros: False)
    moments = (*y[:-1], fixed(1))
    return y, moments, moments, total


@rule("LRN")
def local_response(op: Op) -> Sequence[Layout | None]:
    """Sums over neighbouring channels."""
    x = op.input(0)
    op.freeze("looks at neighbouring channels", x[1])
    return (x,)


@rule("MeanVarianceNormalization")
def mean_variance(op: Op) -> Sequence[Layout | None]:
    """Statistics over the given axes."""
    x = op.input(0)
    axes = {position(axis, len(x)) for axis in op.numbers("axes") or [0, 2, 3]}
    op.statistics(*(x[axis] for axis in axes))
    return (x,)


@rule("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
def pool(op: Op) -> Sequence[Layout | None]:
    """Windows over height and width."""
    if op.used(1):
        raise Refuse("gives out places of the flattened input")
    x = op.input(0)
    op.freeze("slides a window over this axis", *x[2:])
    return ((x[0], x[1], *(fixed(size) for size in op.dims(0, len(x))[2:])),)
