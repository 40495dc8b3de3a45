"""Arrays of many samples as feeds, read row by row.

For an input of rank r whose first dimension is open or 1, or fixed to B > 1:

===========  ==========================  ================================================================
array rank   taken as                    sample i
===========  ==========================  ================================================================
r            stacked along axis 0        a[i:i+1], or a[i*B:(i+1)*B] with the remainder left out
r + 1        one array per sample        a[i]
0, r = 0     the same for all samples    a
r - 1        one sample without a batch  a[None]; only in a folder of files or from a function
===========  ==========================  ================================================================

An input of unknown rank is stacked along axis 0. All inputs must give the same number of samples. Extra arrays are
refused, but for `labels` and names that begin with an underscore.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from optimizer.data import convert
from optimizer.data.fit import LABELS, Fitted, Target, agree, batch, check_names, mismatch
from optimizer.data.samples import Reader
from optimizer.errors import DataError
from optimizer.model.ports import Array, Port


class Source(Protocol):
    """An array that is read by rows."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def rows(self, start: int, stop: int) -> Array: ...

    def whole(self) -> Array: ...


def table(target: Target, arrays: Mapping[str, Source], where: str, *, unbatched: bool = False) -> Fitted:
    """Samples out of arrays by input name. Raises `DataError` on what does not fit; see the module's table."""
    try:
        check_names(target.ports, arrays)
        columns = tuple(_column(target, port, arrays[port.name], unbatched) for port in target.ports)
        size = _common_length(columns)
        labels = _labels(target, arrays, size, columns)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    notes = (*(column.note for column in columns if column.note), *_remainders(columns))
    return Fitted(_Table(where, columns, size), labels, tuple(f"{where}: {note}" for note in notes))


def chain(parts: Sequence[Fitted], where: str) -> Fitted:
    """The samples of all parts, one after the other; either all parts have labels or none has."""
    labelled = [part.labels for part in parts if part.labels is not None]
    if labelled and len(labelled) < len(parts):
        raise DataError(
            f"{where}: {len(parts) - len(labelled)} of {len(parts)} files have no labels; label all or none"
        )
    try:
        labels = np.concatenate(labelled) if labelled else None
    except ValueError as error:
        raise DataError(f"{where}: the files' labels have different shapes; make them agree") from error
    return Fitted(Chain(tuple(part.reader for part in parts)), labels, _first_of_each(part.notes for part in parts))


class Chain:
    """Several readers as one."""

    def __init__(self, parts: Sequence[Reader]) -> None:
        self._parts = parts
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, index: int) -> dict[str, Array]:
        part = bisect.bisect_right(self._ends, index)
        return self._parts[part].read(index - (self._ends[part - 1] if part else 0))


@dataclasses.dataclass(frozen=True)
class _Column:
    """One input's samples: `step` rows each; a step of 0 is the same scalar for all."""

    port: Port
    source: Source
    step: int
    stacked: bool
    convert: convert.Conversion
    note: str | None

    @property
    def rows(self) -> int:
        return self.source.shape[0] if self.step else 1

    def read(self, index: int) -> Array:
        if not self.step:
            return self.convert(self.source.whole())
        rows = self.source.rows(index * self.step, (index + 1) * self.step)
        return self.convert(rows if self.stacked else rows[0])


@dataclasses.dataclass(frozen=True)
class _Table:
    where: str
    columns: tuple[_Column, ...]
    size: int

    def __len__(self) -> int:
        return self.size

    def read(self, index: int) -> dict[str, Array]:
        try:
            return {column.port.name: column.read(index) for column in self.columns}
        except DataError as error:
            raise DataError(f"{self.where}: sample {index}: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Batched:
    """A source with a batch axis of 1 put before it."""

    inner: Source

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.inner.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, *self.inner.shape)

    def rows(self, start: int, stop: int) -> Array:
        return self.whole()[start:stop]

    def whole(self) -> Array:
        return self.inner.whole()[None]


def _column(target: Target, port: Port, source: Source, unbatched: bool) -> _Column:
    rank, want = len(source.shape), len(port.shape)
    make = functools.partial(_Column, port)
    turn, note = target.conversion(source.dtype, port)
    if port.name in target.unranked and rank:
        return make(source, 1, True, turn, note)
    if rank == want == 0:
        return make(source, 0, True, turn, note)
    if rank == want + 1 and agree(source.shape[1:], port.shape):
        return make(source, 1, False, turn, note)
    if unbatched and rank + 1 == want and batch(port) == 1:
        source = _Batched(source)
    if len(source.shape) == want and agree(source.shape[1:], port.shape[1:]):
        return make(source, batch(port), True, turn, note)
    raise DataError(mismatch(port, source.shape))


def _common_length(columns: Sequence[_Column]) -> int:
    sizes = {column.port.name: column.rows // column.step for column in columns if column.step}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"inputs differ in their number of samples: {', '.join(f'{n!r} {s}' for n, s in sizes.items())}"
        )
    size = next(iter(sizes.values()), 1)
    if not size:
        needed = max((column.step for column in columns), default=1)
        raise DataError(f"holds no sample; the model takes at least {needed} row(s) at a time")
    return size


def _labels(target: Target, arrays: Mapping[str, Source], size: int, columns: Sequence[_Column]) -> Array | None:
    if LABELS not in arrays or any(port.name == LABELS for port in target.ports):
        return None
    source = arrays[LABELS]
    step = max(column.step if column.stacked else 1 for column in columns)
    labels = source.whole() if source.shape else np.empty(0)
    if len(labels) == size:
        return labels
    if not size * step <= len(labels) < (size + 1) * step:
        raise DataError(f"there are {len(labels)} labels for {size} samples")
    return labels[: size * step].reshape(size, step, *labels.shape[1:])


def _remainders(columns: Sequence[_Column]) -> list[str]:
    left = [(column, column.rows % column.step) for column in columns if column.step]
    return [
        f"input {column.port.name!r}: the last {rest} rows do not fill the model's fixed batch of {column.step}"
        for column, rest in left
        if rest
    ]


def _first_of_each(notes: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The notes of the first file that has any: the others' say the same."""
    return next((found for found in notes if found), ())
