"""What happens to a model before its axes are looked at."""

from __future__ import annotations

import onnx_ir as ir

from optimizer.model import open_sizes, shapes


def prepare(model: ir.Model) -> ir.Model:
    """A copy of a cleaned model that is ready for `analyse`."""
    copy = model.clone()
    unshare(copy)
    shapes.infer(copy)
    open_sizes.settle(copy.graph)
    return copy


def unshare(model: ir.Model) -> None:
    """Give every node its own copy of the vectors it reads, in place.

    Exporters and clean-up merge equal constants (the biases of two untrained norms); as labels they would tie layers
    that have nothing to do with each other. Matrices stay shared: those are tied on purpose.
    """
    for value in list(model.graph.initializers.values()):
        if value.const_value is not None and value.const_value.size == max(value.const_value.shape.numpy(), default=1):
            _unshare(model.graph, value)


def _unshare(graph: ir.Graph, value: ir.Value) -> None:
    for number, (node, index) in enumerate(list(value.uses())[1:], start=1):
        name = f"{value.name}_{number}"
        while name in graph.initializers:
            name += "_"
        own = ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)
        graph.register_initializer(own)
        node.replace_input_with(index, own)
