"""What is lost when columns go one after the other is what least squares on the remaining ones leaves."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.elimination import Reader, eliminate, pooled

RNG = np.random.default_rng(3)


def reader(labels: int, columns: int, outputs: int = 5) -> Reader:
    """A weight whose labels have `columns` columns each."""
    size = labels * columns
    mix = RNG.normal(size=(size, size))
    return Reader(RNG.normal(size=(outputs, size)), mix @ mix.T / size, np.arange(size) // columns)


def left_over(one: Reader, gone: np.ndarray) -> float:
    """The share of the output's variance that the best weight on the other columns cannot give."""
    stays = ~np.isin(one.owner, gone)
    found = one.weight.copy()
    inner = one.covariance[np.ix_(stays, stays)]
    found[:, stays] -= one.weight @ one.covariance[:, stays] @ np.linalg.inv(inner)
    whole = np.sum((one.weight @ one.covariance) * one.weight)
    return float(np.sum((found @ one.covariance) * found) / whole)


@pytest.mark.parametrize("columns", [1, 3], ids=["channels", "channels with kernel positions"])
def test_losses_are_those_of_the_best_refit(columns: int) -> None:
    readers = [reader(9, columns), reader(9, columns)]
    curve = eliminate(readers, 9, ridge=0.0)
    for count in range(1, 9):
        expected = sum(left_over(one, curve.order[:count]) for one in readers)
        assert curve.lost[count - 1] == pytest.approx(expected, rel=1e-6)


def test_of_two_channels_that_say_the_same_one_goes_first_and_the_other_late() -> None:
    samples = RNG.normal(size=(400, 6))
    samples[:, 4] = samples[:, 1]
    curve = eliminate([Reader(np.ones((3, 6)), np.cov(samples.T), np.arange(6))], 6, ridge=1e-6)
    assert curve.order[0] in (1, 4) and curve.lost[0] < 1e-4
    assert set(curve.order[:2].tolist()) != {1, 4}


def test_columns_without_a_label_stay_and_every_label_has_its_place() -> None:
    one = reader(4, 2)
    owner = np.where(one.owner == 3, -1, one.owner)
    curve = eliminate([Reader(one.weight, one.covariance, owner)], 3, ridge=1e-3)
    assert sorted(curve.order.tolist()) == [0, 1, 2]
    assert np.all(np.diff(curve.lost) >= 0) and curve.lost[-1] < 1


def test_pooling_averages_neighbours_that_are_out_of_order() -> None:
    assert pooled(np.array([1.0, 5.0, 3.0, 4.0, 9.0])).tolist() == [1, 4, 4, 4, 9]
    assert pooled(np.array([3.0, 2.0, 1.0])).tolist() == [2, 2, 2]
