"""Samples: an ordered collection of model inputs that is read sample by sample and may be iterated again and again.

A *feed* is one run's inputs by name. A *sample* is the smallest feed the model takes: one row along the first axis
where that axis is the batch (or as many rows as the model's first dimension demands). Samples are read on demand
through a `Reader`, so a collection costs no more memory than the sample in hand, whatever its length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from optimizer.data.convert import Encoder, encode
from optimizer.errors import DataError
from optimizer.model.ports import Array, Feed


class Reader(Protocol):
    """Random access to feeds. Reading the same index twice gives the same arrays."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> dict[str, Array]:
        """The feed at `index` in 0..len-1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Samples in a fixed order, lazily read; every iteration yields equal arrays."""

    source: str
    """Where they come from, to be printed."""
    synthetic: bool
    labels: Array | None
    """What is known to be right, first axis = samples in this order."""
    reader: Reader = dataclasses.field(repr=False)
    indices: Sequence[int] = dataclasses.field(repr=False)
    """Which of the reader's feeds these are, in order."""
    joinable: bool = False
    """Whether the first axis of every input is the batch, so that consecutive samples can be run together."""
    notes: tuple[str, ...] = ()
    """What was done to the data to make it fit, one line each, to be reported as warnings."""

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Feed]:
        return (self.reader.read(index) for index in self.indices)

    def __getitem__(self, position: int) -> Feed:
        """The sample at `position`; negative positions count from the end."""
        return self.reader.read(self.indices[position])

    def subset(self, positions: Sequence[int]) -> Samples:
        """The samples at `positions` (0..len-1), in that order; labels follow."""
        labels = None if self.labels is None else self.labels[np.asarray(positions, dtype=np.intp)]
        return dataclasses.replace(self, labels=labels, indices=[self.indices[position] for position in positions])

    def take(self, count: int) -> Samples:
        """The first `count` samples, or all if there are fewer."""
        return self.subset(range(min(count, len(self))))

    def pick(self, count: int, seed: int) -> Samples:
        """`count` samples drawn without replacement, in their old order; all if there are fewer."""
        if count >= len(self):
            return self
        return self.subset(sorted(_shuffled(len(self), seed)[:count]))

    def split(self, share: float, seed: int) -> tuple[Samples, Samples]:
        """A random `share` (0..1) of the samples and the rest, both in their old order and neither empty.

        Raises `DataError` if there are fewer than two samples.
        """
        if len(self) < 2:
            raise DataError(f"{self.source}: cannot split {len(self)} sample in two; give at least 2 samples")
        size = min(max(round(share * len(self)), 1), len(self) - 1)
        order = _shuffled(len(self), seed)
        return self.subset(sorted(order[:size])), self.subset(sorted(order[size:]))

    def seen(self, held_back: float, seed: int) -> Samples:
        """What is left when a random share `held_back` is kept from whoever asks; all where that is 0."""
        return self.split(held_back, seed)[1] if held_back else self

    def batches(self, size: int) -> Iterator[Feed]:
        """Up to `size` consecutive samples at a time, joined along axis 0.

        Samples stay single where the model does not let them be joined (`joinable`); a batch ends where the next
        sample has another shape.
        """
        batch: list[Feed] = []
        for feed in self:
            if batch and (len(batch) == size or not self.joinable or _shapes(feed) != _shapes(batch[0])):
                yield _join(batch)
                batch = []
            batch.append(feed)
        if batch:
            yield _join(batch)


def in_memory(
    feeds: Sequence[Feed], labels: Array | None = None, *, source: str = "memory", joinable: bool = False
) -> Samples:
    """Samples over feeds that already are what the model takes."""
    return Samples(source, False, labels, _Held(feeds), range(len(feeds)), joinable)


def coded(samples: Samples, codes: Mapping[str, Encoder]) -> Samples:
    """The same samples for a model that takes the inputs named in `codes` in another form, as integers mostly."""
    return dataclasses.replace(samples, reader=_Coded(samples.reader, codes)) if codes else samples


@dataclasses.dataclass(frozen=True)
class _Coded:
    reader: Reader
    codes: Mapping[str, Encoder]

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, index: int) -> dict[str, Array]:
        return encode(self.reader.read(index), self.codes)


@dataclasses.dataclass(frozen=True)
class _Held:
    feeds: Sequence[Feed]

    def __len__(self) -> int:
        return len(self.feeds)

    def read(self, index: int) -> dict[str, Array]:
        return dict(self.feeds[index])


def _shuffled(count: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng(seed).permutation(count).tolist()
    return order


def _shapes(feed: Feed) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in feed.items()}


def _join(feeds: Sequence[Feed]) -> Feed:
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
