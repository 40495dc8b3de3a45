"""MACs of nodes whose sizes only a run can tell."""

from __future__ import annotations

import numpy as np

from optimizer.calibrate import sizes
from optimizer.model import cost
from tests.builders import model

BEHIND_A_WHERE = """g (float[2,3] x, bool[2] c) => (float[a,5] y) <int64[2] p = {4, 1}, int64[2] q = {4, 3},
    int64[1] zero = {0}, int64[1] one = {1}, float[3,5] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}> {
    shape = Where (c, p, q)  row = Slice (x, zero, one, zero)  wide = Expand (row, shape)  y = MatMul (wide, w) }"""


def test_sizes_that_inference_leaves_open_are_those_of_a_run() -> None:
    found = model(BEHIND_A_WHERE)
    feed = {"x": np.ones((2, 3), np.float32), "c": np.array([True, False])}
    assert cost.count(found).unknown
    counted = sizes.count(found, feed, {})
    assert (counted.macs, counted.unknown) == (4 * 3 * 5, ())
