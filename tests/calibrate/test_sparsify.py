"""Zeros in a weight: as many as asked, where the pattern allows, and the rest makes up for them."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.sparsify import Pattern, costs, parse, sparsify
from optimizer.errors import ConfigError

RNG = np.random.default_rng(5)
SAMPLES = RNG.normal(size=(4000, 96)) @ RNG.normal(size=(96, 96)) * RNG.uniform(0.1, 2, 96)
SECOND = SAMPLES.T @ SAMPLES / len(SAMPLES)
WEIGHT = RNG.normal(size=(16, 96))


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
    last = SECOND.shape[0] - 1
    found = WEIGHT.copy()
    inner = np.linalg.inv(SECOND)
    found[3] -= WEIGHT[3, last] / inner[last, last] * inner[last]
    assert found[3, last] == pytest.approx(0, abs=1e-9)
    assert foretold[3, last] == pytest.approx(error(found) / whole, rel=1e-3)


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
