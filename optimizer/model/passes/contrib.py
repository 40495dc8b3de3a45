"""Operators that ONNX Runtime fused when it saved an optimized model become standard ones again.

Nothing else knows their types, shapes or axes; and whoever loads the result fuses them again where that pays.

    FusedConv, FusedGemm                 Conv (+ Add), Gemm, and the activation behind
    FusedMatMul                          MatMul with a Transpose before and a Mul by alpha behind, where there are any
    Gelu, BiasGelu                       x / 2 * (1 + erf(x / sqrt(2))), after an Add
    FastGelu                             x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), after an Add
    QuickGelu                            x * sigmoid(alpha x)
    SkipLayerNormalization               Add (twice with a bias), LayerNormalization        from opset 17 on
    SkipSimplifiedLayerNormalization     Add, x / sqrt(mean(x^2) + epsilon) * gain
    EmbedLayerNormalization              Gather of words, kinds and places, Add, LayerNormalization (from opset 17 on,
                                         too); the mask's index is the sum of each row of the mask

Refused, each left as it is: an activation that is not among those below, transposed batches, a rank that is not known
where axes are swapped, a use of the normalization's mean or deviation, a mask's index without a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optimizer.model import shapes
from optimizer.model.passes.edit import Array, Editor, get, nodes, opset, remove
from optimizer.ops.parameters import MS

_NORMALIZES = 17
_OWN = frozenset({"activation", "activation_params", "activation_alpha", "activation_beta", "activation_gamma"})


def spell_out(model: ir.Model) -> int:
    """Rewrite the operators above in `model`, bodies included, in place; returns how many."""
    editor, count = Editor(model), 0
    for node in [node for node in nodes(model) if node.domain == MS and node.op_type in _REWRITES]:
        writer = _Writer(editor, node)
        found = _REWRITES[node.op_type](writer, opset(model))
        if found is None:
            writer.undo()
            continue
        editor.replace(node.outputs[0], found)
        remove(node)
        count += 1
    return count


class _Writer:
    """Writes standard nodes in front of one fused node."""

    def __init__(self, editor: Editor, node: ir.Node) -> None:
        self.editor, self.node = editor, node
        self.made: list[ir.Node] = []

    def __call__(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        out = self.editor.insert(self.node, op, inputs, attributes, stem=f"{self.node.outputs[0].name}_{op}")
        made = out.producer()
        assert made is not None
        self.made.append(made)
        return out

    def number(self, value: float) -> ir.Value:
        """A constant of the type that the fused node computes in."""
        known = (one.dtype for one in (*self.node.outputs[:1], *self.node.inputs) if one is not None)
        dtype = next(filter(None, known), ir.DataType.FLOAT)
        return self.constant(np.array(value, dtype.numpy()), "number")

    def constant(self, content: Array, name: str) -> ir.Value:
        return self.editor.constant(content, f"{self.node.outputs[0].name}_{name}")

    def undo(self) -> None:
        for made in reversed(self.made):
            remove(made)


def _conv(write: _Writer, version: int) -> ir.Value | None:
    node = write.node
    found = write("Conv", *node.inputs[:3], **_plain(node))
    if get(node, 3) is not None:
        found = write("Add", found, node.inputs[3])
    return _activated(write, found, tuple(node.attributes.get_floats("activation_params", ())))


def _gemm(write: _Writer, version: int) -> ir.Value | None:
    names = [name for name in ("activation_alpha", "activation_beta") if name in write.node.attributes]
    numbers = tuple(write.node.attributes[name].as_float() for name in names)
    return _activated(write, write("Gemm", *write.node.inputs, **_plain(write.node)), numbers)


def _plain(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items() if name not in _OWN}


def _activated(write: _Writer, x: ir.Value, numbers: Sequence[float]) -> ir.Value | None:
    op = write.node.attributes.get_string("activation", "")
    if not op:
        return x
    if op == "Clip":
        return write("Clip", x, *(write.number(number) for number in numbers[:2]))
    names = _ACTIVATIONS.get(op)
    return None if names is None else write(op, x, **dict(zip(names, numbers, strict=False)))


_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
}  # fmt: skip


def _matmul(write: _Writer, version: int) -> ir.Value | None:
    node, alpha = write.node, write.node.attributes.get_float("alpha", 1.0)
    if node.attributes.get_int("transBatchA", 0) or node.attributes.get_int("transBatchB", 0):
        return None
    factors = []
    for index, name in enumerate(("transA", "transB")):
        value, rank = node.inputs[index], shapes.rank(node.inputs[index])
        turned = node.attributes.get_int(name, 0) != 0
        if value is None or (turned and rank is None):
            return None
        if turned and rank is not None and rank > 1:
            value = write("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])
        factors.append(value)
    found = write("MatMul", *factors)
    return found if alpha == 1.0 else write("Mul", found, write.number(alpha))


def _gelu(write: _Writer, version: int) -> ir.Value | None:
    x = _biased(write)
    error = write("Erf", write("Div", x, write.number(math.sqrt(2))))
    return write("Mul", write("Mul", x, write("Add", error, write.number(1))), write.number(0.5))


def _fast_gelu(write: _Writer, version: int) -> ir.Value | None:
    x = _biased(write)
    cube = write("Mul", write("Pow", x, write.number(3)), write.number(0.044715))
    turned = write("Tanh", write("Mul", write("Add", x, cube), write.number(math.sqrt(2 / math.pi))))
    return write("Mul", write("Mul", x, write.number(0.5)), write("Add", turned, write.number(1)))


def _quick_gelu(write: _Writer, version: int) -> ir.Value | None:
    x, alpha = write.node.inputs[0], write.node.attributes.get_float("alpha", 1.702)
    return write("Mul", x, write("Sigmoid", x if alpha == 1.0 else write("Mul", x, write.number(alpha))))


def _biased(write: _Writer) -> ir.Value | None:
    bias = get(write.node, 1)
    return write.node.inputs[0] if bias is None else write("Add", write.node.inputs[0], bias)


def _skip_norm(write: _Writer, version: int) -> ir.Value | None:
    epsilon = write.node.attributes.get_float("epsilon", 1e-5)
    total = None if version < _NORMALIZES else _total(write, 4)
    gain, bias = get(write.node, 2), get(write.node, 3)
    return None if total is None else write("LayerNormalization", total, gain, bias, axis=-1, epsilon=epsilon)


def _skip_simplified(write: _Writer, version: int) -> ir.Value | None:
    epsilon, total = write.node.attributes.get_float("epsilon", 1e-5), _total(write, 3)
    if total is None:
        return None
    square = write("Pow", total, write.number(2))
    last = np.array([-1], np.int64)
    mean = (
        write("ReduceMean", square, axes=[-1], keepdims=1)
        if version < 18
        else write("ReduceMean", square, write.constant(last, "axes"), keepdims=1)
    )
    root = write("Sqrt", write("Add", mean, write.number(epsilon)))
    return write("Mul", write("Div", total, root), write.node.inputs[2])


def _total(write: _Writer, bias: int) -> ir.Value | None:
    """The sum that is normalized, which then stands for the last output too; None if others are asked for."""
    outputs = write.node.outputs
    if any(value.uses() or value.is_graph_output() for value in outputs[1:3]):
        return None
    total = write("Add", *write.node.inputs[:2])
    if get(write.node, bias) is not None:
        total = write("Add", total, write.node.inputs[bias])
    if len(outputs) > 3:
        write.editor.replace(outputs[3], total)
    return total


def _embed(write: _Writer, version: int) -> ir.Value | None:
    ids, segments, words, places, kinds, gain, bias, mask, positions = (get(write.node, index) for index in range(9))
    index, total = (*write.node.outputs[1:3], None, None)[:2]
    counted = index is not None and (bool(index.uses()) or index.is_graph_output())
    if version < _NORMALIZES or (counted and mask is None):
        return None
    if positions is None:
        last, zero = write.constant(np.array([1], np.int64), "last"), write.constant(np.array([0], np.int64), "zero")
        places = write("Slice", places, zero, write("Gather", write("Shape", ids), last), zero)
    else:
        places = write("Gather", places, positions)
    found = write("Add", write("Gather", words, ids), places)
    if kinds is not None and segments is not None:
        found = write("Add", found, write("Gather", kinds, segments))
    if index is not None and counted:
        axis = write.constant(np.array([1], np.int64), "axis")
        write.editor.replace(index, write("ReduceSum", mask, axis, keepdims=0))
    if total is not None:
        write.editor.replace(total, found)
    epsilon = write.node.attributes.get_float("epsilon", 1e-12)
    return write("LayerNormalization", found, gain, bias, axis=-1, epsilon=epsilon)


_REWRITES: dict[str, Callable[[_Writer, int], ir.Value | None]] = {
    "FusedConv": _conv,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "FastGelu": _fast_gelu,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_simplified,
    "EmbedLayerNormalization": _embed,
}
