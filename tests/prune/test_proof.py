"""No wrong model: where removed and masked models differ, the command stops before it writes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.calibrate import equality
from optimizer.errors import NothingToDo
from optimizer.model import io
from optimizer.ops.axes import RULES
from optimizer.pipeline.prune import prune
from optimizer.recipe import Prune
from optimizer.runtime.session import open_session
from tests.prune.random_graphs import graph
from tests.prune.test_groups import model
from tests.quantize.nets import build

NORM = """g (float[n,6] x, float[6,16] w, float[16] s, float[16] b, float[16,4] v) => (float[n,4] y) {
    h = MatMul (x, w)  z = LayerNormalization (h, s, b)  y = MatMul (z, v) }"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    io.save(graph(3), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_a_wrong_rule_is_caught_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io.save(model(NORM, w=(6, 16), s=(16,), b=(16,), v=(16, 4)), tmp_path / "m.onnx")
    with pytest.raises(NothingToDo, match="nothing can be removed"):
        prune(tmp_path / "m.onnx", Prune(sparsity=0.5, measure=False), output=tmp_path / "out.onnx")
    row = RULES["", "LayerNormalization"]
    wrong = dataclasses.replace(row, rule=lambda op: "+..., +..., +... -> ...")
    monkeypatch.setitem(RULES, ("", "LayerNormalization"), wrong)
    with pytest.raises(equality.Unequal) as caught:
        prune(tmp_path / "m.onnx", Prune(sparsity=0.5, measure=False), output=tmp_path / "out.onnx")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out.onnx").exists()


def test_differences_are_relative_and_never_overlook_a_shape() -> None:
    assert equality.difference(np.array([2.0, 4.0]), np.array([2.0, 5.0])) == pytest.approx(0.2)
    assert equality.difference(np.zeros(2), np.zeros(3)) == float("inf")
    assert equality.difference(np.zeros(0, np.int64), np.zeros(0, np.int64)) == 0
    assert not equality.difference(np.array([np.nan]), np.array([1.0])) <= equality.TOLERANCE


def test_models_that_differ_are_unequal(source: Path) -> None:
    one = io.load(source)
    other = one.clone()
    weight = max(other.graph.initializers.values(), key=lambda value: value.const_value.size)
    weight.const_value = ir.tensor(weight.const_value.numpy() * 1.01, name=weight.name)
    feed = {"input": np.ones((2, 4, 8, 8), np.float32)}
    assert equality.prove(one, one, [feed]) == 0
    with pytest.raises(equality.Unequal, match="report it"):
        equality.prove(one, other, [feed])


@pytest.mark.parametrize("function", ["HardSigmoid", "Sigmoid", "Softmax", "Tanh"])
@pytest.mark.parametrize("level", [-60, 60])
def test_nothing_hides_in_saturation_and_its_last_bit_is_no_difference(function: str, level: int) -> None:
    text = "g (float[n,4] x, float[4,3] w, float[3] b) => (float[n,3] y) { z = Gemm (x, w, b)  y = %s (z) }"
    one = model(text % function, w=(4, 3), b=(3,))
    bias = one.graph.initializers["b"]
    bias.const_value = ir.tensor(np.float32([level, 0, level]), name="b")
    near, far = one.clone(), one.clone()
    near.graph.initializers["b"].const_value = ir.tensor(np.float32([level, 1e-7, level]), name="b")
    far.graph.initializers["b"].const_value = ir.tensor(np.float32([level + 2, 0, level]), name="b")
    feed = {"x": np.ones((2, 4), np.float32)}
    assert equality.prove(one, near, [feed]) < equality.TOLERANCE
    with pytest.raises(equality.Unequal):
        equality.prove(one, far, [feed])


PAIRS = """g (float[4] x) => (float[4] y, float[4] z) <float s = {0.5}, float t = {0.25}, uint8 p = {3}> {
    a = QuantizeLinear (x, s, p)  b = DequantizeLinear (a, s, p)  y = Neg (b)
    c = QuantizeLinear (x, s, p)  z = DequantizeLinear (c, t, p) }"""


def test_rounding_that_is_undone_at_once_is_no_part_of_the_proof() -> None:
    """A pair of other scales is kept, since it is more than rounding."""
    before = model(PAIRS)
    x = np.array([0.1, 0.3, 200, -9], np.float32)
    y, z = open_session(equality.unrounded(before)).run({"x": x})
    assert np.array_equal(y, -x)
    assert np.array_equal(z, open_session(before).run({"x": x})[1])


def test_decoded_weights_are_compared_as_closely_as_others() -> None:
    stored = "g (float[1,2] x) => (float[1,2] y) <int8[2,2] w = {1, 2, 3, 4}, float s = {0.5}> { NODES }"
    decoded = stored.replace("NODES", "d = DequantizeLinear (w, s)  y = MatMul (x, d)")
    coded = stored.replace("NODES", "q = QuantizeLinear (x, s)  e = DequantizeLinear (q, s)  y = Neg (e)")
    assert equality.tolerance(model(decoded)) == equality.TOLERANCE < equality.tolerance(model(coded))


def test_mask_only_writes_the_same_shapes_and_the_same_answers(source: Path, tmp_path: Path) -> None:
    for name, masks in (("removed", False), ("masked", True)):
        step = Prune(sparsity=0.4, mask_only=masks, measure=False)
        prune(source, step, output=tmp_path / f"{name}.onnx")
    removed, masked = (io.load(tmp_path / f"{name}.onnx") for name in ("removed", "masked"))
    feed = {"input": np.ones((2, 4, 8, 8), np.float32)}
    assert equality.prove(removed, masked, [feed]) < 1e-4
    sizes = [sum(v.const_value.size for v in m.graph.initializers.values()) for m in (removed, masked)]
    assert sizes[0] < 0.8 * sizes[1]


PICKS = """g (float[3,4] x) => (float[2,4] y) {
    z = MatMul (x, w)  s = ReduceSum <keepdims = 0> (z, last)  best, which = TopK (s, two)
    g = Gather (z, which)  y = MatMul (g, u) }"""


def picking(first: float = 1.0, unpicked: float = 1.0, later: float = 1.0) -> ir.Model:
    """Of three rows the two with the largest sums; the arguments are factors of the constants."""
    w, u = np.diag([first, 1, unpicked, 1]), np.eye(4) * later
    numbers = {"last": np.array([1]), "two": np.array([2])}
    return build(PICKS, {"w": w.astype(np.float32), "u": u.astype(np.float32)} | numbers)


def test_what_is_picked_by_a_last_bit_is_told_to_both_and_all_else_is_compared() -> None:
    feed = {"x": np.array([[3, 0, 0, 0], [0, np.nextafter(np.float32(3), np.float32(4)), 0, 0], [0, 0, 1, 0]], "f4")}
    one, other = picking(), picking(1 + 4e-7)
    assert equality.largest(one, other, [feed])[0] > 0.5, "the rows change places"
    assert equality.prove(one, other, [feed]) < 1e-6
    for wrong in (picking(1 + 4e-7, unpicked=1.01), picking(1 + 4e-7, later=1.01)):
        with pytest.raises(equality.Unequal):
            equality.prove(one, wrong, [feed])
