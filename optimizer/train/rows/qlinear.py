"""Rows of com.microsoft's operators that read and write quantized tensors: each is the plain operator between
DequantizeLinear and QuantizeLinear, with the straight-through gradient of `quantized`.

    op                        inputs: a quantized tensor is (q, scale, zero point)
    QLinearAdd, QLinearMul    a, b, scale and zero of y
    QLinearConcat             scale and zero of y, then each part
    QGemm                     a, b, int32 bias in units of both scales, scale and zero of y (none: y stays real)
    the others                x, scale and zero of y
"""

from __future__ import annotations

from collections.abc import Callable

from optimizer.train.rows import elementwise, pool
from optimizer.train.rows.quantized import centred, requantize
from optimizer.train.table import Call, Row, Tensor


def _real(q: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return centred(q, zero, 1) * scale


def _two(name: str) -> Callable[..., Tensor]:
    def compute(at: Call, a: Tensor, a_s: Tensor, a_z: Tensor, b: Tensor, b_s: Tensor, b_z: Tensor, y_s: Tensor,
                y_z: Tensor = None) -> Tensor:  # fmt: skip
        found = getattr(at.torch, name)(_real(a, a_s, a_z), _real(b, b_s, b_z))
        return requantize(at, found, y_s, y_z, 7)

    return compute


def _one(function: Callable[[Call, Tensor], Tensor]) -> Callable[..., Tensor]:
    def compute(at: Call, x: Tensor, x_s: Tensor, x_z: Tensor, y_s: Tensor, y_z: Tensor = None) -> Tensor:
        if at.flag("channels_last"):
            raise at.refuse("its channels come last")
        return requantize(at, function(at, _real(x, x_s, x_z)), y_s, y_z, 4)

    return compute


def _sigmoid(at: Call, x: Tensor) -> Tensor:
    return at.torch.sigmoid(x)


def _softmax(at: Call, x: Tensor) -> Tensor:
    axis = at.integer("axis", -1)
    if at.integer("opset", 13) >= 13:
        return at.torch.softmax(x, axis)
    return at.torch.softmax(x.flatten(axis % x.ndim), -1).reshape(x.shape)


def concat(at: Call, y_s: Tensor, y_z: Tensor, *parts: Tensor) -> Tensor:
    real = [_real(*parts[start : start + 3]) for start in range(0, len(parts), 3)]
    return requantize(at, at.torch.cat(real, at.integer("axis", 1)), y_s, y_z, 1)


def gemm(at: Call, a: Tensor, a_s: Tensor, a_z: Tensor, b: Tensor, b_s: Tensor, b_z: Tensor, bias: Tensor = None,
         y_s: Tensor = None, y_z: Tensor = None) -> Tensor:  # fmt: skip
    rows = centred(b, b_z, 0 if at.flag("transB") else 1)
    left, right = centred(a, a_z, -2), rows.T if at.flag("transB") else rows
    found = at.torch.matmul(left.T if at.flag("transA") else left, right)
    found = (found if bias is None else found + bias.float()) * (a_s * b_s) * at.real("alpha", 1.0)
    return found if y_s is None else requantize(at, found, y_s, y_z, 8)


ROWS = {
    "com.microsoft::QLinearAdd": Row(_two("add"), rounds=True),
    "com.microsoft::QLinearMul": Row(_two("mul"), rounds=True),
    "com.microsoft::QLinearConcat": Row(concat, rounds=True),
    "com.microsoft::QGemm": Row(gemm, rounds=True),
    "com.microsoft::QLinearSigmoid": Row(_one(_sigmoid), rounds=True),
    "com.microsoft::QLinearLeakyRelu": Row(_one(elementwise.leaky_relu), rounds=True),
    "com.microsoft::QLinearSoftmax": Row(_one(_softmax), rounds=True),
    "com.microsoft::QLinearAveragePool": Row(_one(pool.average_pool), rounds=True),
    "com.microsoft::QLinearGlobalAveragePool": Row(_one(pool.global_average), rounds=True),
}
