"""Searches for a share of MACs, on made-up models of which all is known."""

from __future__ import annotations

import pytest

from optimizer.errors import BoundMissed, ConfigError
from optimizer.pipeline.shares import NEAR, by_drop, by_latency
from optimizer.recipe import Prune


@pytest.mark.parametrize("wanted", [0.9, 0.7, 0.4])
def test_a_latency_is_found_where_time_has_an_overhead(wanted: float) -> None:
    share, measured = by_latency(lambda share: 0.2 + 0.8 * share**1.5, wanted)
    assert abs(measured - wanted) <= NEAR * wanted
    assert measured == 0.2 + 0.8 * share**1.5


def test_a_latency_is_found_where_small_shares_are_out_of_reach() -> None:
    assert by_latency(lambda share: share**0.5 if share > 0.45 else None, 0.7)[1] == pytest.approx(0.7, rel=NEAR)


def test_a_latency_that_cannot_be_met_is_refused_with_the_nearest() -> None:
    with pytest.raises(BoundMissed, match="the nearest is 0"):
        by_latency(lambda share: 0.6 + 0.4 * share, 0.3)


def test_the_smallest_share_that_holds_is_taken() -> None:
    assert by_drop(lambda share: share if share >= 0.52 else None, "MACs") == pytest.approx(0.52, abs=0.06)


def test_a_smallest_step_that_misses_is_refused() -> None:
    with pytest.raises(BoundMissed, match="5% of the weights"):
        by_drop(lambda share: None, "weights")


def test_a_recipe_has_one_target() -> None:
    assert Prune(max_drop=0.01).latency is None
    assert Prune(latency=0.7).macs is None
    for wrong in ({}, {"macs": 0.5, "latency": 0.5}, {"latency": 1.5}, {"latency": 0.5, "mask_only": True}):
        with pytest.raises(ConfigError):
            Prune(**wrong)
