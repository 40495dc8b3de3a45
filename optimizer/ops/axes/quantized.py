"""Quantized tensors: scales and zero points per channel go with their channel.

Masking writes the zero point into quantized constants, so that they stand for zero; an activation's zero point is no
zero, so nothing is claimed of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.ops.axes.moves import position
from optimizer.ops.axes.pointwise import broadcast, mapped
from optimizer.ops.axes.rule import MS, Layout, Op, Refuse, fixed, rule


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


@rule("QLinearAdd", "QLinearMul", domain=MS, raw=(1, 2, 4, 5, 6, 7))
def qlinear_pair(op: Op) -> Sequence[Layout | None]:
    """a, its scale and zero point, b, its scale and zero point: element-wise."""
    return (broadcast(op, [op.input(0), op.input(3)], lambda zeros: False),)


@rule("QLinearLeakyRelu", "QLinearSigmoid", domain=MS)
def qlinear_map(op: Op) -> Sequence[Layout | None]:
    """x, its scale and zero point."""
    return (mapped(op, zero=False),)


@rule("QLinearGlobalAveragePool", domain=MS)
def qlinear_pool(op: Op) -> Sequence[Layout | None]:
    """x, its scale and zero point; with channels_last they are on the last axis."""
    x = mapped(op, zero=False)
    over = range(1, len(x) - 1) if op.number("channels_last", 0) else range(2, len(x))
    op.freeze("averages over this axis", *(x[axis] for axis in over))
    return (tuple(fixed(1) if i in over else axis for i, axis in enumerate(x)),)
