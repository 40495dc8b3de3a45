"""Winning accuracy back without labels, gradients or PyTorch: weights rounded against the second moments of their
inputs (`rounding`), scales refitted, biases corrected with the same moments.

Whether the result is kept is decided by the caller, on samples that neither calibration nor this step has seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.gram import Gram, Window, enough
from optimizer.calibrate.lowering import conv_window
from optimizer.calibrate.run import observe
from optimizer.model.ports import Array, Feed
from optimizer.quantize import rounding, saturation, weights
from optimizer.quantize.groups import Group
from optimizer.quantize.lowering import Lowering, lower
from optimizer.quantize.plan import Plan, Weight
from optimizer.quantize.statistics import Statistics

WIDEST = 2304
"""Columns up to which the second moments of a weight's inputs are gathered: their inverse costs its cube."""
_BUDGET = 128 * 2**20
"""Bytes of moments gathered in one pass over the samples."""
_LEAST_SAMPLES = 64.0
"""Rows a column needs before its moments are trusted."""


def second_order(
    model: ir.Model,
    plan: Plan,
    statistics: Statistics,
    feeds: Callable[[], Iterable[Feed]],
    samples: int,
    *,
    saturates: bool,
    per_tensor: bool = False,
    threads: int = 1,
) -> Plan:
    """`plan` with weights rounded by second moments, gathered over `feeds()`, so many `samples`, in as many passes as
    memory asks for."""
    every = (*plan.groups, *plan.stored)
    weighted = [(group, lower(model, group)) for group in every if group.name in plan.weights]
    found = dict(plan.weights)
    for batch in _passes([pair for pair in weighted if _columns(pair[1]) <= WIDEST]):
        grams = {
            group.name: Gram(window(model, group, lowering), enough(_columns(lowering), samples))
            for group, lowering in batch
        }
        watched: dict[str, list[Gram]] = {}
        for group, _ in batch:
            watched.setdefault(group.inputs[0], []).append(grams[group.name])
        observe(model, feeds(), watched, threads=threads)
        for name in dict.fromkeys(plan.weights[group.name].name for group, _ in batch):
            readers = [pair for pair in batch if plan.weights[pair[0].name].name == name]
            found |= _rounded(model, plan, statistics, readers, grams, saturates, per_tensor)
    return dataclasses.replace(plan, weights=found)


def window(model: ir.Model, group: Group, lowering: Lowering) -> Window | None:
    """How the group's convolution looks at its input, None for a matrix product."""
    if not lowering.conv:
        return None
    return conv_window(next(node for node in model.graph if node.name == group.name), lowering)


def _rounded(
    model: ir.Model,
    plan: Plan,
    statistics: Statistics,
    readers: Sequence[tuple[Group, Lowering]],
    grams: dict[str, Gram],
    saturates: bool,
    per_tensor: bool,
) -> dict[str, Weight]:
    """New weights for groups that share one, from the moments of all their inputs together."""
    first, lowering = readers[0]
    if sum(weight.name == plan.weights[first.name].name for weight in plan.weights.values()) != len(readers):
        return {}
    together = grams[first.name]
    if len(readers) > 1:
        together = Gram(together.window)
        for group, _ in readers:
            together.merge(grams[group.name])
    if together.products is None or together.count < _LEAST_SAMPLES:
        return {}
    old, rows = plan.weights[first.name], lowering.rows(weights.initializer(model, first.weight))
    shape = (lowering.groups, len(rows) // lowering.groups, rows.shape[1])
    split, scales = rows.reshape(shape), old.scales.reshape(shape[:2])
    moments = together.moments(centred=old.bias is not None)
    integers = rounding.second_order(split, scales, moments).reshape(rows.shape)
    if saturates and not lowering.depthwise:
        integers = _safe(integers, lowering.rows(old.values), plan, statistics, readers)
    refitted = rounding.refit(split, integers.reshape(shape), scales, moments, per_tensor).reshape(-1)
    error = rows - integers * refitted[:, None]
    found = {}
    for group, _ in readers:
        bias = weights.float_bias(model, group, len(rows))
        if bias is not None and old.bias is not None:
            bias = bias + weights.shift(error, np.repeat(grams[group.name].mean, shape[1], axis=0))
        found[group.name] = dataclasses.replace(old, values=lowering.weight(integers), scales=refitted, bias=bias)
    return found


def _safe(
    integers: Array, nearest: Array, plan: Plan, statistics: Statistics, readers: Sequence[tuple[Group, Lowering]]
) -> Array:
    """`integers`, with the rows that could now saturate put back to `nearest`."""
    unsafe = np.zeros(len(integers), bool)
    for group, lowering in readers:
        name = group.inputs[0]
        if name not in plan.activations:
            continue
        found = weights.reach(plan.activations[name], statistics.channels[name], lowering)
        low, high = weights.ANY if group.name in plan.dynamic else found
        unsafe |= saturation.overflows(integers, low, high)
    return np.where(unsafe[:, None], nearest, integers)


def _passes(pairs: Sequence[tuple[Group, Lowering]]) -> list[list[tuple[Group, Lowering]]]:
    """Cut the weights into lots whose moments fit the memory budget; those that share a weight stay together."""
    lots: list[list[tuple[Group, Lowering]]] = [[]]
    used = 0
    for name in dict.fromkeys(group.weight for group, _ in pairs):
        own = [pair for pair in pairs if pair[0].weight == name]
        need = sum(4 * lowering.groups * _columns(lowering) ** 2 for _, lowering in own)
        if lots[-1] and used + need > _BUDGET:
            lots.append([])
            used = 0
        lots[-1] += own
        used += need
    return [lot for lot in lots if lot]


def _columns(lowering: Lowering) -> int:
    inner = (
        lowering.shape[1:] if lowering.conv else [n for axis, n in enumerate(lowering.shape) if axis != lowering.axis]
    )
    return int(np.prod(inner))
