"""Reductions, norms, soft-max, pools and quantization: what is done along an axis, and what leaves it whole.

A sum over an axis is exact if what goes is zero there; a mean, a variance or a maximum is not, so that axis stays whole
(norms: unless statistics over what is left are asked for). Parameters of a norm go with their axis. Windows are never
pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from optimizer.ops.axes.layout import Layout, constant
from optimizer.ops.axes.op import Op, Refuse
from optimizer.ops.axes.reading import read
from optimizer.ops.axes.rules import MS, rule, say
from optimizer.ops.axes.sentence import Says, letters, spell

_ORDER = "goes along this axis in order"
_LAST = Says("~<A> -> <A>", "normalizes over this axis")
_REST = Says("~<* -> <*", "normalizes over this axis")
"""Soft-max in quantized form and before opset 13: over all axes that follow, too."""
_POOL = Says("nc* -> nc*", whole="slides a window over this axis")

say("MaxPool AveragePool LpPool GlobalMaxPool GlobalAveragePool GlobalLpPool", _POOL)
say("LRN", Says("nC... -> nC...", whole="looks at neighbouring channels"))
say("BatchNormalization", "~nc..., c, +c, ~c, /c -> nc...")
say("InstanceNormalization", Says("~nc..., c, +c -> nc...", means="..."))
say("SkipLayerNormalization", Says("+...c, +...c, ~c, ~c, +c -> ~...c, ~...1, ~...1, ...c", means="c"), domain=MS)
say("SkipSimplifiedLayerNormalization", Says("+...c, +...c, ~c, +c -> ~...c, ~...1, ~...1, ...c", means="c"), domain=MS)
say("TopK", Says("<A> -> <Z>, ~<Z>", whole=_ORDER))
say("ReverseSequence", Says("AB... -> AB...", whole=_ORDER))
say("Trilu", Says("...AB -> ...AB", whole=_ORDER))
say("LpNormalization", Says("<b> -> <b>", sums="b"))
say("DynamicQuantizeLinear", Says("... -> ~..., ~, ~", sums="..."))


def _group_norm(op: Op) -> Says:
    own = "(gc)" if op.version >= 21 else "g"
    return Says(f"~n(gc)..., {own}, +{own} -> n(gc)...", means="c...", counts={"num_groups": "g"})


def _layer_norm(op: Op) -> Says:
    moments = "~<" + "1" * (len(op.input(0)) - op.at())
    return Says(f"~<..., ..., +... -> <..., {moments}, {moments}", means="...")


def _left(op: Op) -> str:
    """What a reduction leaves of an axis."""
    return "1" if op.number("keepdims", 1) else ""


_SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")


@rule(*_SUMS, "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp")
def reduce(op: Op) -> Says:
    """Sums contract their axes, the others need them whole."""
    rank, axes = len(op.input(0)), op.numbers("axes", 1)
    every = [] if op.number("noop_with_empty_axes", 0) else range(rank)
    over = {axis % max(1, rank) for axis in axes or every}
    names = letters(rank, () if op.node.op_type in (*_SUMS, "ReduceMean") else over)
    means = spell(names[axis] for axis in over) if op.node.op_type == "ReduceMean" else ""
    mark = "~" if op.node.op_type == "ReduceLogSumExp" else ""
    result = spell(_left(op) if axis in over else name for axis, name in enumerate(names))
    return Says(f"{mark}{spell(names)} -> {result}", whole="needs this axis whole", means=means)


def _over(op: Op, axes: Sequence[int]) -> Says:
    names = letters(len(op.input(0)))
    return Says(f"{spell(names)} -> {spell(names)}", means=spell(names[axis] for axis in axes))


def _scan(op: Op) -> Says:
    axis = op.const(1)
    return (
        Says("* -> *", _ORDER) if axis is None else Says("<A> -> <A>", _ORDER, int(axis.reshape(())) % len(op.input(0)))
    )


say("GroupNormalization", _group_norm)
say("LayerNormalization RMSNormalization SimplifiedLayerNormalization", _layer_norm)
say("MeanVarianceNormalization", lambda op: _over(op, op.numbers("axes") or [0, 2, 3]))
say("ArgMax ArgMin", lambda op: Says(f"~<A> -> <{_left(op)}>", "gives positions on this axis", op.at(0)))
say("Softmax LogSoftmax Hardmax", lambda op: _LAST if op.version >= 13 else replace(_REST, at=op.at(1)))
say("QLinearSoftmax", _REST, domain=MS)
say("CumSum CumProd", _scan)


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
    return Says(text, whole=_ORDER, counts={"hidden_size": "h"})


@rule("DynamicQuantizeLSTM", domain=MS, raw=(8, 9, 10, 11), quantized={1: 9, 2: 11})
def quantized_recurrent(op: Op) -> Says:
    """As LSTM, with W and R transposed; then their scales and zero points, of the whole or for each column."""
    mark = "~" * ("activations" in op.node.attributes)
    codes = ", ".join("/D(Gh)" if op.has(i) and len(op.input(i)) == 2 else "/_" for i in range(8, 12))
    text = f"Tbi, Di(Gh), +Dh(Gh), +D(Ch), _, +Dbh, +Dbh, +D(Ph), {codes} -> {mark}TDbh, {mark}Dbh, {mark}Dbh"
    return Says(text, whole=_ORDER, sums="b", counts={"hidden_size": "h"})


@rule("DequantizeLinear", raw=(1, 2), quantized={0: 2})
@rule("QuantizeLinear", raw=(1, 2))
def encode(op: Op) -> Says | Sequence[Layout | None]:
    """x, scale, zero point; those are one number, or a vector along `axis`.

    Nothing is known of codes that are zero, but a zero that is encoded and decoded again is a zero.
    """
    if op.number("block_size", 0):
        raise Refuse("has scales per block")
    vector = len(op.input(1)) == 1 and op.input(1)[0].size != 1
    mark = "" if op.node.op_type == "DequantizeLinear" else "~"
    text = f"<c>, /c, /c -> {mark}<c>" if vector else f"..., /_, /_ -> {mark}..."
    says = Says(text, at=op.at(1))
    if (source := _encoded(op)) is None:
        return says
    (y,) = read(op, says)
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
    return Says("~nc* -> nc*", whole="slides a window over this axis")
