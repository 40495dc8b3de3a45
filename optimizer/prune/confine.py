"""Norms that may lose positions of their axis (`--lossy`): in the masked model they see only what is kept.

    x -> Gather (what is kept) -> norm -> Gather (back to its place) -> Mul (0 where nothing is kept)

Statistics over what is kept are what the removed model computes, so the two can be proved equal as ever.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.ops.axes import Cut
from optimizer.prune.groups import Axes, Bools


def confine(axes: Axes, gone: Bools, graph: ir.Graph) -> None:
    """Rewrite the norms of `graph`, which has the values of the analysed graph by name, in place."""
    values = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    twins = {value.name: value for value in values}
    layouts = {twins[value.name]: layout for value, layout in axes.layouts.items() if value.name in twins}
    cut = Cut(graph, layouts, gone)
    for node in axes.averaging:
        twin = twins[node.outputs[0].name].producer()
        if twin is not None and any(_static(cut, value) for value in twin.inputs):
            for edit in axes.edits[node]:
                edit(twin, cut)
            _confine(twin, cut)


def _static(cut: Cut, value: ir.Value | None) -> list[int]:
    """The pruned axes of known size; statistics never run over the others."""
    return [axis for axis in cut.pruned(value) if not cut.layout(value)[axis].open]


def _confine(node: ir.Node, cut: Cut) -> None:
    for index, value in enumerate(node.inputs):
        for axis in _static(cut, value):
            given, places = node.inputs[index], np.flatnonzero(cut.keep(value, axis))
            assert given is not None
            node.replace_input_with(index, cut.gather(given, axis, places, node))
    for value in node.outputs:
        _spread(value, node, cut)


def _spread(value: ir.Value, node: ir.Node, cut: Cut) -> None:
    """Give the readers of a result all positions, zeros where nothing was kept."""
    uses, last, at = list(value.uses()), value, node
    dtype = next(known.dtype for known in (value, node.inputs[0]) if known is not None and known.dtype is not None)
    for axis in _static(cut, value) if uses else ():
        keep = cut.keep(value, axis)
        shape = [-1 if index == axis else 1 for index in range(len(cut.layout(value)))]
        last = cut.gather(last, axis, np.maximum(np.cumsum(keep) - 1, 0), at, after=True)
        mask = cut.constant(keep.reshape(shape).astype(dtype.numpy()), f"{value.name}_mask")
        at = last.producer() or at
        last = cut.node("Mul", [last, mask], at, {}, after=True)
        at, value.shape = last.producer() or at, None
    for user, index in uses:
        user.replace_input_with(index, last)
