"""What is compared where the data decides the size of the outputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.metrics import compare_outputs
from optimizer.calibrate.selection import behind, comparable
from optimizer.data.samples import in_memory
from optimizer.runtime.session import open_session
from tests.quantize.nets import build, normal

WEIGHTS = {"w": normal(4, 4), "axes": np.array([0], np.int64), "half": np.array(0.5, np.float32)}
BOXES = """g (float[6,4] x) => (float[n,4] y, float[6,4] whole) {
  whole = MatMul(x, w)  boxes = Unsqueeze(whole, axes)  score = ReduceMax <keepdims = 0> (whole, last)
  s = Reshape(score, shape)  kept = NonMaxSuppression(boxes, s, most, half, half)
  one = Slice(kept, two, three, last)  index = Reshape(one, flat)  y = Gather(whole, index) }"""
NUMBERS = {
    "shape": np.array([1, 1, 6]), "most": np.array([6]), "two": np.array([2]), "three": np.array([3]),
    "last": np.array([1]), "flat": np.array([-1]),
}  # fmt: skip
ODD = (
    "g (float[6,4] x) => (int64[1,n] y) { h = MatMul(x, w)  m = Greater(h, half)  t = NonZero(m)  y = Slice(t, a, b) }"
)


def boxes() -> ir.Model:
    return build(BOXES, WEIGHTS | NUMBERS)


def outputs(model: ir.Model) -> list[str]:
    return [value.name or "" for value in model.graph.outputs]


def named(model: ir.Model, op: str) -> str:
    return next(node.name or "" for node in model.graph if node.op_type == op)


def test_boxes_and_scores_are_compared_instead_of_what_suppression_leaves() -> None:
    model = boxes()
    name, gather = named(model, "NonMaxSuppression"), named(model, "Gather")
    assert outputs(comparable(model)) == ["whole", f"{name}:0", f"{name}:1", f"{gather}:0"]
    assert outputs(model) == ["y", "whole"]


def test_models_whose_outputs_differ_in_number_can_be_compared() -> None:
    one, other = boxes(), boxes()
    moved = WEIGHTS["w"] * 1.01
    other.graph.initializers["w"].const_value = ir.tensor(moved.astype(np.float32))
    sessions = [open_session(comparable(model)) for model in (one, other)]
    samples = in_memory([{"x": normal(6, 4, seed=seed)} for seed in range(4)])
    assert 39 < compare_outputs(*sessions, samples, samples).sqnr_db < 41


def test_boxes_that_are_picked_by_scores_of_another_head_are_compared_too() -> None:
    text = """g (float[6,4] x) => (float[n,4] y) { h = MatMul(x, w)  s = ReduceMax <keepdims = 0> (h, last)
      m = Greater(s, half)  t = NonZero(m)  i = Reshape(t, flat)  b = MatMul(x, v)  y = Gather(b, i) }"""
    one, other = (build(text, WEIGHTS | NUMBERS | {"v": WEIGHTS["w"] * np.float32(by)}) for by in (1, 1.01))
    sessions = [open_session(comparable(model)) for model in (one, other)]
    samples = in_memory([{"x": normal(6, 4, seed=seed)} for seed in range(4)])
    assert 39 < compare_outputs(*sessions, samples, samples).sqnr_db < 41


def test_a_mask_is_compared_by_the_numbers_that_it_is_made_of() -> None:
    model = build(ODD, WEIGHTS | {"a": np.array([0]), "b": np.array([1])})
    found = comparable(model)
    assert outputs(found) == [f"{named(model, 'NonZero')}:0"]
    x = normal(6, 4)
    np.testing.assert_allclose(open_session(found).run({"x": x})[0], x @ WEIGHTS["w"], rtol=1e-5)


def test_only_the_selection_and_what_follows_it_is_behind() -> None:
    model = boxes()
    ops = {node.op_type for node in model.graph if node.name in behind(model)}
    assert ops == {"NonMaxSuppression", "Slice", "Reshape", "Gather"}


def test_a_selection_by_what_the_caller_gives_changes_nothing() -> None:
    text = "g (int64[6] ids, float[6,4] x) => (float[n,4] y) { t = NonZero(ids)  f = Reshape(t, flat)  g = Gather(x, f)"
    model = build(text + "  y = MatMul(g, w) }", WEIGHTS | NUMBERS)
    assert comparable(model) is model
    assert not behind(model)


def test_a_selection_inside_a_body_counts_as_one() -> None:
    text = """g (float[6,4] x, bool c) => (int64[2,n] y) {
      h = MatMul(x, w)
      y = If (c) <then_branch = t () => (int64[2,n] a) { a = NonZero(h) },
                  else_branch = e () => (int64[2,n] b) { b = NonZero(x) }> }"""
    model = build(text, WEIGHTS)
    assert outputs(comparable(model)) == [f"{named(model, 'If')}:0"]


def test_what_decides_inside_a_body_is_told_in_the_order_of_the_model() -> None:
    count = 12
    made = "  ".join(f"h{i} = MatMul(x, w)" for i in range(count))
    sums = "  ".join(f"s{i + 1} = Add(s{i}, h{i})" for i in range(1, count))
    text = f"""g (float[6,4] x, bool c) => (int64[2,n] y) {{ {made}
      y = If (c) <then_branch = t () => (int64[2,n] a) {{ s1 = Neg(h0)  {sums}  a = NonZero(s{count}) }},
                  else_branch = e () => (int64[2,n] b) {{ b = NonZero(x) }}> }}"""
    found = comparable(build(text, WEIGHTS)).graph
    told = [node.inputs[0].name for node in found if node.op_type == "Identity"]
    assert told == [f"h{i}" for i in range(count)]
