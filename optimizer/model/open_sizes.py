"""Open sizes that shape inference leaves without a name although other sizes tell them.

    Reshape     [batch, time, 4, 16] -> [batch, time, ?]     ? = 64      nothing is gained or lost; equal names cancel
                [batch, time, 64] -> [batch, ?, 4, 16]       ? = time
    Range       from 0 to a size in steps of 1               ? = that size
    broadcast   [batch, time, 64] + [time, 64]               ? = what all operands that are not 1 wide have

A size that no value had before is solved for, and replaced everywhere but in graph outputs: what is learnt of one node
helps the next.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import onnx_ir as ir

Size: TypeAlias = "int | str | None"
Known: TypeAlias = "Mapping[str, Size]"

_SAME = ("Cast", "Squeeze", "Unsqueeze", "Identity")


def settle(graph: ir.Graph) -> None:
    """State the sizes that are told, in place."""
    known: dict[str, Size] = {}
    seen = {size for value in graph.inputs for size in sizes(value, known) or ()}
    for node in graph:
        solve, made = _SOLVERS.get(node.op_type) if node.domain == "" else None, node.outputs[0]
        after = sizes(made, known) if solve else None
        for place, old in enumerate(after or ()):
            if solve is None or after is None or isinstance(old, int) or (old is not None and old in seen):
                continue
            if (new := solve(node, place, after, known)) is not None:
                known |= {old: new} if old is not None else {}
                after[place] = new
                made.shape = made.shape if made.is_graph_output() else ir.Shape(after)
        seen.update(size for value in node.outputs for size in sizes(value, known) or ())
    for value in (value for node in graph for value in node.outputs if not value.is_graph_output()):
        if known and (found := sizes(value, known)) is not None:
            value.shape = ir.Shape(found)


def sizes(value: ir.Value | None, known: Known) -> list[Size] | None:
    """The shape as numbers and names, with what is known put in."""
    if value is None or value.shape is None:
        return None
    plain = [size if isinstance(size, int) else size.value for size in value.shape]
    return [known.get(size, size) if isinstance(size, str) else size for size in plain]


def _quotient(node: ir.Node, place: int, after: Sequence[Size], known: Known) -> Size:
    """The size that is missing after a Reshape, if it is a number or one name."""
    before, rest = sizes(node.inputs[0], known), [*after[:place], *after[place + 1 :]]
    if before is None or {0, None} & {*before, *rest}:
        return None
    up, down = (Counter(size for size in some if isinstance(size, str)) for some in (before, rest))
    number, left = divmod(_number(before), _number(rest))
    names = list((up - down).elements())
    if left or down - up or len(names) > 1 or (names and number != 1):
        return None
    return names[0] if names else number


def _number(some: Sequence[Size]) -> int:
    return math.prod(size for size in some if isinstance(size, int))


def _common(node: ir.Node, place: int, after: Sequence[Size], known: Known) -> Size:
    """The size that all operands have which are not 1 wide."""
    found: set[Size] = set()
    for value in node.inputs:
        if (own := sizes(value, known)) is None:
            return None
        found |= {size for size in own[place - len(after) :][:1] if place - len(after) >= -len(own)}
    found -= {1}
    return found.pop() if len(found) == 1 else None


def _length(node: ir.Node, place: int, after: Sequence[Size], known: Known) -> Size:
    """The end of a Range that is some value's size."""
    start, end, step = node.inputs
    if _constant(start) != 0 or _constant(step) != 1:
        return None
    while end is not None and (maker := end.producer()) is not None:
        if maker.op_type == "Gather" and (shape := maker.inputs[0]) is not None:
            of, index = shape.producer(), _constant(maker.inputs[1])
            found = (
                sizes(of.inputs[0], known) if of is not None and of.op_type == "Shape" and not of.attributes else None
            )
            return None if found is None or index is None else found[index]
        end = maker.inputs[0] if maker.op_type in _SAME else None
    return None


def _constant(value: ir.Value | None) -> int | None:
    tensor = None if value is None or value.is_graph_input() else ir.convenience.get_const_tensor(value)
    return int(tensor.numpy().ravel()[0]) if tensor is not None and tensor.size == 1 else None


_SOLVERS: dict[str, Callable[[ir.Node, int, Sequence[Size], Known], Size]] = {
    "Reshape": _quotient,
    "Range": _length,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Where", "Equal", "Less", "Greater", "And", "Or"), _common),
}
