"""Layouts: what is known of each axis of a tensor.

A *layout* is one `Axis` per axis of a tensor; an axis has one label per position. An open axis (size unknown) has the
labels of one period: position p carries `labels[p % len(labels)]`, so (batch * heads) keeps its heads.

`zero` says that the values at a dropped position are exactly 0 in the masked model. Sums over positions that are
dropped need it of one factor; it starts at initializers, which masking fills with zeros, and every rule says whether it
survives. On an axis without free labels it says nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from optimizer.ops.axes.labels import Ints

Array: TypeAlias = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis: a label per position (per position of one period where `open`)."""

    labels: Ints
    zero: bool = True
    open: bool = False

    @property
    def size(self) -> int | None:
        """The number of positions, None where it is not known."""
        return None if self.open else len(self.labels)


Layout: TypeAlias = "tuple[Axis, ...]"
Dim: TypeAlias = "int | None"
Dims: TypeAlias = "tuple[int | None, ...]"


def fixed(size: Dim) -> Axis:
    """An axis nobody prunes."""
    return Axis(np.zeros(1 if size is None else size, np.int64), True, size is None)


def dims(value: ir.Value | None) -> Dims | None:
    """The shape of a value with None for open sizes; None where even the rank is unknown."""
    if value is None:
        return None
    if value.const_value is not None:
        return tuple(value.const_value.shape.numpy())
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in value.shape)


def constant(value: ir.Value | None) -> Array | None:
    """The constant that a value is, if it is one."""
    tensor = None if value is None or value.is_graph_input() else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def describe(node: ir.Node) -> str:
    """A node as a reader finds it: type and name, or the name of what it computes."""
    return f"{node.op_type} {node.name or (node.outputs[0].name if node.outputs else '')!r}"
