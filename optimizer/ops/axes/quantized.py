"""Quantized tensors: scales and zero points per channel go with their channel.

Masking writes the zero point into quantized constants, so that they stand for zero and a product with them is zero; an
activation's zero point is no zero, so nothing is claimed of it. A product of quantized tensors is the plain product of
the inputs that `PRODUCTS` names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from optimizer.ops.axes.moves import joined, position
from optimizer.ops.axes.pointwise import broadcast, mapped
from optimizer.ops.axes.products import affine, convolved, keep_groups, matrices
from optimizer.ops.axes.rule import MS, Axis, Layout, Op, Refuse, fixed, rule


@rule("DequantizeLinear", raw=(1, 2), quantized={0: 2})
@rule("QuantizeLinear", raw=(1, 2))
def encode(op: Op) -> Sequence[Layout | None]:
    """x, scale, zero point; `axis` where they are vectors."""
    x = op.input(0)
    if op.number("block_size", 0):
        raise Refuse("has scales per block")
    for index in (1, 2):
        if op.has(index) and len(op.input(index)) == 1 and op.input(index)[0].size != 1:
            op.align(x[position(op.number("axis", 1), len(x))], op.input(index)[0])
    return (mapped(op, zero=op.node.op_type == "DequantizeLinear"),)


@rule("DynamicQuantizeLinear")
def dynamic(op: Op) -> Sequence[Layout | None]:
    """One scale for all; its range includes zero, so zeros that go do not change it."""
    for axis in op.input(0):
        op.contract(axis)
    return mapped(op, zero=False), (), ()


@dataclasses.dataclass(frozen=True)
class Coded:
    """A product of quantized tensors: the inputs that are factors, their scales and zero points, and the bias."""

    a: int
    b: int
    a_codes: tuple[int, ...]
    b_codes: tuple[int, ...]
    bias: int = 99
    y_codes: tuple[int, ...] = ()


PRODUCTS = {
    ("", "MatMulInteger"): Coded(0, 1, (2,), (3,)),
    ("", "QLinearMatMul"): Coded(0, 3, (1, 2), (4, 5), 99, (6, 7)),
    (MS, "MatMulIntegerToFloat"): Coded(0, 1, (2, 4), (3, 5), 6),
    (MS, "DynamicQuantizeMatMul"): Coded(0, 1, (), (2, 3), 4),
    (MS, "QGemm"): Coded(0, 3, (1, 2), (4, 5), 6, (7, 8)),
    ("", "ConvInteger"): Coded(0, 1, (2,), (3,)),
    ("", "QLinearConv"): Coded(0, 3, (1, 2), (4, 5), 8, (6, 7)),
}


def coded_product(op: Op) -> Sequence[Layout | None]:
    """The plain product; scales per row of a and per column of b go with them."""
    row = PRODUCTS[op.node.domain, op.node.op_type]
    a, b = op.input(row.a), op.input(row.b)
    if op.node.op_type == "DynamicQuantizeMatMul":
        for axis in a:
            op.contract(axis)
    if "Conv" in op.node.op_type:
        y, columns = convolved(op, row.a, row.b, row.bias), b[0]
    elif op.node.op_type == "QGemm":
        y, columns = affine(op, row.a, row.b, row.bias), b[0 if op.number("transB", 0) else 1]
    else:
        y, columns = matrices(op, a, b), b[-1]
        y = broadcast(op, [y, op.input(row.bias)], all) if op.has(row.bias) else y
    for index in (*row.a_codes, *row.y_codes):
        _code(op, index, a[-2] if len(a) == 2 else None)
    for index in row.b_codes:
        _code(op, index, columns if len(b) > 1 else None)
    return (y if op.node.op_type in _PLAIN else tuple(op.axis(axis.labels, False, axis.open) for axis in y),)


_PLAIN = ("MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
"""Products whose result is a number, not a code for one."""


def _code(op: Op, index: int, axis: Axis | None) -> None:
    """A scale or zero point per channel goes with its channel."""
    for given in op.input(index) if op.has(index) else ():
        if axis is not None and given.size == axis.size != 1:
            op.align(given, axis)
        else:
            op.freeze("has a scale that is not per channel", given)


for (_domain, _name), _row in PRODUCTS.items():
    _points = {factor: codes[-1] for factor, codes in ((_row.a, _row.a_codes), (_row.b, _row.b_codes)) if codes}
    rule(
        _name,
        domain=_domain,
        patch=keep_groups if "Conv" in _name else None,
        raw=(*_row.a_codes, *_row.b_codes, *_row.y_codes),
        quantized=_points if "ToFloat" in _name or "Dynamic" in _name else {**_points, _row.bias: None},
    )(coded_product)


@rule("QLinearAdd", "QLinearMul", domain=MS, raw=(1, 4, 6), quantized={0: 2, 3: 5})
def coded_pair(op: Op) -> Sequence[Layout | None]:
    """a, scale, zero point, b, scale, zero point, and those of the result."""
    return (broadcast(op, [op.input(0), op.input(3)], lambda zeros: False),)


@rule("QLinearSigmoid", "QLinearLeakyRelu", domain=MS)
def coded_function(op: Op) -> Sequence[Layout | None]:
    """A function of one operand."""
    return (mapped(op, zero=False),)


@rule("QLinearGlobalAveragePool", "QLinearAveragePool", domain=MS)
def coded_pool(op: Op) -> Sequence[Layout | None]:
    """Windows over height and width."""
    x = op.input(0)
    if op.number("channels_last", 0):
        raise Refuse("has the channels last")
    op.freeze("slides a window over this axis", *x[2:])
    sizes = (1,) * len(x[2:]) if "Global" in op.node.op_type else op.dims(0, len(x))[2:]
    return ((*mapped(op, zero=False)[:2], *(fixed(size) for size in sizes)),)


@rule("QLinearSoftmax", domain=MS)
def coded_softmax(op: Op) -> Sequence[Layout | None]:
    """The axis (and all that follow) stay whole."""
    x = op.input(0)
    op.freeze("normalizes over this axis", *x[position(op.number("axis", -1), len(x)) :])
    return (mapped(op, zero=False),)


@rule("QLinearConcat", domain=MS)
def coded_concat(op: Op) -> Sequence[Layout | None]:
    """Scale and zero point of the result, then x, scale, zero point again and again."""
    y = joined(op, [op.input(index) for index in range(2, len(op.node.inputs), 3)])
    return (tuple(op.axis(axis.labels, False, axis.open) for axis in y),)
