"""What an array must be to feed an input of a model, and what one run's arrays must be to feed the model.

Every input needs an array. Extra arrays are refused, but for `labels` and names that begin with an underscore. The
dtypes are checked by `convert`; a fixed dimension must agree, an open one may have any size. One run's array may lack
the batch axis where that is open or 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optimizer.data import axes, convert
from optimizer.data.samples import Reader
from optimizer.errors import DataError
from optimizer.model.ports import Array, Port, inputs

LABELS = "labels"


@dataclasses.dataclass(frozen=True)
class Target:
    """A model's inputs as data has to fit them."""

    ports: tuple[Port, ...]
    unranked: frozenset[str]
    codes: Mapping[str, convert.Code]

    @classmethod
    def of(cls, model: ir.Model) -> Target:
        ports = inputs(model)
        unranked = frozenset(port.name for port in ports if not axes.has_rank(model, port))
        return cls(ports, unranked, convert.codes(model))

    def conversion(self, dtype: np.dtype[Any], port: Port) -> tuple[convert.Conversion, str | None]:
        return convert.conversion(dtype, port, self.codes.get(port.name))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Samples read from somewhere, before they get a name."""

    reader: Reader
    labels: Array | None
    notes: tuple[str, ...]


def one(target: Target, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """One feed as the model takes it; arrays may lack the batch axis. Raises `DataError`."""
    check_names(target.ports, arrays)
    return {port.name: _single(target, port, np.asarray(arrays[port.name])) for port in target.ports}


def notes(target: Target, arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """What `one` does to these arrays to make them fit."""
    ports = [port for port in target.ports if port.name in arrays]
    found = (target.conversion(np.asarray(arrays[port.name]).dtype, port)[1] for port in ports)
    return tuple(note for note in found if note is not None)


def check_names(ports: Sequence[Port], found: Iterable[str]) -> None:
    """Raise `DataError` unless there is an array for each input and nothing that is not understood."""
    names, wanted = list(found), [port.name for port in ports]
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted and name != LABELS and not name.startswith("_")]
    if len(missing) == len(wanted) == len(extra) == 1:
        raise DataError(f"the array {extra[0]!r} must be named {missing[0]!r} like the model's input")
    if missing:
        raise DataError(
            f"nothing for {_quote(missing)}; the model takes {_quote(wanted)}, the data has {_quote(names)}"
        )
    if extra:
        raise DataError(f"{_quote(extra)} is no input of the model, which takes {_quote(wanted)}; leave it out")


def _single(target: Target, port: Port, array: Array) -> Array:
    turn, _ = target.conversion(array.dtype, port)
    if array.ndim + 1 == len(port.shape) and batch(port) == 1:
        array = array[None]
    if port.name not in target.unranked and not agree(array.shape, port.shape):
        raise DataError(mismatch(port, array.shape))
    return turn(array)


def batch(port: Port) -> int:
    """The rows that the model takes at a time: its fixed first dimension, or 1."""
    first = port.shape[0]
    return first if isinstance(first, int) and first > 0 else 1


def agree(shape: tuple[int, ...], dims: tuple[int | str | None, ...]) -> bool:
    """Whether sizes are as declared, wherever a number is declared."""
    return len(shape) == len(dims) and all(
        axes.is_open(dim) or dim == size for size, dim in zip(shape, dims, strict=True)
    )


def mismatch(port: Port, shape: tuple[int, ...]) -> str:
    """What is wrong about a shape."""
    dims = ", ".join("?" if axes.is_open(dim) and not isinstance(dim, str) else str(dim) for dim in port.shape)
    return f"input {port.name!r} takes shape ({dims}), the data has {shape}"


def _quote(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
