"""Carrying out a choice of labels: removal for good, or masking.

Removal slices every initializer on every axis by "all my labels stay", lets each op's row patch its attributes and
sizes, and states the new shapes. Masking fills exactly those slices with zeros (quantized constants: with their zero
point); norms that may lose positions are confined to what is kept. Both models give the same outputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from optimizer.model.passes import edit
from optimizer.model.ports import Array
from optimizer.ops.axes import Cut
from optimizer.prune.confine import confine
from optimizer.prune.groups import Axes, Bools


def carry_out(axes: Axes, model: ir.Model, masked: ir.Model, dropped: Bools, constants: Mapping[str, Array]) -> None:
    """Put new constants into both models, then remove from the one and mask the other."""
    for graph in (model.graph, masked.graph):
        edit.store_all(graph, constants)
    mask(axes, dropped, masked.graph)
    remove(axes, dropped)


def remove(axes: Axes, dropped: Bools) -> None:
    """Remove all positions of the marked labels from the analysed graph, in place."""
    cut = Cut(axes.graph, axes.layouts, axes.gone(dropped))
    constants = [value for value in axes.graph.initializers.values() if cut.pruned(value)]
    for node in list(axes.graph):
        if any(map(cut.pruned, (*node.inputs, *node.outputs))):
            for change in axes.edits.get(node, ()):
                change(node, cut)
    for value in constants:
        kept = edit.content(value)[np.ix_(*(cut.keep(value, axis) for axis in range(len(cut.layout(value)))))]
        edit.store(value, kept)
    for value in axes.layouts:
        if value.shape is not None and value.const_value is None and cut.pruned(value):
            sizes = zip(cut.counts(value), value.shape, strict=True)
            value.shape = ir.Shape([old if new is None else new for new, old in sizes])
    for name, value in list(axes.graph.initializers.items()):
        if not (value.uses() or value.is_graph_input() or value.is_graph_output()):
            del axes.graph.initializers[name]


def mask(axes: Axes, dropped: Bools, graph: ir.Graph) -> None:
    """Write zeros at all positions of the marked labels into the constants of the same name in `graph`, in place."""
    gone = axes.gone(dropped)
    for own, point in axes.fills.items():
        layout, value = axes.layouts[own] or (), graph.initializers[own.name or ""]
        if not any(gone[axis.labels].any() for axis in layout):
            continue
        array = edit.content(value).copy()
        fill = _fill(array, point)
        for index, axis in enumerate(layout):
            where = (slice(None),) * index + (gone[axis.labels],)
            array[where] = np.broadcast_to(fill, array.shape)[where]
        edit.store(value, array)
    confine(axes, gone, graph)


def _fill(array: Array, point: ir.Value | None) -> Array:
    """What stands for zero: the zero point, along the axis whose length it has."""
    if point is None or point.const_value is None:
        return np.zeros((), array.dtype)
    points = point.const_value.numpy()
    if points.size == 1:
        return points.reshape(())
    axis = next(index for index, size in enumerate(array.shape) if size == points.size)
    return points.reshape([-1 if index == axis else 1 for index in range(array.ndim)])
