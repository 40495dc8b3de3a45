"""Rounded weights: scales, shared readers, 32-bit biases, and what bias correction puts right."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.quantize import groups, static, statistics, weights
from optimizer.quantize.plan import Plan, Weight
from optimizer.quantize.weights import Settings
from tests.quantize.nets import Array, build, evaluate, feeds, normal, planned, quantized

LINEAR = "g (float[4,32] x) => (y) { y = Gemm(x, w, b) }"
ARRAYS = {"w": normal(32, 8), "b": normal(8)}
PLAIN = Settings(correct=False)


def weight(plan: Plan) -> Weight:
    (found,) = plan.weights.values()
    return found


def restored(found: Weight) -> Array:
    return found.values * found.scales.reshape([-1 if i == found.axis else 1 for i in range(found.values.ndim)])


def test_the_weight_is_kept_in_its_own_shape_with_one_scale_per_output_channel() -> None:
    found = weight(planned(build(LINEAR, ARRAYS), how=PLAIN))
    assert (found.values.shape, found.values.dtype, found.scales.shape, found.axis) == ((32, 8), np.int8, (8,), 1)
    assert np.abs(restored(found) - ARRAYS["w"]).max() <= found.scales.max() * 0.5001
    np.testing.assert_array_equal(found.bias, ARRAYS["b"])


def test_one_scale_for_all_channels_is_the_largest() -> None:
    loud = ARRAYS | {"w": ARRAYS["w"] * np.geomspace(0.01, 1, 8, dtype=np.float32)}
    each = weight(planned(build(LINEAR, loud), how=PLAIN)).scales
    one = weight(planned(build(LINEAR, loud), how=Settings(per_tensor=True, correct=False))).scales
    assert np.unique(one).tolist() == [each.max()]


def test_a_huge_bias_enlarges_its_channels_scale_until_it_fits_32_bits() -> None:
    big = ARRAYS | {"b": np.array([1e9] + [0.0] * 7, np.float32)}
    model = build(LINEAR, big)
    plan = planned(model, how=PLAIN)
    found = weight(plan)
    assert 1e9 / (found.scales[0] * plan.activations["x"].scale) < 2**31
    np.testing.assert_array_equal(found.scales[1:], weight(planned(build(LINEAR, ARRAYS), how=PLAIN)).scales[1:])


def test_correction_moves_the_mean_of_the_output_to_where_it_was() -> None:
    """Coarse weights (one scale, one loud channel) shift the mean; the corrected bias takes the shift back."""
    arrays = ARRAYS | {"w": np.concatenate([normal(32, 7) * 0.02, normal(32, 1)], axis=1)}
    model = build(LINEAR, arrays)
    samples = [{"x": feed["x"] + 3} for feed in feeds(model, 64)]
    wanted = np.mean([evaluate(model, feed)[0].mean(0) for feed in samples], axis=0)
    shifts = []
    for correct in (False, True):
        how = Settings(per_tensor=True, correct=correct, saturates=True)
        plan = planned(model, samples=samples, how=how)
        found = weight(plan)
        inputs = np.mean([feed["x"].mean(0) for feed in samples], axis=0)
        shifts.append(np.abs(inputs @ restored(found) + found.bias - wanted).max())
    assert shifts[1] < 1e-4 < shifts[0]


def test_an_op_without_a_bias_gains_one_where_it_can_hold_the_correction() -> None:
    model = build("g (float[1,8,6,6] x) => (y) { y = Conv(x, w) }", {"w": normal(6, 8, 3, 3)})
    assert weight(planned(model)).bias is not None
    model = build("g (float[4,32] x) => (y) { y = MatMul(x, w) }", {"w": normal(32, 8)})
    assert weight(planned(model)).bias is None


def test_a_shared_weight_has_the_scales_that_its_most_demanding_reader_needs() -> None:
    body = "g (float[4,8] x) => (y) { a = Gemm(x, w, b) t = Tanh(a) y = Gemm(t, w, c) }"
    arrays = {"w": normal(8, 8), "b": np.full(8, 1e9, np.float32), "c": normal(8)}
    plan = planned(build(body, arrays), how=PLAIN)
    one, other = plan.weights.values()
    assert one.name == other.name
    np.testing.assert_array_equal(one.scales, other.scales)
    np.testing.assert_array_equal(one.values, other.values)
    assert 1e9 / (one.scales.min() * plan.activations["x"].scale) < 2**31


def test_readers_along_different_axes_each_get_a_weight_of_their_own() -> None:
    body = "g (float[4,8] x) => (y) { a = Gemm(x, w) t = Tanh(a) y = Gemm <transB = 1> (t, w) }"
    plan = planned(build(body, {"w": normal(8, 8)}), how=PLAIN)
    one, other = plan.weights.values()
    assert one.name != other.name
    assert {one.axis, other.axis} == {0, 1}


def test_a_dynamic_reader_counts_on_the_whole_of_uint8() -> None:
    model = build("g (float[4,32] x) => (y) { y = MatMul(x, w) }", {"w": np.abs(normal(32, 8)) + 3})
    samples = [{"x": np.abs(feed["x"]) * np.geomspace(1e-3, 1, 32, dtype=np.float32)} for feed in feeds(model)]
    (group,) = groups.partition(model).groups
    seen = statistics.gather(model, [group], samples)
    how = Settings(saturates=True, correct=False)
    still = static.plan(model, [group], seen, "minmax", how).weights[group.name].scales
    moving = static.plan(model, [group], seen, "minmax", how, dynamic=[group.name]).weights[group.name].scales
    assert (moving >= still).all()
    assert (moving > 1.5 * still).any()


@pytest.mark.parametrize("bias", [(), (1,), (8,), (1, 8)])
def test_a_bias_of_any_shape_reads_as_one_value_per_channel(bias: tuple[int, ...]) -> None:
    model = build(LINEAR, {"w": normal(32, 8), "b": normal(*bias)})
    (group,) = groups.partition(model).groups
    found = weights.float_bias(model, group, 8)
    np.testing.assert_array_equal(found, np.broadcast_to(normal(*bias).reshape(-1), (8,)))


def test_correction_helps_the_answers_of_a_depthwise_net() -> None:
    body = "g (float[1,16,8,8] x) => (y) { y = Conv <group = 16> (x, w, b) }"
    model = build(body, {"w": normal(16, 1, 3, 3) * np.geomspace(0.01, 1, 16)[:, None, None, None].astype(np.float32),
                         "b": normal(16)})  # fmt: skip
    samples = [{"x": np.abs(feed["x"])} for feed in feeds(model, 16)]
    errors = []
    for correct in (False, True):
        int8 = quantized(model, samples=samples, how=Settings(per_tensor=True, correct=correct))
        errors.append(np.mean([np.square(evaluate(int8, f)[0] - evaluate(model, f)[0]).mean() for f in samples]))
    assert errors[1] < errors[0]
