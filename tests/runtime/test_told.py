"""What only the runtime can infer reaches the rest of the graph."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from optimizer.model import shapes
from optimizer.runtime.told import tell
from tests.quantize.nets import build, normal

FUSED = """g (float[batch,5,8] x, float[batch,5,8] r) => (float[batch,5,4] y) {
    a = com.microsoft.Attention <num_heads = 2> (x, w, b)
    s = com.microsoft.SkipLayerNormalization(a, r, g)
    y = MatMul(s, m)
}"""
ARRAYS = {"w": normal(8, 24), "b": normal(24), "g": normal(8), "m": normal(8, 4)}


def fused() -> ir.Model:
    model = build(FUSED, ARRAYS)
    model.opset_imports["com.microsoft"] = 1
    for node in model.graph:
        for value in node.outputs[: 1 if node.domain else 0]:
            value.type = value.shape = None
    return model


def values(model: ir.Model) -> dict[str, ir.Value]:
    return {str(value.name): value for node in model.graph for value in node.outputs}


def test_results_of_the_runtimes_own_operators_get_type_and_shape() -> None:
    model = fused()
    assert tell(model) == 2
    for name in "as":
        assert values(model)[name].dtype == ir.DataType.FLOAT
        assert [str(size) for size in values(model)[name].shape or ()] == ["batch", "5", "8"]
    assert tell(model) == 0


def test_what_is_stated_stays() -> None:
    model = fused()
    values(model)["a"].type, values(model)["a"].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["n", 5, 8])
    assert tell(model) == 1
    assert [str(size) for size in values(model)["a"].shape or ()] == ["n", "5", "8"]


def test_inference_goes_on_behind_them() -> None:
    model = build(FUSED.replace("y = MatMul(s, m)", "t = MatMul(s, m)  y = Identity(t)"), ARRAYS)
    model.opset_imports["com.microsoft"] = 1
    tell(model)
    shapes.infer(model)
    assert [str(size) for size in values(model)["t"].shape or ()] == ["batch", "5", "4"]


@pytest.mark.parametrize("domain", ["", "nobody.knows"])
def test_nothing_is_told_where_there_is_nothing_or_the_runtime_does_not_know(domain: str) -> None:
    model = fused()
    for node in model.graph:
        node.domain = domain
    assert tell(model) == 0
    assert values(model)["a"].shape is None
