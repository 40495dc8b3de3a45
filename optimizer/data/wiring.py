"""Where a value goes, across the borders of subgraphs and functions.

A subgraph may read any value around it: onnx_ir counts these among the value's uses. What is passed by position is
followed here:

=============  ==========================================  =============================================
node           input i enters as                           inner output k leaves as
=============  ==========================================  =============================================
If             nothing (its one input is the condition)    output k
Loop           body input i (0 trip count, 1 condition)    output k - 1, and body input k + 1
Scan           body input i                                output k
function call  function input i                            output k of every call
=============  ==========================================  =============================================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array

_SHAPE_KEEPING = {"Cast", "CastLike", "DequantizeLinear", "Identity", "QuantizeLinear"}


class Wiring:
    """The uses of values in a model, subgraphs and functions included."""

    def __init__(self, model: ir.Model) -> None:
        self._functions = model.functions
        self._exits: dict[ir.Value, list[ir.Value]] = defaultdict(list)
        self._callers: dict[ir.Value, list[ir.Value]] = defaultdict(list)
        for node in model.graph.all_nodes():
            self._join(node)
        for function in model.functions.values():
            for node in function.all_nodes():
                self._join(node)

    def uses(self, value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
        """The nodes that read `value`, and at which position."""
        return ((use.node, use.idx) for use in value.uses())

    def aliases(self, value: ir.Value) -> Iterator[ir.Value]:
        """The other names of `value` that it is passed on as: into bodies and functions, and out of them."""
        yield from self._exits.get(value, ())
        for node, position in self.uses(value):
            yield from self._entries(node, position)

    def dim(self, value: ir.Value | None, axis: int) -> int | str | None:
        """The size of an axis of `value`, its symbol, or None; looks through casts, transpositions and calls."""
        while value is not None:
            sizes = shape(value)
            if sizes is not None:
                return sizes[axis] if -len(sizes) <= axis < len(sizes) else None
            producer = value.producer()
            if producer is None:
                value = next(iter(self._callers.get(value, ())), None)
            elif producer.op_type == "Transpose" and "perm" in producer.attributes:
                value, axis = producer.inputs[0], producer.attributes["perm"].as_ints()[axis]
            elif producer.op_type in _SHAPE_KEEPING:
                value = producer.inputs[0]
            else:
                return None
        return None

    def rank(self, value: ir.Value | None) -> int | None:
        """The number of axes of `value`; looks through casts and calls."""
        while value is not None:
            if (sizes := shape(value)) is not None:
                return len(sizes)
            producer = value.producer()
            if producer is not None and producer.op_type not in (*_SHAPE_KEEPING, "Transpose"):
                return None
            value = producer.inputs[0] if producer else next(iter(self._callers.get(value, ())), None)
        return None

    def constant(self, value: ir.Value | None) -> Array | None:
        """The value of an initializer, a Constant node, or a function's input that is one where it is called."""
        while value is not None:
            tensor = ir.convenience.get_const_tensor(value)
            if tensor is not None:
                return np.asarray(tensor.numpy())
            producer = value.producer()
            if producer is not None and producer.op_type not in ("Cast", "Identity"):
                return None
            value = producer.inputs[0] if producer else next(iter(self._callers.get(value, ())), None)
        return None

    def _join(self, node: ir.Node) -> None:
        for index, body in enumerate(self._bodies(node)):
            shift = 1 if node.op_type == "Loop" else 0
            for inner, outer in zip(body.outputs[shift:], node.outputs, strict=False):
                self._exits[inner].append(outer)
            if node.op_type == "Loop" and index == 0:
                for inner, carried in zip(body.outputs[1:], body.inputs[2:], strict=False):
                    self._exits[inner].append(carried)
        function = self._functions.get(node.op_identifier())
        for inner, given in zip(function.inputs if function else (), node.inputs, strict=False):
            if given is not None:
                self._callers[inner].append(given)

    def _entries(self, node: ir.Node, position: int) -> Iterator[ir.Value]:
        function = self._functions.get(node.op_identifier())
        holders = [function] if function else self._bodies(node) if node.op_type in ("Loop", "Scan") else []
        for holder in holders:
            if position < len(holder.inputs):
                yield holder.inputs[position]

    def _bodies(self, node: ir.Node) -> Sequence[ir.Graph | ir.Function]:
        function = self._functions.get(node.op_identifier())
        if function is not None:
            return [function]
        found: list[ir.Graph | ir.Function] = []
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                found.append(attribute.as_graph())
        return found


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute; the default too where a function's attribute refers to its call."""
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else attribute.as_int()


def shape(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """The sizes of a value as far as its constant or its declaration tells, or None."""
    if value.const_value is not None:
        return tuple(value.const_value.shape.numpy())
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)
