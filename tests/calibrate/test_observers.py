"""Observers are commutative monoids: neither the order of batches nor how they were split shows in the result."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optimizer.calibrate.observers import BINS, Channels, Histogram

Array = npt.NDArray[np.float32]
FLOATS = st.floats(-(2.0**60), 2.0**60, width=32) | st.sampled_from([0.0, 1.0, 2048.0, 4096.0, -2048.0, -4096.0, 1e-45])
BATCHES = st.lists(hnp.arrays(np.float32, st.integers(0, 8), elements=FLOATS), min_size=1, max_size=6)
RNG = np.random.default_rng(0)


def histogram(batches: Sequence[Array]) -> Histogram:
    found = Histogram()
    for batch in batches:
        found.update(batch)
    return found


def channels(batches: Sequence[Array], axis: int = 1) -> Channels:
    found = Channels(axis)
    for batch in batches:
        found.update(batch)
    return found


def same(one: Histogram, other: Histogram) -> bool:
    facts = [(h.exponent, h.low, h.high, h.infinite) for h in (one, other)]
    return facts[0] == facts[1] and np.array_equal(one.counts, other.counts)


@given(BATCHES, st.randoms())
def test_a_histogram_does_not_depend_on_the_order_of_batches(batches: list[Array], random: object) -> None:
    shuffled = list(batches)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert same(histogram(batches), histogram(shuffled))


@given(BATCHES, st.integers(0, 6))
def test_merging_two_histograms_is_the_same_as_having_seen_everything(batches: list[Array], cut: int) -> None:
    one, other = histogram(batches[:cut]), histogram(batches[cut:])
    forward, backward = copy.deepcopy(one), copy.deepcopy(other)
    forward.merge(other)
    backward.merge(one)
    assert same(forward, histogram(batches))
    assert same(backward, histogram(batches))


@given(BATCHES)
def test_an_empty_histogram_is_the_neutral_element(batches: list[Array]) -> None:
    left, right = histogram(batches), Histogram()
    left.merge(Histogram())
    right.merge(histogram(batches))
    assert same(left, histogram(batches))
    assert same(right, histogram(batches))


@given(BATCHES)
def test_every_value_is_counted_in_a_bin_that_holds_it(batches: list[Array]) -> None:
    found = histogram(batches)
    values = np.concatenate(batches).astype(np.float64)
    assert found.counts.sum() == values.size
    if not values.size:
        assert found.empty
        return
    assert (found.low, found.high) == (values.min(), values.max())
    width = np.ldexp(1.0, found.exponent)
    expected = np.zeros(2 * BINS)
    np.add.at(expected, np.floor(values / width).astype(int) + BINS, 1)
    np.testing.assert_array_equal(found.counts, expected)
    assert np.abs(found.centers[found.counts > 0][:, None] - values).min(axis=1).max() <= width / 2


def test_at_least_half_of_one_side_is_used_whatever_the_magnitude() -> None:
    for magnitude in (1e-40, 3e-5, 1.0, 7.0, 1e30):
        used = np.flatnonzero(histogram([np.array([magnitude, -magnitude / 3], np.float32)]).counts)
        assert used.max() >= BINS + BINS // 2 - 1


def test_memory_does_not_grow_with_what_was_seen() -> None:
    found = histogram([RNG.standard_normal(1000).astype(np.float32) * 10.0**i for i in range(-20, 20)])
    assert found.counts.shape == (2 * BINS,)
    assert channels(list(RNG.standard_normal((50, 2, 3)).astype(np.float32))).total.shape == (3,)


def test_of_a_large_batch_minimum_and_maximum_are_exact_and_the_total_is_kept() -> None:
    batch = RNG.standard_normal(300_000).astype(np.float32)
    batch[123_457], batch[7] = 99.0, -77.0
    found = histogram([batch])
    assert (found.low, found.high) == (-77.0, 99.0)
    assert found.counts.sum() == pytest.approx(300_000)


@pytest.mark.parametrize("shape", [(197, 192), (50, 768), (64, 49, 49), (3, 224, 224), (1024, 35)])
def test_the_part_of_a_large_batch_that_is_counted_looks_at_all_channels(shape: tuple[int, ...]) -> None:
    numbers = np.broadcast_to(np.arange(shape[-1], dtype=np.float32) + 0.5, shape)
    found = histogram([numbers])
    share = np.array([found.counts[np.floor(found.centers) == channel].sum() for channel in range(shape[-1])])
    assert share.min() > 0.7 * np.prod(shape[:-1])
    assert share.max() < 1.3 * np.prod(shape[:-1])


def test_values_that_are_not_finite_are_noted_and_otherwise_passed_over() -> None:
    found = histogram([np.array([1, -np.inf, 2], np.float32), np.array([np.nan, np.inf], np.float32)])
    assert found.infinite
    assert (found.low, found.high, found.counts.sum()) == (1.0, 2.0, 2.0)
    fine = histogram([np.array([1, 2], np.float32)])
    assert not fine.infinite
    fine.merge(found)
    assert fine.infinite


def test_nothing_but_infinities_is_as_good_as_nothing() -> None:
    found = histogram([np.full(3, -np.inf, np.float32)])
    assert found.empty
    assert found.infinite


def test_the_largest_float32_numbers_have_a_bin() -> None:
    top = float(np.finfo(np.float32).max)
    found = histogram([np.array([top, -top, 0], np.float32)])
    assert found.counts.sum() == 3
    assert not found.infinite


@given(st.lists(hnp.arrays(np.float32, (2, 3, 2), elements=st.floats(-100, 100, width=32)), min_size=1, max_size=5))
def test_channel_moments_are_those_of_everything_together(batches: list[Array]) -> None:
    found = channels(batches)
    whole = np.concatenate(batches).astype(np.float64)
    np.testing.assert_allclose(found.mean, whole.mean((0, 2)), atol=1e-4)
    np.testing.assert_allclose(found.second, np.square(whole).mean((0, 2)), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.variance, whole.var((0, 2)), rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(found.low, whole.min((0, 2)))
    np.testing.assert_array_equal(found.high, whole.max((0, 2)))
    assert found.count == len(whole) * 2


@given(
    st.lists(hnp.arrays(np.float32, (1, 3, 2), elements=st.floats(-100, 100, width=32)), min_size=2, max_size=5),
    st.integers(0, 5),
)
def test_channel_moments_merge_in_any_order(batches: list[Array], cut: int) -> None:
    parts = [channels(batches[:cut]), channels(batches[cut:])]
    for one, other in (parts, parts[::-1]):
        merged = copy.deepcopy(one)
        merged.merge(other)
        np.testing.assert_allclose(merged.mean, channels(batches).mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(merged.second, channels(batches).second, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(merged.high, channels(batches).high)
        assert merged.count == channels(batches).count


def test_channels_of_the_last_axis_take_batches_of_any_rank_and_size() -> None:
    found = channels([np.ones((2, 3), np.float32), np.full((4, 5, 3), 2.0, np.float32), np.ones((0, 3))], axis=-1)
    assert found.count == 22
    np.testing.assert_allclose(found.mean, (2 + 40) / 22)


def test_no_channel_was_ever_seen_yet_the_mean_can_be_asked_for() -> None:
    assert Channels(1).mean == 0.0
    assert Channels(1).variance == 0.0


def test_sums_over_many_positions_are_exact_to_float32() -> None:
    batch = RNG.standard_normal((2, 3, 300, 200)).astype(np.float32) + 5
    for one in (batch, batch.transpose(0, 1, 3, 2)):
        found = channels([one])
        wide = one.astype(np.float64)
        np.testing.assert_allclose(found.mean, wide.mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(found.second, np.square(wide).mean((0, 2, 3)), rtol=1e-5)
