"""Plausible sizes for the open axes of a model's inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from optimizer.data import axes
from optimizer.model.ports import inputs


def candidates(model: ir.Model, dims: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Assignments of a size to every open axis, the most plausible first; `dims` wins."""
    found: dict[str, int] = {}
    for port in inputs(model):
        for axis, dim in enumerate(port.shape):
            if axes.is_open(dim):
                found.setdefault(axes.symbol(port, axis), 1 if axis == 0 else 224 if len(port.shape) == 4 else 16)
    yield {**found, **dims}
