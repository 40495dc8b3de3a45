"""Blocks that can be replaced by their shortcut: which they are, that masking equals skipping, and the choice."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.model import cost, shapes
from optimizer.prune import layers
from optimizer.runtime.session import open_session
from tests.prune.test_groups import model

BLOCKS = """g (float[n,4] x, float[4,6] w, float[6,4] v, float[4] b, float[4,4] u, float[4] s) => (float[n,4] y) {
    h = MatMul (x, w)  r = Relu (h)  f = MatMul (r, v)  f1 = Add (f, b)  a = Add (x, f1)
    m = MatMul (a, u)  t = Tanh (m)  g1 = Mul (t, s)  y = Add (g1, a) }"""
WEIGHTS = {"w": (4, 6), "v": (6, 4), "b": (4,), "u": (4, 4), "s": (4,)}
FEEDS = [{"x": np.random.default_rng(i).standard_normal((2, 4)).astype(np.float32)} for i in range(2)]


def test_a_block_ends_in_the_constants_whose_zeroing_silences_it() -> None:
    found = model(BLOCKS, **WEIGHTS)
    shapes.infer(found)
    assert [[end.name for end in block.ends] for block in layers.blocks(found.graph)] == [["v", "b"], ["s"]]


def test_a_branch_that_somebody_else_reads_constants_of_is_no_block() -> None:
    shared = BLOCKS.replace("Add (f, b)", "Add (f, s)")
    found = model(shared, **WEIGHTS)
    shapes.infer(found)
    assert [block.add.outputs[0].name for block in layers.blocks(found.graph)] == ["y"]


def test_an_addition_of_unrelated_values_is_no_block() -> None:
    text = """g (float[2,4] x, float[4,4] w, float[4,4] v) => (float[2,4] y) {
        a = MatMul (x, w)  b = MatMul (x, v)  y = Add (a, b) }"""
    found = model(text, w=(4, 4), v=(4, 4))
    shapes.infer(found)
    assert layers.blocks(found.graph) == []


def test_skipping_and_zeroing_give_the_same_outputs() -> None:
    found = model(BLOCKS, **WEIGHTS)
    shapes.infer(found)
    result = layers.skip(found, FEEDS, lambda left: cost.params(left) <= 0)
    assert result.names == ("Add 'a'", "Add 'y'")
    for feed in FEEDS:
        np.testing.assert_array_equal(open_session(result.removed).run(feed)[0], feed["x"])
        np.testing.assert_array_equal(open_session(result.masked).run(feed)[0], feed["x"])


def test_the_block_that_changes_least_goes_first() -> None:
    found = model(BLOCKS, **WEIGHTS)
    shapes.infer(found)
    scale = found.graph.initializers["s"]
    scale.const_value = ir.tensor(1e-3 * np.ones(4, np.float32), name="s")
    result = layers.skip(found, FEEDS, lambda left: cost.params(left) < cost.params(found))
    assert result.names == ("Add 'y'",)
    assert cost.params(found) - cost.params(result.removed) == 4 * 4 + 4
