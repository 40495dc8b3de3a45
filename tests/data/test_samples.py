"""Samples: order, subsets, splits and batches."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.data.samples import Samples, in_memory
from optimizer.errors import DataError


def numbered(count: int, width: int = 2, joinable: bool = True) -> Samples:
    feeds = [{"x": np.full((1, width), index, np.float32)} for index in range(count)]
    return in_memory(feeds, np.arange(count), joinable=joinable)


def values(samples: Samples) -> list[int]:
    return [int(feed["x"][0, 0]) for feed in samples]


def test_take_gives_the_first_and_subset_the_chosen_with_their_labels() -> None:
    samples = numbered(10)
    assert values(samples.take(3)) == [0, 1, 2] and values(samples.take(99)) == list(range(10))
    chosen = samples.subset([7, 2, 4]).subset([2, 0])
    assert values(chosen) == [4, 7] and chosen.labels is not None and chosen.labels.tolist() == [4, 7]
    assert chosen[-1]["x"][0, 0] == 7


def test_split_is_a_seeded_partition_with_labels() -> None:
    left, right = numbered(10).split(0.3, seed=5)
    assert (len(left), len(right)) == (3, 7) and sorted(values(left) + values(right)) == list(range(10))
    for part in (left, right):
        assert part.labels is not None and part.labels.tolist() == values(part) == sorted(values(part))
    assert values(numbered(10).split(0.3, seed=5)[0]) == values(left)
    assert any(values(numbered(10).split(0.3, seed=seed)[0]) != values(left) for seed in range(5))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.999, 1.0])
def test_split_leaves_neither_part_empty(share: float) -> None:
    assert all(len(part) for part in numbered(3).split(share, seed=0))


def test_one_sample_cannot_be_split() -> None:
    with pytest.raises(DataError, match="cannot split 1 sample in two"):
        numbered(1).split(0.5, seed=0)


def test_batches_join_consecutive_samples_and_keep_the_rest() -> None:
    assert [batch["x"][:, 0].tolist() for batch in numbered(5).batches(2)] == [[0, 1], [2, 3], [4]]


def test_batches_stay_single_where_the_model_has_a_fixed_batch() -> None:
    assert [len(batch["x"]) for batch in numbered(3, joinable=False).batches(2)] == [1, 1, 1]


def test_a_batch_ends_where_the_shape_changes() -> None:
    feeds = [{"x": np.zeros((1, width), np.float32)} for width in (2, 2, 3, 3, 3, 2)]
    shapes = [batch["x"].shape for batch in in_memory(feeds, joinable=True).batches(8)]
    assert shapes == [(2, 2), (3, 3), (1, 2)]
