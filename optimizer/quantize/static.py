"""From statistics to a plan: parameters for every value of the int8 groups, rounded weights for the weighted ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from optimizer.quantize import weights
from optimizer.quantize.groups import Group
from optimizer.quantize.plan import Plan
from optimizer.quantize.qparams import Method, QParams
from optimizer.quantize.statistics import Statistics


def plan(
    model: ir.Model,
    groups: Iterable[Group],
    statistics: Statistics,
    method: Method = "mse",
    how: weights.Settings | None = None,
    dynamic: Iterable[str] = (),
    stored: Iterable[Group] = (),
    exact: Collection[str] = (),
) -> Plan:
    """Everything to nearest, biases corrected; `groups` in topological order, those named in `dynamic` in that form.

    Groups in `stored` compute in float, but their weights are rounded too. Values in `exact` keep their whole range.
    """
    chosen, kept = tuple(groups), tuple(group for group in stored if group.weight is not None)
    params = activations(chosen, statistics, method, exact)
    how = dataclasses.replace(how or weights.Settings(), dynamic=frozenset(dynamic))
    rounded = weights.quantize(model, (*chosen, *kept), params, statistics.channels, how)
    return Plan(chosen, params, rounded, how.dynamic, kept)


def activations(
    groups: Iterable[Group], statistics: Statistics, method: Method, exact: Collection[str] = ()
) -> dict[str, QParams]:
    """Parameters by value name. A view passes its input's on; an op of known range has its own."""
    found: dict[str, QParams] = {}

    def params(name: str, low: float = -np.inf, high: float = np.inf) -> QParams:
        if name not in found:
            how: Method = "minmax" if name in exact else method
            found[name] = statistics.params(name, how, low, high)
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
