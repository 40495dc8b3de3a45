"""From statistics to a plan: parameters for every value of the int8 groups, rounded weights for the weighted ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array
from optimizer.quantize import qparams
from optimizer.quantize.groups import Group
from optimizer.quantize.plan import Plan, Weight
from optimizer.quantize.qparams import Method, QParams
from optimizer.quantize.statistics import Statistics


def plan(
    model: ir.Model,
    groups: Iterable[Group],
    statistics: Statistics,
    method: Method = "mse",
    *,
    per_tensor: bool = False,
) -> Plan:
    """Nearest rounding everywhere; `groups` in topological order."""
    chosen = tuple(groups)
    weights = {group.name: weight(model, group, per_tensor) for group in chosen if group.weight is not None}
    return Plan(chosen, activations(chosen, statistics, method), weights)


def activations(groups: Iterable[Group], statistics: Statistics, method: Method) -> dict[str, QParams]:
    """Parameters by value name. A view passes its input's on; an op of known range has its own."""
    found: dict[str, QParams] = {}

    def params(name: str, low: float = -np.inf, high: float = np.inf) -> QParams:
        if name not in found:
            found[name] = qparams.activation(statistics.histograms[name], method, low, high)
        return found[name]

    for group in groups:
        given = [params(name) for name in group.inputs]
        for name in group.outputs:
            if group.rule.role == "view":
                found[name] = given[0]
            elif group.rule.fixed is not None:
                found[name] = QParams(*group.rule.fixed)
            else:
                params(name, group.low, group.high)
    return found


def weight(model: ir.Model, group: Group, per_tensor: bool) -> Weight:
    """The group's weight rounded to nearest, its bias in float as it is."""
    array, axis = initializer(model, group.weight), weight_axis(model, group)
    bias = initializer(model, group.bias).reshape(-1) if group.bias is not None else None
    if bias is not None:
        bias = np.broadcast_to(bias, (array.shape[axis],))
    scales = qparams.weight_scales(array, axis)
    if per_tensor:
        scales = np.full_like(scales, scales.max())
    return Weight(qparams.round_weight(array, scales, axis), scales, axis, bias)


def weight_axis(model: ir.Model, group: Group) -> int:
    """The axis of the group's weight that holds output channels."""
    head = next(node for node in model.graph if node.name == group.name)
    assert group.rule.weight_axis is not None
    return group.rule.weight_axis(head)


def initializer(model: ir.Model, name: str | None) -> Array:
    """The array of the initializer called `name`."""
    tensor = model.graph.initializers[name or ""].const_value
    assert tensor is not None
    return tensor.numpy()
