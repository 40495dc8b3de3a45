"""Padding is cut off where a mask says what it is and the model takes any length."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.data.padding import cut, unpadded
from optimizer.data.samples import in_memory
from tests import builders

DIMS = {"ids": ("batch", "length"), "mask": ("batch", "length"), "x": ("batch", "length", 3), "y": ("batch", 8)}
FEED = {
    "ids": np.arange(16).reshape(2, 8),
    "mask": np.array([[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]),
    "x": np.zeros((2, 8, 3), np.float32),
    "y": np.zeros((2, 8), np.float32),
}


def test_what_no_row_uses_goes_from_all_inputs_of_that_length() -> None:
    found = cut(FEED, DIMS)
    assert {name: array.shape for name, array in found.items()} == {
        "ids": (2, 5), "mask": (2, 5), "x": (2, 5, 3), "y": (2, 8),
    }  # fmt: skip
    assert np.array_equal(found["ids"], FEED["ids"][:, :5])


@pytest.mark.parametrize(
    "mask", [[[0, 1, 1, 0]], [[1, 0, 1, 0]], [[2, 1, 0, 0]], [[0, 0, 0, 0]], [[1.0, 1.0, 0.0, 0.0]]]
)
def test_what_is_no_mask_of_padding_at_the_end_cuts_nothing(mask: list[list[float]]) -> None:
    feed = {"ids": np.arange(4)[None], "mask": np.array(mask)}
    assert cut(feed, DIMS)["ids"].shape == (1, 4)


def test_a_fixed_length_stays() -> None:
    assert cut(FEED, {**DIMS, "mask": ("batch", 8)})["ids"].shape == (2, 8)


def test_samples_are_cut_by_what_their_model_takes() -> None:
    model = builders.model(
        "net (int64[N,L] ids, int64[N,L] mask) => (int64[N,L] y) { y = Mul(ids, mask) }",
    )
    found = unpadded(in_memory([{"ids": FEED["ids"][:1], "mask": FEED["mask"][:1]}]), model)
    assert found[0]["ids"].shape == (1, 3) and len(found) == 1
