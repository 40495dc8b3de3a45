"""What a rule works with: layouts of tensors, the operation at hand, the table of rules, and the cut that follows.

A *layout* is one `Axis` per axis of a tensor; an axis has one label per position. An open axis (size unknown) has the
labels of one period: position p carries `labels[p % len(labels)]`, so (batch * heads) keeps its heads.

`zero` says that the values at a dropped position are exactly 0 in the masked model. Sums over positions that are
dropped need it of one factor; it starts at initializers, which masking fills with zeros, and every rule says whether it
survives. On an axis without free labels it says nothing.

A rule is a function from an `Op` to the layouts of its outputs. It ties labels together through `align`, `contract`,
`statistics` and the like. The claim it makes: in the masked model, values at kept output positions depend on kept
input positions only, and are what the op with the same positions removed computes. `Refuse` freezes all it touches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from optimizer.ops.axes.labels import Bools, Ints, Labels

MS = "com.microsoft"
STATISTICS = "takes statistics over this axis"
"""The one reason that is given up on request."""
Array: TypeAlias = npt.NDArray[Any]


class Refuse(Exception):
    """The rule cannot speak for this node; the message continues the sentence "NODE ..."."""


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


class Op:
    """One node under a rule: its inputs' layouts, its attributes, and what can be said about labels."""

    def __init__(
        self, node: ir.Node, labels: Labels, layouts: Mapping[ir.Value, Layout | None], version: int, lossy: bool
    ) -> None:
        self.node, self.labels, self.version, self.lossy = node, labels, version, lossy
        self.averages = False
        """Whether the node takes statistics over an axis that may lose positions."""
        self._layouts = layouts

    def has(self, index: int) -> bool:
        """Whether input `index` is there."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def input(self, index: int) -> Layout:
        """The layout of an input. Raises `Refuse` where its rank is unknown."""
        value = self.node.inputs[index] if self.has(index) else None
        layout = None if value is None else self._layouts.get(value)
        if layout is None:
            raise Refuse(f"has an input of unknown rank (number {index})")
        return layout

    def const(self, index: int) -> Array | None:
        """The value of an input that is constant, else None. What is read by value stays whole."""
        found = constant(self.node.inputs[index]) if self.has(index) else None
        if found is not None:
            self.freeze("", *self.input(index))
        return found

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

    def numbers(self, name: str, index: int | None = None) -> list[int] | None:
        """Integers given as an attribute or, since a later opset, as input `index`; None where absent."""
        if (attribute := self.node.attributes.get_ints(name)) is not None:
            return list(attribute)
        if index is None or not self.has(index):
            return None
        if (found := self.const(index)) is None:
            raise Refuse(f"computes its {name} at run time")
        return [int(number) for number in found.ravel()]

    def used(self, output: int) -> bool:
        """Whether anybody reads output `output`."""
        if output >= len(self.node.outputs):
            return False
        return bool(self.node.outputs[output].uses()) or self.node.outputs[output].is_graph_output()

    def why(self, text: str) -> str:
        """A reason in words, naming the node."""
        return f"{describe(self.node)} {text}"

    def freeze(self, why: str, *axes: Axis) -> None:
        """Never prune these axes; `why` continues the sentence "NODE ..."; empty for a silent freeze."""
        for axis in axes:
            self.labels.freeze(axis.labels, self.why(why) if why else "")

    def axis(self, labels: Ints, zero: bool, open: bool = False) -> Axis:
        """An axis; `zero` means nothing where no label is free."""
        return Axis(labels, zero or not self.labels.canonical(labels).any(), open)

    def fresh(self, size: int, zero: bool = False) -> Axis:
        """An axis of equal copies, any of which can go."""
        return Axis(self.labels.fresh(size), zero) if size > 1 else fixed(size)

    def align(self, *axes: Axis) -> Axis:
        """Let axes of one size mean the same. `zero` of the result: all were."""
        first = next((axis for axis in axes if not axis.open), axes[0])
        if len({(axis.size, len(axis.labels)) for axis in axes}) > 1:
            self.freeze("meets an axis of a size only known at run time", *axes)
        else:
            for axis in axes:
                self.labels.unify(first.labels, axis.labels, self.why("meets an axis that is never pruned"))
        return self.axis(first.labels, all(axis.zero for axis in axes), first.open)

    def contract(self, *axes: Axis) -> None:
        """Sum over an axis of products: whatever goes must be zero in one factor."""
        aligned = self.align(*axes)
        if not any(axis.zero for axis in axes):
            self.freeze("adds up values that are not zero where a channel is gone", aligned)

    def statistics(self, *axes: Axis) -> None:
        """A mean, variance or norm over these axes: exact only if they stay whole."""
        self.averages = self.lossy
        self.freeze(STATISTICS, *(axis for axis in axes if axis.open or not self.lossy))

    def merge(self, axes: Sequence[Axis]) -> Axis:
        """Row-major product of static axes."""
        labels, zero = np.zeros(1, np.int64), True
        for axis in axes:
            grid = np.broadcast_arrays(labels[:, None], axis.labels)
            labels = self.labels.meet(grid[0].ravel(), grid[1].ravel())
            zero &= axis.zero
        return self.axis(labels, zero)

    def split(self, axis: Axis, rows: int, columns: int) -> tuple[Axis, Axis]:
        """An axis seen as a grid."""
        if axis.size != rows * columns:
            raise Refuse(f"divides an axis of {axis.size} into {rows} times {columns}")
        row, column = self.labels.split(axis.labels, rows, columns)
        return self.axis(row, axis.zero), self.axis(column, axis.zero)


def describe(node: ir.Node) -> str:
    """A node as a reader finds it: type and name, or the name of what it computes."""
    return f"{node.op_type} {node.name or (node.outputs[0].name if node.outputs else '')!r}"


class Cut:
    """A choice of labels, on its way into the graph: what stays of each axis, and edits of constants and attributes."""

    def __init__(self, graph: ir.Graph, layouts: Mapping[ir.Value, Layout | None], gone: Bools) -> None:
        self.graph, self._layouts, self._gone = graph, layouts, gone
        self.version = graph.opset_imports.get("", 1)
        self._names = {value.name for node in graph for value in node.outputs} | set(graph.initializers)

    def layout(self, value: ir.Value | None) -> Layout:
        """The layout of a value; no axes where it has none."""
        return (None if value is None else self._layouts.get(value)) or ()

    def keep(self, value: ir.Value | None, axis: int) -> Bools:
        """Which positions of an axis stay."""
        return ~self._gone[self.layout(value)[axis].labels]

    def counts(self, value: ir.Value | None) -> Dims:
        """The sizes that stay, None for open ones."""
        layout = self.layout(value)
        return tuple(None if axis.open else int((~self._gone[axis.labels]).sum()) for axis in layout)

    def pruned(self, value: ir.Value | None) -> list[int]:
        """The axes of which something goes."""
        return [index for index, axis in enumerate(self.layout(value)) if self._gone[axis.labels].any()]

    def constant(self, array: Array, name: str) -> ir.Value:
        """A new initializer."""
        name = self.unused(name)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def set_ints(self, node: ir.Node, name: str, index: int | None, numbers: Sequence[int]) -> None:
        """Give integers where the node has them: as an attribute, or as a new constant input."""
        if index is None or node.attributes.get_ints(name) is not None:
            node.attributes[name] = ir.AttrInt64s(name, list(numbers))
            return
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        old = node.inputs[index]
        dtype = np.int64 if old is None or old.dtype is None else old.dtype.numpy()
        node.replace_input_with(index, self.constant(np.array(numbers, dtype), f"{node.outputs[0].name}_{name}"))

    def node(
        self, op: str, inputs: Sequence[ir.Value], at: ir.Node, attributes: Mapping[str, int], after: bool = False
    ) -> ir.Value:
        """A new node, placed before (or after) another one; its result has the type of the data."""
        like = inputs[0] if op == "Gather" else inputs[-1]
        new = ir.node(op, inputs, attributes)
        new.outputs[0].name = new.name = self.unused(f"{like.name}_{op.lower()}")
        new.outputs[0].type = like.type
        (self.graph.insert_after if after else self.graph.insert_before)(at, new)
        return new.outputs[0]

    def unused(self, name: str) -> str:
        """A name nobody has."""
        found = next(n for i in range(len(self._names) + 1) if (n := f"{name}_{i}" if i else name) not in self._names)
        self._names.add(found)
        return found

    def overwrite(self, node: ir.Node, index: int, numbers: Mapping[int, int]) -> None:
        """Replace entries of a vector of sizes, whether it is constant or computed."""
        value = node.inputs[index]
        assert value is not None
        if not numbers:
            return
        if (old := constant(value)) is not None:
            new = [numbers.get(place, int(number)) for place, number in enumerate(old.ravel())]
            self.set_ints(node, "sizes", index, new)
            return
        length = (dims(value) or (None,))[0] or 1 + max(numbers)
        node.replace_input_with(index, self.patched(value, numbers, length, node))

    def patched(
        self, value: ir.Value, numbers: Mapping[int, int], length: int, at: ir.Node, after: bool = False
    ) -> ir.Value:
        """A computed int64 vector with some entries replaced."""
        mask = self.constant(np.isin(np.arange(length), list(numbers)), f"{value.name}_fixed")
        new = np.array([numbers.get(place, 0) for place in range(length)], np.int64)
        result = self.node("Where", [mask, self.constant(new, f"{value.name}_sizes"), value], at, {}, after)
        result.shape = ir.Shape([length])
        return result


Rule: TypeAlias = Callable[[Op], Sequence["Layout | None"]]
Patch: TypeAlias = Callable[[ir.Node, Cut], None]


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known about an op: its rule; what to change in the node after removal; how constants are masked."""

    rule: Rule
    patch: Patch | None
    raw: tuple[int, ...]
    """Inputs that masking leaves as they are, since the op is undefined at zero."""
    quantized: Mapping[int, int | None]
    """Integer inputs that stand for numbers, and the input with their zero point (None: it is 0)."""


RULES: dict[tuple[str, str], Row] = {}


def rule(
    *ops: str,
    domain: str = "",
    patch: Patch | None = None,
    raw: tuple[int, ...] = (),
    quantized: Mapping[int, int | None] | None = None,
) -> Callable[[Rule], Rule]:
    """Register a function as the rule of some ops."""

    def register(function: Rule) -> Rule:
        for op in ops:
            if (domain, op) in RULES:
                raise ValueError(f"two rules for {domain}:{op}")
            RULES[domain, op] = Row(function, patch, raw, quantized or {})
        return function

    return register
