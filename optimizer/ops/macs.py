"""Multiply-accumulates per operator: one row per op, a function of the node and of the sizes of its values.

A MAC is one multiplication of an activation with a weight (or with another activation) whose product is summed.
Biases, activations, normalizations and data movement count zero: they have no row.

    Conv            |y| * prod(w[1:])                      w = [M, C/groups, k...]
    ConvTranspose   |x| * prod(w[1:])                      w = [C, M/groups, k...]
    MatMul, Gemm    |y| * K                                K = length of the contracted axis
    LSTM, GRU, RNN  steps * batch * directions * gates * hidden * (input + hidden)
    attention       |q| * T + |y| * T (+ the projections, where the op holds them), T = length of the keys
    Einsum          product over all distinct labels

A row returns None where a size it needs is unknown. Quantized forms have the MACs of the float form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import onnx_ir as ir

Sizes: TypeAlias = Callable[["ir.Value | None"], "tuple[int, ...] | None"]
"""The sizes of a value, or None where they are not all known."""
Row: TypeAlias = Callable[["ir.Node", Sizes], "int | None"]

MS = "com.microsoft"


def has_row(node: ir.Node) -> bool:
    """Whether the operator multiplies and accumulates at all."""
    return (node.domain, node.op_type) in ROWS


def node_macs(node: ir.Node, sizes: Sizes) -> int | None:
    """MACs of one run of `node`; 0 for an operator without a row, None where a size is unknown."""
    row = ROWS.get((node.domain, node.op_type))
    return 0 if row is None else row(node, sizes)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _convolution(weight: int, transposed: bool = False) -> Row:
    def row(node: ir.Node, sizes: Sizes) -> int | None:
        data = sizes(_input(node, 0) if transposed else node.outputs[0])
        kernel = sizes(_input(node, weight))
        return None if data is None or kernel is None else math.prod(data) * math.prod(kernel[1:])

    return row


def _product(a: int, b: int) -> Row:
    """`b` is the second factor; its next to last axis is contracted, or its last one under transB."""

    def row(node: ir.Node, sizes: Sizes) -> int | None:
        left, right, y = sizes(_input(node, a)), sizes(_input(node, b)), sizes(node.outputs[0])
        if right is None or (left is None and y is None):
            return None
        transposed = bool(node.attributes.get_int("transB", 0))
        contracted = right[-1] if transposed or len(right) == 1 else right[-2]
        return math.prod(y if y is not None else _product_shape(left or (), right, node)) * contracted

    return row


def _product_shape(left: tuple[int, ...], right: tuple[int, ...], node: ir.Node) -> tuple[int, ...]:
    """Only for fused operators that shape inference does not know."""
    rows = left[-1] if node.attributes.get_int("transA", 0) else math.prod(left[-2:-1])
    columns = right[-2] if node.attributes.get_int("transB", 0) else right[-1] if len(right) > 1 else 1
    batch = max(math.prod(left[:-2]), math.prod(right[:-2]))
    return (batch, rows, columns)


def _n_bits(node: ir.Node, sizes: Sizes) -> int | None:
    left = sizes(_input(node, 0))
    return None if left is None else math.prod(left) * node.attributes.get_int("N", 0)


def _recurrent(gates: int, transposed_weight: bool = False) -> Row:
    def row(node: ir.Node, sizes: Sizes) -> int | None:
        x, w = sizes(_input(node, 0)), sizes(_input(node, 1))
        if x is None or w is None:
            return None
        features, wide = w[1:] if transposed_weight else (w[2], w[1])
        return x[0] * x[1] * w[0] * wide * (features + wide // gates)

    return row


def _projecting_attention(node: ir.Node, sizes: Sizes) -> int | None:
    """com.microsoft Attention: x [batch, length, features], w [features, q + k + v]."""
    x, w = sizes(_input(node, 0)), sizes(_input(node, 1))
    if x is None or w is None:
        return None
    rows, length = math.prod(x[:-1]), x[-2]
    parts = node.attributes.get_ints("qkv_hidden_sizes", [w[1] // 3] * 3)
    return rows * w[0] * w[1] + rows * length * (parts[0] + parts[2])


def _attention(node: ir.Node, sizes: Sizes) -> int | None:
    """Scores and weighted sum over q [batch, (heads,) length, size] and keys of the same layout."""
    q, k = sizes(_input(node, 0)), sizes(_input(node, 1))
    return None if q is None or k is None else 2 * math.prod(q) * k[-2]


def _einsum(node: ir.Node, sizes: Sizes) -> int | None:
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    operands = equation.split("->")[0].split(",")
    if len(operands) < 2 or "..." in equation:
        return 0 if len(operands) < 2 else None
    lengths: dict[str, int] = {}
    for value, labels in zip(node.inputs, operands, strict=False):
        shape = sizes(value)
        if shape is None or len(shape) != len(labels):
            return None
        lengths.update(zip(labels, shape, strict=True))
    return math.prod(lengths.values()) * (len(operands) - 1)


ROWS: dict[tuple[str, str], Row] = {
    ("", "Conv"): _convolution(1),
    ("", "ConvInteger"): _convolution(1),
    ("", "QLinearConv"): _convolution(3),
    ("", "DeformConv"): _convolution(1),
    ("", "ConvTranspose"): _convolution(1, transposed=True),
    ("", "Gemm"): _product(0, 1),
    ("", "MatMul"): _product(0, 1),
    ("", "MatMulInteger"): _product(0, 1),
    ("", "QLinearMatMul"): _product(0, 3),
    ("", "Einsum"): _einsum,
    ("", "LSTM"): _recurrent(4),
    ("", "GRU"): _recurrent(3),
    ("", "RNN"): _recurrent(1),
    ("", "Attention"): _attention,
    # Fused forms, which the runtime writes into its optimized graph.
    (MS, "FusedConv"): _convolution(1),
    (MS, "NhwcFusedConv"): _convolution(1),
    (MS, "QLinearConv"): _convolution(3),
    (MS, "ConvTransposeWithDynamicPads"): _convolution(1, transposed=True),
    (MS, "FusedGemm"): _product(0, 1),
    (MS, "FusedMatMul"): _product(0, 1),
    (MS, "TransposeMatMul"): _product(0, 1),
    (MS, "FusedMatMulActivation"): _product(0, 1),
    (MS, "QGemm"): _product(0, 3),
    (MS, "MatMulIntegerToFloat"): _product(0, 1),
    (MS, "DynamicQuantizeMatMul"): _product(0, 1),
    (MS, "MatMulNBits"): _n_bits,
    (MS, "MatMulBnb4"): _n_bits,
    (MS, "DynamicQuantizeLSTM"): _recurrent(4, transposed_weight=True),
    (MS, "Attention"): _projecting_attention,
    (MS, "QAttention"): _projecting_attention,
    (MS, "MultiHeadAttention"): _attention,
}
