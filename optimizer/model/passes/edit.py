"""What all rewrites need: constants as arrays, unique names, and replacing a value without losing an output's name."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]


def nodes(model: ir.Model) -> Iterator[ir.Node]:
    """All nodes of the model, those of subgraphs included; the graph may be changed while iterating."""
    return ir.traversal.RecursiveGraphIterator(model.graph)


def is_op(node: ir.Node | None, *ops: str) -> bool:
    """Whether `node` is one of these standard operators."""
    return node is not None and node.domain == "" and node.op_type in ops


def opset(model: ir.Model) -> int:
    """The version of the standard operators that the model uses."""
    return model.opset_imports.get("", 1)


def is_constant(value: ir.Value | None) -> bool:
    """Whether `value` is an initializer that a caller cannot override."""
    return value is not None and value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def array(value: ir.Value | None) -> Array | None:
    """The contents of a constant, else None."""
    if value is None or value.const_value is None or not is_constant(value):
        return None
    return value.const_value.numpy()


def content(value: ir.Value) -> Array:
    """The numbers of an initializer, whether a caller may override them or not."""
    assert value.const_value is not None
    return value.const_value.numpy()


def store(value: ir.Value, new: Array) -> None:
    """Let an initializer hold `content`, for all who read it."""
    value.const_value = ir.tensor(np.ascontiguousarray(new), name=value.name)
    value.shape = ir.Shape(new.shape)


def store_all(graph: ir.Graph, constants: Mapping[str, Array]) -> None:
    """New numbers for initializers of `graph`, by name."""
    for name, new in constants.items():
        store(graph.initializers[name], new)


def scalar(value: ir.Value | None) -> float | None:
    """The one number in a constant of one element, else None."""
    if value is None or value.const_value is None or not is_constant(value) or value.const_value.size != 1:
        return None
    number = value.const_value.numpy().reshape(())
    return float(number) if np.issubdtype(number.dtype, np.number) else None


def get(node: ir.Node, index: int) -> ir.Value | None:
    """Input `index` of `node`; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def only_use(value: ir.Value | None) -> bool:
    """Whether exactly one input of one node reads `value`, and no graph outputs it."""
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()


def producer(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that computes `value`, if it is one of the standard operators `ops`."""
    node = None if value is None else value.producer()
    return node if is_op(node, *ops) else None


def integers(node: ir.Node, name: str, index: int) -> tuple[int, ...] | None:
    """The integers of attribute `name`, or of constant input `index`, whichever the node has; None if neither."""
    if name in node.attributes:
        return tuple(node.attributes[name].as_ints())
    found = array(get(node, index))
    return None if found is None else tuple(int(number) for number in found.reshape(-1))


class Editor:
    """Adds nodes and constants under names that occur nowhere else in the model, subgraphs included."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model

    @functools.cached_property
    def names(self) -> Counter[str]:
        """How many values have a name; sibling subgraphs may use the same one."""
        return Counter(_value_names(self.model))

    @functools.cached_property
    def node_names(self) -> Counter[str]:
        return Counter(node.name for node in nodes(self.model) if node.name)

    def fresh(self, stem: str) -> str:
        """A value name that begins with `stem`; now taken."""
        return _take(self.names, stem)

    def constant(self, content: Array | ir.TensorProtocol, stem: str) -> ir.Value:
        """A new initializer of the main graph."""
        name = self.fresh(stem)
        tensor = ir.tensor(
            np.ascontiguousarray(content) if isinstance(content, np.ndarray) and content.ndim else content
        )
        tensor.name = name
        value = ir.val(name, tensor.dtype, ir.Shape(tensor.shape.numpy()), const_value=tensor)
        self.model.graph.register_initializer(value)
        return value

    def overwrite(self, node: ir.Node, index: int, content: Array) -> None:
        """Let input `index` of `node`, a constant, hold `content`; other readers of it keep the old one."""
        value = node.inputs[index]
        if value is not None and only_use(value):
            store(value, content)
            return
        stem = value.name if value is not None and value.name else "constant"
        node.replace_input_with(index, self.constant(content, stem))

    def insert(
        self,
        before: ir.Node,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        like: ir.Value | None = None,
        stem: str | None = None,
    ) -> ir.Value:
        """A new node in front of `before`, and its output, which takes type and shape of `like`."""
        stem = stem or before.outputs[0].name or op
        out = ir.val(
            self.fresh(stem), type=None if like is None else like.type, shape=None if like is None else like.shape
        )
        node = ir.node(op, inputs, attributes, outputs=[out], name=_take(self.node_names, f"{stem}_{op}"))
        graph_of(before).insert_before(before, node)
        return out

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let all readers of `old` read `new`. An output keeps its name: `new` takes it, or an Identity stands in."""
        if not old.is_graph_output():
            old.replace_all_uses_with(new)
            return
        graph = old.graph
        if graph is None:
            raise ValueError(f"{old.name!r} belongs to no graph")
        if new.producer() is None or new.graph is not graph or new.is_graph_output():
            self._stand_in(graph, old, new)
            return
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, old.name = old.name, self.fresh(f"{old.name}_replaced")
        new.type, new.shape = old.type or new.type, old.shape if old.shape is not None else new.shape

    def _stand_in(self, graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
        """Compute the graph output `old` as Identity(new)."""
        copy = ir.val(old.name, type=old.type, shape=old.shape)
        graph.append(ir.node("Identity", [new], outputs=[copy], name=_take(self.node_names, f"{old.name}_Identity")))
        for index, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[index] = copy
        old.replace_all_uses_with(new)
        old.name = self.fresh(f"{old.name}_replaced")


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that holds `node`."""
    if node.graph is None:
        raise ValueError(f"{node.name!r} belongs to no graph")
    return node.graph


def remove(node: ir.Node) -> None:
    """Take `node`, whose outputs nobody reads any more, out of its graph."""
    graph_of(node).remove(node, safe=True)


def _take(names: Counter[str], stem: str) -> str:
    name, number = stem, 0
    while names[name]:
        number += 1
        name = f"{stem}_{number}"
    names[name] = 1
    return name


def _value_names(model: ir.Model) -> Iterator[str]:
    for graph in model.graphs():
        yield from (value.name for value in graph.inputs if value.name and not value.is_initializer())
        yield from graph.initializers
        for node in graph:
            yield from (value.name for value in node.outputs if value.name)
