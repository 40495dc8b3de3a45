"""What a model costs, where shape inference alone cannot tell: sizes that it leaves open are taken from one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from optimizer.calibrate.run import values, watching
from optimizer.model import cost
from optimizer.model.ports import Feed


def count(model: ir.Model, feed: Feed, dims: Mapping[str, int], *, threads: int = 1) -> cost.Cost:
    """`model.cost.count` for what `feed` gives; nodes in subgraphs whose sizes are open stay `unknown`."""
    found = cost.count(model, dims)
    sizes = seen(model, [node for node in model.graph if (node.name or node.op_type) in found.unknown], feed, threads)
    return cost.count(model, dims, sizes) if sizes else found


def seen(model: ir.Model, nodes: Iterable[ir.Node], feed: Feed, threads: int = 1) -> dict[str, tuple[int, ...]]:
    """The sizes, by name, of what some nodes of `model` read and give when it runs on `feed`; none are constants."""
    wanted = {
        value.name: None
        for node in nodes
        for value in (*node.inputs, *node.outputs)
        if value is not None and value.name and value.const_value is None
    }
    if not wanted:
        return {}
    session = watching(model, wanted, threads=threads)
    names = [name for name in wanted if name in session.outputs]
    return {name: array.shape for name, array in values(session, feed, names, wanted)}
