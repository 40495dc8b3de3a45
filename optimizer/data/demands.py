"""What a graph demands of the values of an input, found by following the value to where it is consumed.

The value x is followed through ops that only move, repeat or select elements (`_MOVING`), through the addition of a
constant (so that x + 2 < n gives x < n - 2), into subgraphs and functions and out of them. Where it arrives tells:

=============================================  ==========================================================
consumer                                       demand
=============================================  ==========================================================
an index of Gather*, Scatter*, OneHot,         0 <= x < the size of the table's axis, which may be a
EmbedLayerNormalization                        symbol; the smallest of several wins
Equal with a constant                          x is one of the compared values (unless it is an index)
1 - x, Not, a condition, Cast to bool,         x is a mask: all ones
a mask input of attention
sequence_lens of an RNN, ReverseSequence,      x counts the elements of a sequence
a comparison with Range
a shape, a length, a trip count                x is a small size
Log, Sqrt, Reciprocal, a divisor               x > 0
h and c of an RNN                              x is a state
=============================================  ==========================================================

A demand that is not found is not an error: the caller falls back to names and then to harmless defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from optimizer.data.wiring import Wiring, integer
from optimizer.model.ports import Array

_ALL = -1
_MOVING: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Cast", "CastLike", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"), (0,)),
    **dict.fromkeys(("Transpose", "Slice", "Split", "Expand", "Tile", "Pad", "Gather", "GatherElements"), (0,)),
    **dict.fromkeys(("GatherND", "Abs", "Relu", "Clip", "Floor", "Ceil", "Round", "DepthToSpace"), (0,)),
    **dict.fromkeys(("SpaceToDepth", "Compress", "ReduceMax", "Trilu", "DequantizeLinear"), (0,)),
    "Concat": (_ALL,),
    "Where": (1, 2),
}
"""Ops whose result holds elements of the inputs at these positions."""

_SIZES = {
    ("Slice", 1), ("Slice", 2), ("Expand", 1), ("Reshape", 1), ("ConstantOfShape", 0), ("Range", 0), ("Range", 1),
    ("Tile", 1), ("TopK", 1), ("Pad", 1), ("Resize", 3), ("Loop", 0), ("OneHot", 1), ("Split", 1),
}  # fmt: skip
_MASKS = {
    ("Where", 0), ("Not", 0), ("And", 0), ("And", 1), ("Or", 0), ("Or", 1), ("Compress", 1),
    ("EmbedLayerNormalization", 5), ("Attention", 3), ("MultiHeadAttention", 4), ("QAttention", 5),
}  # fmt: skip
_STATES = {("LSTM", 5), ("LSTM", 6), ("GRU", 5), ("RNN", 5)}
_POSITIVE = {("Log", 0), ("Sqrt", 0), ("Reciprocal", 0), ("Div", 1)}
_SHIFTS = {("Add", 0): 1, ("Add", 1): 1, ("Sub", 0): -1}
_COMPARISONS = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
_MAX_VISITS = 2000


_Table: TypeAlias = Callable[[Wiring, ir.Node], "int | str | None"]


@dataclasses.dataclass
class Demands:
    """What was found for one input. `limits` are exclusive upper bounds: numbers, or symbols of the model."""

    limits: list[int | str] = dataclasses.field(default_factory=list)
    indexes: bool = False
    """It is an index into something, be its size known or not."""
    choices: list[float] = dataclasses.field(default_factory=list)
    mask: bool = False
    length: bool = False
    lengths: list[int | str] = dataclasses.field(default_factory=list)
    """The sizes of the sequences it counts, where known."""
    size: bool = False
    positive: bool = False
    state: bool = False


def of(value: ir.Value, wiring: Wiring) -> Demands:
    """The demands on the graph input `value`."""
    found = Demands()
    seen: set[tuple[ir.Value, int]] = set()
    stack = [(value, 0)]
    while stack and len(seen) < _MAX_VISITS:
        current, offset = stack.pop()
        if (current, offset) in seen:
            continue
        seen.add((current, offset))
        stack.extend((alias, offset) for alias in wiring.aliases(current))
        for node, position in wiring.uses(current):
            _note(found, wiring, node, position, offset)
            stack.extend(_onward(wiring, node, position, offset))
    return found


def _onward(wiring: Wiring, node: ir.Node, position: int, offset: int) -> list[tuple[ir.Value, int]]:
    if (node.op_type, position) in _SHIFTS:
        step = wiring.constant(node.inputs[1 - position])
        if step is None or step.size != 1 or step.dtype.kind not in "iu":
            return []
        return [(node.outputs[0], offset + _SHIFTS[node.op_type, position] * int(step.item()))]
    positions = _MOVING.get(node.op_type, ())
    if position in positions or _ALL in positions:
        return [(output, offset) for output in node.outputs]
    return []


def _note(found: Demands, wiring: Wiring, node: ir.Node, position: int, offset: int) -> None:
    place = (node.op_type, position)
    found.mask |= place in _MASKS or _is_mask(wiring, node, position)
    found.state |= place in _STATES
    found.length |= place in _LENGTHS or _meets_range(wiring, node, position)
    found.lengths.extend(_known(_LENGTHS, wiring, node, place))
    found.size |= place in _SIZES
    found.positive |= place in _POSITIVE
    if node.op_type == "Equal":
        found.choices.extend(_compared(wiring.constant(node.inputs[1 - position]), offset))
    found.indexes |= place in _TABLES
    limits = _known(_TABLES, wiring, node, place)
    found.limits.extend(limit - offset if isinstance(limit, int) else limit for limit in limits)


def _known(
    rows: Mapping[tuple[str, int], _Table], wiring: Wiring, node: ir.Node, place: tuple[str, int]
) -> list[int | str]:
    row = rows.get(place)
    size = row(wiring, node) if row else None
    return [] if size is None else [size]


def _compared(constant: Array | None, offset: int) -> list[float]:
    if constant is None or constant.dtype.kind not in "iuf":
        return []
    values: list[float] = (constant.ravel() - offset).tolist()
    return values


def _is_mask(wiring: Wiring, node: ir.Node, position: int) -> bool:
    if node.op_type == "Cast":
        return integer(node, "to", 0) == ir.DataType.BOOL
    if node.op_type != "Sub" or position != 1:
        return False
    constant = wiring.constant(node.inputs[0])
    return constant is not None and constant.dtype.kind != "O" and bool(np.all(constant == 1))


def _meets_range(wiring: Wiring, node: ir.Node, position: int) -> bool:
    if node.op_type not in _COMPARISONS:
        return False
    other = node.inputs[1 - position]
    constant = wiring.constant(other)
    if constant is not None:
        return constant.size > 1 and bool(np.array_equal(constant.ravel(), np.arange(constant.size)))
    producer = other.producer() if other is not None else None
    while producer is not None and producer.op_type in _MOVING and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return producer is not None and producer.op_type == "Range"


def _axis_of(operand: int, attribute: str = "axis") -> _Table:
    return lambda wiring, node: wiring.dim(node.inputs[operand], integer(node, attribute, 0))


def _rows_of(operand: int) -> _Table:
    return lambda wiring, node: wiring.dim(node.inputs[operand], 0) if operand < len(node.inputs) else None


def _depth(wiring: Wiring, node: ir.Node) -> int | None:
    depth = wiring.constant(node.inputs[1])
    return int(depth.ravel()[0]) if depth is not None and depth.size == 1 else None


def _channels(wiring: Wiring, node: ir.Node) -> int | str | None:
    return wiring.dim(node.inputs[0], 1)


def _smallest_axis(wiring: Wiring, node: ir.Node) -> int | None:
    depth = wiring.dim(node.inputs[1], -1)
    batch = integer(node, "batch_dims", 0)
    axes = range(batch, batch + depth) if isinstance(depth, int) else range(batch, batch + 1)
    sizes = [wiring.dim(node.inputs[0], axis) for axis in axes]
    known = [size for size in sizes if isinstance(size, int)]
    return min(known) if known else None


def _steps(wiring: Wiring, node: ir.Node) -> int | str | None:
    return wiring.dim(node.inputs[0], 1 if integer(node, "layout", 0) else 0)


_LENGTHS: Mapping[tuple[str, int], _Table] = {
    ("LSTM", 4): _steps,
    ("GRU", 4): _steps,
    ("RNN", 4): _steps,
    ("ReverseSequence", 1): lambda wiring, node: wiring.dim(node.inputs[0], integer(node, "time_axis", 0)),
}
"""Where an input counts the elements of a sequence, and what tells how many there are."""

_TABLES: Mapping[tuple[str, int], _Table] = {
    ("Gather", 1): _axis_of(0),
    ("GatherElements", 1): _axis_of(0),
    ("GatherBlockQuantized", 1): _axis_of(0, "gather_axis"),
    ("GatherND", 1): _smallest_axis,
    ("Scatter", 1): _axis_of(0),
    ("ScatterElements", 1): _axis_of(0),
    ("ScatterND", 1): _smallest_axis,
    ("OneHot", 0): _depth,
    ("NegativeLogLikelihoodLoss", 1): _channels,
    ("SoftmaxCrossEntropyLoss", 1): _channels,
    ("EmbedLayerNormalization", 0): _rows_of(2),
    ("EmbedLayerNormalization", 1): _rows_of(4),
    ("EmbedLayerNormalization", 7): _rows_of(3),
}
"""Where an input is an index, and what tells how large it may be."""
