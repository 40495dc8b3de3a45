"""Who reads channels through a weight: Conv, Gemm, MatMul and recurrent layers, as rows that a fit can write.

A consumer can be written if its weight is a float constant that nobody else reads. Its bias is an input of Conv and
Gemm, or the constant vector that an Add gives to the only reader of a MatMul. Not consumers: Gemm with transA, alpha or
beta, a MatMul whose constant is on the left or not a matrix, Conv padded by auto_pad.

A recurrent layer is two: W reads the layer's input, with the first half of the bias; R reads the states that the layer
itself put out a step before, without one. What a GRU's reset gate does to the states on their way is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.gram import Past, Window
from optimizer.calibrate.lowering import Lowering, conv_window
from optimizer.calibrate.lstsq import Fit
from optimizer.model.passes.edit import Editor, content, get, is_constant, only_use
from optimizer.model.ports import Array

RECURRENT = ("LSTM", "GRU", "RNN")
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
    window: Window | Past | None

    @property
    def name(self) -> str:
        """That of the weight."""
        return self.weight.name or ""

    @property
    def recalls(self) -> bool:
        """Whether it reads what its own node put out a step before."""
        return isinstance(self.window, Past)

    @property
    def output(self) -> ir.Value:
        """A value that the node puts out; of a recurrent layer one that is read."""
        return next((value for value in self.node.outputs if value.uses()), self.node.outputs[0])

    @property
    def stream(self) -> ir.Value | None:
        """What an Add, the only reader of what it puts out with its bias, adds to that: the residual stream."""
        answer = self.node.outputs[0]
        for _ in range(2):
            uses = list(answer.uses())
            if self.lowering.stacked or len(uses) != 1 or uses[0][0].op_type != "Add" or answer.is_graph_output():
                return None
            node, index = uses[0]
            other = node.inputs[1 - index]
            if other is not self.bias:
                return other if other is not None and other.shape == answer.shape else None
            answer = node.outputs[0]
        return None

    @property
    def columns(self) -> int:
        """K."""
        if self.lowering.stacked:
            return self.lowering.shape[-1]
        return int(np.prod(self.lowering.shape)) // self.lowering.shape[self.lowering.axis]

    @property
    def channel_axis(self) -> int:
        """Where `given` has its channels."""
        return 1 if isinstance(self.window, Window) else -1

    def rows(self) -> Array:
        """The weight as float64 [G, O, K]."""
        rows = self.lowering.rows(content(self.weight).astype(np.float64))
        return rows.reshape(self.lowering.groups, -1, rows.shape[1])

    def stored(self, rows: Array) -> Array:
        """Inverse of `rows`, in the weight's own type."""
        return self.lowering.weight(rows.reshape(-1, rows.shape[2])).astype(content(self.weight).dtype)

    def spread(self, channels: Array) -> Array:
        """A figure per channel of `given`, [C], as the columns of each group see it: [G, K]."""
        if isinstance(self.window, Past):
            return np.tile(channels, (self.lowering.groups, 1))
        grouped = channels.reshape(self.lowering.groups, -1)
        return np.tile(grouped, (1, self.columns // grouped.shape[1]))

    def gathered(self, columns: Array) -> Array:
        """The sum over kernel positions of a figure per column, [G, K] -> [C]."""
        if isinstance(self.window, Past):
            return np.asarray(columns.sum(0))
        inner = self.lowering.shape[1] if self.window is not None else self.columns
        return np.asarray(columns.reshape(self.lowering.groups, -1, inner).sum(1).reshape(-1))

    def shifted(self, shift: Array) -> dict[str, Array]:
        """The bias with [G, O] added to it, by its name, if there is one."""
        if self.bias is None:
            return {}
        new = content(self.bias).copy()
        own = new[:, : new.shape[1] // 2] if self.lowering.stacked else new
        own += shift.reshape(own.shape).astype(new.dtype)
        return {self.bias.name or "": new}

    def written(self, found: Fit) -> dict[str, Array]:
        """A fit as constants, by name."""
        return {self.name: self.stored(found.weight), **self.shifted(found.shift)}


def consumers(graph: ir.Graph) -> list[Consumer]:
    """All of a graph, in its order."""
    return [found for node in graph if node.domain == "" for found in _of(node) if found.columns <= WIDEST]


def _of(node: ir.Node) -> list[Consumer]:
    if node.op_type in RECURRENT:
        return _recurrent(node)
    found = _consumer(node) if node.op_type in ("Conv", "Gemm", "MatMul") else None
    return [found] if found is not None else []


def _consumer(node: ir.Node) -> Consumer | None:
    given, weight = node.inputs[:2]
    if given is None or given.const_value is not None or weight is None or not _own(weight) or not _plain(node, weight):
        return None
    conv, transposed = node.op_type == "Conv", node.attributes.get_int("transB", 0)
    assert weight.const_value is not None
    shape = tuple(weight.const_value.shape.numpy())
    lowering = Lowering(shape, 0 if conv or transposed else 1, conv, node.attributes.get_int("group", 1))
    window = conv_window(node, lowering) if conv else None
    return Consumer(node, given, weight, _bias(node), lowering, window)


def _recurrent(node: ir.Node) -> list[Consumer]:
    """W and R, those of them that can be written."""
    given, w, r = node.inputs[:3]
    bias = get(node, 3)
    if node.attributes.get_int("layout", 0) or given is None or w is None or r is None:
        return []
    found = [Consumer(node, given, w, bias if _own(bias) else None, _stacked(w, 1), None)]
    if node.outputs[0].name:
        past = Past(node.attributes.get_string("direction", "forward") == "reverse")
        found.append(Consumer(node, node.outputs[0], r, None, _stacked(r, _shape(r)[0]), past))
    return [one for one in found if _own(one.weight) and one.given.const_value is None]


def _stacked(weight: ir.Value, groups: int) -> Lowering:
    return Lowering(_shape(weight), 1, False, groups)


def _shape(value: ir.Value) -> tuple[int, ...]:
    return tuple(value.const_value.shape.numpy()) if value.const_value is not None else (0, 0, 0)


def _own(value: ir.Value | None) -> bool:
    """Whether this is a float constant that one node reads."""
    return is_float(value) and only_use(value)


def is_float(value: ir.Value | None) -> bool:
    """Whether this is a constant of real numbers that is no output."""
    if value is None or value.dtype is None or not value.dtype.is_floating_point():
        return False
    return is_constant(value) and not value.is_graph_output()


def _plain(node: ir.Node, weight: ir.Value) -> bool:
    assert weight.const_value is not None
    number = node.attributes.get_float
    if node.op_type == "Conv":
        return node.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID", "")
    scaled = number("alpha", 1.0) != 1.0 or (number("beta", 1.0) != 1.0 and len(node.inputs) > 2)
    return len(weight.const_value.shape) == 2 and not node.attributes.get_int("transA", 0) and not scaled


def _bias(node: ir.Node) -> ir.Value | None:
    if node.op_type == "MatMul":
        return _added(node.outputs[0])
    bias = get(node, 2)
    outer = 1 if node.op_type == "Gemm" and not node.attributes.get_int("transB", 0) else 0
    weight = node.inputs[1]
    if bias is None or weight is None or not _own(bias):
        return None
    return bias if content(bias).shape == (content(weight).shape[outer],) else None


def _added(product: ir.Value) -> ir.Value | None:
    uses = list(product.uses())
    if len(uses) != 1 or uses[0][0].op_type != "Add" or product.is_graph_output():
        return None
    other = uses[0][0].inputs[1 - uses[0][1]]
    weight = product.producer()
    columns = content(weight.inputs[1]).shape[1:] if weight is not None and weight.inputs[1] is not None else ()
    return other if other is not None and _own(other) and content(other).shape == columns else None


def give_biases(model: ir.Model) -> None:
    """A zero bias for every node that could take one, in place: repair puts lost means there. Recurrent layers get
    names for their states, which are read then."""
    for node in model.graph:
        weight, states = node.inputs[1] if len(node.inputs) > 1 else None, node.outputs[0]
        if node.op_type in RECURRENT and not states.name and weight is not None and weight.dtype is not None:
            states.name, states.dtype = f"{node.name} states", weight.dtype
    editor = Editor(model)
    for found in consumers(model.graph):
        at = 3 if found.lowering.stacked else 2
        if get(found.node, at) is None and found.node.op_type != "MatMul" and not isinstance(found.window, Past):
            _give(editor, found, at)


def _give(editor: Editor, found: Consumer, at: int) -> None:
    shape = found.lowering.shape
    sizes = (shape[0], 2 * shape[1]) if found.lowering.stacked else (shape[found.lowering.axis],)
    bias = editor.constant(np.zeros(sizes, content(found.weight).dtype), f"{found.weight.name}_shift")
    found.node.resize_inputs(max(at + 1, len(found.node.inputs)))
    found.node.replace_input_with(at, bias)


def levels(found: list[Consumer]) -> Iterator[list[Consumer]]:
    """Consumers by the number of consumers before them on the longest way from the inputs."""
    depth = _depths(found)
    for level in sorted({depth[one.node] for one in found}):
        yield [one for one in found if depth[one.node] == level]


def streams(found: list[Consumer]) -> dict[str, ir.Value]:
    """The residual streams that are known when a consumer's level comes, by its name."""
    depth = _depths(found)
    known = [(one, one.stream) for one in found]
    return {
        one.name: stream
        for one, stream in known
        if stream is not None and depth.get(stream.producer(), 0) < depth[one.node]  # type: ignore[arg-type]
    }


def _depths(found: list[Consumer]) -> dict[ir.Node, int]:
    own = {one.node for one in found}
    depth: dict[ir.Node, int] = {}
    for node in found[0].node.graph or () if found else ():
        before = (depth.get(given.producer(), 0) for given in node.inputs if given is not None and given.producer())  # type: ignore[arg-type]
        depth[node] = max(before, default=0) + (node in own)
    return depth
