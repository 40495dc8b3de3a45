"""Small edits of a graph that keep its names: the hands of `emit`, which knows what to write."""

from __future__ import annotations

import onnx_ir as ir

from optimizer.model.ports import Array
from optimizer.quantize.naming import Fresh


class Editor:
    """A graph with its nodes and values by name, and the constants that were made for it."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.nodes = {node.name: node for node in graph}
        self.values = {value.name: value for value in graph.inputs} | dict(graph.initializers.items())
        self.values |= {value.name: value for node in graph for value in node.outputs}
        self.fresh = Fresh(graph)
        self.made: dict[str, ir.Value] = {}

    def take_over(self, old: ir.Value, new: ir.Value) -> None:
        """Let `new` stand wherever `old` did, under its name."""
        if old.is_graph_output():
            self.swap_output(old, new)
        else:
            old.name, new.name = self.fresh(f"{old.name}_replaced"), old.name
        old.replace_all_uses_with(new)
        self.values[new.name or ""] = new

    def swap_output(self, old: ir.Value, new: ir.Value) -> None:
        """Let `new` be the graph output in place of `old`, name and type included."""
        position = next(i for i, value in enumerate(self.graph.outputs) if value is old)
        new.shape, new.type = old.shape, old.type
        self.graph.outputs[position] = new
        old.name, new.name = self.fresh(f"{old.name}_float"), old.name

    def initializer(self, name: str, array: Array) -> ir.Value:
        """The constant that this emission calls `name`, made on first use."""
        if name not in self.made:
            own = self.fresh(name)
            self.made[name] = ir.val(own, const_value=ir.Tensor(array, name=own))
            self.graph.register_initializer(self.made[name])
        return self.made[name]

    def typed(self, node: ir.Node, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Node:
        output = node.outputs[0]
        output.name, output.type, output.shape = self.fresh(name), ir.TensorType(dtype), shape
        return node

    def behind(self, value: ir.Value, node: ir.Node) -> ir.Value:
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.insert_after(producer, node)
        return node.outputs[0]

    def before(self, anchor: ir.Node, node: ir.Node) -> ir.Value:
        self.graph.insert_before(anchor, node)
        return node.outputs[0]
