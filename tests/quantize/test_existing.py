"""Models that are quantized already, wholly or in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.model import io
from optimizer.pipeline import quantize as pipeline
from optimizer.quantize.existing import integer_nodes, restorable, restore
from optimizer.recipe import Quantize, Run
from tests.quantize.nets import Array, build, evaluate, normal, ops

STORED: dict[str, Array] = {
    "q": np.arange(-12, 12, dtype=np.int8).reshape(4, 6),
    "s": np.linspace(0.1, 0.6, 6, dtype=np.float32),
    "z": np.arange(6, dtype=np.int8),
    "one": np.array(0.25, np.float32),
    "w": normal(6, 3),
}
FLOAT = {
    "one scale": "d = DequantizeLinear(q, one)  h = MatMul(x, d)  y = MatMul(h, w)",
    "a scale for each column": "d = DequantizeLinear <axis = 1> (q, s, z)  h = MatMul(x, d)  y = MatMul(h, w)",
}
INTEGER = {
    "values that are quantized": """p = QuantizeLinear(x, one)  f = DequantizeLinear(p, one)
        d = DequantizeLinear(q, one)  h = MatMul(f, d)  y = MatMul(h, w)""",
    "our own storage": "c = Cast <to = 1> (q)  d = Mul(c, s)  h = MatMul(x, d)  y = MatMul(h, w)",
}


@pytest.mark.parametrize("case", FLOAT)
def test_weights_that_are_only_kept_as_integers_are_restored(case: str) -> None:
    text = f"g (float[2,4] x) => (float[2,3] y) {{ {FLOAT[case]} }}"
    before, after = build(text, STORED), build(text, STORED)
    assert restorable(after)
    assert (integer_nodes(after), restore(after), integer_nodes(after)) == (1, 1, 0)
    assert ops(after) == {"MatMul": 2}
    x = normal(2, 4)
    np.testing.assert_allclose(*(evaluate(model, {"x": x})[0] for model in (before, after)), rtol=1e-6)


@pytest.mark.parametrize("case", INTEGER)
def test_a_model_with_more_than_that_is_not_restorable(case: str) -> None:
    model = build(f"g (float[2,4] x) => (float[2,3] y) {{ {INTEGER[case]} }}", STORED)
    assert integer_nodes(model) > 0
    assert not restorable(model)


def test_a_model_in_part_kept_as_integers_is_quantized_from_what_they_stand_for(tmp_path: Path) -> None:
    text = """g (float[N,64] x) => (float[N,64] y)
      { d = DequantizeLinear(q, s)  h = MatMul(x, d)  r = Relu(h)  y = MatMul(r, w) }"""
    rng = np.random.default_rng(0)
    integers = rng.integers(-127, 128, (64, 64)).astype(np.int8)
    io.save(build(text, {"q": integers, "s": np.array(0.01, np.float32), "w": normal(64, 64)}), tmp_path / "net.onnx")
    result = pipeline.quantize(tmp_path / "net.onnx", Quantize(measure=False, everywhere=True), Run(samples=4))
    assert "restored 1 weights that were kept as integers" in result.steps
    assert [node.action for node in result.nodes] == ["int8"] * 3
    assert result.accuracy is not None
    assert result.accuracy.sqnr_db > 30
