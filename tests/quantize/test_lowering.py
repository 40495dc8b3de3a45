"""Weighted ops as matrix products: the lowered rows compute what the op computes."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.quantize.lowering import Lowering, lower
from tests.quantize.nets import Array, build, evaluate, group, normal

CASES: dict[str, tuple[str, tuple[int, ...], str]] = {
    "Conv": ("float[1,3,5,5] x", (4, 3, 3, 3), "Conv(x, w)"),
    "Conv 1-D": ("float[1,3,7] x", (4, 3, 3), "Conv(x, w)"),
    "Conv 3-D": ("float[1,2,4,4,4] x", (3, 2, 2, 2, 2), "Conv(x, w)"),
    "Conv grouped": ("float[1,6,5,5] x", (4, 3, 3, 3), "Conv <group = 2> (x, w)"),
    "Conv depthwise": ("float[1,4,5,5] x", (4, 1, 3, 3), "Conv <group = 4> (x, w)"),
    "Conv depthwise, two outputs a channel": ("float[1,3,5,5] x", (6, 1, 3, 3), "Conv <group = 3> (x, w)"),
    "Gemm": ("float[2,4] x", (4, 3), "Gemm(x, w)"),
    "Gemm transB": ("float[2,4] x", (3, 4), "Gemm <transB = 1> (x, w)"),
    "MatMul": ("float[2,3,4] x", (4, 5), "MatMul(x, w)"),
}


def lowered(name: str) -> tuple[Lowering, Array]:
    port, shape, op = CASES[name]
    net = build(f"g ({port}) => (y) {{ y = {op} }}", {"w": normal(*shape)})
    return lower(net, group(net, name.split()[0])), normal(*shape)


@pytest.mark.parametrize("name", CASES)
def test_weight_is_the_inverse_of_rows(name: str) -> None:
    lowering, weight = lowered(name)
    rows = lowering.rows(weight)
    assert rows.shape == (weight.shape[lowering.axis], weight.size // weight.shape[lowering.axis])
    np.testing.assert_array_equal(lowering.weight(rows), weight)


@pytest.mark.parametrize("name", CASES)
def test_the_rows_times_spread_means_are_the_mean_of_the_output(name: str) -> None:
    """A constant per channel goes in; without padding every position of the output is rows @ spread."""
    lowering, weight = lowered(name)
    port, _, op = CASES[name]
    net = build(f"g ({port}) => (y) {{ y = {op} }}", {"w": weight})
    dims = tuple(int(dim) for dim in net.graph.inputs[0].shape or ())
    axis = 1 if lowering.conv else -1
    means = normal(dims[axis], seed=5)
    x = np.broadcast_to(means.reshape([-1 if i == axis % len(dims) else 1 for i in range(len(dims))]), dims)
    out = evaluate(net, {"x": np.ascontiguousarray(x)})[0]
    want = (lowering.rows(weight) * lowering.spread(means)).sum(axis=1)
    got = np.moveaxis(out, axis, 0).reshape(len(want), -1)
    np.testing.assert_allclose(got, np.broadcast_to(want[:, None], got.shape), rtol=1e-4, atol=1e-5)


def test_channels_are_innermost_in_the_rows_of_a_convolution() -> None:
    weight = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    rows = Lowering(weight.shape, 0, True).rows(weight)
    assert rows[0, :4].tolist() == [weight[0, 0, 0, 0], weight[0, 1, 0, 0], weight[0, 2, 0, 0], weight[0, 0, 0, 1]]


def test_each_output_of_a_grouped_convolution_sees_its_own_channels() -> None:
    spread = Lowering((4, 3, 1, 1), 0, True, groups=2).spread(np.arange(6))
    assert spread.tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]


def test_depthwise_means_one_input_and_one_output_channel_a_group() -> None:
    assert {name: lowered(name)[0].depthwise for name in CASES} == {name: name == "Conv depthwise" for name in CASES}
