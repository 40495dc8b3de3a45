"""Where the CPU adds products in pairs of 16 bits: no pair of a limited row can leave them, and no other is touched.

The oracle is the instruction itself, lane by lane.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.quantize import qparams, saturation
from optimizer.quantize.lowering import lower
from optimizer.quantize.weights import Settings
from optimizer.runtime import machine
from optimizer.runtime.session import Options, open_session
from tests.quantize.nets import Array, build, feeds, group, normal, quantized

needs_saturation = pytest.mark.skipif(machine.has_vnni(), reason="this CPU sums in 32 bits")


def vpmaddubsw(unsigned: Array, signed: Array) -> Array:
    """Sums of neighbouring products of uint8 [k] by int8 [k], k even, each saturated to 16 bits."""
    products = unsigned.astype(np.int64) * signed.astype(np.int64)
    return np.clip(products[0::2] + products[1::2], -32768, 32767)


def exact(unsigned: Array, signed: Array) -> Array:
    products = unsigned.astype(np.int64) * signed.astype(np.int64)
    return products[0::2] + products[1::2]


def even(row: Array) -> Array:
    return np.pad(row, (0, len(row) % 2))


def worst(row: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The inputs in [low, high] of largest and of smallest sum."""
    return np.where(row > 0, high, low), np.where(row > 0, low, high)


@given(
    st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 30.0]), st.booleans()
)
def test_no_input_in_range_saturates_a_limited_row(k: int, rows: int, seed: int, spread: float, narrow: bool) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.standard_normal((rows, k)) * rng.choice([1, spread], (rows, 1))).astype(np.float32)
    low, high = np.sort(rng.integers(0, 256, (2, k)), axis=0) if narrow else (np.zeros(k, int), np.full(k, 255))
    scales = saturation.limited(
        weights, qparams.weight_scales(weights, 0), low.astype(np.float32), high.astype(np.float32)
    )
    integers = qparams.round_weight(weights, scales, 0)
    for row in integers:
        for inputs in (*worst(row, low, high), *rng.integers(low, high + 1, (20, k))):
            pair = even(inputs.astype(np.uint8)), even(row)
            np.testing.assert_array_equal(vpmaddubsw(*pair), exact(*pair))


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_a_row_that_cannot_saturate_keeps_its_scale(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((6, k)).astype(np.float32)
    scales = qparams.weight_scales(weights, 0)
    high = rng.integers(1, 256, k).astype(np.float32)
    limited = saturation.limited(weights, scales, np.zeros(k, np.float32), high)
    assert (limited >= scales).all()
    integers = qparams.round_weight(weights, scales, 0)
    for row, before, after in zip(integers, scales, limited, strict=True):
        pair = even(np.abs(row.astype(np.int64) + np.sign(row)) * high.astype(int))
        if (pair[0::2] + pair[1::2]).max() < 32767 - 255:
            assert after == before


def test_only_the_channel_that_could_saturate_is_enlarged() -> None:
    weights = np.array([[1.0, 1.0, 0.1, 0.1], [1.0, -1.0, 1.0, -1.0], [1.0, 0.0, 1.0, 0.0]], np.float32)
    scales = np.full(3, 1 / 127, np.float32)
    limited = saturation.limited(weights, scales, np.zeros(4, np.float32), np.full(4, 255, np.float32))
    assert limited[0] == pytest.approx(2 * 255 / 32767, rel=0.02)
    assert limited[1:].tolist() == scales[1:].tolist()


def test_channels_that_never_reach_the_top_cost_nothing() -> None:
    weights = np.ones((1, 4), np.float32)
    scales = np.full(1, 1 / 127, np.float32)
    quiet = saturation.limited(weights, scales, np.zeros(4, np.float32), np.full(4, 120, np.float32))
    assert quiet == scales


def test_limits_may_differ_per_output_channel() -> None:
    weights, scales = np.ones((2, 2), np.float32), np.full(2, 1 / 127, np.float32)
    limited = saturation.limited(weights, scales, np.zeros((2, 2)), np.array([[255, 255], [100, 100]], np.float32))
    assert limited[0] > scales[0]
    assert limited[1] == scales[1]


@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_overflows_tells_exactly_the_rows_that_some_input_saturates(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    integers = rng.integers(-127, 128, (5, k)).astype(np.int8)
    low, high = np.sort(rng.integers(0, 256, (2, k)), axis=0)
    found = saturation.overflows(integers, low.astype(np.float32), high.astype(np.float32))
    for row, told in zip(integers, found, strict=True):
        sums = np.concatenate([exact(even(x), even(row)) for x in worst(row, low, high)])
        assert told == bool(sums.max() > 32767 or sums.min() < -32767)


CASES = {
    "MatMul": ("float[4,33] x", (33, 8), "MatMul(x, w)"),
    "Gemm": ("float[4,33] x", (33, 8), "Gemm(x, w)"),
    "Conv 1x1": ("float[1,32,4,4] x", (16, 32, 1, 1), "Conv(x, w)"),
    "Conv 3x3": ("float[1,7,6,6] x", (16, 7, 3, 3), "Conv <pads = [1, 1, 1, 1]> (x, w)"),
    "Conv grouped": ("float[1,8,6,6] x", (8, 4, 3, 3), "Conv <group = 2> (x, w)"),
    "Conv depthwise": ("float[1,16,6,6] x", (16, 1, 3, 3), "Conv <group = 16> (x, w)"),
    "Conv 1-D": ("float[1,5,12] x", (8, 5, 3), "Conv(x, w)"),
}


def strong(name: str, saturates: bool, weight: Array | None = None) -> tuple[float, float]:
    """The kernel's largest difference from exact arithmetic, and one step of the output, for inputs near the top."""
    port, shape, op = CASES[name]
    net = build(f"g ({port}) => (y) {{ y = {op} }}", {"w": np.abs(normal(*shape)) + 3 if weight is None else weight})
    samples = [{key: np.abs(array) * 0.2 + 4 for key, array in feed.items()} for feed in feeds(net)]
    int8 = quantized(net, samples=samples, how=Settings(saturates=saturates, correct=False))
    kernel, plain = open_session(int8), open_session(int8, Options(level="none"))
    found = [(kernel.run(feed)[0], plain.run(feed)[0]) for feed in samples]
    step = max(float(np.ptp(np.append(want, 0))) for _, want in found) / 255
    return max(float(np.abs(got - want).max()) for got, want in found), step


def alternating(name: str) -> Array:
    """Weights that cancel in pairs of neighbours, if the order of summation is the one we think it is."""
    port, shape, op = CASES[name]
    net = build(f"g ({port}) => (y) {{ y = {op} }}", {"w": normal(*shape)})
    lowering = lower(net, group(net, name.split()[0]))
    rows = np.abs(lowering.rows(normal(*shape))) * 0.1 + 3
    rows[:, 1::2] *= -1
    if rows.shape[1] % 2:
        rows[:, -1] *= 0.1
    return lowering.weight(rows.astype(np.float32))


@pytest.mark.parametrize("name", CASES)
def test_the_runtimes_kernels_compute_exactly_once_weights_are_limited(name: str) -> None:
    """But for one step of the output, by which float arithmetic between DQ and Q may round otherwise."""
    difference, step = strong(name, saturates=True)
    assert difference <= 1.01 * step


@needs_saturation
@pytest.mark.parametrize("name", ["MatMul", "Conv 1x1", "Conv 3x3"])
def test_without_the_limit_the_same_kernels_are_wrong_here(name: str) -> None:
    difference, step = strong(name, saturates=False)
    assert difference > 3 * step


@needs_saturation
def test_the_depthwise_kernel_needs_no_limit() -> None:
    difference, step = strong("Conv depthwise", saturates=False)
    assert difference <= 1.01 * step


@needs_saturation
@pytest.mark.parametrize("name", ["MatMul", "Gemm", "Conv 1x1", "Conv 3x3", "Conv grouped", "Conv 1-D"])
def test_neighbours_are_those_of_the_lowering(name: str) -> None:
    """Neighbours of unlike sign cannot saturate; in any other order many pairs would have like signs, and would."""
    difference, step = strong(name, saturates=False, weight=alternating(name))
    assert difference <= 1.01 * step
