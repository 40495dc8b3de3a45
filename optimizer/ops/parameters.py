"""Which constant inputs of an operator are parameters: a trained weight or bias, in float or quantized form.

A scale or zero point belongs to an encoding, not to what was trained; a shape, axis or index is no parameter either.
So a model has as many parameters after quantization as before. One row per op that has such inputs.
"""

from __future__ import annotations

import onnx_ir as ir

MS = "com.microsoft"

ENCODING_INPUTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("", "QuantizeLinear"): (1, 2),
    ("", "DequantizeLinear"): (1, 2),
    ("", "QLinearConv"): (1, 2, 4, 5, 6, 7),
    ("", "QLinearMatMul"): (1, 2, 4, 5, 6, 7),
    ("", "ConvInteger"): (2, 3),
    ("", "MatMulInteger"): (2, 3),
    (MS, "QuantizeLinear"): (1, 2),
    (MS, "DequantizeLinear"): (1, 2),
    (MS, "QLinearConv"): (1, 2, 4, 5, 6, 7),
    (MS, "QGemm"): (1, 2, 4, 5, 7, 8),
    (MS, "QLinearAdd"): (1, 2, 4, 5, 6, 7),
    (MS, "QLinearMul"): (1, 2, 4, 5, 6, 7),
    (MS, "QLinearSigmoid"): (1, 2, 3, 4),
    (MS, "QLinearLeakyRelu"): (1, 2, 3, 4),
    (MS, "QLinearSoftmax"): (1, 2, 3, 4),
    (MS, "QLinearGlobalAveragePool"): (1, 2, 3, 4),
    (MS, "QLinearAveragePool"): (1, 2, 3, 4),
    (MS, "MatMulIntegerToFloat"): (2, 3, 4, 5),
    (MS, "DynamicQuantizeMatMul"): (2, 3),
    (MS, "MatMulNBits"): (2, 3, 4),
    (MS, "GatherBlockQuantized"): (2, 3),
    (MS, "DynamicQuantizeLSTM"): (8, 9, 10, 11),
    (MS, "QAttention"): (3, 4, 6, 7),
}
"""Scales and zero points."""

WIDE_BIAS_INPUTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("", "DequantizeLinear"): (0,),
    ("", "QLinearConv"): (8,),
    (MS, "DequantizeLinear"): (0,),
    (MS, "QLinearConv"): (8,),
    (MS, "QGemm"): (6,),
}
"""Where an int32 tensor is the bias of an int8 operator; int32 elsewhere is an index or a shape."""

_NARROW = {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT16,
           ir.DataType.UINT16, ir.DataType.INT2, ir.DataType.UINT2}  # fmt: skip


def is_parameter(dtype: ir.DataType | None, node: ir.Node, index: int) -> bool:
    """Whether a constant of `dtype` that feeds input `index` of `node` is a parameter."""
    op = (node.domain, node.op_type)
    if dtype is None or index in ENCODING_INPUTS.get(op, ()):
        return False
    if op == ("", "Mul") and _decodes(node.inputs[1 - index]):
        return False
    if dtype == ir.DataType.INT32:
        return index in WIDE_BIAS_INPUTS.get(op, ())
    return dtype.is_floating_point() or dtype in _NARROW


def _decodes(value: ir.Value | None) -> bool:
    """Whether this is a constant that is stored narrow and cast: what it is multiplied by is its scale."""
    node = None if value is None else value.producer()
    stored = node.inputs[0] if node is not None and (node.domain, node.op_type) == ("", "Cast") else None
    return stored is not None and stored.const_value is not None and stored.const_value.dtype in _NARROW


def elements(node: ir.Node, index: int, stored: int) -> int:
    """How many parameters the `stored` elements of input `index` stand for: several per byte in packed forms."""
    if (node.domain, node.op_type, index) == (MS, "MatMulNBits", 1):
        return node.attributes.get_int("K", 0) * node.attributes.get_int("N", 0)
    return stored
