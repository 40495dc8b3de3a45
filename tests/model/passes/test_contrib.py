"""Operators that the runtime fuses become standard ones and stay the same function."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optimizer.model import cleanup, io, shapes
from optimizer.model.passes.contrib import spell_out
from optimizer.runtime.session import open_session

ROWS = "float[2,5,8] x, float[2,5,8] r"
ARRAYS = {
    "w": (4, 3, 3, 3), "b": (4,), "m": (8, 6), "t": (6, 8), "k": (8,), "g": (8,), "c": (8,), "z": (1, 4, 4, 4),
}  # fmt: skip
IMAGE = "float[1,3,6,6] x"
CASES = {
    "FusedConv": (IMAGE, 'y = com.microsoft.FusedConv <activation = "Relu"> (x, w, b)', {"Conv": 1, "Relu": 1}),
    "FusedConv with a sum": (
        IMAGE, 'y = com.microsoft.FusedConv <activation = "Relu"> (x, w, b, z)', {"Conv": 1, "Add": 1, "Relu": 1},
    ),
    "FusedConv with Clip": (
        IMAGE, 'y = com.microsoft.FusedConv <activation = "Clip", activation_params = [0.0, 6.0]> (x, w)',
        {"Conv": 1, "Clip": 1},
    ),
    "FusedConv with LeakyRelu": (
        IMAGE, 'y = com.microsoft.FusedConv <activation = "LeakyRelu", activation_params = [0.1]> (x, w)',
        {"Conv": 1, "LeakyRelu": 1},
    ),
    "FusedConv with HardSigmoid": (
        IMAGE, 'y = com.microsoft.FusedConv <activation = "HardSigmoid", activation_params = [0.3, 0.4]> (x, w)',
        {"Conv": 1, "HardSigmoid": 1},
    ),
    "FusedGemm": (
        "float[3,8] x", 'y = com.microsoft.FusedGemm <activation = "Relu"> (x, m)', {"Gemm": 1, "Relu": 1}
    ),
    "FusedMatMul": (
        ROWS, "y = com.microsoft.FusedMatMul <transB = 1, alpha = 0.25> (x, r)",
        {"Transpose": 1, "MatMul": 1, "Mul": 1},
    ),
    "FusedMatMul by a weight": (
        ROWS, "y = com.microsoft.FusedMatMul <transB = 1> (x, t)", {"Transpose": 1, "MatMul": 1}
    ),
    "Gelu": (ROWS, "y = com.microsoft.Gelu(x)", {"Div": 1, "Erf": 1, "Add": 1, "Mul": 2}),
    "BiasGelu": (ROWS, "y = com.microsoft.BiasGelu(x, k)", {"Div": 1, "Erf": 1, "Add": 2, "Mul": 2}),
    "FastGelu": (ROWS, "y = com.microsoft.FastGelu(x, k)", {"Pow": 1, "Tanh": 1, "Add": 3, "Mul": 4}),
    "QuickGelu": (ROWS, "y = com.microsoft.QuickGelu(x)", {"Mul": 2, "Sigmoid": 1}),
    "SkipLayerNormalization": (
        ROWS, "y = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (x, r, g, k)",
        {"Add": 1, "LayerNormalization": 1},
    ),
    "SkipLayerNormalization with its sum": (
        ROWS, 'n, "", "", s = com.microsoft.SkipLayerNormalization(x, r, g, k, c)  y = Mul(n, s)',
        {"Add": 2, "LayerNormalization": 1, "Mul": 1},
    ),
    "SkipSimplifiedLayerNormalization": (
        ROWS, "y = com.microsoft.SkipSimplifiedLayerNormalization(x, r, g)",
        {"Add": 2, "Pow": 1, "ReduceMean": 1, "Sqrt": 1, "Div": 1, "Mul": 1},
    ),
}  # fmt: skip
LEFT = {
    "an activation that is not known": (IMAGE, 'y = com.microsoft.FusedConv <activation = "Softplus"> (x, w)'),
    "a use of the mean": (ROWS, "n, mean = com.microsoft.SkipLayerNormalization(x, r, g, k)  y = Identity(mean)"),
    "a mask's index without a mask": (
        "int32[2,5] i",
        'e, n = com.microsoft.EmbedLayerNormalization(i, "", w, w, "", k, k)  y = Cast <to = 1> (n)',
    ),
    "batches that are transposed": (ROWS, "y = com.microsoft.FusedMatMul <transBatchA = 1> (x, r)"),
}


def model(inputs: str, body: str, opset: int = 17) -> ir.Model:
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    proto = onnx.parser.parse_model(f"{header} g ({inputs}) => (float y) {{ {body} }}")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    rng = np.random.default_rng(0)
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    for name, shape in ARRAYS.items():
        array = rng.standard_normal(shape).astype(np.float32)
        if name in words:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    net = ir.from_proto(proto)
    shapes.infer(net)
    return net


def answers(net: ir.Model) -> np.ndarray:
    rng = np.random.default_rng(1)
    feed = {}
    for value in net.graph.inputs:
        assert value.shape is not None
        feed[str(value.name)] = rng.standard_normal(value.shape.numpy()).astype(np.float32)
    return open_session(net).run(feed)[0]


@pytest.mark.parametrize("case", CASES)
def test_a_fused_operator_is_spelled_out(case: str) -> None:
    inputs, body, wanted = CASES[case]
    before, after = model(inputs, body), model(inputs, body)
    assert spell_out(after) == 1
    assert Counter(node.op_type for node in after.graph) == wanted
    assert {node.domain for node in after.graph} == {""}
    shapes.infer(after)
    onnx.checker.check_model(io.to_proto(after))
    np.testing.assert_allclose(answers(after), answers(before), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", LEFT)
def test_it_is_left_alone_with(case: str) -> None:
    net = model(*LEFT[case])
    names = [node.op_type for node in net.graph]
    assert spell_out(net) == 0
    assert [node.op_type for node in net.graph] == names


def test_a_normalization_waits_for_the_opset_that_has_it() -> None:
    text = "y = com.microsoft.SkipLayerNormalization(x, r, g, k)"
    assert spell_out(model(ROWS, text, 14)) == 0
    raised = model(ROWS, text, 14)
    assert "spelled out 1 operators that the runtime had fused" in cleanup.clean(raised)
    np.testing.assert_allclose(answers(raised), answers(model(ROWS, text, 14)), rtol=1e-4, atol=1e-4)


TABLES = {"words": (9, 8), "places": (7, 8), "kinds": (2, 8), "g": (8,), "k": (8,)}
EMBEDDED = {
    "all of it": "e, n, s = EMBED(i, t, words, places, kinds, g, k, m)  c = Cast <to = 1> (n)  z = Add(e, s)",
    "without kinds": 'e, n = EMBED(i, "", words, places, "", g, k, m)  c = Cast <to = 1> (n)  z = Identity(e)',
    "with its own places": 'e, n = EMBED(i, t, words, places, kinds, g, k, "", p)  c = Cast <to = 1> (t)  z = Neg(e)',
}


@pytest.mark.parametrize("case", EMBEDDED)
def test_an_embedding_is_spelled_out(case: str) -> None:
    body = EMBEDDED[case].replace("EMBED", "com.microsoft.EmbedLayerNormalization <epsilon = 0.001> ")
    ids = ", ".join(f"int32[2,5] {name}" for name in "itmp" if f" {name}" in body or f"({name}" in body)
    header = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
    proto = onnx.parser.parse_model(f"{header} g ({ids}) => (float[2,5,8] z, float c) {{ {body} }}")
    proto.graph.output[1].type.tensor_type.ClearField("shape")
    rng = np.random.default_rng(0)
    for name, shape in TABLES.items():
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.extend([onnx.numpy_helper.from_array(array, name)] if name in body else [])
    before, after = ir.from_proto(proto), ir.from_proto(proto)
    assert spell_out(after) == 1
    assert {node.domain for node in after.graph} == {""}
    feed = {name: rng.integers(0, 2, (2, 5)).astype(np.int32) for name in "itmp" if f"int32[2,5] {name}" in ids}
    for one, other in zip(open_session(before).run(feed), open_session(after).run(feed), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
