"""What a group costs in float and in int8, and what a border costs: from a table, or from the runtime's profiles.

The table (used with `--no-measure`, and where a profile does not tell) is rough on purpose: nanoseconds per
multiply-accumulate and per element, fitted to ONNX Runtime 1.31 at one thread with and without VNNI. It has to rank a
convolution against an addition, and int8 against float, not to predict a latency.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from optimizer.data.convert import codes, encode
from optimizer.model.cost import node_macs
from optimizer.model.ports import Feed
from optimizer.quantize.groups import Group
from optimizer.quantize.placement import Costs, readings
from optimizer.quantize.verify import Names
from optimizer.runtime.profile import NodeTime, profile
from optimizer.runtime.session import Options

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Rate:
    """Nanoseconds, (float, int8 without VNNI, int8 with VNNI)."""

    mac: tuple[float, float, float] = (0.0, 0.0, 0.0)
    element: tuple[float, float, float] = (0.0, 0.0, 0.0)


_DENSE = Rate((0.032, 0.024, 0.009), (0.15, 0.15, 0.15))
_DEPTHWISE = Rate((0.11, 0.09, 0.09), (0.15, 0.15, 0.15))
_RATES = {
    "Conv": _DENSE, "Gemm": _DENSE, "MatMul": _DENSE,
    "Add": Rate(element=(0.25, 0.16, 0.16)), "Mul": Rate(element=(0.25, 0.3, 0.3)),
    "Sigmoid": Rate(element=(0.9, 0.4, 0.4)), "HardSigmoid": Rate(element=(0.3, 0.2, 0.2)),
    "LeakyRelu": Rate(element=(0.5, 0.4, 0.4)), "Softmax": Rate(element=(1.5, 1.2, 1.2)),
    "Concat": Rate(element=(0.15, 0.15, 0.15)), "AveragePool": Rate(element=(0.5, 0.9, 0.9)),
    "GlobalAveragePool": Rate(element=(0.3, 0.3, 0.3)), "MaxPool": Rate(element=(0.6, 0.3, 0.3)),
    "Resize": Rate(element=(0.3, 0.2, 0.2)), "Transpose": Rate(element=(0.5, 0.3, 0.3)),
    "Slice": Rate(element=(0.15, 0.06, 0.06)), "Split": Rate(element=(0.15, 0.06, 0.06)),
    "DepthToSpace": Rate(element=(0.5, 0.4, 0.4)),
}  # fmt: skip
_FREE = Rate()
_QUANTIZE, _DEQUANTIZE = 0.4, 0.35
"""Nanoseconds per element, the change of layout next to it included."""
_KERNEL = 2.0
"""Microseconds that any kernel takes to be called."""


def modelled(model: ir.Model, groups: Iterable[Group], shapes: Shapes, *, vnni: bool) -> Costs:
    """Costs by the table."""
    groups = tuple(groups)
    column = 2 if vnni else 1
    nodes = {node.name or "": node for node in model.graph}
    shapes = {**shapes, **_inner(groups, nodes, shapes)}
    costs = {group.name: _modelled(group, nodes[group.name], shapes, column) for group in groups}
    sizes = {value.name: _size(shapes.get(value.name, ())) for value in readings(model, groups)}
    return Costs(
        costs,
        {name: _KERNEL + size * _QUANTIZE / 1000 for name, size in sizes.items()},
        {name: _KERNEL + size * _DEQUANTIZE / 1000 for name, size in sizes.items()},
    )


def measured(
    float_model: ir.Model,
    int8_model: ir.Model,
    groups: Sequence[Group],
    base: Costs,
    feeds: Sequence[Feed],
    *,
    threads: int = 1,
) -> Costs:
    """`base` with what the profiles of an all-float and an all-int8 model of the same `groups` tell.

    A kernel counts for the group whose node or value its name begins with; a group without a kernel of its own was
    fused into another one and costs nothing in that form.
    """
    options = Options(threads=threads)
    owners = {node: group.name for group in groups for node in group.nodes}
    owners |= {value: group.name for group in groups for value in group.outputs}
    in_float = _by_owner(profile(float_model, feeds, options), owners)
    in_int8 = _by_owner(profile(int8_model, [encode(feed, codes(int8_model)) for feed in feeds], options), owners)
    both = {group.name: (in_float.get(group.name, 0.0), in_int8.get(group.name, 0.0)) for group in groups}
    return dataclasses.replace(base, groups=both)


def _by_owner(times: Iterable[NodeTime], owners: Mapping[str, str]) -> dict[str, float]:
    names = Names(owners)
    total: dict[str, float] = {}
    for time in times:
        owner = names.owner(time.name)
        if owner is not None and time.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            total[owners[owner]] = total.get(owners[owner], 0.0) + time.microseconds
    return total


def _modelled(group: Group, node: ir.Node, shapes: Shapes, column: int) -> tuple[float, float]:
    rate = _RATES.get(group.op, _FREE)
    if group.op == "Conv" and _depthwise(node):
        rate = _DEPTHWISE
    macs = node_macs(node, shapes) or 0 if rate.mac[0] else 0
    elements = sum(_size(shapes.get(name, ())) for name in group.outputs)
    call = _KERNEL if rate is not _FREE else 0.0
    return tuple(call + (macs * rate.mac[i] + elements * rate.element[i]) / 1000 for i in (0, column))  # type: ignore[return-value]


def _inner(groups: Sequence[Group], nodes: Mapping[str, ir.Node], shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes inside the groups: what a head writes has the shape of what its group writes."""
    return {
        value.name or "": shapes[group.output]
        for group in groups
        for name in group.nodes[:-1]
        for value in nodes[name].outputs
        if group.output in shapes
    }


def _depthwise(node: ir.Node) -> bool:
    groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
    weight = node.inputs[1]
    return groups > 1 and weight is not None and weight.shape is not None and weight.shape[1] == 1


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for dim in shape:
        total *= dim
    return total
