"""Scales and zero points: zero is exact, bounds hold, and each method does what it is named after."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.calibrate.observers import Histogram
from optimizer.quantize import qparams
from optimizer.quantize.qparams import Method, QParams

Array = npt.NDArray[np.float64]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse", "entropy")
ENDS = st.floats(-1e4, 1e4, allow_nan=False, width=32)
RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal(100_000)
SHAPES = {
    "normal": (NORMAL, -np.inf, np.inf),
    "relu": (np.maximum(NORMAL, 0), 0.0, np.inf),
    "relu6": (np.clip(3 * NORMAL + 1, 0, 6), 0.0, 6.0),
    "relu6, seldom full": (np.clip(2 * NORMAL, 0, 6), 0.0, 6.0),
    "silu": (NORMAL / (1 + np.exp(-NORMAL)), -np.inf, np.inf),
    "uniform": (RNG.uniform(-1, 1, 100_000), -np.inf, np.inf),
    "sigmoid": (1 / (1 + np.exp(-3 * NORMAL)), 0.0, 1.0),
    "laplace": (RNG.laplace(size=100_000), -np.inf, np.inf),
}


def seen(values: Array) -> Histogram:
    histogram = Histogram()
    for part in np.array_split(values.astype(np.float32), 10):
        histogram.update(part)
    return histogram


def error(values: Array, params: QParams) -> float:
    return float(np.mean(np.square(values - params.fake(values))))


@given(ENDS, ENDS)
def test_zero_is_exact_and_the_range_covers_what_was_asked_for_but_for_half_a_step(one: float, other: float) -> None:
    low, high = min(one, other, 0.0), max(one, other, 0.0)
    params = qparams.from_range(one, other) if one < other else qparams.from_range(other, one)
    assert 0 <= params.zero_point <= 255
    assert params.scale > 0
    assert params.fake(np.zeros(1)) == 0
    half = params.scale * 0.5 * (1 + 1e-6)
    assert params.low <= low + half
    assert params.high >= high - half


@given(st.floats(2.0**-10, 1e4, width=32))
def test_a_one_sided_range_keeps_its_zero_point_at_the_end_and_never_leaves_the_bound(bound: float) -> None:
    above, below = qparams.from_range(0.0, bound), qparams.from_range(-bound, 0.0)
    assert (above.zero_point, below.zero_point) == (0, 255)
    assert np.float32(above.scale) * 255.0 <= bound
    assert above.high == pytest.approx(bound, rel=1e-6)
    assert below.low == pytest.approx(-bound, rel=1e-6)
    assert (above.low, below.high) == (0.0, 0.0)


def test_scales_are_float32_numbers_so_that_the_file_holds_what_was_computed_with() -> None:
    for ends in ((0.0, 0.1), (-0.3, 0.7), (-1e-9, 1e9)):
        assert np.float32(qparams.from_range(*ends).scale) == qparams.from_range(*ends).scale


@pytest.mark.parametrize("ends", [(0.0, 0.0), (0.0, 1e-30), (-1e-30, 1e-30)])
def test_a_tensor_of_zeros_gets_a_scale_that_can_be_divided_by(ends: tuple[float, float]) -> None:
    params = qparams.from_range(*ends)
    assert params.scale > 1e-6
    assert params.fake(np.zeros(3)).tolist() == [0, 0, 0]


def test_a_tensor_never_seen_gets_a_usable_range() -> None:
    assert qparams.activation(Histogram(), "mse", -np.inf, np.inf).high == pytest.approx(1.0)


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    params = QParams(0.5, 10)
    assert params.quantize(np.array([0.25, 0.75, -100.0, 1000.0])).tolist() == [10, 12, 0, 255]
    assert params.fake(np.array([0.25, 0.75, -100.0, 1000.0])).tolist() == [0.0, 1.0, -5.0, 122.5]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SHAPES)
def test_no_method_leaves_the_bounds_of_an_absorbed_clip_or_what_was_seen(method: Method, name: str) -> None:
    values, low, high = SHAPES[name]
    params = qparams.activation(seen(values), method, low, high)
    half = params.scale / 2
    assert params.low >= max(low, min(values.min(), 0) - half)
    assert params.high <= min(high, max(values.max(), 0) + half)
    if low == 0.0:
        assert params.zero_point == 0


def test_a_clip_bound_that_was_never_reached_does_not_widen_the_range() -> None:
    assert qparams.activation(seen(np.linspace(0, 2, 1000)), "minmax", 0.0, 6.0).high == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("name", ["laplace", "normal", "relu"])
def test_mse_has_less_squared_error_than_minmax_where_tails_are_long(name: str) -> None:
    values, low, high = SHAPES[name]
    found = {m: error(values, qparams.activation(seen(values), m, low, high)) for m in METHODS}
    assert found["mse"] < 0.97 * found["minmax"]
    assert found["mse"] <= min(found.values()) * 1.001


@pytest.mark.parametrize("name", SHAPES)
def test_mse_is_within_a_hair_of_the_best_symmetric_shrinking_by_brute_force(name: str) -> None:
    values, low, high = SHAPES[name]
    found = error(values, qparams.activation(seen(values), "mse", low, high))
    best = min(
        error(values, qparams.from_range(values.min() * share, values.max() * share))
        for share in np.linspace(0.3, 1.0, 71)
    )
    assert found <= best * 1.02


def test_percentile_leaves_one_value_in_two_thousand_beyond_each_end() -> None:
    params = qparams.activation(seen(NORMAL), "percentile", -np.inf, np.inf)
    low, high = np.quantile(NORMAL, [0.0005, 0.9995])
    assert params.low == pytest.approx(low, abs=params.scale)
    assert params.high == pytest.approx(high, abs=params.scale)


def test_percentile_of_many_zeros_still_reaches_the_values() -> None:
    values = np.zeros(10_000)
    values[::100] = 5.0
    assert qparams.activation(seen(values), "percentile", -np.inf, np.inf).high == pytest.approx(5.0, rel=0.01)


@pytest.mark.parametrize("name", SHAPES)
def test_entropy_loses_little_against_the_best_where_clipping_does_not_pay(name: str) -> None:
    values, low, high = SHAPES[name]
    best = error(values, qparams.activation(seen(values), "mse", low, high))
    assert error(values, qparams.activation(seen(values), "entropy", low, high)) < 1.5 * best


@pytest.mark.parametrize("name", ["relu6", "relu6, seldom full", "uniform", "sigmoid"])
def test_entropy_keeps_the_whole_range_where_much_mass_lies_at_its_ends(name: str) -> None:
    values, low, high = SHAPES[name]
    assert qparams.activation(seen(values), "entropy", low, high).high == pytest.approx(values.max(), rel=0.02)


def test_entropy_cuts_off_a_far_outlier() -> None:
    values = np.append(NORMAL, 60.0)
    params = qparams.activation(seen(values), "entropy", -np.inf, np.inf)
    assert 4.0 < params.high < 30.0


def test_entropy_does_not_care_how_many_exact_zeros_there_are() -> None:
    some = np.maximum(NORMAL, 0)
    more = np.append(some, np.zeros(1_000_000))
    one, other = (qparams.activation(seen(values), "entropy", 0.0, np.inf) for values in (some, more))
    assert one.high == pytest.approx(other.high, rel=0.15)


def test_weight_scales_are_per_channel_and_never_worse_than_those_of_the_largest_weight() -> None:
    weight = RNG.laplace(size=(8, 4000)) * np.geomspace(0.01, 10, 8)[:, None]
    plain, shrunk = qparams.weight_scales(weight, 0, shrink=False), qparams.weight_scales(weight, 0)
    np.testing.assert_allclose(plain, np.abs(weight).max(axis=1) / 127, rtol=1e-6)
    for row, one, other in zip(weight, plain, shrunk, strict=True):
        errors = [np.square(row - qparams.round_weight(row, np.full(1, s), 0) * s).sum() for s in (one, other)]
        assert errors[1] <= errors[0] * (1 + 1e-6)
    assert (shrunk < plain).any()


def test_a_channel_of_zeros_rounds_to_zeros() -> None:
    weight = np.zeros((2, 4), np.float32)
    weight[1] = [1, -2, 3, -4]
    rounded = qparams.round_weight(weight, qparams.weight_scales(weight, 0), 0)
    assert rounded[0].tolist() == [0, 0, 0, 0]
    assert rounded[1].tolist() == [32, -64, 95, -127]


def test_rounded_weights_never_use_minus_128() -> None:
    weight = -np.ones((1, 4), np.float32)
    assert qparams.round_weight(weight, np.full(1, 1 / 200, np.float32), 0).tolist() == [[-127] * 4]


def test_scales_lie_along_the_axis_they_belong_to() -> None:
    weight = RNG.standard_normal((3, 5)).astype(np.float32)
    scales = qparams.weight_scales(weight, 1)
    assert scales.shape == (5,)
    np.testing.assert_allclose(qparams.round_weight(weight, scales, 1) * scales, weight, atol=float(scales.max()) * 16)


def test_a_faint_signal_has_a_scale_of_its_own() -> None:
    found = qparams.from_range(-2e-13, 2e-13)
    assert found.scale == pytest.approx(4e-13 / 255, rel=1e-3)
    assert qparams.from_range(0.0, 0.0).scale == pytest.approx(1 / 255)
