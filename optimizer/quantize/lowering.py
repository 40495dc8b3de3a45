"""The weight of a group of nodes as a matrix product."""

from __future__ import annotations

import onnx_ir as ir

from optimizer.calibrate.lowering import Lowering
from optimizer.ops import int8
from optimizer.quantize.groups import Group


def lower(model: ir.Model, group: Group) -> Lowering:
    """The lowering of a weighted group of `model`."""
    head = next(node for node in model.graph if node.name == group.name)
    weight = int8.constant(model.graph.initializers[group.weight or ""])
    assert weight is not None and group.rule.weight_axis is not None
    number = int8.attribute(head, "group", 1)
    assert isinstance(number, int)
    return Lowering(weight.shape, group.rule.weight_axis(head), group.op == "Conv", number)


__all__ = ["Lowering", "lower"]
