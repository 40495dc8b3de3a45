"""The operation at hand: what a rule reads of a node, and the few things it can say of labels.

Labels of positions that must go together are tied (`align`), those that must stay are frozen (`freeze`, `statistics`);
axes become one axis (`merge`), or one axis several (`split`). Everything else that rules say is made of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from optimizer.ops.axes import grids
from optimizer.ops.axes.cut import Cut
from optimizer.ops.axes.labels import Ints, Labels
from optimizer.ops.axes.layout import Array, Axis, Dims, Layout, constant, describe, dims

STATISTICS = "takes statistics over this axis"
"""The one reason that is given up on request."""
Edit: TypeAlias = Callable[[ir.Node, Cut], None]
"""What is to be changed in a node when positions of its axes have gone."""


class Refuse(Exception):
    """The rule cannot speak for this node; the message continues the sentence "NODE ..."."""


class Op:
    """One node under a rule: its inputs' layouts, its attributes, and what can be said about labels."""

    def __init__(
        self, node: ir.Node, labels: Labels, layouts: Mapping[ir.Value, Layout | None], version: int, lossy: bool
    ) -> None:
        self.node, self.labels, self.version, self.lossy = node, labels, version, lossy
        self.averages = False
        """Whether the node takes statistics over an axis that may lose positions."""
        self.edits: list[Edit] = []
        self._layouts = layouts

    def has(self, index: int) -> bool:
        """Whether input `index` is there."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def input(self, index: int) -> Layout:
        """The layout of an input. Raises `Refuse` where its rank is unknown."""
        layout = self.layout(index) if self.has(index) else None
        if layout is None:
            raise Refuse(f"has an input of unknown rank (number {index})")
        return layout

    def layout(self, index: int) -> Layout | None:
        """The layout of an input, None where its rank is unknown."""
        return self.of(self.node.inputs[index])

    def of(self, value: ir.Value | None) -> Layout | None:
        """The layout of a value, None where its rank is unknown."""
        return None if value is None else self._layouts.get(value)

    def inputs(self) -> list[Layout]:
        """The layouts of all inputs that are there."""
        return [self.input(index) for index in range(len(self.node.inputs)) if self.has(index)]

    def const(self, index: int) -> Array | None:
        """The value of an input that is constant, else None. What is read by value stays whole."""
        found = constant(self.node.inputs[index]) if self.has(index) else None
        if found is not None:
            self.freeze("", *self.input(index))
        return found

    def constant(self, index: int) -> bool:
        """Whether an input is a constant."""
        return self.has(index) and constant(self.node.inputs[index]) is not None

    def dims(self, output: int = 0, rank: int | None = None) -> Dims:
        """The inferred shape of an output. Raises `Refuse` where its rank is unknown and none is given."""
        found = dims(self.node.outputs[output])
        if found is None and rank is not None:
            return (None,) * rank
        if found is None:
            raise Refuse("has a result of unknown rank")
        return found

    def number(self, name: str, default: int) -> int:
        """An integer attribute."""
        return self.node.attributes.get_int(name, default)

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        return self.node.attributes.get_string(name, default)

    def at(self, default: int = -1, of: int = 0, more: int = 0) -> int:
        """The attribute `axis` without a sign, for the rank of an input and as many axes `more` as a result has."""
        return self.number("axis", default) % max(1, len(self.input(of)) + more)

    def listed(self, name: str, index: int | None) -> list[int] | None:
        """Integers given as an attribute or, since a later opset, as constant input `index`; None where absent."""
        if (attribute := self.node.attributes.get_ints(name)) is not None:
            return list(attribute)
        found = None if index is None else self.const(index)
        return None if found is None else [int(number) for number in found.ravel()]

    def numbers(self, name: str, index: int | None = None) -> list[int] | None:
        """As `listed`. Raises `Refuse` where they are computed."""
        found = self.listed(name, index)
        if found is None and index is not None and self.has(index):
            raise Refuse(f"computes its {name} at run time")
        return found

    def used(self, output: int) -> bool:
        """Whether anybody reads output `output`."""
        if output >= len(self.node.outputs):
            return False
        return bool(self.node.outputs[output].uses()) or self.node.outputs[output].is_graph_output()

    def why(self, text: str) -> str:
        """A reason in words, naming the node."""
        return f"{describe(self.node)} {text}" if text else ""

    def freeze(self, why: str, *axes: Axis) -> None:
        """Never prune these axes; `why` continues the sentence "NODE ..."; empty for a silent freeze."""
        for axis in axes:
            if axis.labels.any():
                self.labels.freeze(axis.labels, self.why(why))

    def axis(self, labels: Ints, zero: bool, open: bool = False) -> Axis:
        """An axis; `zero` means nothing where no label is free."""
        return Axis(labels, zero or not self.labels.canonical(labels).any(), open)

    def align(self, *axes: Axis) -> Axis:
        """Let axes of one size mean the same. `zero` of the result: all were."""
        first = next((axis for axis in axes if not axis.open), axes[0])
        if len({(axis.size, len(axis.labels)) for axis in axes}) > 1:
            self.freeze("meets an axis of a size only known at run time", *axes)
        else:
            for axis in axes if len(axes) > 1 else ():
                self.labels.unify(first.labels, axis.labels, self.why("meets an axis that is never pruned"))
        return self.axis(first.labels, all(axis.zero for axis in axes), first.open)

    def statistics(self, *axes: Axis) -> None:
        """A mean, variance or norm over these axes: exact only if they stay whole."""
        self.averages = self.lossy
        self.freeze(STATISTICS, *(axis for axis in axes if axis.open or not self.lossy))

    def merge(self, axes: Sequence[Axis]) -> Axis:
        """Row-major product. Where one is open the result is, with the period of what follows the last such axis."""
        if len(axes) == 1:
            return axes[0]
        tail = 1 + max((place for place, axis in enumerate(axes) if axis.open), default=-1)
        if any(axis.size not in (None, 1) for axis in axes[:tail]):
            self.freeze("regroups axes of a size only known at run time", *axes[:tail])
        labels, zero = np.zeros(1, np.int64), True
        for axis in axes[tail:]:
            grid = np.broadcast_arrays(labels[:, None], axis.labels)
            labels = self.labels.meet(grid[0].ravel(), grid[1].ravel())
            zero &= axis.zero
        return self.axis(labels, zero, tail > 0)

    def split(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """An axis seen as a row-major grid of these sizes."""
        if axis.size != np.prod(sizes, dtype=np.int64):
            raise Refuse(f"divides an axis of {axis.size} into {' times '.join(map(str, sizes))}")
        found = [axis]
        for size in reversed(sizes[1:]):
            rows, columns = grids.split(self.labels, found[0].labels, len(found[0].labels) // size, size)
            found[:1] = [self.axis(rows, axis.zero), self.axis(columns, axis.zero)]
        return found
