"""Rounding the weights of int8 groups, and putting right what rounding shifts.

For each weighted group, in this order:
  1. one scale per output channel by least squared error (or one for the whole tensor);
  2. where the target CPU saturates, scales enlarged per channel just as far as needed (`saturation`);
  3. scales enlarged where the bias would leave int32;
  4. rounding to nearest;
  5. bias correction: rounding changes an output channel's mean by ``sum_k (w_k - w'_k) * E[x_k]``, which goes into the
     bias (Nagel et al. 2019, with the means observed on the calibration data instead of assumed).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.observers import Channels
from optimizer.model.ports import Array
from optimizer.ops import int8
from optimizer.quantize import qparams, saturation
from optimizer.quantize.groups import Group
from optimizer.quantize.lowering import Lowering, lower
from optimizer.quantize.plan import Weight
from optimizer.quantize.qparams import QParams

_INT32 = 2.0**30
ANY = (np.zeros(1, np.float32), np.full(1, 255, np.float32))
"""The reach of an input whose range is found in each run."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to round."""

    per_tensor: bool = False
    saturates: bool = False
    correct: bool = True
    dynamic: frozenset[str] = frozenset()
    """Names of the groups in dynamic form: each run stretches its input over all of uint8."""


def quantize(
    model: ir.Model,
    groups: Sequence[Group],
    sources: Mapping[str, QParams],
    channels: Mapping[str, Channels],
    how: Settings,
) -> dict[str, Weight]:
    """int8 weights by group name. `sources` gives the parameters, `channels` the per-channel figures of the inputs.

    Groups that share a weight share its scales, the largest that any of them needs.
    """
    shared: dict[str, list[Group]] = {}
    for group in groups:
        if group.weight is not None:
            shared.setdefault(group.weight, []).append(group)
    found: dict[str, Weight] = {}
    for readers in shared.values():
        found |= _together(model, readers, sources, channels, how)
    return found


def _together(
    model: ir.Model,
    groups: Sequence[Group],
    sources: Mapping[str, QParams],
    channels: Mapping[str, Channels],
    how: Settings,
) -> dict[str, Weight]:
    lowerings = [lower(model, group) for group in groups]
    array = initializer(model, groups[0].weight)
    found: dict[str, Weight] = {}
    for lowering in dict.fromkeys(lowerings):
        own = [group for group, its in zip(groups, lowerings, strict=True) if its == lowering]
        rows = lowering.rows(array)
        name = own[0].weight if lowering == lowerings[0] else own[0].name
        needed = [_scales(model, group, lowering, rows, sources, channels, how) for group in own]
        scales = np.asarray(np.max(needed, axis=0), np.float32)
        rounded = qparams.round_weight(rows, scales, 0)
        error = rows - rounded * scales[:, None]
        for group in own:
            bias = float_bias(model, group, len(rows))
            if how.correct and bias is not None:
                bias = bias + shift(error, lowering.spread(channels[group.inputs[0]].mean))
            found[group.name] = Weight(name or "", lowering.weight(rounded), scales, lowering.axis, bias)
    return found


def _scales(
    model: ir.Model,
    group: Group,
    lowering: Lowering,
    rows: Array,
    sources: Mapping[str, QParams],
    channels: Mapping[str, Channels],
    how: Settings,
) -> Array:
    """The scales that one group needs, shape [O]; a group that computes in float has no `source`."""
    source, bias = sources.get(group.inputs[0]), float_bias(model, group, len(rows))
    scales = qparams.weight_scales(rows, 0)
    if source is not None and how.saturates and not lowering.depthwise:
        low, high = ANY if group.name in how.dynamic else reach(source, channels[group.inputs[0]], lowering)
        scales = saturation.limited(rows, scales, low, high)
    if source is not None and bias is not None:
        scales = np.maximum(scales, np.abs(bias) / (source.scale * _INT32)).astype(np.float32)
    return np.full_like(scales, scales.max()) if how.per_tensor else scales


def shift(rows: Array, means: Array) -> Array:
    """The mean of ``rows @ x`` per output channel, for inputs with these means ([K] or [O, K])."""
    return np.asarray((rows * means).sum(axis=1))


def initializer(model: ir.Model, name: str | None) -> Array:
    """The array of the constant called `name`."""
    array = int8.constant(model.graph.initializers[name or ""])
    assert array is not None
    return array


def float_bias(model: ir.Model, group: Group, channels: int) -> Array | None:
    """The group's bias, shape [channels]; zeros where its op could have one but has none; None where it could not."""
    if group.bias is None:
        return np.zeros(channels, np.float32) if group.op in ("Conv", "Gemm") else None
    return np.broadcast_to(initializer(model, group.bias).reshape(-1), (channels,))


def reach(source: QParams, channels: Channels, lowering: Lowering) -> tuple[Array, Array]:
    """The uint8 values that each weight meets: per input channel what was seen, with padding's zero."""
    low = source.quantize(np.minimum(channels.low, 0)).astype(np.float32)
    high = source.quantize(np.maximum(channels.high, 0)).astype(np.float32)
    return lowering.spread(low), lowering.spread(high)
