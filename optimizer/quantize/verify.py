"""Did every planned group really become an int8 kernel? The runtime's own optimized graph tells.

ONNX Runtime keeps a fused node's name in the name of its kernel (``conv1`` -> ``conv1_token_3``), so an optimized node
belongs to the group with the longest name that begins it. A group holds if one of its nodes is a kernel that its row
in `ops.int8` names, or one of those of the dynamic form; a view holds unless it still reads the output of a
DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from optimizer.quantize.groups import Group
from optimizer.quantize.plan import Plan
from optimizer.runtime.optimized import optimized


def unfused(model: ir.Model, plan: Plan) -> dict[str, str]:
    """Names of the groups of `plan` that did not become int8 kernels in `model`, with the reason."""
    graph = optimized(model).graph
    owned: dict[str, list[ir.Node]] = {group.name: [] for group in plan.groups}
    names = Names(owned)
    for node in graph:
        owner = names.owner(node.name or "")
        if owner is not None:
            owned[owner].append(node)
    missed = [group for group in plan.groups if not _holds(group, owned[group.name], group.name in plan.dynamic)]
    return {group.name: REASON.format(group.op) for group in missed}


REASON = "onnxruntime did not fuse this {} into an int8 kernel"
"""Why a group went back to float, with its op."""


_DYNAMIC = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger")


def _holds(group: Group, nodes: list[ir.Node], dynamic: bool) -> bool:
    if dynamic:
        return any(node.op_type in _DYNAMIC for node in nodes)
    if group.rule.role != "view":
        return any(node.op_type in group.rule.kernels for node in nodes)
    return not any(_reads_float(node) for node in nodes if node.op_type in group.rule.kernels)


def _reads_float(node: ir.Node) -> bool:
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "DequantizeLinear"


class Names:
    """Which original node an optimized node's name goes back to."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)

    def owner(self, name: str) -> str | None:
        """The longest known name that `name` is, or begins with up to a separator."""
        for end in range(len(name), 0, -1):
            if name[:end] in self.names and (end == len(name) or not name[end].isalnum()):
                return name[:end]
        return None
