"""What calibration is fitted to and judged by."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.forward import HELD
from optimizer.data.samples import in_memory
from optimizer.pipeline.pruning import apart


@pytest.mark.parametrize(("originals", "times"), [(37, 4), (8, 2), (6, 1)])
def test_no_copy_of_what_is_judged_by_is_fitted_to(originals: int, times: int) -> None:
    feeds = [{"x": np.array([number % originals])} for number in range(originals * times)]
    found = [int(feed["x"][0]) for feed in apart(in_memory(feeds), originals)]
    held = set(found[HELD - 1 :: HELD])
    assert held and held.isdisjoint(one for place, one in enumerate(found) if place % HELD != HELD - 1)
    assert len(found) > 0.6 * len(feeds)


def test_fewer_samples_than_that_are_left_as_they_are() -> None:
    assert len(apart(in_memory([{"x": np.zeros(1)}] * 6), 3)) == 6
