"""Fusions of the runtime that cost time are kept from happening, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.quantize.kernels import keep_apart
from optimizer.runtime.optimized import optimized
from optimizer.runtime.session import open_session

_TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[2, 4, 8] x, float[2, 4, 8] r, float[8] scale, float[8] bias) => (float[2, 4, 8] y) {
  sum = Add(x, r)
  y = LayerNormalization <axis = -1> (sum, scale, bias)
}"""


def test_an_addition_before_a_layer_normalization_is_not_joined_with_it() -> None:
    model = ir.from_onnx_text(_TEXT)
    assert "SkipLayerNormalization" in {node.op_type for node in optimized(model).graph}
    rng = np.random.default_rng(0)
    feed = {value.name: rng.standard_normal(value.shape.numpy(), np.float32) for value in model.graph.inputs}
    (before,) = open_session(model).run(feed)
    assert keep_apart(model) == 1
    assert {node.op_type for node in optimized(model).graph} == {"Sum", "LayerNormalization"}
    np.testing.assert_allclose(open_session(model).run(feed)[0], before, atol=1e-5)


def test_an_addition_that_something_else_reads_stays() -> None:
    model = ir.from_onnx_text(_TEXT.replace("=> (float[2, 4, 8] y)", "=> (float[2, 4, 8] y, float[2, 4, 8] sum)"))
    assert keep_apart(model) == 0
