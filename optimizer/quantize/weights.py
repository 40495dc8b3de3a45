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


def quantize(
    model: ir.Model,
    group: Group,
    source: QParams,
    channels: Channels,
    *,
    per_tensor: bool = False,
    saturates: bool = False,
    correct: bool = True,
) -> Weight:
    """int8 weight of `group`, whose uint8 input has the parameters `source` and the per-channel figures `channels`."""
    lowering = lower(model, group)
    float_weight = initializer(model, group.weight)
    rows = lowering.rows(float_weight)
    bias = float_bias(model, group, len(rows))
    scales = qparams.weight_scales(rows, 0)
    if saturates and not lowering.depthwise:
        low, high = _reach(source, channels, lowering)
        scales = saturation.limited(rows, scales, low, high)
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias) / (source.scale * _INT32)).astype(np.float32)
    if per_tensor:
        scales = np.full_like(scales, scales.max())
    rounded = qparams.round_weight(rows, scales, 0)
    if correct and bias is not None:
        bias = bias + shift(rows - rounded * scales[:, None], lowering.spread(channels.mean))
    return Weight(lowering.weight(rounded), scales, lowering.axis, bias)


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


def _reach(source: QParams, channels: Channels, lowering: Lowering) -> tuple[Array, Array]:
    """The uint8 values that each weight meets: per input channel what was seen, with padding's zero."""
    low = source.quantize(np.minimum(channels.low, 0)).astype(np.float32)
    high = source.quantize(np.maximum(channels.high, 0)).astype(np.float32)
    return lowering.spread(low), lowering.spread(high)
