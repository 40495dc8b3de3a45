"""Quantized tensors: scales and zero points per channel go with their channel.

Masking writes the zero point into quantized constants, so that they stand for zero; an activation's zero point is no
zero, so nothing is claimed of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.ops.axes.moves import position
from optimizer.ops.axes.pointwise import mapped
from optimizer.ops.axes.rule import Layout, Op, Refuse, rule


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
