"""Sizes that the graph prescribes for open axes of its inputs.

Each input's axes are followed by name through elementwise ops, transpositions and reshuffles of size-1 axes until they
meet a constant of fixed size: the input channels of a convolution, the rows of a matrix, the input size of an RNN, a
table of positions that is added, the scale of a normalization. For the value v the walk knows which open axis, if
any, each axis of v is. What it cannot follow it drops: these are hints, the model's run is the proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import onnx_ir as ir

from optimizer.data.wiring import Wiring, integer

Axes: TypeAlias = "tuple[str | None, ...]"
_Found: TypeAlias = Iterator[tuple[str, int]]

_UNARY = {
    "Abs", "BatchNormalization", "Cast", "CastLike", "Ceil", "Clip", "DequantizeLinear", "Dropout",
    "DynamicQuantizeLinear", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Neg", "Not",
    "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softmax", "Softplus", "Sqrt",
    "Tanh",
}  # fmt: skip
_BINARY = {"Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mul", "Or", "PRelu", "Pow", "Sub", "Where"}
_GROUPED = {"Conv", "ConvInteger", "FusedConv", "QLinearConv"}
_MAX_VISITS = 2000


def required(inputs: Mapping[ir.Value, Axes], wiring: Wiring) -> dict[str, int]:
    """The prescribed size of each symbol that has one. `inputs` gives the symbols of an input's axes, None if fixed."""
    found: dict[str, int] = {}
    seen: set[tuple[ir.Value, Axes]] = set()
    stack = [(value, axes) for value, axes in inputs.items() if any(axes)]
    while stack and len(seen) < _MAX_VISITS:
        value, axes = stack.pop()
        if (value, axes) in seen or not any(axes):
            continue
        seen.add((value, axes))
        stack.extend((alias, axes) for alias in wiring.aliases(value))
        for node, position in wiring.uses(value):
            for symbol, size in _prescribed(wiring, node, position, axes):
                found.setdefault(symbol, size)
            onward = _onward(wiring, node, position, axes)
            stack.extend((output, onward) for output in node.outputs[:1] if onward)
    return found


def _prescribed(wiring: Wiring, node: ir.Node, position: int, axes: Axes) -> _Found:
    for axis, operand, where in _CONTRACTIONS.get((node.op_type, position), _fixed())(node):
        size = wiring.dim(node.inputs[operand], where) if operand < len(node.inputs) else None
        symbol = axes[axis] if -len(axes) <= axis < len(axes) else None
        if symbol and isinstance(size, int) and size > 0:
            yield symbol, size * (integer(node, "group", 1) if node.op_type in _GROUPED else 1)
    if node.op_type in _BINARY:
        yield from _broadcast(wiring, node, position, axes)


def _broadcast(wiring: Wiring, node: ir.Node, position: int, axes: Axes) -> _Found:
    for index, other in enumerate(node.inputs):
        tensor = ir.convenience.get_const_tensor(other) if other is not None and index != position else None
        sizes = tuple(tensor.shape.numpy()) if tensor is not None else ()
        for symbol, size in zip(reversed(axes), reversed(sizes), strict=False):
            if symbol and size > 1:
                yield symbol, size


_Row: TypeAlias = Sequence[tuple[int, int, int]]
"""Axis of this operand, the other operand, and the other's axis that must have the same size."""


def _fixed(*row: tuple[int, int, int]) -> Callable[[ir.Node], _Row]:
    return lambda _: row


_CONTRACTIONS: Mapping[tuple[str, int], Callable[[ir.Node], _Row]] = {
    **{(op, 0): _fixed((1, 1, 1)) for op in ("Conv", "ConvInteger", "FusedConv")},
    ("QLinearConv", 0): _fixed((1, 3, 1)),
    ("ConvTranspose", 0): _fixed((1, 1, 0)),
    **{(op, 0): _fixed((-1, 1, -2)) for op in ("MatMul", "MatMulInteger", "DynamicQuantizeMatMul")},
    ("QLinearMatMul", 0): _fixed((-1, 3, -2)),
    ("MatMul", 1): _fixed((-2, 0, -1)),
    ("Gemm", 0): lambda node: (
        (-2 if integer(node, "transA", 0) else -1, 1, -1 if integer(node, "transB", 0) else -2),
    ),
    **{(op, 0): _fixed((2, 1, 2)) for op in ("RNN", "GRU", "LSTM")},
    **{(op, 5): _fixed((0, 2, 0), (2, 2, 2)) for op in ("RNN", "GRU", "LSTM")},
    ("LSTM", 6): _fixed((0, 2, 0), (2, 2, 2)),
    **{(op, 0): _fixed((1, 1, 0)) for op in ("BatchNormalization", "InstanceNormalization", "GroupNormalization")},
    ("LayerNormalization", 0): _fixed((-1, 1, -1)),
}


def _onward(wiring: Wiring, node: ir.Node, position: int, axes: Axes) -> Axes:
    """The symbols of the axes of the node's first result; nothing where they are lost."""
    kind = node.op_type
    if (kind in _UNARY and position == 0) or kind in _BINARY:
        return _widened(node, axes)
    if kind == "Transpose":
        order = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(axes))[::-1]
        return tuple(axes[axis] for axis in order) if len(order) == len(axes) else ()
    if kind in ("Squeeze", "Unsqueeze") and position == 0:
        return _reshuffled(wiring, node, axes)
    if kind == "Gather" and position == 1 and integer(node, "axis", 0) == 0:
        table = wiring.rank(node.inputs[0])
        return () if table is None else (*axes, *(None,) * (table - 1))
    if kind in ("MatMul", "Gemm") and position == 0 and not integer(node, "transA", 0):
        return (*axes[:-1], None)
    return ()


def _widened(node: ir.Node, axes: Axes) -> Axes:
    """Broadcasting aligns the last axes; the result may have more in front."""
    ranks = [
        len(value.shape) for value in (*node.inputs, node.outputs[0]) if value is not None and value.shape is not None
    ]
    return (None,) * (max(ranks, default=0) - len(axes)) + axes


def _reshuffled(wiring: Wiring, node: ir.Node, axes: Axes) -> Axes:
    places = _listed_axes(wiring, node)
    total = len(axes) + (len(places) if node.op_type == "Unsqueeze" else 0)
    chosen = sorted({axis % total for axis in places})
    if node.op_type == "Squeeze":
        return tuple(symbol for axis, symbol in enumerate(axes) if axis not in chosen) if chosen else ()
    result = list(axes)
    for axis in chosen:
        result.insert(axis, None)
    return tuple(result) if chosen else ()


def _listed_axes(wiring: Wiring, node: ir.Node) -> list[int]:
    """The axes of a Squeeze or Unsqueeze: an attribute before opset 13, an input since."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"].as_ints())
    given = wiring.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return [] if given is None else [int(axis) for axis in given.ravel()]
