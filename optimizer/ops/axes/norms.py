"""Reductions, norms, soft-max, pools and quantization: what is done along an axis, and what leaves it whole.

A sum over an axis is exact if what goes is zero there; a mean, a variance or a maximum is not, so that axis stays whole
(norms: unless statistics over what is left are asked for). Parameters of a norm go with their axis. Windows are never
pruned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from optimizer.ops.axes.layout import Layout, constant
from optimizer.ops.axes.op import Op, Refuse
from optimizer.ops.axes.reading import read
from optimizer.ops.axes.rules import MS, rule, say
from optimizer.ops.axes.sentence import Says, letters, spell

_SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
_POOL = Says("nc* -> nc*", whole="slides a window over this axis")

say("MaxPool AveragePool LpPool GlobalMaxPool GlobalAveragePool GlobalLpPool", _POOL)
say("LRN", Says("nC... -> nC...", whole="looks at neighbouring channels"))
say("BatchNormalization", "~nc..., c, +c, ~c, /c -> nc...")
say("InstanceNormalization", Says("~nc..., c, +c -> nc...", means="..."))
say("SkipLayerNormalization", Says("+...c, +...c, ~c, ~c, +c -> ~...c, ~...1, ~...1, ...c", means="c"), domain=MS)
say("SkipSimplifiedLayerNormalization", Says("+...c, +...c, ~c, +c -> ~...c, ~...1, ~...1, ...c", means="c"), domain=MS)
say("DynamicQuantizeLinear", Says("... -> ~..., ~, ~", sums="..."))


@rule("GroupNormalization")
def group_norm(op: Op) -> Says:
    """Whole groups can go; scale and bias are per channel, before opset 21 per group."""
    own = "(gc)" if op.version >= 21 else "g"
    return Says(f"~n(gc)..., {own}, +{own} -> n(gc)...", means="c...", counts={"num_groups": "g"})


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_norm(op: Op) -> Says:
    """Statistics over the last axes, from `axis` on; scale and bias are aligned with them."""
    names = letters(rank := len(op.input(0)))
    axis = op.place(-1, rank)
    moments = spell([*names[:axis], *["1"] * (rank - axis)])
    every, rest = spell(names), spell(names[axis:])
    return Says(f"~{every}, {rest}, +{rest} -> {every}, ~{moments}, ~{moments}", means=rest)


def along(op: Op, axes: Iterable[int], how: str, out: str | None = None, mark: str = "", why: str = "") -> Says:
    """Something is done along some axes of x: they stay `whole`, or are averaged (`means`) or summed over (`sums`).

    In the result they are as before, or what `out` says; a second result knows nothing of zeros.
    """
    rank = len(op.input(0))
    over = {axis % max(1, rank) for axis in axes}
    names = letters(rank, over if how == "whole" else ())
    own = spell(names[axis] for axis in over)
    result = spell(name if axis not in over or out is None else out for axis, name in enumerate(names))
    text = f"{mark}{spell(names)} -> {mark}{result}, ~{result}"
    return Says(text, why, means=own if how == "means" else "", sums=own if how == "sums" else "")


def _left(op: Op) -> str:
    """What a reduction leaves of an axis."""
    return "1" if op.number("keepdims", 1) else ""


@rule(*_SUMS, "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp")
def reduce(op: Op) -> Says:
    """Sums contract their axes, the others need them whole."""
    axes = op.numbers("axes", 1)
    if not axes:
        axes = [] if op.number("noop_with_empty_axes", 0) else list(range(len(op.input(0))))
    how = "sums" if op.node.op_type in _SUMS else "means" if op.node.op_type == "ReduceMean" else "whole"
    mark = "~" if op.node.op_type == "ReduceLogSumExp" else ""
    return along(op, axes, how, _left(op), mark, "needs this axis whole")


@rule("MeanVarianceNormalization")
def mean_variance(op: Op) -> Says:
    """Statistics over the given axes."""
    return along(op, op.numbers("axes") or [0, 2, 3], "means")


@rule("ArgMax", "ArgMin")
def arg(op: Op) -> Says:
    """Positions are numbers, so the axis stays whole."""
    return along(op, [op.number("axis", 0)], "whole", _left(op), "~", "gives positions on this axis")


@rule("Softmax", "LogSoftmax", "Hardmax")
@rule("QLinearSoftmax", domain=MS)
def softmax(op: Op) -> Says:
    """The axis (in older and quantized form with all that follow) stays whole."""
    older = op.version < 13
    axis = op.place(1 if older and not op.node.domain else -1, rank := len(op.input(0)))
    axes = range(axis, rank if older or op.node.domain else axis + 1)
    return along(op, axes, "whole", mark="~", why="normalizes over this axis")


@rule("LpNormalization")
def lp_norm(op: Op) -> Says:
    """Divided by the norm over `axis`, which zeros that go do not change."""
    return along(op, [op.number("axis", -1)], "sums")


@rule("CumSum", "CumProd", "TopK", "ReverseSequence", "Trilu")
def ordered(op: Op) -> Says:
    """Order matters along the axis (ReverseSequence: the first two; Trilu: the last two)."""
    axes: Iterable[int] = {"TopK": [op.number("axis", -1)], "Trilu": [-2, -1]}.get(op.node.op_type, [0, 1])
    if op.node.op_type in ("CumSum", "CumProd"):
        found = op.const(1)
        axes = range(len(op.input(0))) if found is None else [int(found.reshape(()))]
    return along(op, axes, "whole", "Z" if op.node.op_type == "TopK" else None, why="goes along this axis in order")


_RECURRENT = "Tbi, D(Gh)i, +D(Gh)h, +D(Ch), _, +Dbh, +Dbh, +D(Ph)"


@rule("LSTM", "GRU", "RNN")
def recurrent(op: Op) -> Says:
    """x, W, R, B, lengths, h0, c0, P: hidden unit h is in every gate, the columns of R, the bias, states and results.

    A unit without weights keeps its state at zero if it starts there and the activations are the usual ones.
    """
    if op.number("layout", 0):
        raise Refuse("has the batch first")
    mark = "~" * ("activations" in op.node.attributes)
    text = f"{_RECURRENT} -> {mark}TDbh, {mark}Dbh, {mark}Dbh"
    return Says(text, "goes along this axis in order", counts={"hidden_size": "h"})


@rule("DequantizeLinear", raw=(1, 2), quantized={0: 2})
@rule("QuantizeLinear", raw=(1, 2))
def encode(op: Op) -> str | Sequence[Layout | None]:
    """x, scale, zero point; those are one number, or a vector along `axis`.

    Nothing is known of codes that are zero, but a zero that is encoded and decoded again is a zero.
    """
    if op.number("block_size", 0):
        raise Refuse("has scales per block")
    names = letters(rank := len(op.input(0)))
    vector = len(op.input(1)) == 1 and op.input(1)[0].size != 1
    code = f"/{names[op.place(1, rank)]}" if vector else "/_"
    mark = "" if op.node.op_type == "DequantizeLinear" else "~"
    text = f"{spell(names)}, {code}, {code} -> {mark}{spell(names)}"
    if (source := _encoded(op)) is None:
        return text
    (y,) = read(op, Says(text))
    return (tuple(op.axis(own.labels, given.zero, own.open) for own, given in zip(y, source, strict=True)),)


def _encoded(op: Op) -> Layout | None:
    """What a DequantizeLinear decodes, if its input was encoded with the same zero point."""
    codes = op.node.inputs[0]
    made = codes.producer() if codes is not None and op.node.op_type == "DequantizeLinear" else None
    if made is None or made.op_type != "QuantizeLinear":
        return None
    one, other = (constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1) for node in (made, op.node))
    same = one is not None and other is not None and np.array_equal(one.ravel(), other.ravel())
    return op.of(made.inputs[0]) if same else None


_PAIR = "~..., /_, /_, ~..., /_, /_, /_, /_ -> ..."
say("QLinearAdd QLinearMul", _PAIR, domain=MS, quantized={0: 2, 3: 5})
say("QLinearSigmoid QLinearLeakyRelu", "~... -> ...", domain=MS)


@rule("QLinearGlobalAveragePool", "QLinearAveragePool", domain=MS)
def coded_pool(op: Op) -> Says:
    """Windows over height and width."""
    if op.number("channels_last", 0):
        raise Refuse("has the channels last")
    return Says("~nc* -> nc*", "slides a window over this axis")
