"""What a model reads and writes: its graph inputs and outputs as names, dtypes and shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from optimizer.errors import ModelError

Array: TypeAlias = npt.NDArray[Any]
Feed: TypeAlias = Mapping[str, Array]
"""One run's inputs by name."""


@dataclasses.dataclass(frozen=True)
class Port:
    """A graph input or output. Per axis `shape` has an int, a symbol's name, or None where nothing is known."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


def inputs(model: ir.Model) -> tuple[Port, ...]:
    """The inputs a caller must feed, in order; initializers that are also listed as inputs are left out."""
    return _ports(value for value in model.graph.inputs if value.name not in model.graph.initializers)


def outputs(model: ir.Model) -> tuple[Port, ...]:
    """The outputs in order. An output whose shape is unknown gets an empty shape."""
    return _ports(model.graph.outputs)


def _ports(values: Iterable[ir.Value]) -> tuple[Port, ...]:
    return tuple(_port(value) for value in values)


def _port(value: ir.Value) -> Port:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise ModelError(
            f"{value.name!r} is a {type(value.type).__name__}, not a tensor: such models are not supported"
        )
    dtype = np.dtype(np.float32) if value.dtype is None else np.dtype(value.dtype.numpy())
    dims = () if value.shape is None else tuple(_dim(dim) for dim in value.shape)
    return Port(value.name or "", dtype, dims)


def _dim(dim: int | ir.SymbolicDim) -> int | str | None:
    return dim if isinstance(dim, int) else dim.value
