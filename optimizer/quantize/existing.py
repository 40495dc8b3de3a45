"""Recognising a model that is quantized already, in whole or in part.

Weights that somebody keeps as integers behind a DequantizeLinear, with everything computed in float, are as good as
float weights: `restore` makes them that, ``(q - zero_point) * scale``, so that the model can be quantized. Integers
that are computed with, blocks of weights (MatMulNBits) and our own storage (a Cast and a Mul) count as quantized.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import Editor, array, get, nodes, remove
from optimizer.model.ports import Array

_INTEGER_OPS = frozenset(
    {
        "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
        "QGemm", "QLinearAdd", "QLinearMul", "QAttention", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM",
        "MatMulIntegerToFloat", "MatMulNBits", "MatMulBnb4",
    }
)  # fmt: skip
_NARROW = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4)


def integer_nodes(model: ir.Model) -> int:
    """How many nodes compute on quantized values or restore weights kept as int8, subgraphs included."""
    return sum(_is_integer(node) for node in nodes(model))


def restorable(model: ir.Model) -> bool:
    """Whether weights behind a DequantizeLinear are all that is quantized in `model`."""
    return all(_dequantized(node) is not None for node in nodes(model) if _is_integer(node))


def restore(model: ir.Model) -> int:
    """Make float weights of the integers in a `restorable` model, in place; returns how many."""
    editor, every = Editor(model), [node for node in nodes(model) if _is_integer(node)]
    for node in every:
        content = _dequantized(node)
        assert content is not None
        editor.replace(node.outputs[0], editor.constant(content, node.outputs[0].name or "weight"))
        remove(node)
    return len(every)


def _is_integer(node: ir.Node) -> bool:
    return node.op_type in _INTEGER_OPS or _stored_integer(node)


def _dequantized(node: ir.Node) -> Array | None:
    """The float32 tensor that a DequantizeLinear makes of constants; None for any other node."""
    if node.op_type != "DequantizeLinear" or node.attributes.get_int("block_size", 0) != 0:
        return None
    integers, scale, zero = (array(get(node, index)) for index in range(3))
    if integers is None or scale is None or scale.dtype != np.float32 or (zero is None and get(node, 2) is not None):
        return None
    axis = node.attributes.get_int("axis", 1) % max(integers.ndim, 1)
    shape = [-1 if i == axis else 1 for i in range(integers.ndim)] if scale.ndim else []
    if scale.ndim > 1 or (scale.ndim and scale.size not in (1, integers.shape[axis])):
        return None
    points = np.zeros_like(scale) if zero is None else zero.astype(np.float32)
    found = (integers.astype(np.float32) - points.reshape(shape)) * scale.reshape(shape)
    return np.asarray(found, np.float32)


def _stored_integer(node: ir.Node) -> bool:
    """Whether `node` turns an int8 constant into float: by DequantizeLinear, or Cast as in `storage`."""
    if node.op_type not in ("DequantizeLinear", "Cast"):
        return False
    source = node.inputs[0]
    return source is not None and source.const_value is not None and source.dtype in _NARROW
