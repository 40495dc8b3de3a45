"""Outputs that do not depend on the samples are told apart from those that do."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.variety import Variety
from optimizer.model.ports import Array

ONE, TWO = np.float32([1, 2]), np.float32([1, 3])
NOTHING = np.full(2, np.nan, np.float32)
CASES: dict[str, tuple[list[list[Array]], str]] = {
    "numbers that differ": ([[ONE], [TWO]], ""),
    "one sample alone": ([[ONE]], ""),
    "a difference in one of two outputs": ([[ONE, ONE], [ONE, TWO]], ""),
    "a difference in shape": ([[ONE], [ONE.reshape(2, 1)]], ""),
    "a difference in the last sample": ([[ONE], [ONE], [TWO]], ""),
    "ids that differ": ([[np.int64([4])], [np.int64([5])]], ""),
    "some NaN": ([[np.float32([np.nan, 1])], [np.float32([np.nan, 2])]], ""),
    "NaN alone": ([[NOTHING], [NOTHING]], "the original gives no finite number for any sample"),
    "infinity alone": ([[np.float32([np.inf])]], "the original gives no finite number for any sample"),
    "the same outputs": ([[ONE], [ONE], [ONE]], "the original gives the same outputs for every sample"),
}


@pytest.mark.parametrize(("outputs", "lacking"), CASES.values(), ids=CASES)
def test_what_lacks_in_the_outputs(outputs: list[list[Array]], lacking: str) -> None:
    variety = Variety()
    for each in outputs:
        variety.update(each)
    assert variety.lacking == lacking
