"""Where the channels of a value can be scaled without changing the function: ``f(x / s) * s = f(x)``, s > 0.

A *region* begins at a node whose constants can take up ``1 / s`` per output channel (the producer), holds every value
that is then scaled, and ends at products by constant weights that take up ``s`` per input channel (the consumers):

    producer    Conv, Gemm, MatMul (weight and bias), LayerNormalization, RMSNormalization, BatchNormalization (gain and
                shift), a Mul by a constant per channel (the gain of a norm that the exporter spelled out)
    inside      Relu, LeakyRelu, PReLU, Identity, Dropout; pooling; Reshape, Transpose, Flatten, Squeeze, Unsqueeze;
                Mul by, or MatMul from the left by, a value outside (gates, attention over values, as one node too);
                Add or Sub of a constant, which takes up ``1 / s`` too; Clip to [0, high], within a bound on s
    consumer    Conv, Gemm or MatMul that reads it first and has a constant weight

Anything else that reads such a value, a graph output among them, or a weight that other nodes read too, and there is
no region. Which channel each element of a value belongs to is followed through views as an array of ids, whose axes
have length 1 where the channel does not change along them.

Clip cuts at one bound for all channels, so ``Clip(x / s) * s = Clip(x)`` only where nothing is cut on either side:
channels seen to reach the bound must keep s = 1, and others may grow up to it. What calibration has not seen beyond
that is cut a little earlier, as any calibrated range does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import array, get
from optimizer.model.ports import Array
from optimizer.ops import int8
from optimizer.ops.parameters import MS

Shapes = Mapping[str, tuple[int, ...]]
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_PLAIN = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity", "Dropout"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})


@dataclasses.dataclass(frozen=True)
class Slot:
    """Input `index` of `node`, a constant, and the channel of each of its elements, broadcast."""

    node: ir.Node
    index: int
    ids: Array


@dataclasses.dataclass(frozen=True)
class Region:
    """`channels` that can be scaled: `given` are constants to divide by s, `taken` consumers' weights to multiply."""

    channels: int
    given: tuple[Slot, ...]
    taken: tuple[Slot, ...]
    clipped: tuple[tuple[str, float], ...]
    """Values that come out of a Clip, and its upper bound."""
    values: tuple[str, ...]
    """All values that are scaled."""


def find(model: ir.Model, shapes: Shapes) -> list[Region]:
    """The regions of the main graph, no two with a consumer in common; `shapes` are those of one run, by value name."""
    found: list[Region] = []
    used: set[ir.Node] = set()
    for node in reversed(model.graph):
        start = _producer(node)
        if start is None:
            continue
        region = _Search(shapes).region(node.outputs[0], *start)
        if region is None or any(slot.node in used for slot in region.taken):
            continue
        used |= {slot.node for slot in region.taken}
        found.append(region)
    return found[::-1]


def _producer(node: ir.Node) -> tuple[Array, list[Slot]] | None:
    """The ids of what `node` writes, and the constants to divide."""
    if node.domain or len(node.outputs) > 1 or int8.rank(node.outputs[0]) is None:
        return None
    row = _PRODUCERS.get(node.op_type)
    axes = row(node) if row is not None else None
    if axes is None:
        return None
    axis, slots = axes
    constants = [(index, _own(node, index)) for index in slots if get(node, index) is not None]
    if not constants or any(content is None for _, content in constants):
        return None
    rank = int8.rank(node.outputs[0]) or 0
    first = constants[0][1]
    assert first is not None
    channels = first.shape[slots[constants[0][0]]]
    ids = np.arange(channels).reshape([-1 if i == axis % rank else 1 for i in range(rank)])
    given = []
    for index, content in constants:
        assert content is not None
        own = slots[index] % content.ndim if content.ndim else 0
        if content.ndim == 0 or content.shape[own] not in (1, channels):
            return None
        wide = np.arange(channels).reshape([-1 if i == own else 1 for i in range(content.ndim)])
        given.append(Slot(node, index, wide))
    return ids, given


def _matmul(node: ir.Node) -> tuple[int, dict[int, int]] | None:
    weight = array(get(node, 1))
    return (-1, {1: 1}) if weight is not None and weight.ndim == 2 else None


def _norm(node: ir.Node) -> tuple[int, dict[int, int]] | None:
    gain, rank = array(get(node, 1)), int8.rank(node.outputs[0]) or 0
    last = int8.attribute(node, "axis", -1) in (-1, rank - 1) and gain is not None and gain.ndim == 1
    return (-1, {1: 0, 2: 0}) if last else None


def _mul(node: ir.Node) -> tuple[int, dict[int, int]] | None:
    """A Mul by a constant that varies along one axis only."""
    rank = int8.rank(node.outputs[0]) or 0
    for index, value in enumerate(node.inputs):
        content = array(value)
        wide = [i for i, size in enumerate(content.shape) if size > 1] if content is not None else []
        if content is not None and len(wide) == 1 and content.ndim <= rank:
            return wide[0] - content.ndim, {index: wide[0]}
    return None


_PRODUCERS: dict[str, Callable[[ir.Node], tuple[int, dict[int, int]] | None]] = {
    "Conv": lambda node: (1, {1: 0, 2: 0}),
    "Gemm": lambda node: (1, {1: 0 if int8.attribute(node, "transB", 0) else 1, 2: -1}),
    "MatMul": _matmul,
    "LayerNormalization": _norm,
    "RMSNormalization": _norm,
    "BatchNormalization": lambda node: (1, {1: 0, 2: 0}),
    "Mul": _mul,
}
"""Per op: the axis of the output that holds the channels, and the axis of each constant input that does."""


class _Search:
    """One region, grown from its producer's output."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.ids: dict[ir.Value, Array] = {}
        self.given: list[Slot] = []
        self.taken: list[Slot] = []
        self.clipped: list[tuple[str, float]] = []

    def region(self, start: ir.Value, ids: Array, given: list[Slot]) -> Region | None:
        """The region, or None where something else reads a scaled value."""
        self.ids[start], todo = ids, [start]
        while todo:
            value = todo.pop()
            if value.is_graph_output() or (value.dtype not in (None, ir.DataType.FLOAT)):
                return None
            for use in value.uses():
                if (use.node.domain and not _attends(use.node)) or use.node.graph is not start.graph:
                    return None
                after = self.through(use.node, use.idx, self.ids[value])
                if after is None:
                    return None
                if after.size:
                    out = use.node.outputs[0]
                    if out in self.ids:
                        return None
                    self.ids[out] = after
                    todo.append(out)
        if not self.taken:
            return None
        names = tuple(value.name or "" for value in self.ids)
        return Region(int(ids.size), (*given, *self.given), tuple(self.taken), tuple(self.clipped), names)

    def through(self, node: ir.Node, index: int, ids: Array) -> Array | None:
        """The ids of what `node` makes of its input `index`; empty where it takes the scale up; None if it cannot."""
        op = node.op_type
        if op in int8.RULES and int8.RULES[op].role == "weighted" and index == 0 and _own(node, 1) is not None:
            return self.consumed(node, ids)
        if op in _PLAIN:
            return ids if index == 0 else None
        if op in _POOLS:
            return ids if index == 0 and len(node.outputs) == 1 and _only(ids, 1) else None
        if op in VIEWS:
            return self.viewed(node, ids) if index == 0 else None
        if op == "Transpose":
            order = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(ids.ndim)[::-1]
            return np.transpose(ids, list(order))
        if op == "Clip":
            return ids if index == 0 and self.clip(node) else None
        if _attends(node):
            return ids if index == 2 and ids.ndim == 3 and _only(ids, 2) else None
        if op == "MatMul":
            return _outer(node, ids) if index == 1 else None
        if op in ("Mul", "Add", "Sub", "Div"):
            return self.pair(node, index, ids)
        return None

    def consumed(self, node: ir.Node, ids: Array) -> Array | None:
        weight = array(node.inputs[1])
        assert weight is not None
        axis = 1 if node.op_type in ("Conv", "Gemm") else ids.ndim - 1
        if not _only(ids, axis) or (node.op_type == "Gemm" and int8.attribute(node, "transA", 0)):
            return None
        across = node.op_type == "Gemm" and int8.attribute(node, "transB", 0)
        wide: Array | None = ids.reshape((1, -1) if across else (-1, 1))
        if node.op_type == "Conv":
            wide = _conv_ids(node, weight.shape, ids.reshape(-1))
        if wide is None or any(own not in (1, size) for own, size in zip(wide.shape, weight.shape, strict=True)):
            return None
        self.taken.append(Slot(node, 1, wide))
        return np.zeros(0, np.int64)

    def viewed(self, node: ir.Node, ids: Array) -> Array | None:
        source, result = node.inputs[0], node.outputs[0]
        before = self.shapes.get(source.name or "") if source is not None else None
        after = self.shapes.get(result.name or "")
        if before is None or after is None or len(before) != ids.ndim:
            return None
        return _narrow(np.broadcast_to(ids, before).reshape(after))

    def clip(self, node: ir.Node) -> bool:
        low, high = (array(get(node, index)) for index in (1, 2))
        if "min" in node.attributes or "max" in node.attributes or low is None or float(low.reshape(())) != 0:
            return False
        if high is not None:
            self.clipped.append((node.outputs[0].name or "", float(high.reshape(()))))
        return get(node, 2) is None or high is not None

    def pair(self, node: ir.Node, index: int, ids: Array) -> Array | None:
        rank, other = int8.rank(node.outputs[0]), node.inputs[1 - index]
        if rank is None or other is None or other in self.ids or other is node.inputs[index]:
            return None
        out = ids.reshape((1,) * (rank - ids.ndim) + ids.shape)
        if node.op_type == "Mul" or (node.op_type == "Div" and index == 0):
            return out
        content = _own(node, 1 - index)
        if node.op_type == "Div" or content is None or content.ndim > rank:
            return None
        shape = (1,) * (rank - content.ndim) + content.shape
        wide = out if content.ndim == rank else _leading(out, rank - content.ndim)
        pairs: list[tuple[int, int]] = list(zip(out.shape, shape, strict=True))
        if wide is None or any(1 < mine != size > 1 for mine, size in pairs):
            return None
        self.given.append(Slot(node, 1 - index, wide))
        return out


def _leading(ids: Array, count: int) -> Array | None:
    """`ids` without its first `count` axes, along which it must not change."""
    return ids.reshape(ids.shape[count:]) if all(size == 1 for size in ids.shape[:count]) else None


def _conv_ids(node: ir.Node, shape: tuple[int, ...], channels: Array) -> Array | None:
    """The channel that each weight of a convolution reads, [O or 1, I, 1, ...]."""
    groups = int8.attribute(node, "group", 1)
    assert isinstance(groups, int)
    if len(channels) != groups * shape[1]:
        return None
    own = channels.reshape(groups, shape[1])
    wide: Array = own if groups == 1 else np.repeat(own, shape[0] // groups, axis=0)
    return wide.reshape(*wide.shape, *(1,) * (len(shape) - 2))


def _attends(node: ir.Node) -> bool:
    """Whether this is the runtime's attention, without a bias or a cache."""
    plain = len(node.outputs) == 1 and all(get(node, index) is None for index in (3, 6, 7))
    return plain and (node.domain, node.op_type) == (MS, "MultiHeadAttention")


def _outer(node: ir.Node, ids: Array) -> Array | None:
    """Through ``P @ V`` as V: the channel must not change along the axis that is summed."""
    rank = int8.rank(node.outputs[0])
    if rank is None or ids.ndim < 2 or ids.shape[-2] != 1 or int8.constant(node.inputs[0]) is not None:
        return None
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)


def _only(ids: Array, axis: int) -> bool:
    return all(size == 1 for i, size in enumerate(ids.shape) if i != axis)


def _narrow(ids: Array) -> Array:
    """`ids` with length 1 along every axis on which it does not change."""
    for axis in range(ids.ndim):
        first = np.take(ids, [0], axis)
        if ids.shape[axis] and (ids == first).all():
            ids = first
    return ids


def _own(node: ir.Node, index: int) -> Array | None:
    """The float32 constant at input `index`; None where it is a weight that other nodes read too."""
    value = get(node, index)
    content = array(value)
    if value is None or content is None or content.dtype != np.float32 or value.is_graph_output():
        return None
    return content if content.ndim < 2 or len(value.uses()) == 1 else None
