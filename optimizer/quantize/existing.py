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
    """How many nodes compute on quantized values, subgraphs included; DequantizeLinear of a constant counts as one."""
    return sum(
        node.op_type in _INTEGER_OPS or _stored_integer(node)
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
    )


def _stored_integer(node: ir.Node) -> bool:
    if node.op_type != "DequantizeLinear":
        return False
    return node.inputs[0] is not None and node.inputs[0].const_value is not None
