"""Operators without an int8 kernel become ones with it, and stay the same function."""

from __future__ import annotations

import numpy as np
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
