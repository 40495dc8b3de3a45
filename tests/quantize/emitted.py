"""Nets of one op each that has an int8 form, and how far that form may be off."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.quantize.qparams import QParams
from optimizer.quantize.weights import Settings
from tests.quantize.nets import Array, build, evaluate, normal

PLAIN = Settings(saturates=True, correct=False)
I64 = np.int64
IMAGE = "float[1,8,6,6] x"

WEIGHTED: dict[str, tuple[str, str, dict[str, Array]]] = {
    "Conv": (IMAGE, "y = Conv <pads = [1, 1, 1, 1]> (x, w, b)", {"w": normal(6, 8, 3, 3), "b": normal(6)}),
    "Conv without bias": (IMAGE, "y = Conv(x, w)", {"w": normal(6, 8, 1, 1)}),
    "Conv strided": (IMAGE, "y = Conv <strides = [2, 2]> (x, w, b)", {"w": normal(6, 8, 3, 3), "b": normal(6)}),
    "Conv dilated": (IMAGE, "y = Conv <dilations = [2, 2]> (x, w)", {"w": normal(6, 8, 3, 3)}),
    "Conv grouped": (IMAGE, "y = Conv <group = 2> (x, w, b)", {"w": normal(6, 4, 3, 3), "b": normal(6)}),
    "Conv depthwise": (IMAGE, "y = Conv <group = 8> (x, w, b)", {"w": normal(8, 1, 3, 3), "b": normal(8)}),
    "Conv 1-D": ("float[2,4,9] x", "y = Conv(x, w, b)", {"w": normal(6, 4, 3), "b": normal(6)}),
    "Conv 3-D": ("float[1,4,5,5,5] x", "y = Conv(x, w, b)", {"w": normal(6, 4, 3, 3, 3), "b": normal(6)}),
    "Gemm": ("float[3,8] x", "y = Gemm(x, w, b)", {"w": normal(8, 6), "b": normal(6)}),
    "Gemm transB": ("float[3,8] x", "y = Gemm <transB = 1> (x, w, b)", {"w": normal(6, 8), "b": normal(6)}),
    "Gemm without bias": ("float[3,8] x", "y = Gemm(x, w)", {"w": normal(8, 6)}),
    "MatMul": ("float[2,3,8] x", "y = MatMul(x, w)", {"w": normal(8, 6)}),
    "MatMul and bias": ("float[2,3,8] x", "a = MatMul(x, w) y = Add(b, a)", {"w": normal(8, 6), "b": normal(6)}),
}
OTHERS: dict[str, tuple[str, str, dict[str, Array]]] = {
    "product": ("float[2,4,8] x, float[2,8,3] v", "y = MatMul(x, v)", {}),
    "Add": ("float[3,4] x, float[3,4] v", "y = Add(x, v)", {}),
    "Add broadcast": ("float[3,4] x, float[4] v", "y = Add(x, v)", {}),
    "Add of a constant": ("float[3,4] x", "y = Add(c, x)", {"c": normal(4)}),
    "Mul by itself": ("float[3,4] x", "y = Mul(x, x)", {}),
    "Mul by a constant below zero": ("float[3,4] x", "y = Mul(x, c)", {"c": -np.abs(normal(4))}),
    "Concat": ("float[2,4] x, float[2,3] v", "y = Concat <axis = 1> (x, v, c)", {"c": normal(2, 2)}),
    "Sigmoid": ("float[3,4] x", "y = Sigmoid(x)", {}),
    "Softmax": ("float[3,4] x", "y = Softmax(x)", {}),
    "LeakyRelu": ("float[3,4] x", "y = LeakyRelu <alpha = 0.3> (x)", {}),
    "HardSigmoid": ("float[3,40] x", "y = HardSigmoid(x)", {}),
    "HardSigmoid steep": ("float[3,40] x", "y = HardSigmoid <alpha = 0.7, beta = 0.1> (x)", {}),
    "AveragePool": (IMAGE, "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", {}),
    "GlobalAveragePool": (IMAGE, "y = GlobalAveragePool(x)", {}),
    "MaxPool": (IMAGE, "y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x)", {}),
    "Resize": (IMAGE, 'y = Resize <mode = "nearest"> (x, "", s)', {"s": np.array([1, 1, 2, 2], np.float32)}),
    "Transpose": (IMAGE, "y = Transpose <perm = [0, 2, 3, 1]> (x)", {}),
    "Split": (IMAGE, "a, y, c = Split <axis = 1> (x, s)", {"s": np.array([1, 4, 3], I64)}),
    "SiLU": ("float[3,4] x", "s = Sigmoid(x) y = Mul(x, s)", {}),
}


def net(ports: str, body: str, arrays: dict[str, Array], outputs: str = "y") -> ir.Model:
    return build(f"g ({ports}) => ({outputs}) {{ {body} }}", arrays)


def slack(model: ir.Model, feed: dict[str, Array], x: QParams, scales: float, step: float) -> float:
    """The most that rounding x, the weights and y can shift one output of a weighted op.

    |sum w x - sum w' x'| <= sum |w| s_x / 2 + sum |x'| s_w / 2 + s_x s_w / 2 (bias) + s_y / 2; the sums are what the
    op itself makes of magnitudes.
    """
    bare = model.clone()
    for value in bare.graph.initializers.values():
        array = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
        value.const_value = ir.tensor(np.abs(array) if array.ndim > 1 else np.zeros_like(array), name=value.name)
    halves = evaluate(bare, {"x": np.full_like(feed["x"], x.scale / 2)})[0]
    for value in bare.graph.initializers.values():
        array = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
        if array.ndim > 1:
            value.const_value = ir.tensor(np.full_like(array, scales / 2), name=value.name)
    rounded = evaluate(bare, {"x": np.abs(feed["x"]) + x.scale})[0]
    return float(np.max(halves) + np.max(rounded)) + x.scale * scales + step / 2
