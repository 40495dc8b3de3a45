"""Rows of tokens without their padding: what a mask says is none of the input is cut off where sizes are open.

A mask is a whole-numbered input [batch, length] of ones and then zeros; its length must be an open dimension of the
model. All inputs that have the same dimension lose the columns that no row of the batch uses. Models ignore padding,
but statistics of what goes through them do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.data.samples import Reader, Samples
from optimizer.model import ports
from optimizer.model.ports import Array, Feed

Dims = Mapping[str, tuple[int | str | None, ...]]


def unpadded(samples: Samples, model: ir.Model) -> Samples:
    """The same samples for `model`, each as short as its mask allows."""
    dims = {port.name: port.shape for port in ports.inputs(model)}
    return dataclasses.replace(samples, reader=_Unpadded(samples.reader, dims))


@dataclasses.dataclass(frozen=True)
class _Unpadded:
    reader: Reader
    dims: Dims

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, index: int) -> dict[str, Array]:
        return cut(self.reader.read(index), self.dims)


def cut(feed: Feed, dims: Dims) -> dict[str, Array]:
    """One feed, cut."""
    for name, array in feed.items():
        shape = dims.get(name, ())
        if len(shape) == 2 and isinstance(shape[1], str) and _is_mask(array):
            return _cut(feed, dims, shape[1], int(array.sum(1).max()))
    return dict(feed)


def _is_mask(array: Array) -> bool:
    whole = array.dtype.kind in "iub" and array.ndim == 2 and array.size > 0
    return bool(
        whole and set(np.unique(array)) <= {0, 1} and array[:, 0].all() and np.all(array[:, 1:] <= array[:, :-1])
    )


def _cut(feed: Feed, dims: Dims, symbol: str, length: int) -> dict[str, Array]:
    return {name: array[_slices(dims.get(name, ()), symbol, length)] for name, array in feed.items()}


def _slices(shape: Sequence[int | str | None], symbol: str, length: int) -> tuple[slice, ...]:
    return tuple(slice(length) if dim == symbol else slice(None) for dim in shape)
