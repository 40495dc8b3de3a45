"""What happens to a model before its axes are looked at."""

from __future__ import annotations

import onnx_ir as ir

from optimizer.model import open_sizes, shapes
from optimizer.model.passes.edit import Editor, content


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
    editor = Editor(model)
    for value in list(model.graph.initializers.values()):
        if value.const_value is not None and value.const_value.size == max(value.const_value.shape.numpy(), default=1):
            for node, index in list(value.uses())[1:]:
                node.replace_input_with(index, editor.constant(content(value), value.name or ""))
