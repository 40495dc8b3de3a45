"""Zeros in a weight: as many as asked, where the pattern allows, and the rest makes up for them."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.sparsify import Pattern, costs, damped, parse, refitted, root, sparsify
from optimizer.errors import ConfigError

RNG = np.random.default_rng(5)
SAMPLES = RNG.normal(size=(4000, 96)) @ RNG.normal(size=(96, 96)) * RNG.uniform(0.1, 2, 96)
SECOND = (SAMPLES.T @ SAMPLES / len(SAMPLES))[None]
WEIGHT = RNG.normal(size=(1, 16, 96))


def error(found: np.ndarray) -> float:
    change = found - WEIGHT
    return float(np.sum((change @ SECOND) * change))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_as_many_zeros_as_asked(share: float) -> None:
    found = sparsify(WEIGHT, SECOND, round(share * WEIGHT.size), Pattern())
    assert np.mean(found == 0) == pytest.approx(share, abs=0.01)


def test_the_rest_makes_up_for_what_is_gone() -> None:
    found = sparsify(WEIGHT, SECOND, WEIGHT.size // 2, Pattern())
    plain = np.where(found == 0, 0, WEIGHT)
    by_size = np.where(np.abs(WEIGHT) > np.median(np.abs(WEIGHT)), WEIGHT, 0)
    assert error(found) < 0.5 * error(plain) and error(found) < 0.3 * error(by_size)


def test_one_zero_costs_what_is_foretold() -> None:
    foretold = costs(WEIGHT, SECOND, ridge=1e-9)
    whole = np.sum((WEIGHT @ SECOND) * WEIGHT)
    found = WEIGHT.copy()
    inner = np.linalg.inv(SECOND[0])
    found[0, 3] -= WEIGHT[0, 3, -1] / inner[-1, -1] * inner[-1]
    assert found[0, 3, -1] == pytest.approx(0, abs=1e-9)
    assert foretold[0, 3, -1] == pytest.approx(error(found) / whole, rel=1e-3)


def test_rows_are_fitted_as_well_as_zeros_allow() -> None:
    gone = RNG.random((4, 96)) < 0.5
    best = WEIGHT[0, :4].copy()
    inverse = np.linalg.inv(damped(SECOND)[0])
    for row, out in zip(best, gone, strict=True):
        row -= np.linalg.solve(inverse[np.ix_(out, out)], row[out]) @ inverse[out]
    found = refitted(WEIGHT[:, :4], np.where(gone, 0, WEIGHT[:, :4]), damped(SECOND))[0]
    lost, least = ((row - WEIGHT[0, :4]) @ damped(SECOND)[0] * (row - WEIGHT[0, :4]) for row in (found, best))
    assert np.all(found[gone] == 0)
    assert lost.sum() == pytest.approx(least.sum(), rel=0.01)


def test_groups_are_ranked_together_and_fitted_apart() -> None:
    weight, second = np.concatenate([WEIGHT, 0.1 * WEIGHT]), np.concatenate([SECOND, SECOND])
    found = sparsify(weight, second, weight.size // 2, Pattern())
    assert np.mean(found[1] == 0) > 0.7 > 0.3 > np.mean(found[0] == 0)
    alone = sparsify(WEIGHT, SECOND, int((found[0] == 0).sum()), Pattern())
    assert np.mean((alone[0] == 0) == (found[0] == 0)) > 0.97


def test_two_of_every_four_stay() -> None:
    found = sparsify(WEIGHT, SECOND, 0, parse("2:4"))
    assert np.all((found.reshape(16, -1, 4) == 0).sum(2) == 2)


def test_blocks_go_as_a_whole() -> None:
    found = sparsify(WEIGHT, SECOND, WEIGHT.size // 4 // 2, parse("4x1"))
    zeros = (found == 0).reshape(4, 4, 96)
    assert np.all(zeros.all(1) == zeros.any(1)) and zeros.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("text", ["4:2", "4", "ax1", "2:4:8", "0x4"])
def test_other_patterns_are_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ConfigError, match="2:4"):
        parse(text)


@pytest.mark.parametrize("size", [5, 131, 260])
def test_the_root_is_upper_triangular_and_its_square_is_the_inverse(size: int) -> None:
    rows = np.random.default_rng(1).normal(size=(2, 400, size))
    second = rows.transpose(0, 2, 1) @ rows / 400
    upper = root(second)
    assert not np.tril(upper, -1).any()
    np.testing.assert_allclose(upper.transpose(0, 2, 1) @ upper @ second, [np.eye(size)] * 2, atol=1e-9)
