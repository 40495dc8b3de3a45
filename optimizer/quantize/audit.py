"""What an int8 model cuts off: values outside the range of their uint8, and sums that could leave 16 bits.

A *clipped* value lies more than a step outside what the uint8 of its tensor can hold; its share is read off the
calibration histogram. What an absorbed Relu or Clip cuts does not count, nor does a Sigmoid's 1, which is a step above
the range that the kernels take for it.

An output channel *could overflow* where the largest sum of two neighbouring products, over all inputs that calibration
has seen, leaves 16 bits: on x86 without VNNI it then saturates silently (`saturation`). On other CPUs it cannot; the
figure says whether the file may be taken to one. For that target the scales were chosen so that it is 0.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from optimizer.calibrate.observers import Histogram
from optimizer.model.ports import Array
from optimizer.quantize import saturation, weights
from optimizer.quantize.groups import Group
from optimizer.quantize.lowering import Lowering, lower
from optimizer.quantize.plan import Plan
from optimizer.quantize.qparams import QParams
from optimizer.quantize.statistics import Statistics


def audit(model: ir.Model, plan: Plan, seen: Statistics) -> dict[str, Any]:
    """Figures for `plan` on the float `model` it was made on, as plain JSON types; the most clipped tensor first."""
    tensors = [
        {
            "tensor": name,
            "clipped": clipped(seen.histograms[name], params),
            "range": [params.low, params.high],
            "seen": [seen.histograms[name].low, seen.histograms[name].high],
        }
        for name, params in plan.activations.items()
        if name in seen.histograms and not seen.histograms[name].empty
    ]
    return {"tensors": sorted(tensors, key=_share, reverse=True), "products": _products(model, plan, seen)}


def clipped(histogram: Histogram, params: QParams) -> float:
    """The share of values more than a step outside the range of `params`; a bin counts by its middle."""
    slack = params.scale + 2.0**histogram.exponent
    outside = (histogram.centers < params.low - slack) | (histogram.centers > params.high + slack)
    return float(histogram.counts[outside].sum() / max(histogram.counts.sum(), 1.0))


def _share(row: dict[str, Any]) -> float:
    return float(row["clipped"])


def _products(model: ir.Model, plan: Plan, seen: Statistics) -> list[dict[str, Any]]:
    """Output channels per weighted group, and how many of them could overflow 16 bits."""
    found = []
    for group in plan.groups:
        if group.weight is None or group.name not in plan.weights:
            continue
        lowering = lower(model, group)
        integers = lowering.rows(plan.weights[group.name].values)
        over = (
            0 if lowering.depthwise else int(saturation.overflows(integers, *_met(group, plan, seen, lowering)).sum())
        )
        found.append({"node": group.name, "channels": len(integers), "could_overflow": over})
    return found


def _met(group: Group, plan: Plan, seen: Statistics, lowering: Lowering) -> tuple[Array, Array]:
    """Lowest and highest uint8 that each weight of `group` meets."""
    source = plan.activations.get(group.inputs[0])
    if source is None or group.name in plan.dynamic:
        return weights.ANY
    return weights.reach(source, seen.channels[group.inputs[0]], lowering)
