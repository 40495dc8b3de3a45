"""Recognising a model that is quantized already."""

from __future__ import annotations

import onnx_ir as ir

_INTEGER_OPS = frozenset(
    {
        "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
        "QGemm", "QLinearAdd", "QLinearMul", "QAttention", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM",
        "MatMulIntegerToFloat", "MatMulNBits", "MatMulBnb4",
    }
)  # fmt: skip


def integer_nodes(model: ir.Model) -> int:
    """How many nodes compute on quantized values or restore weights kept as int8, subgraphs included."""
    return sum(
        node.op_type in _INTEGER_OPS or _stored_integer(node)
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
    )


def _stored_integer(node: ir.Node) -> bool:
    """Whether `node` turns an int8 constant into float: by DequantizeLinear, or Cast as in `storage`."""
    if node.op_type not in ("DequantizeLinear", "Cast"):
        return False
    source = node.inputs[0]
    return source is not None and source.const_value is not None and source.dtype in _NARROW


_NARROW = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4)
