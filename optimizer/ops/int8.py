"""What ONNX Runtime's CPU provider turns into int8 kernels when Q/DQ pairs stand around it: one row per op.

A row is read by quantization only; an op without a row stays in float and is reported by name. The rows follow
``qdq_selector_action_transformer.cc`` of ONNX Runtime and were confirmed by running; what a row promises is checked
again on the runtime's own optimized graph for every model.

Roles
  * ``weighted``: multiplies by a constant weight (int8, symmetric, per output channel) and may add a constant bias;
  * ``product``: a MatMul of two activations;
  * ``binary``: element-wise over two quantized inputs, constants included;
  * ``unary``: one quantized input, output parameters of its own;
  * ``join``: any number of quantized inputs (Concat);
  * ``view``: moves or selects values; output parameters equal the input's, so the cost is that of moving bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import onnx_ir as ir

Role: TypeAlias = Literal["weighted", "product", "binary", "unary", "join", "view"]
Check: TypeAlias = Callable[[ir.Node], "str | None"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one op can be computed in int8."""

    role: Role
    kernels: tuple[str, ...]
    """Op types that the runtime's optimized graph may show in its place."""
    check: Check = lambda node: None
    """The reason why this node cannot be int8, or None."""
    weight_axis: Callable[[ir.Node], int] | None = None
    """Axis of the weight that holds output channels."""
    float_output: bool = False
    """The kernel can write float, so that no Q is needed behind it."""
    fixed: tuple[float, int] | None = None
    """Scale and zero point of the output, where the op's range is known (uint8)."""
    finest: float = 0.0
    """The share of the input's scale that the output's must have at least."""


RULES: dict[str, Rule] = {}


def rule(node: ir.Node) -> Rule | None:
    """The row for a node of the default domain, if there is one."""
    return RULES.get(node.op_type) if node.domain == "" else None


def refusal(node: ir.Node) -> str | None:
    """Why a node stays in float, in words for the report; None if it has a row that accepts it."""
    row = rule(node)
    if row is None:
        return f"{node.op_type} has no int8 kernel"
    return row.check(node)


def attribute(node: ir.Node, name: str, default: object) -> object:
    """An attribute's value or `default`."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def constant(value: ir.Value | None) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """The array of an initializer that no caller can override, else None."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def rank(value: ir.Value | None) -> int | None:
    """Number of axes, if known."""
    return None if value is None or value.shape is None else len(value.shape)


def _opset(node: ir.Node) -> int:
    return 13 if node.graph is None else node.graph.opset_imports.get("", 13)


def _weight(node: ir.Node, ranks: tuple[int, ...]) -> str | None:
    weight = constant(node.inputs[1])
    if weight is None:
        return f"the weight of this {node.op_type} is not constant"
    if weight.dtype != np.float32:
        return f"the weight is {weight.dtype}, not float32"
    if weight.ndim not in ranks:
        return f"the weight has rank {weight.ndim}"
    return None if np.isfinite(weight).all() else "the weight holds values that are not finite"


def _bias(node: ir.Node) -> str | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    bias = constant(node.inputs[2])
    if bias is None:
        return "the bias is not constant"
    return None if np.isfinite(bias).all() else "the bias holds values that are not finite"


def _conv(node: ir.Node) -> str | None:
    return _weight(node, (3, 4, 5)) or _bias(node)


def _gemm(node: ir.Node) -> str | None:
    if attribute(node, "transA", 0):
        return "Gemm with transA has no int8 kernel"
    if attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0:
        return "Gemm with alpha or beta other than 1"
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and bias.size not in (1, *bias.shape[-1:]):
        return "the bias of this Gemm is a matrix"
    return _weight(node, (2,)) or _bias(node)


def _matmul(node: ir.Node) -> str | None:
    if constant(node.inputs[0]) is not None:
        return "the left operand is constant"
    return _weight(node, (2,)) if constant(node.inputs[1]) is not None else _ranked(node)


def _ranked(node: ir.Node) -> str | None:
    known = [rank(value) or 0 for value in node.inputs]
    return None if min(known) >= 2 else "a MatMul of vectors or of unknown rank"


def _binary(node: ir.Node) -> str | None:
    if all(constant(value) is not None for value in node.inputs):
        return "both operands are constant"
    for value in node.inputs:
        array = constant(value)
        if array is not None and array.dtype != np.float32:
            return f"the constant operand is {array.dtype}"
        if array is not None and not np.isfinite(array).all():
            return "the constant operand holds values that are not finite"
    return None


def _max_pool(node: ir.Node) -> str | None:
    if len(node.outputs) > 1:
        return "MaxPool with indices"
    return None if _opset(node) >= 12 else "MaxPool is int8 from opset 12 on"


def _resize(node: ir.Node) -> str | None:
    if attribute(node, "mode", "nearest") != "nearest":
        return "only nearest-neighbour Resize has an int8 kernel"
    return None


def _average(node: ir.Node) -> str | None:
    return None if rank(node.inputs[0]) == 4 else "pooling of other than two spatial axes"


def _softmax(node: ir.Node) -> str | None:
    axis, ndim = attribute(node, "axis", -1 if _opset(node) >= 13 else 1), rank(node.inputs[0])
    return None if ndim is not None and axis in (-1, ndim - 1) else "Softmax over another axis than the last"


RULES |= {
    "Conv": Rule("weighted", ("QLinearConv",), _conv, lambda node: 0),
    "Gemm": Rule(
        "weighted", ("QGemm",), _gemm, lambda node: 0 if attribute(node, "transB", 0) else 1, float_output=True
    ),
    "MatMul": Rule(
        "weighted",
        ("QLinearMatMul", "MatMulIntegerToFloat", "MatMulInteger", "DynamicQuantizeMatMul", "QGemm"),
        _matmul,
        lambda node: 1,
        float_output=True,
    ),
    "Add": Rule("binary", ("QLinearAdd",), _binary),
    "Mul": Rule("binary", ("QLinearMul",), _binary),
    "Concat": Rule("join", ("QLinearConcat",)),
    "Sigmoid": Rule("unary", ("QLinearSigmoid",), fixed=(1 / 256, 0)),
    "Softmax": Rule("unary", ("QLinearSoftmax",), _softmax, fixed=(1 / 256, 0)),
    "LeakyRelu": Rule("unary", ("QLinearLeakyRelu",)),
    "HardSigmoid": Rule("unary", ("QLinearAdd",), fixed=(1 / 255, 0)),
    "AveragePool": Rule("unary", ("QLinearAveragePool",), _average),
    # Its kernel refuses to run where the scales lie further apart, as those of channels that cancel out may.
    "GlobalAveragePool": Rule("unary", ("QLinearGlobalAveragePool",), _average, finest=1 / 255),
    "MaxPool": Rule("view", ("MaxPool",), _max_pool),
    "Resize": Rule("view", ("Resize",), _resize),
    "Reshape": Rule("view", ("Reshape",)),
    "Transpose": Rule("view", ("Transpose",)),
    "Flatten": Rule("view", ("Flatten",)),
    "Squeeze": Rule("view", ("Squeeze",)),
    "Unsqueeze": Rule("view", ("Unsqueeze",)),
    "Slice": Rule("view", ("Slice",)),
    "Split": Rule("view", ("Split",)),
    "DepthToSpace": Rule("view", ("DepthToSpace",)),
}
# HardSigmoid: alpha * x + beta clipped to [0, 1] is an addition of beta to x read with the scale alpha * s, written
# with scale 1/255 and zero point 0: saturation is the clip. Softmax and Sigmoid: as ONNX Runtime itself does.
