"""The interval has Student's width, covers the truth as often as it says, and the verdict respects the floor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optimizer.runtime import stats


@pytest.mark.parametrize(
    ("freedom", "point"), [(1, 12.7062), (5, 2.5706), (10, 2.2281), (11, 2.2010), (30, 2.0423), (200, 1.9719)]
)
def test_students_t_has_its_tabulated_values(freedom: int, point: float) -> None:
    assert stats.t_975(freedom) == pytest.approx(point, abs=5e-4)


def grouped(values: list[float] | np.ndarray, blocks: list[int] | np.ndarray) -> stats.Grouped:
    return stats.Grouped(np.asarray(values, np.float64), np.asarray(blocks, np.int64))


def test_the_speedup_is_the_geometric_mean_over_blocks_of_their_low_quantiles() -> None:
    before = grouped([2, 2, 2, 2, 2, 50, 8, 8, 8], [0] * 6 + [1] * 3)
    found = stats.estimate(before, grouped([1, 1], [0, 1]))
    assert found.speedup == pytest.approx(4.0)
    assert found.halfwidth == pytest.approx(12.706 * math.log(4) / math.sqrt(2) / math.sqrt(2), rel=1e-4)


def test_equal_times_give_an_interval_without_width() -> None:
    assert stats.estimate(grouped(np.ones(6), range(6)), grouped(np.ones(6), range(6))) == (1.0, 1.0, 1.0)


def test_one_block_has_no_interval() -> None:
    found = stats.estimate(grouped([1, 1], [0, 0]), grouped([1, 1], [0, 0]))
    assert (found.lo, found.hi) == (0.0, math.inf)
    assert found.halfwidth == found.reach == math.inf


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        stats.estimate(grouped([], []), grouped([], []))


def test_the_interval_covers_the_truth_when_runs_of_a_block_share_their_noise() -> None:
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(12), 20)
    hits = 0
    for _ in range(400):
        shared = rng.normal(0, 0.05, 12)[blocks]
        before = np.exp(0.1 + shared + rng.normal(0, 0.02, blocks.size))
        after = np.exp(rng.normal(0, 0.02, blocks.size))
        found = stats.estimate(grouped(before, blocks), grouped(after, blocks))
        hits += found.lo <= math.exp(0.1) <= found.hi
    assert 0.91 <= hits / 400 <= 0.98


def test_the_interval_covers_the_truth_when_each_sitting_has_a_bias_of_its_own() -> None:
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(60), 4)
    sittings = np.arange(60) // 10
    hits = 0
    for _ in range(400):
        bias = rng.normal(0, 0.02, 6)[sittings][blocks]
        before, after = np.exp(bias + rng.normal(0, 0.02, blocks.size)), np.exp(rng.normal(0, 0.02, blocks.size))
        found = stats.estimate(grouped(before, blocks), grouped(after, blocks), sittings)
        hits += found.lo <= 1 <= found.hi
    assert 0.91 <= hits / 400 <= 0.98


def test_half_of_the_runs_being_interrupted_moves_nothing() -> None:
    rng = np.random.default_rng(2)
    blocks = np.repeat(np.arange(40), 30)
    before, after = (np.where(rng.random(1200) < 0.5, 5.0, 1.0) * scale for scale in (1.0, 1.05))
    found = stats.estimate(grouped(before, blocks), grouped(after, blocks))
    assert found.speedup == pytest.approx(1 / 1.05, rel=1e-3)


def test_a_sitting_that_was_spoilt_neither_moves_nor_widens_the_interval() -> None:
    rng = np.random.default_rng(3)
    blocks, ones = np.arange(15), grouped(np.ones(15), range(15))
    before = np.exp(rng.normal(0, 0.01, 15))
    clean = stats.estimate(grouped(before, blocks), ones)
    before[7] *= 3
    spoilt = stats.estimate(grouped(before, blocks), ones)
    assert spoilt.speedup == pytest.approx(clean.speedup, abs=0.005)
    assert spoilt.halfwidth < 0.012  # 0.16 by the plain mean


def test_the_ratio_of_a_quantile_lies_in_its_interval() -> None:
    rng = np.random.default_rng(3)
    blocks = np.repeat(np.arange(50), 40)
    before, after = grouped(rng.exponential(1, 2000), blocks), grouped(rng.exponential(1.3, 2000), blocks)
    ratio, span = stats.quantile_ratio(0.9, before, after), stats.quantile_span(0.9, after)
    assert ratio.lo < 1.3 < ratio.hi
    assert span.lo < 1.3 * math.log(10) < span.hi
    assert ratio.lo <= ratio.value <= ratio.hi


def test_a_verdict_needs_the_whole_interval_beyond_the_floor() -> None:
    assert stats.verdict(1.02, 1.05) == "faster"
    assert stats.verdict(1.005, 1.05) == "inconclusive"
    assert stats.verdict(0.95, 0.98) == "slower"
    assert stats.verdict(0.95, 0.995) == "inconclusive"
    assert stats.verdict(1.02, 1.05, floor=0.03) == "inconclusive"


def test_quantiles_are_in_milliseconds() -> None:
    found = stats.quantiles(np.arange(1, 101) / 1000)
    assert (found.p50, found.p90, found.p99) == pytest.approx((50.5, 90.1, 99.01))
