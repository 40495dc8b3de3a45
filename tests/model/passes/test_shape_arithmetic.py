# ruff: noqa: E501, E741
"""Shape computations that are known go; a Reshape target that depends on one unknown is written with 0 and -1."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.model import shapes
from optimizer.model.passes.dead import remove_unused
from optimizer.model.passes.shape_arithmetic import fold_shapes
from tests.model.passes.numbers import assert_same, build, ops

I = {
    "i0": np.array(0),
    "i1": np.array(1),
    "v0": np.array([0]),
    "v1": np.array([1]),
    "v2": np.array([2]),
    "v4": np.array([4]),
    "minus": np.array([-1]),
}

FOLDED = {
    "the shape of a static value": ("agraph (float[2,3] x) => (int64[A] y) { s = Shape (x) y = Add (s, v1) }", []),
    "a static size of a dynamic value": ("agraph (float[N,3] x) => (float[A,B] y) { s = Shape (x) d = Gather (s, i1) f = Cast <to = 1> (d) y = Mul (x, f) }", ["Cast", "Mul"]),
    "a slice of a shape": ("agraph (float[N,3,5] x) => (int64[A] y) { s = Shape (x) d = Slice (s, v1, v2, v0) y = Add (d, minus) }", []),
    "a part of a shape": ("agraph (float[N,3,5] x) => (int64[A] y) { s = Shape <start = 1> (x) y = Add (s, minus) }", []),
    "a count of elements": ("agraph (float[2,3] x) => (int64[A] y) { s = Size (x) u = Unsqueeze (s, v0) y = Concat <axis = 0> (u, v1) }", []),
    "a product of sizes": ("agraph (float[N,3,5] x) => (int64[A] y) { s = Shape (x) a = Gather (s, v1) b = Gather (s, v2) y = Mul (a, b) }", []),
}  # fmt: skip


def used(text: str) -> dict[str, np.ndarray]:
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {name: content for name, content in I.items() if name in words}


@pytest.mark.parametrize("case", FOLDED)
def test_what_is_known_before_a_run_becomes_constant(case: str) -> None:
    text, left = FOLDED[case]
    net = build(
        text.replace("=> (int64[A] y) {", "=> (int64[A] z) {").replace("}", "z = Identity (y) }") if not left else text,
        used(text),
    )
    before = net.clone()
    shapes.infer(net)
    assert fold_shapes(net) > 0
    remove_unused(net)
    assert list(ops(net)) == (left or ["Identity"])
    assert_same(before, net)


TARGETS = {
    "through 32 bits": ("agraph (float[N,3,5] x) => (float[A,B] y) { s = Shape (x) c = Cast <to = 6> (s) n = Slice (c, v0, v1) d = Cast <to = 7> (n) t = Concat <axis = 0> (d, minus) y = Reshape (x, t) }", [0, -1]),
    "flatten the rest": ("agraph (float[N,3,5] x) => (float[A,B] y) { s = Shape (x) n = Gather (s, v0) t = Concat <axis = 0> (n, minus) y = Reshape (x, t) }", [0, -1]),
    "join batch and first axis": ("agraph (float[N,3,5] x) => (float[A,B] y) { s = Shape (x) n = Gather (s, v0) c = Gather (s, v1) m = Mul (n, c) e = Gather (s, v2) t = Concat <axis = 0> (m, e) y = Reshape (x, t) }", [-1, 5]),
    "split into heads": ("agraph (float[N,T,8] x) => (float[A,B,C,D] y) { s = Shape (x) n = Gather (s, v0) l = Gather (s, v1) t = Concat <axis = 0> (n, l, v4, v2) y = Reshape (x, t) }", [0, 0, 4, 2]),
    "a size of another value with the same symbol": ("agraph (float[N,T,8] x, float[N,T] z) => (float[A,B,C] y) { s = Shape (z) l = Gather (s, v1) t = Concat <axis = 0> (minus, l, v4) y = Reshape (x, t) }", [-1, 0, 4]),
    "a symbol from another input": ("agraph (float[N,T,8] x, float[N,T] z) => (float[A,B,C] y) { s = Shape (z) n = Gather (s, v0) l = Gather (s, v1) t = Concat <axis = 0> (n, l, minus) y = Reshape (x, t) }", [0, 0, -1]),
}  # fmt: skip


@pytest.mark.parametrize("case", TARGETS)
def test_a_reshape_target_is_written_with_0_and_minus_1_where_that_is_proven(case: str) -> None:
    text, expected = TARGETS[case]
    net = build(text, used(text))
    before = net.clone()
    shapes.infer(net)
    fold_shapes(net)
    node = next(node for node in net.graph if node.op_type == "Reshape")
    target = node.inputs[1].const_value if node.inputs[1] is not None else None
    assert (None if target is None else target.numpy().tolist()) == expected
    for size in (1, 2, 4):
        assert_same(before, net, {"N": size, "T": 2 * size})


def test_an_anonymous_symbol_is_no_size_in_particular() -> None:
    text = TARGETS["a symbol from another input"][0]
    net = build(text, used(text))
    for value in net.graph.inputs:
        value.shape = ir.Shape(["?", "?", *list(value.shape or ())[2:]])
    shapes.infer(net)
    assert not fold_shapes(net)


def test_a_target_that_a_caller_computes_is_left() -> None:
    net = build(
        "agraph (float[4,2] x, int64[1] n) => (float[A,B] y) { t = Concat <axis = 0> (n, v2) y = Reshape (x, t) }",
        {"v2": I["v2"]},
    )
    shapes.infer(net)
    assert fold_shapes(net) == 0


def test_symbols_that_inference_made_up_do_not_outlive_it() -> None:
    net = build(
        "agraph (float[N,T] x, float[N,S] z) => (float[A,B] y) { h = Concat <axis = 1> (x, z) k = NonZero (h) y = Cast <to = 1> (k) }"
    )
    shapes.infer(net)
    symbols = [str(dim) for node in net.graph for out in node.outputs for dim in out.shape or ()]
    first = net.graph.node(0).outputs[0].shape
    assert first is not None
    net.graph.node(0).outputs[0].shape = ir.Shape([first[0], "unk__99"])
    shapes.infer(net)
    assert [str(dim) for node in net.graph for out in node.outputs for dim in out.shape or ()] == symbols
