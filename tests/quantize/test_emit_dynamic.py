"""Emitting groups whose ranges are found at run time, and averages that int8 kernels refuse."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.quantize import emit, groups, static, statistics
from optimizer.runtime.session import open_session
from tests.quantize.emitted import PLAIN, WEIGHTED, net
from tests.quantize.nets import Array, build, evaluate, feeds, noise, normal, ops, planned, quantized

DYNAMIC: dict[str, tuple[str, str, dict[str, Array]]] = {
    "MatMul": WEIGHTED["MatMul"],
    "MatMul and bias": WEIGHTED["MatMul and bias"],
    "MatMul, bias and Relu": (
        "float[2,3,8] x", "a = MatMul(x, w) s = Add(a, b) y = Relu(s)", {"w": normal(8, 6), "b": normal(6)}
    ),
    "Gemm": WEIGHTED["Gemm"],
    "Gemm and Relu": ("float[3,8] x", "a = Gemm(x, w, b) y = Relu(a)", {"w": normal(8, 6), "b": normal(6)}),
    "Gemm transB": WEIGHTED["Gemm transB"],
    "Gemm without bias": WEIGHTED["Gemm without bias"],
}  # fmt: skip


@pytest.mark.parametrize("name", DYNAMIC)
def test_the_dynamic_form_finds_the_range_of_each_run_itself(name: str) -> None:
    model = net(*DYNAMIC[name])
    names = [group.name for group in planned(model).groups]
    int8 = quantized(model, dynamic=names, how=PLAIN)
    assert ops(int8)["DynamicQuantizeLinear"] == 1
    for scale in (1e-3, 1.0, 1e4):
        for feed in feeds(model, 3, scale):
            assert noise(evaluate(int8, feed)[0], evaluate(model, feed)[0]) < 0.02


@pytest.mark.parametrize("name", DYNAMIC)
def test_the_dynamic_form_does_not_saturate_whatever_the_range_of_a_run(name: str) -> None:
    model = net(*DYNAMIC[name])
    int8 = quantized(model, dynamic=[group.name for group in planned(model).groups], how=PLAIN)
    for feed in feeds(model, 8, scale=0.5):
        assert noise(open_session(int8).run(feed)[0], evaluate(model, feed)[0]) < 0.02


def test_one_search_of_the_range_serves_all_dynamic_readers() -> None:
    arrays = {"q": normal(8, 8), "k": normal(8, 8, seed=1), "v": normal(8, 8, seed=2)}
    model = net("float[2,8] x", "a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)", arrays, "a, b, c")
    int8 = quantized(model, dynamic=[group.name for group in planned(model).groups], how=PLAIN)
    assert ops(int8)["DynamicQuantizeLinear"] == 1
    for got, want in zip(evaluate(int8, feeds(model)[0]), evaluate(model, feeds(model)[0]), strict=True):
        assert noise(got, want) < 0.02


def test_a_dynamic_group_may_feed_a_static_one_and_the_other_way_round() -> None:
    arrays = {"w": normal(8, 8), "v": normal(8, 8, seed=1), "u": normal(8, 8, seed=2)}
    model = net("float[2,8] x", "a = MatMul(x, w) b = MatMul(a, v) y = MatMul(b, u)", arrays)
    names = [group.name for group in planned(model).groups]
    for dynamic in (names[:1], names[1:2], names[2:], names[::2], names):
        int8 = quantized(model, dynamic=dynamic, how=PLAIN)
        for feed in feeds(model, 3):
            assert noise(evaluate(int8, feed)[0], evaluate(model, feed)[0]) < 0.04


@pytest.mark.parametrize("kept", [True, False], ids=["in int8", "left in float"])
def test_an_average_far_smaller_than_what_it_is_of_runs(kept: bool) -> None:
    """The runtime's kernel refuses scales that lie too far apart, and takes the place of a float one as well."""
    text = """g (float[1,4,2,2] x) => (float[1,5] y) { t = Transpose <perm = [0, 1, 3, 2]> (x)
      p = GlobalAveragePool(t) f = Flatten(p) y = Gemm(f, w) }"""
    model = build(text, {"w": normal(4, 5)})
    feed = {"x": np.tile(np.array([[1e6, -1e6], [1e-3, 0]], np.float32), (1, 4, 1, 1))}
    split = groups.partition(model).groups
    seen = statistics.gather(model, split, [feed])
    chosen = [group for group in split if kept or group.op != "GlobalAveragePool"]
    (got,) = open_session(emit.emit(model, static.plan(model, chosen, seen))).run(feed)
    assert np.abs(got).max() < 1e6 / 127
