"""What rounding a layer's input does to the mean of its output, taken back in the bias.

The uint8 form x' of an input has another mean than x wherever a range cuts values off (`mse` ranges do, on one side
mostly). Per output channel that shifts the result by ``sum_k w'_k (E[x_k] - E[x'_k])``, a constant that the bias can
take up. Both means are observed on the float model in one pass: as every layer before is corrected likewise, its input
has about the float model's mean.

(Correcting layer after layer on the outputs of the int8 model itself, as Nagel et al. 2019 do, was tried: it needs a
pass per layer, gains less, and drifts where layers without a bias lie between.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from optimizer.calibrate.observers import Channels
from optimizer.calibrate.run import Observer, observe
from optimizer.model.ports import Array, Feed
from optimizer.quantize import statistics, weights
from optimizer.quantize.groups import Group
from optimizer.quantize.lowering import lower
from optimizer.quantize.plan import Plan, Weight
from optimizer.quantize.qparams import QParams


@dataclasses.dataclass
class Rounded:
    """Channel figures of what is left of values in uint8."""

    params: QParams
    seen: Channels

    def update(self, batch: Array) -> None:
        self.seen.update(self.params.fake(batch))


def corrected(model: ir.Model, plan: Plan, feeds: Iterable[Feed], *, threads: int = 1) -> Plan:
    """`plan`, made on the float `model`, with biases that take back what rounding the inputs shifts."""
    groups = [group for group in plan.groups if _has_bias(plan, group)]
    plain = {group.inputs[0]: Channels(statistics.input_axis(group)) for group in groups}
    rounded = {name: Rounded(plan.activations[name], Channels(found.axis)) for name, found in plain.items()}
    watched: dict[str, list[Observer]] = {name: [plain[name], rounded[name]] for name in plain}
    if not watched:
        return plan
    observe(model, feeds, watched, threads=threads)
    moved = {name: plain[name].mean - rounded[name].seen.mean for name in plain}
    return dataclasses.replace(plan, weights={**plan.weights, **_moved(model, plan, groups, moved)})


def _has_bias(plan: Plan, group: Group) -> bool:
    known = group.name in plan.weights and group.name not in plan.dynamic
    return known and plan.weights[group.name].bias is not None


def _moved(model: ir.Model, plan: Plan, groups: Iterable[Group], moved: Mapping[str, Array]) -> dict[str, Weight]:
    found = {}
    for group in groups:
        lowering, weight = lower(model, group), plan.weights[group.name]
        rows = lowering.rows(weight.values) * weight.scales.reshape(-1, 1)
        assert weight.bias is not None
        bias = weight.bias + weights.shift(rows, lowering.spread(moved[group.inputs[0]]))
        found[group.name] = dataclasses.replace(weight, bias=bias)
    return found
