"""Who reads channels through a weight: Conv, Gemm and MatMul with a constant, as rows that a fit can write.

A consumer can be written if its weight is a float constant that nobody else reads. Its bias is an input of Conv and
Gemm, or the constant vector that an Add gives to the only reader of a MatMul. Not consumers: Gemm with transA, alpha or
beta, a MatMul whose constant is on the left or not a matrix, Conv with auto_pad.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.gram import Window
from optimizer.calibrate.lowering import Lowering, conv_window
from optimizer.model.ports import Array

WIDEST = 4608
"""Columns up to which moments are gathered: solving costs their cube."""


@dataclasses.dataclass(frozen=True)
class Consumer:
    """One node, the value it reads, its weight and bias, and how they are lowered."""

    node: ir.Node
    given: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    lowering: Lowering
    window: Window | None

    @property
    def columns(self) -> int:
        """K."""
        return int(np.prod(self.lowering.shape)) // self.lowering.shape[self.lowering.axis]

    @property
    def channel_axis(self) -> int:
        """Where `given` has its channels."""
        return 1 if self.window is not None else -1

    def rows(self) -> Array:
        """The weight as float64 [G, O, K]."""
        rows = self.lowering.rows(array(self.weight).astype(np.float64))
        return rows.reshape(self.lowering.groups, -1, rows.shape[1])

    def stored(self, rows: Array) -> Array:
        """Inverse of `rows`, in the weight's own type."""
        return self.lowering.weight(rows.reshape(-1, rows.shape[2])).astype(array(self.weight).dtype)

    def spread(self, channels: Array) -> Array:
        """A figure per channel of `given`, [C], as the columns of each group see it: [G, K]."""
        grouped = channels.reshape(self.lowering.groups, -1)
        return np.tile(grouped, (1, self.columns // grouped.shape[1]))

    def gathered(self, columns: Array) -> Array:
        """The sum over kernel positions of a figure per column, [G, K] -> [C]."""
        inner = self.lowering.shape[1] if self.window is not None else self.columns
        return np.asarray(columns.reshape(self.lowering.groups, -1, inner).sum(1).reshape(-1))


def array(value: ir.Value) -> Array:
    """The number of a constant."""
    assert value.const_value is not None
    return value.const_value.numpy()


def consumers(graph: ir.Graph) -> list[Consumer]:
    """All of a graph, in its order."""
    return [found for node in graph if node.domain == "" and (found := _consumer(node)) is not None]


def _consumer(node: ir.Node) -> Consumer | None:
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    given, weight = node.inputs[:2]
    if given is None or given.const_value is not None or weight is None or not _own(weight) or not _plain(node, weight):
        return None
    conv, transposed = node.op_type == "Conv", node.attributes.get_int("transB", 0)
    assert weight.const_value is not None
    shape = tuple(weight.const_value.shape.numpy())
    lowering = Lowering(shape, 0 if conv or transposed else 1, conv, node.attributes.get_int("group", 1))
    window = conv_window(node, lowering) if conv else None
    found = Consumer(node, given, weight, _bias(node), lowering, window)
    return found if found.columns <= WIDEST else None


def _own(value: ir.Value) -> bool:
    """Whether this is a float constant that one node reads."""
    constant = value.const_value is not None and value.is_initializer() and not value.is_graph_input()
    real = value.dtype is not None and value.dtype.is_floating_point()
    return constant and real and len(value.uses()) == 1 and not value.is_graph_output()


def _plain(node: ir.Node, weight: ir.Value) -> bool:
    assert weight.const_value is not None
    get = node.attributes.get_float
    if node.op_type == "Conv":
        return node.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID", "")
    scaled = get("alpha", 1.0) != 1.0 or (get("beta", 1.0) != 1.0 and len(node.inputs) > 2)
    return len(weight.const_value.shape) == 2 and not node.attributes.get_int("transA", 0) and not scaled


def _bias(node: ir.Node) -> ir.Value | None:
    if node.op_type == "MatMul":
        return _added(node.outputs[0])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    outer = 1 if node.op_type == "Gemm" and not node.attributes.get_int("transB", 0) else 0
    weight = node.inputs[1]
    fits = bias is not None and _own(bias) and weight is not None and array(bias).shape == (array(weight).shape[outer],)
    return bias if fits else None


def _added(product: ir.Value) -> ir.Value | None:
    uses = list(product.uses())
    if len(uses) != 1 or uses[0][0].op_type != "Add" or product.is_graph_output():
        return None
    other = uses[0][0].inputs[1 - uses[0][1]]
    weight = product.producer()
    columns = array(weight.inputs[1]).shape[1:] if weight is not None and weight.inputs[1] is not None else ()
    return other if other is not None and _own(other) and array(other).shape == columns else None


def give_biases(model: ir.Model) -> None:
    """A zero bias for every convolution and Gemm that could take one, in place: repair puts lost means there."""
    for found in consumers(model.graph):
        if found.node.op_type != "MatMul" and (len(found.node.inputs) < 3 or found.node.inputs[2] is None):
            _give(model.graph, found)


def _give(graph: ir.Graph, found: Consumer) -> None:
    zeros = np.zeros(found.lowering.shape[found.lowering.axis], array(found.weight).dtype)
    name = f"{found.weight.name}_shift"
    while name in graph.initializers:
        name += "_"
    bias = ir.Value(name=name, shape=ir.Shape(zeros.shape), type=found.weight.type)
    bias.const_value = ir.tensor(zeros, name=name)
    graph.register_initializer(bias)
    found.node.resize_inputs(3)
    found.node.replace_input_with(2, bias)


def levels(found: list[Consumer]) -> Iterator[list[Consumer]]:
    """Consumers by the number of consumers before them on the longest way from the inputs."""
    own = {one.node for one in found}
    depth: dict[ir.Node, int] = {}
    for node in found[0].node.graph or () if found else ():
        before = (depth.get(given.producer(), 0) for given in node.inputs if given is not None and given.producer())  # type: ignore[arg-type]
        depth[node] = max(before, default=0) + (node in own)
    for level in sorted({depth[one.node] for one in found}):
        yield [one for one in found if depth[one.node] == level]
