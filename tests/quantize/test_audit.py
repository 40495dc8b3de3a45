"""What is told of values that int8 cuts off and of sums that could leave 16 bits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from optimizer.calibrate.observers import Histogram
from optimizer.quantize import audit, groups, statistics, weights
from optimizer.quantize.qparams import QParams, from_range
from tests.quantize.nets import build, feeds, normal, planned

NET = build(
    "g (float[2,64] x) => (y) { h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v) }",
    {"w": normal(64, 8), "v": normal(8, 4)},
)


def test_the_share_of_values_beyond_the_range_is_counted() -> None:
    seen = Histogram()
    seen.update(np.linspace(-1, 1, 1000, dtype=np.float32))
    assert audit.clipped(seen, from_range(-1, 1)) == 0
    assert audit.clipped(seen, from_range(-1, 0.5)) == pytest.approx(0.25, abs=0.01)
    assert audit.clipped(seen, from_range(-0.1, 0.1)) == pytest.approx(0.9, abs=0.01)


def test_a_sigmoid_that_reaches_one_is_not_cut_off() -> None:
    seen = Histogram()
    seen.update(np.array([0.0] * 9 + [1.0], np.float32))
    assert audit.clipped(seen, QParams(1 / 256, 0)) == 0
    assert audit.clipped(seen, QParams(1 / 300, 0)) == pytest.approx(0.1)


def test_what_an_absorbed_relu_cuts_does_not_count() -> None:
    plan, seen = planned(NET), statistics.gather(NET, groups.partition(NET).groups, feeds(NET))
    found = audit.audit(NET, plan, seen)
    assert {row["tensor"]: row["clipped"] for row in found["tensors"]}["r"] == 0


def test_the_most_clipped_tensor_comes_first() -> None:
    plan, seen = planned(NET), statistics.gather(NET, groups.partition(NET).groups, feeds(NET))
    narrow = {**plan.activations, "r": from_range(0, plan.activations["r"].high / 4)}
    found = audit.audit(NET, dataclasses.replace(plan, activations=narrow), seen)["tensors"]
    assert found[0]["tensor"] == "r"
    assert found[0]["clipped"] > 0.05
    assert found[0]["range"][1] < found[0]["seen"][1] / 3


def test_channels_that_could_overflow_are_counted_and_none_is_left_for_a_cpu_that_saturates() -> None:
    seen = statistics.gather(NET, groups.partition(NET).groups, feeds(NET))
    rows = [
        audit.audit(NET, planned(NET, how=how), seen)["products"]
        for how in (weights.Settings(), weights.Settings(saturates=True))
    ]
    assert [row["channels"] for row in rows[0]] == [8, 4]
    assert sum(row["could_overflow"] for row in rows[0]) > 0
    assert sum(row["could_overflow"] for row in rows[1]) == 0
