"""One walk over a graph: every axis of every tensor gets its labels, and labels become channel groups.

The walk is in topological order; a rule reads its inputs' layouts and ties labels together, and union-find carries the
consequences backwards. Frozen, each with its reason: graph inputs and outputs; all that an op without a rule, or whose
rule refuses, touches; all that a subgraph reads from outside; and labels that some axis has at every position (dropping
them would leave nothing of it).

A *channel group* is the set of labels that live on the same axes of the same parameters: 64 channels of a convolution,
the heads of an attention, the dims of its heads. It is the unit that allocation and reports speak of.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from optimizer.model.bodies import captured
from optimizer.ops import parameters
from optimizer.ops.axes import RULES, Axis, Edit, Labels, Layout, Op, Refuse, Sets, describe, dims, fixed
from optimizer.report.records import FrozenAxis

Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Layouts: TypeAlias = "dict[ir.Value, Layout | None]"


@dataclasses.dataclass(frozen=True)
class Group:
    """Labels that are dropped for the same reasons; `places` are the parameter axes (tensor, axis) they live on."""

    labels: Ints
    places: tuple[tuple[ir.Value, int], ...]
    kind: str
    """`head` (what attention treats alike side by side) or `channel`."""

    @property
    def name(self) -> str:
        """Its place in the largest tensor."""
        value, axis = max(self.places, key=lambda place: place[0].const_value.size if place[0].const_value else 0)
        return f"{value.name}.{axis}"


@dataclasses.dataclass(frozen=True)
class Axes:
    """The result of the walk over one graph. Initializers and values are keys by identity."""

    graph: ir.Graph
    labels: Labels
    layouts: Layouts
    sets: Sets
    groups: tuple[Group, ...]
    parameters: tuple[ir.Value, ...]
    fills: dict[ir.Value, ir.Value | None]
    """Initializers that masking may write to; where they are integers, the value of their zero point (None: 0)."""
    edits: Mapping[ir.Node, Sequence[Edit]]
    """What is to be changed in nodes whose axes lose positions."""
    averaging: tuple[ir.Node, ...] = ()
    """Nodes whose statistics change with what goes."""

    def gone(self, dropped: Bools) -> Bools:
        """Per label, whether its positions go when the marked labels are dropped."""
        return self.sets.gone(dropped)

    def none(self) -> Bools:
        """Nothing dropped."""
        return np.zeros(len(self.sets.root), np.bool_)

    def frozen(self) -> tuple[FrozenAxis, ...]:
        """Parameter axes of which nothing can go, with the reason of the first position that has one."""
        return tuple(self._frozen())

    def _frozen(self) -> Iterator[FrozenAxis]:
        for value in self.parameters:
            for index, axis in enumerate(self.layouts[value] or ()):
                if not self.labels.frozen(axis.labels).all():
                    continue
                reason = next(filter(None, (self.labels.reason(label) for label in axis.labels.tolist())), "")
                if reason:
                    yield FrozenAxis(value.name or "", index, reason)


def analyse(model: ir.Model, *, lossy: bool = False) -> Axes:
    """Labels of all axes of `model`, whose shapes are inferred. `lossy` lets norms lose positions of their axis."""
    graph = model.graph
    labels, fills = Labels(), maskable(graph)
    layouts: Layouts = {}
    version = graph.opset_imports.get("", 1)
    for value in graph.initializers.values():
        layouts[value] = _fresh(labels, value, value in fills)
    for value in graph.inputs:
        layouts[value] = _fresh(labels, value, True)
        _freeze(labels, layouts[value], f"graph input {value.name!r}")
    ops = [visit(Op(node, labels, layouts, version, lossy), layouts) for node in graph]
    for value in graph.outputs:
        _freeze(labels, layouts.get(value), f"graph output {value.name!r}")
    _freeze_essential(labels, layouts)
    found = tuple(value for value in graph.initializers.values() if _is_parameter(value))
    sets = labels.sets()
    groups = tuple(_groups(labels, sets, layouts, found))
    edits = {op.node: op.edits for op in ops}
    return Axes(graph, labels, layouts, sets, groups, found, fills, edits, tuple(op.node for op in ops if op.averages))


def maskable(graph: ir.Graph) -> dict[ir.Value, ir.Value | None]:
    """Constants that masking may fill with zeros (integers: with their zero point)."""
    found: dict[ir.Value, ir.Value | None] = {}
    for value in graph.initializers.values():
        uses = [(RULES.get((node.domain, node.op_type)), node, index) for node, index in value.uses()]
        if value.is_graph_output() or value.const_value is None or not uses:
            continue
        if value.const_value.dtype.is_floating_point():
            if not any(row and index in row.raw for row, _, index in uses):
                found[value] = None
        elif all(row and index in row.quantized for row, _, index in uses):
            row, node, index = uses[0]
            point = row.quantized[index] if row else None
            found[value] = node.inputs[point] if point is not None and point < len(node.inputs) else None
    return found


def _is_parameter(value: ir.Value) -> bool:
    return any(parameters.is_parameter(value.dtype, node, index) for node, index in value.uses())


def _fresh(labels: Labels, value: ir.Value, zero: bool) -> Layout | None:
    sizes = dims(value)
    if sizes is None:
        return None
    return tuple(Axis(labels.fresh(size), zero) if size and size > 1 else fixed(size) for size in sizes)


def _given(value: ir.Value | None) -> Layout | None:
    sizes = dims(value)
    return None if sizes is None else tuple(fixed(size) for size in sizes)


def _freeze(labels: Labels, layout: Layout | None, why: str) -> None:
    for axis in layout or ():
        labels.freeze(axis.labels, why)


def visit(op: Op, layouts: Layouts) -> Op:
    """Apply the rule of a node; freeze all it touches where there is none, or where it does not fit the shapes."""
    node, row = op.node, RULES.get((op.node.domain, op.node.op_type))
    for value in captured(node):
        _freeze(op.labels, layouts.get(value), f"{describe(node)} reads it in a subgraph")
    found: tuple[Layout | None, ...] = ()
    why = "has no axis rule"
    try:
        found, why = tuple(row.layouts(op)) if row else (), "" if row else why
    except Refuse as refusal:
        why = str(refusal)
    for given in node.inputs if why else ():
        _freeze(op.labels, layouts.get(given) if given is not None else None, op.why(why))
    for value, layout in zip(node.outputs, (*found, *(None,) * len(node.outputs)), strict=False):
        layouts[value] = _checked(op.labels, value, layout, describe(node))
    return op


def _checked(labels: Labels, value: ir.Value, layout: Layout | None, node: str) -> Layout | None:
    """A rule's answer, if it agrees with the inferred shape."""
    sizes = dims(value)
    if layout is None or sizes is None:
        return layout if layout is not None else _given(value)
    agree = len(sizes) == len(layout) and all(
        size is None or axis.size is None or size == axis.size for size, axis in zip(sizes, layout, strict=True)
    )
    if agree:
        return layout
    _freeze(labels, layout, f"{node} has a result of another shape than its rule says")
    return _given(value)


def _freeze_essential(labels: Labels, layouts: Layouts) -> None:
    """Labels that an axis has at all its positions."""
    for value, layout in layouts.items():
        for axis in layout or ():
            listed = iter(axis.labels.tolist())
            common = labels.meaning(next(listed, 0))
            while common and (label := next(listed, None)) is not None:
                common = common & labels.meaning(label)
            if common:
                labels.freeze(sorted(common), f"the only channel of {value.name!r}")


def _groups(labels: Labels, sets: Sets, layouts: Layouts, found: Iterable[ir.Value]) -> Iterator[Group]:
    places = [(value, index, axis) for value in found for index, axis in enumerate(layouts[value] or ())]
    own = [np.unique(sets.members(axis.labels)[1]) for _, _, axis in places]
    label = np.concatenate([*own, np.zeros(0, np.int64)])
    place = np.repeat(np.arange(len(own)), [len(members) for members in own])
    order = np.argsort(label, kind="stable")
    unique, first = np.unique(label[order], return_index=True)
    by_key: dict[tuple[bytes, int], list[int]] = defaultdict(list)
    for one, where, family in zip(
        unique.tolist(), np.split(place[order], first[1:]), labels.family(unique).tolist(), strict=len(unique) > 0
    ):
        by_key[where.tobytes(), family].append(one)
    heads = {label for array in labels.heads for label in sets.members(array)[1].tolist()}
    for (key, _), members in by_key.items():
        named = tuple(places[number][:2] for number in np.frombuffer(key, place.dtype).tolist())
        yield Group(np.array(members, np.int64), named, "head" if heads.issuperset(members) else "channel")
