"""Models of float16: made float32 to be quantized, and kept in 16 bits in the file where nothing else was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optimizer.model import io
from optimizer.pipeline import quantize as pipeline
from optimizer.quantize import half
from optimizer.recipe import Quantize, Run
from optimizer.runtime.session import open_session
from tests.quantize.nets import Array, build, noise, normal, ops

F16 = ir.DataType.FLOAT16
WEIGHTS = {"w": normal(64, 64, scale=0.1).astype(np.float16), "b": normal(64).astype(np.float16)}
NET = "g (float16[N,64] x) => (float16[N,64] y) { h = MatMul(x, w)  a = Add(h, b)  r = Relu(a)  y = MatMul(r, w) }"


def run(model: ir.Model, x: Array) -> list[Array]:
    onnx.checker.check_model(io.to_proto(model), full_check=True)
    return open_session(model).run({model.graph.inputs[0].name or "": x})


def types(values: Sequence[ir.Value]) -> list[ir.DataType | None]:
    return [value.dtype for value in values]


def test_the_kind_of_a_model_is_the_type_it_computes_in() -> None:
    assert half.kind(build(NET, WEIGHTS)) == F16
    assert half.kind(build("g (float16[4] x) => (float[4] y) { h = Cast <to = 1> (x)  y = Relu(h) }")) is None


def test_a_widened_model_takes_and_gives_what_it_did_and_computes_in_float32() -> None:
    before, after = build(NET, WEIGHTS), build(NET, WEIGHTS)
    assert half.widen(after) == 2
    assert types(after.graph.inputs) == types(after.graph.outputs) == [F16]
    assert [value.name for value in after.graph.outputs] == ["y"]
    assert ops(after) == {"Cast": 2, "MatMul": 2, "Add": 1, "Relu": 1}
    x = normal(3, 64).astype(np.float16)
    (one,), (other,) = run(before, x), run(after, x)
    assert other.dtype == np.float16
    assert noise(other.astype(float), one.astype(float)) < 2e-3


def test_casts_tensors_in_attributes_and_bodies_are_widened_too() -> None:
    text = """g (float16[4] x, bool c) => (float16[4] y) {
      i = Cast <to = 7> (x)  s = Shape(x)  k = ConstantOfShape <value = float16[1] {16384}> (s)  f = Cast <to = 10> (i)
      m = Mul(k, f)
      y = If (c) <then_branch = t () => (float16[4] a) { a = Add(m, x) },
                  else_branch = e () => (float16[4] b) { b = Mul(m, x) }> }"""
    before, after = build(text), build(text)
    half.widen(after)
    x = np.array([1, 2, 3, 4], np.float16)
    for c in (True, False):
        feed = {"x": x, "c": np.array(c)}
        np.testing.assert_array_equal(*(open_session(model).run(feed)[0] for model in (before, after)))


def test_what_a_loop_carries_is_widened_too() -> None:
    text = """g (float16[4] x, int64 n, bool c) => (float16[4] y) {
      y = Loop (n, c, x) <body = t (int64 i, bool k, float16[4] a) => (bool l, float16[4] b)
        { l = Identity(k)  b = Add(a, x) }> }"""
    before, after = build(text), build(text)
    half.widen(after)
    feed = {"x": np.array([1, 2, 3, 4], np.float16), "n": np.array(3), "c": np.array(True)}
    np.testing.assert_array_equal(*(open_session(model).run(feed)[0] for model in (before, after)))


def test_constants_that_sixteen_bits_hold_go_back_to_them() -> None:
    model = build(NET, WEIGHTS)
    half.widen(model)
    wide = run(model, normal(3, 64).astype(np.float16))
    assert len(half.narrow(model, F16)) == 2
    assert {value.dtype for value in model.graph.initializers.values()} == {F16, ir.DataType.FLOAT}
    np.testing.assert_array_equal(run(model, normal(3, 64).astype(np.float16)), wide)


def test_constants_that_sixteen_bits_would_change_stay() -> None:
    model = build("g (float[2,64] x) => (y) { y = MatMul(x, w) }", {"w": normal(64, 64)})
    assert half.narrow(model, F16) == set()


def test_constants_that_are_to_be_left_stay() -> None:
    model = build(NET, WEIGHTS)
    half.widen(model)
    assert half.narrow(model, F16, leave={"w"}) == set()


@pytest.mark.parametrize(("scale", "turned"), [(1.0, True), (1e-7, False), (1e6, False)])
def test_constants_become_sixteen_bits_where_those_hold_numbers_of_their_size(scale: float, turned: bool) -> None:
    model = build("g (float[2,64] x) => (y) { y = MatMul(x, w) }", {"w": normal(64, 64, scale=scale)})
    name = model.graph[0].name
    assert half.narrow(model, F16, exact=False) == ({name} if turned else set())


def test_only_the_constants_that_are_called_go_to_sixteen_bits() -> None:
    text = "g (float[2,64] x) => (y) { a = MatMul(x, w) y = MatMul(a, v) }"
    model = build(text, {"w": normal(64, 64), "v": normal(64, 64)})
    name = model.graph[1].name
    assert half.narrow(model, F16, only={"v"}, exact=False) == {name}
    assert model.graph.initializers["w"].dtype == ir.DataType.FLOAT


@pytest.mark.parametrize("options", [{}, {"mode": "weights"}])
def test_a_model_of_float16_is_quantized_like_any_other(tmp_path: Path, options: dict[str, str]) -> None:
    io.save(build(NET, WEIGHTS), tmp_path / "net.onnx")
    result = pipeline.quantize(tmp_path / "net.onnx", Quantize(measure=False, **options), Run(samples=4))  # type: ignore[arg-type]
    assert result.output is not None
    assert any(node.action in ("int8", "weights") for node in result.nodes)
    assert result.steps[0] == "float16 computed in float32, as ONNX Runtime does on CPU"
    made = io.load(result.output)
    assert types(made.graph.inputs) == types(made.graph.outputs) == [F16]
    assert result.accuracy is not None
    assert result.accuracy.sqnr_db > 30
