"""Second-order rounding lowers tr(D H D^T), which nearest rounding does not look at."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.quantize import qparams, rounding
from tests.quantize.nets import Array

RNG = np.random.default_rng(0)


def moments(columns: int, rank: int, seed: int = 0, groups: int = 1) -> Array:
    """Second moments of correlated inputs, [groups, K, K]."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((groups, 500, rank)) @ rng.standard_normal((groups, rank, columns))
    inputs += 0.05 * rng.standard_normal(inputs.shape)
    return np.asarray(inputs.transpose(0, 2, 1) @ inputs / 500)


def loss(rows: Array, integers: Array, scales: Array, second: Array) -> Array:
    error = rows - integers * scales[..., None]
    return np.einsum("gok,gkl,gol->go", error, second, error)


def case(groups: int, outputs: int, columns: int, rank: int, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Rows, scales, moments and nearest integers."""
    rows = np.random.default_rng(seed).standard_normal((groups, outputs, columns)).astype(np.float32)
    scales = np.stack([qparams.weight_scales(part, 0) for part in rows]) * 8
    nearest = np.clip(np.rint(rows / scales[..., None]), -127, 127)
    return rows, scales, moments(columns, rank, seed, groups), nearest


@pytest.mark.parametrize("shape", [(1, 8, 16, 3), (1, 8, 200, 20), (4, 3, 9, 4), (1, 4, 300, 300)])
def test_the_error_on_correlated_inputs_is_far_below_that_of_nearest(shape: tuple[int, int, int, int]) -> None:
    rows, scales, second, nearest = case(*shape)
    found = rounding.second_order(rows, scales, second)
    assert found.dtype == np.int8
    assert found.shape == rows.shape
    assert loss(rows, found, scales, second).sum() < 0.7 * loss(rows, nearest, scales, second).sum()


def test_inputs_that_are_independent_leave_nothing_to_gain() -> None:
    rows, scales, _, nearest = case(1, 8, 32, 1)
    second = np.diag(RNG.uniform(0.5, 2, 32))[None]
    np.testing.assert_array_equal(rounding.second_order(rows, scales, second), nearest)


@given(st.integers(0, 1000))
def test_the_error_is_near_the_best_of_all_roundings_up_and_down(seed: int) -> None:
    rows, scales, second, nearest = case(1, 1, 8, 2, seed)
    below = np.floor(rows / scales[..., None])
    every = [loss(rows, below + np.array(up), scales, second)[0, 0] for up in itertools.product([0, 1], repeat=8)]
    found = loss(rows, rounding.second_order(rows, scales, second), scales, second)[0, 0]
    worst, usual = max(every), loss(rows, nearest, scales, second)[0, 0]
    assert found <= max(min(every) + 0.5 * (usual - min(every)), min(every) + 0.05 * (worst - min(every)))


def test_groups_are_rounded_each_by_its_own_moments() -> None:
    rows, scales, second, _ = case(3, 4, 9, 3)
    together = rounding.second_order(rows, scales, second)
    alone = [rounding.second_order(rows[i : i + 1], scales[i : i + 1], second[i : i + 1])[0] for i in range(3)]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_columns_never_seen_are_rounded_to_nearest() -> None:
    rows, scales, second, nearest = case(1, 4, 12, 3)
    second[:, 5:] = 0
    second[:, :, 5:] = 0
    found = rounding.second_order(rows, scales, second)
    np.testing.assert_array_equal(found[:, :, 5:], nearest[:, :, 5:])


def test_inputs_of_nothing_but_zeros_are_no_obstacle() -> None:
    rows, scales, second, nearest = case(1, 4, 12, 3)
    np.testing.assert_array_equal(rounding.second_order(rows, scales, second * 0), nearest)


def test_integers_stay_within_seven_bits_and_a_sign() -> None:
    rows, scales, second, _ = case(1, 8, 40, 4)
    found = rounding.second_order(rows * 20, scales, second)
    assert (found.min(), found.max()) == (-127, 127)


def test_the_refitted_scale_is_that_of_least_squares() -> None:
    rows, scales, second, nearest = case(2, 3, 10, 4)
    found = rounding.refit(rows, nearest, scales, second)
    for g, o in itertools.product(range(2), range(3)):
        half = np.linalg.cholesky(second[g]).T
        best = np.linalg.lstsq((half @ nearest[g, o])[:, None], half @ rows[g, o], rcond=None)[0][0]
        assert found[g, o] == pytest.approx(best, rel=1e-4)
    assert (loss(rows, nearest, found, second) <= loss(rows, nearest, scales, second) * (1 + 1e-6)).all()


def test_a_scale_that_would_vanish_stays() -> None:
    rows, scales, second, nearest = case(1, 2, 6, 3)
    np.testing.assert_array_equal(rounding.refit(rows, nearest * 0, scales, second), scales)
    np.testing.assert_array_equal(rounding.refit(rows, -nearest, scales, second), scales)


def test_moments_that_are_not_positive_for_lack_of_digits_are_damped_until_they_are() -> None:
    rows = np.random.default_rng(0).standard_normal((1, 4, 3)).astype(np.float32)
    scales = np.full((1, 4), 0.02, np.float32)
    moments = np.array([[[1e-6, 9e-6, 0], [9e-6, 1e-6, 0], [0, 0, -2e-6]]])
    found = rounding.second_order(rows, scales, moments)
    assert np.abs(found * scales[:, :, None] - np.clip(rows, -2.54, 2.54)).max() <= 0.05
