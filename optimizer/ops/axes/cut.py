"""A choice of labels on its way into the graph: what stays of each axis, and edits of constants and attributes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from optimizer.ops.axes.labels import Bools, Ints
from optimizer.ops.axes.layout import Array, Dims, Layout, constant, dims


class Cut:
    """Answers by value, and writes into `graph`."""

    def __init__(self, graph: ir.Graph, layouts: Mapping[ir.Value, Layout | None], gone: Bools) -> None:
        self.graph, self._layouts, self._gone = graph, layouts, gone
        self._names = {value.name for node in graph for value in node.outputs} | set(graph.initializers)

    def layout(self, value: ir.Value | None) -> Layout:
        """The layout of a value; no axes where it has none."""
        return (None if value is None else self._layouts.get(value)) or ()

    def stay(self, labels: Ints) -> Bools:
        """Which positions with these labels stay."""
        return ~self._gone[labels]

    def keep(self, value: ir.Value | None, axis: int) -> Bools:
        """Which positions of an axis stay."""
        return self.stay(self.layout(value)[axis].labels)

    def counts(self, value: ir.Value | None) -> Dims:
        """The sizes that stay, None for open ones."""
        return tuple(None if axis.open else int(self.stay(axis.labels).sum()) for axis in self.layout(value))

    def pruned(self, value: ir.Value | None) -> list[int]:
        """The axes of which something goes."""
        return [index for index, axis in enumerate(self.layout(value)) if self._gone[axis.labels].any()]

    def constant(self, array: Array, name: str) -> ir.Value:
        """A new initializer."""
        name = self._unused(name)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def node(
        self, op: str, inputs: Sequence[ir.Value], at: ir.Node, attributes: Mapping[str, int], after: bool = False
    ) -> ir.Value:
        """A new node, placed before (or after) another one; its result has the type of the data."""
        like = inputs[0] if op == "Gather" else inputs[-1]
        new = ir.node(op, inputs, attributes)
        new.outputs[0].name = new.name = self._unused(f"{like.name}_{op.lower()}")
        new.outputs[0].type = like.type
        (self.graph.insert_after if after else self.graph.insert_before)(at, new)
        return new.outputs[0]

    def gather(self, value: ir.Value, axis: int, places: Array, at: ir.Node, after: bool = False) -> ir.Value:
        """The positions at `places` of one axis."""
        indices = self.constant(places.astype(np.int64), f"{value.name}_places")
        return self.node("Gather", [value, indices], at, {"axis": axis}, after)

    def _unused(self, name: str) -> str:
        found = next(n for i in range(len(self._names) + 1) if (n := f"{name}_{i}" if i else name) not in self._names)
        self._names.add(found)
        return found

    def write(
        self, node: ir.Node, name: str, index: int | None, numbers: Mapping[int, int], new: Sequence[int]
    ) -> None:
        """Put entries of integers where the node has them: an attribute, or an input, constant or computed.

        Where there are none yet, or some that are computed, nothing is done unless some entries are `new`.
        """
        given = node.attributes.get_ints(name)
        if index is None or given is not None:
            if given is not None or new:
                node.attributes[name] = ir.AttrInt64s(name, _with(given or (), numbers))
            return
        value = node.inputs[index] if index < len(node.inputs) else None
        old = constant(value)
        if old is None and not new:
            return
        if value is not None and old is None:
            entries = {entry: numbers[entry] for entry in new}
            made = self.patched(value, entries, (dims(value) or (None,))[0] or 1 + max(entries), node)
        else:
            listed = _with([] if old is None else old.ravel().tolist(), numbers)
            made = self.constant(np.array(listed, np.int64 if old is None else old.dtype), f"{node.name}_{name}")
        node.resize_inputs(max(len(node.inputs), index + 1))
        node.replace_input_with(index, made)

    def patched(
        self, value: ir.Value, entries: Mapping[int, int], length: int, at: ir.Node, after: bool = False
    ) -> ir.Value:
        """A computed int64 vector with some entries replaced."""
        mask = self.constant(np.isin(np.arange(length), list(entries)), f"{value.name}_fixed")
        new = np.array([entries.get(place, 0) for place in range(length)], np.int64)
        result = self.node("Where", [mask, self.constant(new, f"{value.name}_sizes"), value], at, {}, after)
        result.shape = ir.Shape([length])
        return result


def _with(numbers: Sequence[int], entries: Mapping[int, int]) -> list[int]:
    length = max(len(numbers), 1 + max(entries))
    return [entries.get(place, numbers[place] if place < len(numbers) else 0) for place in range(length)]


Terms: TypeAlias = Sequence[Sequence[Ints]]
"""A sum of products of axes, by the labels of each."""


@dataclasses.dataclass(frozen=True)
class Count:
    """Numbers that a node has about its axes: how many positions the axes in `terms` have together.

    An attribute `name` that is one number (entry None), or entries of integers given as attribute or as input `index`.
    """

    name: str
    terms: Mapping[int | None, Terms]
    index: int | None = None

    def __call__(self, node: ir.Node, cut: Cut) -> None:
        """Write the numbers as they are now."""
        stay = {entry: [[cut.stay(labels) for labels in term] for term in terms] for entry, terms in self.terms.items()}
        numbers = {entry: sum(math.prod(int(one.sum()) for one in term) for term in stay[entry]) for entry in stay}
        new = [entry for entry in stay if not all(one.all() for term in stay[entry] for one in term)]
        if None in new:
            node.attributes[self.name] = ir.AttrInt64(self.name, numbers[None])
        listed = {entry: number for entry, number in numbers.items() if entry is not None}
        if listed:
            cut.write(node, self.name, self.index, listed, [entry for entry in new if entry is not None])
