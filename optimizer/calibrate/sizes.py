"""What a model costs, where shape inference alone cannot tell: sizes that it leaves open are taken from one run."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from optimizer.calibrate.run import values, watching
from optimizer.model import cost
from optimizer.model.ports import Feed


def count(model: ir.Model, feed: Feed, dims: Mapping[str, int], *, threads: int = 1) -> cost.Cost:
    """`model.cost.count` for what `feed` gives; nodes in subgraphs whose sizes are open stay `unknown`."""
    found = cost.count(model, dims)
    open_nodes = [node for node in model.graph if (node.name or node.op_type) in found.unknown]
    wanted = {
        value.name: None
        for node in open_nodes
        for value in (*node.inputs, *node.outputs)
        if value is not None and value.name and value.const_value is None
    }
    if not wanted:
        return found
    session = watching(model, wanted, threads=threads)
    names = [name for name in wanted if name in session.outputs]
    sizes = {name: array.shape for name, array in values(session, feed, names, wanted)}
    return cost.count(model, dims, sizes)
