"""Rows of quantization: straight-through rounding, so that a gradient reaches weights, activations and scales.

A quantized tensor is carried as floats with integer values. Forward, QuantizeLinear is exact:

    q = clamp(round(x / s) + z, low, high)        DequantizeLinear: y = (q - z) * s

Backward, `round` is taken for the identity. Then y = (round(x/s)) * s has dy/dx = 1 inside the range and 0 outside,
and dy/ds = round(x/s) - x/s inside and low - z or high - z outside: the gradient of learnt step sizes (Esser et al.,
"Learned Step Size Quantization", 2020). Integer tensors that come from elsewhere (graph inputs) are converted.

The scale may be a number, a vector along `axis`, or (opset 21) one per block of `block_size` elements along it.
"""

from __future__ import annotations

import onnx_ir as ir

from optimizer.train.dtypes import RANGES
from optimizer.train.rows.linear import conv, matmul
from optimizer.train.table import Call, Row, Tensor, along

INT8, UINT8 = ir.DataType.INT8, ir.DataType.UINT8


def straight_round(x: Tensor) -> Tensor:
    """x rounded half to even; its gradient is the identity."""
    return x + (x.round() - x).detach()


def fit(parameter: Tensor, x: Tensor, axis: int, block: int = 0) -> Tensor:
    """A scale or zero point (a number, per channel, or per block along `axis`) shaped to broadcast over `x`."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    if parameter.ndim == 1:
        return along(parameter, axis, x.ndim)
    block = block or -(-x.shape[axis] // parameter.shape[axis])
    return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])


def _kind(at: Call) -> ir.DataType:
    """The integer type that a QuantizeLinear node produces."""
    given = at.integer("output_dtype", 0)
    zero = at.node.inputs[2] if len(at.node.inputs) > 2 else None
    kind = ir.DataType(given) if given else UINT8 if zero is None else zero.dtype or UINT8
    if kind not in RANGES:
        raise at.refuse(f"quantization to {kind.name.lower()} has no straight-through gradient here")
    return kind


def quantize(at: Call, x: Tensor, scale: Tensor, zero: Tensor = None) -> Tensor:
    low, high = RANGES[_kind(at)]
    axis, block = at.integer("axis", 1), at.integer("block_size", 0)
    q = straight_round(x / fit(scale, x, axis, block))
    return (q if zero is None else q + fit(zero, x, axis, block).to(q.dtype)).clamp(low, high)


def dequantize(at: Call, q: Tensor, scale: Tensor, zero: Tensor = None) -> Tensor:
    axis, block, q = at.integer("axis", 1), at.integer("block_size", 0), q.to(scale.dtype)
    centred = q if zero is None else q - fit(zero, q, axis, block).to(q.dtype)
    return centred * fit(scale, q, axis, block)


def dynamic_quantize(at: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    scale = at.torch.where(scale == 0, at.torch.ones_like(scale), scale).detach()
    zero = straight_round((-low / scale).clamp(0, 255)).detach()
    return (straight_round(x / scale) + zero).clamp(0, 255), scale, zero


def centred(q: Tensor, zero: Tensor, axis: int) -> Tensor:
    """q - zero as floats; the zero point is a number or a vector along `axis`."""
    q = q.float()
    if zero is None:
        return q
    return q - (zero.float().reshape(()) if zero.numel() == 1 else along(zero.float(), axis, q.ndim))


def matmul_integer(at: Call, a: Tensor, b: Tensor, a_zero: Tensor = None, b_zero: Tensor = None) -> Tensor:
    return matmul(at, centred(a, a_zero, -2), centred(b, b_zero, -1))


def conv_integer(at: Call, x: Tensor, w: Tensor, x_zero: Tensor = None, w_zero: Tensor = None) -> Tensor:
    return conv(at, centred(x, x_zero, 1), centred(w, w_zero, 0))


def requantize(at: Call, y: Tensor, scale: Tensor, zero: Tensor, output: int) -> Tensor:
    """y as the integers of the operator's output, whose zero point is input `output`."""
    value = at.node.inputs[output] if output < len(at.node.inputs) else None
    low, high = RANGES[(value.dtype if value is not None else None) or UINT8]
    return (straight_round(y / scale) + (0 if zero is None else zero.float())).clamp(low, high)


def qlinear_conv(at: Call, x: Tensor, xs: Tensor, xz: Tensor, w: Tensor, ws: Tensor, wz: Tensor, ys: Tensor,
                 yz: Tensor, b: Tensor = None) -> Tensor:  # fmt: skip
    y = conv(at, centred(x, xz, 1), centred(w, wz, 0), None if b is None else b.float())
    scale = xs * ws
    return requantize(at, y * (scale if scale.numel() == 1 else along(scale, 1, y.ndim)), ys, yz, 7)


def qlinear_matmul(at: Call, a: Tensor, a_s: Tensor, az: Tensor, b: Tensor, bs: Tensor, bz: Tensor, ys: Tensor,
                   yz: Tensor) -> Tensor:  # fmt: skip
    a = centred(a, az, -2) * (a_s if a_s.numel() == 1 else along(a_s, -2, a.ndim))
    b = centred(b, bz, -1) * (bs if bs.numel() == 1 else along(bs, -1, b.ndim))
    return requantize(at, matmul(at, a, b), ys, yz, 7)


ROWS = {
    "QuantizeLinear": Row(quantize, rounds=True),
    "DequantizeLinear": Row(dequantize),
    "com.microsoft::QuantizeLinear": Row(quantize, rounds=True),
    "com.microsoft::DequantizeLinear": Row(dequantize),
    "DynamicQuantizeLinear": Row(dynamic_quantize, rounds=True),
    "MatMulInteger": Row(matmul_integer, rounds=True),
    "ConvInteger": Row(conv_integer, rounds=True),
    "QLinearConv": Row(qlinear_conv, rounds=True),
    "QLinearMatMul": Row(qlinear_matmul, rounds=True),
}
"""Their learnable constants come in encoded form: `optimizer.train.encoded` knows which."""
