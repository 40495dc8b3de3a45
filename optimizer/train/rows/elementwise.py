"""Rows of element-wise ops: arithmetic, comparison, logic, activations, casts. All broadcast as numpy does."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import onnx_ir as ir

from optimizer.train.dtypes import torch_dtype
from optimizer.train.table import Call, Row, Tensor

SMOOTH = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh", "Atan": "atan", "Atanh": "atanh",
    "Cos": "cos", "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Log": "log", "Neg": "neg", "Reciprocal": "reciprocal",
    "Relu": "relu", "Sigmoid": "sigmoid", "Sin": "sin", "Sinh": "sinh", "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh",
    "Add": "add", "Sub": "sub", "Mul": "mul",
}  # fmt: skip
"""Ops that torch has under another name and with the same meaning."""

STEPWISE = {
    "Ceil": "ceil", "Floor": "floor", "Round": "round", "Sign": "sign", "IsNaN": "isnan", "Not": "logical_not",
    "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor", "Equal": "eq", "Greater": "gt", "Less": "lt",
    "GreaterOrEqual": "ge", "LessOrEqual": "le", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor", "BitwiseNot": "bitwise_not",
}  # fmt: skip
"""The same, where the result is no number or flat almost everywhere."""


def _named(name: str) -> Callable[..., Tensor]:
    def compute(at: Call, *inputs: Tensor) -> Tensor:
        return getattr(at.torch, name)(*inputs)

    return compute


def _fold(name: str) -> Callable[..., Tensor]:
    def compute(at: Call, *inputs: Tensor) -> Tensor:
        return functools.reduce(getattr(at.torch, name), inputs)

    return compute


def identity(at: Call, x: Tensor) -> Tensor:
    return x


def div(at: Call, a: Tensor, b: Tensor) -> Tensor:
    return at.torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def mod(at: Call, a: Tensor, b: Tensor) -> Tensor:
    return at.torch.fmod(a, b) if at.flag("fmod") else at.torch.remainder(a, b)


def power(at: Call, a: Tensor, b: Tensor) -> Tensor:
    whole = not a.is_floating_point()
    found = at.torch.pow(a.double(), b) if whole and b.is_floating_point() else at.torch.pow(a, b)
    return found.to(a.dtype)


def mean(at: Call, *inputs: Tensor) -> Tensor:
    return functools.reduce(at.torch.add, inputs) / len(inputs)


def where(at: Call, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return at.torch.where(condition, a, b)


def clip(at: Call, x: Tensor, low: Tensor = None, high: Tensor = None) -> Tensor:
    if at.opset < 11:
        return _between(at, x, at.real("min", -math.inf), at.real("max", math.inf))
    if not any(bound is not None and bound.requires_grad for bound in (low, high)):
        return _between(at, x, -math.inf if low is None else low.item(), math.inf if high is None else high.item())
    x = x if low is None else at.torch.maximum(x, low.to(x.dtype))
    return x if high is None else at.torch.minimum(x, high.to(x.dtype))


def _between(at: Call, x: Tensor, low: float, high: float) -> Tensor:
    """One kernel each way, as activations are clipped: `clamp` takes four backward."""
    finite = math.isfinite(low), math.isfinite(high)
    if not any(finite):
        return x
    if low == 0 and not finite[1] and x.is_floating_point():
        return at.torch.relu(x)
    if all(finite) and low < high and x.is_floating_point():
        return at.functional.hardtanh(x, low, high)
    return x.clamp(low if finite[0] else None, high if finite[1] else None)


def bit_shift(at: Call, a: Tensor, b: Tensor) -> Tensor:
    shift = at.torch.bitwise_left_shift if at.text("direction") == "LEFT" else at.torch.bitwise_right_shift
    return shift(a, b)


def is_inf(at: Call, x: Tensor) -> Tensor:
    positive, negative = at.flag("detect_positive", True), at.flag("detect_negative", True)
    return (at.torch.isposinf(x) & positive) | (at.torch.isneginf(x) & negative)


def cast(at: Call, x: Tensor, like: Tensor = None) -> Tensor:
    if like is not None:
        return x.to(like.dtype)
    return x.to(torch_dtype(at.torch, ir.DataType(at.integer("to", 1))))


def dropout(at: Call, x: Tensor, ratio: Tensor = None, training: Tensor = None) -> tuple[Tensor, ...]:
    if training is not None and bool(training):
        raise at.refuse("it is in training mode")
    return x, at.torch.ones_like(x, dtype=at.torch.bool)


def leaky_relu(at: Call, x: Tensor) -> Tensor:
    return at.functional.leaky_relu(x, at.real("alpha", 0.01))


def elu(at: Call, x: Tensor) -> Tensor:
    return at.functional.elu(x, at.real("alpha", 1.0))


def celu(at: Call, x: Tensor) -> Tensor:
    return at.functional.celu(x, at.real("alpha", 1.0))


def selu(at: Call, x: Tensor) -> Tensor:
    alpha, gamma = at.real("alpha", 1.67326319217681884765625), at.real("gamma", 1.05070102214813232421875)
    return gamma * at.functional.elu(x, alpha)


def thresholded_relu(at: Call, x: Tensor) -> Tensor:
    return at.torch.where(x > at.real("alpha", 1.0), x, at.torch.zeros_like(x))


def hard_sigmoid(at: Call, x: Tensor) -> Tensor:
    return (at.real("alpha", 0.2) * x + at.real("beta", 0.5)).clamp(0, 1)


def hard_swish(at: Call, x: Tensor) -> Tensor:
    return at.functional.hardswish(x)


def prelu(at: Call, x: Tensor, slope: Tensor) -> Tensor:
    return at.torch.where(x < 0, x * slope, x)


def softplus(at: Call, x: Tensor) -> Tensor:
    return at.torch.logaddexp(x, at.torch.zeros_like(x))


def softsign(at: Call, x: Tensor) -> Tensor:
    return at.functional.softsign(x)


def mish(at: Call, x: Tensor) -> Tensor:
    return x * at.torch.tanh(softplus(at, x))


def gelu(at: Call, x: Tensor) -> Tensor:
    return at.functional.gelu(x, approximate=at.text("approximate", "none"))


def swish(at: Call, x: Tensor) -> Tensor:
    return x * at.torch.sigmoid(at.real("alpha", 1.0) * x)


def shrink(at: Call, x: Tensor) -> Tensor:
    bias, edge, zero = at.real("bias", 0.0), at.real("lambd", 0.5), at.torch.zeros_like(x)
    return at.torch.where(x < -edge, x + bias, at.torch.where(x > edge, x - bias, zero)).to(x.dtype)


def bias_gelu(at: Call, x: Tensor, bias: Tensor) -> Tensor:
    return at.functional.gelu(x + bias)


def fast_gelu(at: Call, x: Tensor, bias: Tensor = None) -> Tensor:
    return at.functional.gelu(x if bias is None else x + bias, approximate="tanh")


def quick_gelu(at: Call, x: Tensor) -> Tensor:
    return x * at.torch.sigmoid(at.real("alpha", 1.702) * x)


ROWS = {
    **{op: Row(_named(name)) for op, name in SMOOTH.items()},
    **{op: Row(_named(name), smooth=False) for op, name in STEPWISE.items()},
    **{op: Row(_named(SMOOTH[op]), vectors=(0, 1)) for op in ("Add", "Sub", "Mul")},
    "Div": Row(div, vectors=(0, 1)),
    "Sum": Row(_fold("add"), vectors=(0, 1, 2, 3)),
    "Max": Row(_fold("maximum")),
    "Min": Row(_fold("minimum")),
    "Mean": Row(mean),
    "Mod": Row(mod),
    "Pow": Row(power),
    "Where": Row(where),
    "Clip": Row(clip),
    "BitShift": Row(bit_shift, smooth=False),
    "IsInf": Row(is_inf, smooth=False),
    "Cast": Row(cast),
    "CastLike": Row(cast),
    "Identity": Row(identity),
    "Dropout": Row(dropout),
    "LeakyRelu": Row(leaky_relu),
    "Elu": Row(elu),
    "Celu": Row(celu),
    "Selu": Row(selu),
    "ThresholdedRelu": Row(thresholded_relu),
    "HardSigmoid": Row(hard_sigmoid),
    "HardSwish": Row(hard_swish),
    "PRelu": Row(prelu, weights=(1,)),
    "Softplus": Row(softplus),
    "Softsign": Row(softsign),
    "Mish": Row(mish),
    "Gelu": Row(gelu),
    "Swish": Row(swish),
    "Shrink": Row(shrink),
    "com.microsoft::Gelu": Row(gelu),
    "com.microsoft::BiasGelu": Row(bias_gelu, weights=(1,)),
    "com.microsoft::FastGelu": Row(fast_gelu, weights=(1,)),
    "com.microsoft::QuickGelu": Row(quick_gelu),
}
