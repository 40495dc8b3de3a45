"""Operators without an int8 kernel become ones with it, and stay the same function."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.quantize.spelled import spelled_out
from optimizer.runtime.session import open_session
from tests.quantize.nets import build, normal, ops

SLOPE = {"slope": np.full((1, 1, 1), 0.25, np.float32)}


@pytest.mark.parametrize(
    ("body", "given", "opset", "wanted"),
    [
        ("y = HardSwish(x)", {}, 17, {"HardSigmoid": 1, "Mul": 1}),
        ("h = HardSwish(x)  y = Relu(h)", {}, 17, {"HardSigmoid": 1, "Mul": 1, "Relu": 1}),
        ("y = Swish(x)", {}, 24, {"Sigmoid": 1, "Mul": 1}),
        ("y = Swish <alpha = 1.5> (x)", {}, 24, {"Swish": 1}),
        ("y = com.microsoft.QuickGelu <alpha = 1.0> (x)", {}, 17, {"Sigmoid": 1, "Mul": 1}),
        ("y = com.microsoft.QuickGelu(x)", {}, 17, {"QuickGelu": 1}),
        ("y = PRelu(x, slope)", SLOPE, 17, {"LeakyRelu": 1}),
        ("y = PRelu(x, slope)", {"slope": normal(3, 1, 1)}, 17, {"PRelu": 1}),
    ],
)
def test_an_operator_is_spelled_out(
    body: str, given: dict[str, np.ndarray], opset: int, wanted: dict[str, int]
) -> None:
    model = build(f"g (float[1,3,4,4] x) => (float[1,3,4,4] y) {{ {body} }}", given, opset=opset)
    model.opset_imports["com.microsoft"] = 1
    names = [node.name for node in model.graph]
    after = spelled_out(model)
    assert ops(after) == wanted
    assert set(names) <= {node.name for node in after.graph}
    assert [value.name for value in after.graph.outputs] == ["y"]
    x = normal(1, 3, 4, 4, scale=4)
    one, other = (open_session(each).run({"x": x})[0] for each in (model, after))
    np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)


ATTENTION = {"w": normal(8, 24, scale=0.3), "b": normal(24)}
FLAGS = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], np.int32)
LENGTHS = np.array([4, 3], np.int32)


@pytest.mark.parametrize(
    ("inputs", "call", "feeds"),
    [
        ("", "(x, w, b)", {}),
        ("", "<scale = 0.7> (x, w)", {}),
        ("", "<unidirectional = 1> (x, w, b)", {}),
        ("int32[2,5] m", "<mask_filter_value = -50.0> (x, w, b, m)", {"m": FLAGS}),
        ("int32[2] m", "(x, w, b, m)", {"m": LENGTHS}),
        ("float[2,2,5,5] a", '(x, w, b, "", "", a)', {"a": normal(2, 2, 5, 5)}),
        ("", "<qkv_hidden_sizes = [6, 6, 12]> (x, w, b)", {}),
    ],
)
def test_the_projections_of_attention_become_products(inputs: str, call: str, feeds: dict[str, np.ndarray]) -> None:
    attributes = "<num_heads = 2" + (", " + call[1:] if call.startswith("<") else "> " + call)
    ports = ", ".join(filter(None, ("float[2,5,8] x", inputs)))
    width = 12 if "qkv" in call else 8
    text = f"g ({ports}) => (float[2,5,{width}] y) {{ y = com.microsoft.Attention {attributes} }}"
    model = build(text, {name: array for name, array in ATTENTION.items() if f"{name}" in call.partition("(")[2]})
    model.opset_imports["com.microsoft"] = 1
    after = spelled_out(model)
    assert ops(after) == {"MatMul": 3, "MultiHeadAttention": 1} | ({"Add": 3} if ", b" in call else {})
    feed = {"x": normal(2, 5, 8), **feeds}
    one, other = (open_session(each).run(feed)[0] for each in (model, after))
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "call"),
    [
        ("float[8,24] v", "(x, v, b)"),
        ("float[24] c", "(x, w, c)"),
        ("int32[4] m", "(x, w, b, m)"),
        ("int32[k] m", "(x, w, b, m)"),
        ("float[2,2,2,3,4] p", '(x, w, b, "", p)'),
    ],
)
def test_attention_of_another_kind_stays(inputs: str, call: str) -> None:
    text = f"g (float[2,5,8] x, {inputs}) => (float[2,5,8] y) {{ y = com.microsoft.Attention <num_heads = 2> {call} }}"
    model = build(text, {name: array for name, array in ATTENTION.items() if f"{name}," in call or f"{name})" in call})
    model.opset_imports["com.microsoft"] = 1
    assert ops(spelled_out(model)) == {"Attention": 1}


def test_lengths_of_an_unknown_number_of_rows_may_be_of_another_kind() -> None:
    call = "y = com.microsoft.Attention <num_heads = 2> (x, w, b, m)"
    model = build(f"g (float[2,5,8] x, int32[2] m) => (float[2,5,8] y) {{ {call} }}", ATTENTION)
    for port in model.graph.inputs:
        port.shape = ir.Shape([None, *list(port.shape or ())[1:]])
    assert ops(spelled_out(model)) == {"Attention": 1}
