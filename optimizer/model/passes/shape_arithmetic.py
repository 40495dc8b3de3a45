"""Replace shape arithmetic whose result is known before a run.

Exporters compute the target of a Reshape from Shape, Gather, Concat. Each integer vector in such a computation is
followed entry by entry, where an entry is
    a number                known;
    `Size(name)`            one size of a tensor, by its symbol, or by the value and axis where it has none;
    `Product`               sizes multiplied or added up: not known, but never negative;
    None                    anything else.
Cases:
1. A vector whose entries are all numbers becomes a constant.
2. The target of a Reshape becomes a constant if each entry is a number, or is the size of the same axis of the data
   (written 0: copy it), or is the only other one (written -1: work it out). Only `Size` and `Product` may be written
   -1: an entry that some caller computes could itself be 0 or -1.

A symbol without a letter or digit ("?") stands for no particular size, so two of them are not the same size.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from optimizer.model import shapes
from optimizer.model.passes.edit import Editor, array, get, is_constant, is_op, nodes, remove

MAX_ENTRIES = 64
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
_NAMED = re.compile(r"[A-Za-z0-9]")


@dataclasses.dataclass(frozen=True)
class Size:
    """A size that is the same wherever `key` is the same."""

    key: object


@dataclasses.dataclass(frozen=True)
class Product:
    """Some number that is not negative."""


Entry: TypeAlias = "int | Size | Product | None"
Vector: TypeAlias = "tuple[Entry, ...]"
Known: TypeAlias = "dict[ir.Value, Vector]"


def fold_shapes(model: ir.Model) -> int:
    """Replace integer vectors that are known, and the targets of Reshape that can be written with 0 and -1."""
    editor = Editor(model)
    known: Known = {}
    folded = 0
    for node in nodes(model):
        if is_op(node, "Reshape"):
            folded += _fix_target(editor, node, known)
        elif node.domain == "" and node.op_type in RULES:
            folded += _follow(editor, node, known)
    return folded


def _follow(editor: Editor, node: ir.Node, known: Known) -> bool:
    found = RULES[node.op_type](node, known)
    if found is None or len(found) > MAX_ENTRIES:
        return False
    out = node.outputs[0]
    known[out] = found
    if out.is_graph_output() or not all(isinstance(entry, int) for entry in found) or not out.uses():
        return False
    scalar = _is_scalar(node, known)
    if scalar is None or out.dtype not in _INTEGERS or not all(_fits(entry, out.dtype) for entry in found):
        return False
    content = np.array(found, out.dtype.numpy()).reshape(() if scalar else (-1,))
    constant = editor.constant(content, out.name or "shape")
    known[constant] = found
    editor.replace(out, constant)
    remove(node)
    return True


def _fits(entry: Entry, dtype: ir.DataType) -> bool:
    limits = np.iinfo(dtype.numpy())
    return isinstance(entry, int) and limits.min <= entry <= limits.max


def _is_scalar(node: ir.Node, known: Known) -> bool | None:
    """Whether the result has no axes; None where that is not known."""
    rank = shapes.rank(node.outputs[0])
    if is_op(node, "Shape", "Concat"):
        return False
    return None if rank is None or rank > 1 else rank == 0


def _vector(value: ir.Value | None, known: Known) -> Vector | None:
    if value is None:
        return None
    if value in known:
        return known[value]
    if value.const_value is None or value.const_value.size > MAX_ENTRIES:
        return None
    content = array(value)
    if content is None or content.ndim > 1 or content.dtype not in (np.int64, np.int32):
        return None
    return tuple(int(number) for number in content.reshape(-1))


def _sizes(value: ir.Value | None) -> Vector | None:
    """The shape of `value`, entry by entry."""
    if value is None or value.shape is None:
        return None
    return tuple(_size(value, axis, dim) for axis, dim in enumerate(value.shape))


def _size(value: ir.Value, axis: int, dim: int | ir.SymbolicDim) -> Entry:
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    named = dim.value is not None and _NAMED.search(dim.value)
    return Size(dim.value) if named else Size((value, axis))


def _shape(node: ir.Node, known: Known) -> Vector | None:
    sizes = _sizes(node.inputs[0])
    if sizes is None:
        return None
    return sizes[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(sizes))]


def _size_op(node: ir.Node, known: Known) -> Vector | None:
    sizes = _sizes(node.inputs[0])
    if sizes is None:
        return None
    numbers = [entry for entry in sizes if isinstance(entry, int)]
    return (math.prod(numbers),) if len(numbers) == len(sizes) else (Product(),)


def _gather(node: ir.Node, known: Known) -> Vector | None:
    data, indices = _vector(get(node, 0), known), array(get(node, 1))
    if data is None or indices is None or indices.ndim > 1 or node.attributes.get_int("axis", 0) not in (0, -1):
        return None
    picked = [int(index) for index in indices.reshape(-1)]
    return tuple(data[index] for index in picked) if all(-len(data) <= i < len(data) for i in picked) else None


def _slice(node: ir.Node, known: Known) -> Vector | None:
    data = _vector(get(node, 0), known)
    bounds = [_number(get(node, index)) for index in range(1, len(node.inputs))]
    if data is None or any(found is None and get(node, index) is not None for index, found in enumerate(bounds, 1)):
        return None
    start, end, axis, step = bounds + [None] * (4 - len(bounds))
    if axis not in (None, 0, -1) or (step or 1) < 1:
        return None
    return data[start:end:step]


def _number(value: ir.Value | None) -> int | None:
    content = array(value)
    return int(content.reshape(())) if content is not None and content.size == 1 else None


def _concat(node: ir.Node, known: Known) -> Vector | None:
    parts = [_vector(value, known) for value in node.inputs]
    if any(part is None for part in parts):
        return None
    return tuple(entry for part in parts if part is not None for entry in part)


def _same(node: ir.Node, known: Known) -> Vector | None:
    vector = _vector(get(node, 0), known)
    if is_op(node, "Identity") or vector is None:
        return vector
    return vector if len(vector) == 1 and shapes.rank(node.outputs[0]) in (0, 1) else None


def _cast(node: ir.Node, known: Known) -> Vector | None:
    return _vector(get(node, 0), known) if node.attributes["to"].as_int() in _INTEGERS else None


def _arithmetic(compute: Callable[[int, int], int], closed: bool) -> Callable[[ir.Node, Known], Vector | None]:
    """`closed`: numbers that are not negative give one that is not."""

    def rule(node: ir.Node, known: Known) -> Vector | None:
        left, right = (_vector(get(node, index), known) for index in (0, 1))
        if left is None or right is None or len({len(left), len(right)} - {1}) > 1:
            return None
        length = max(len(left), len(right))
        pairs = zip(_stretch(left, length), _stretch(right, length), strict=True)
        return tuple(_combined(a, b, compute, closed) for a, b in pairs)

    return rule


def _stretch(vector: Vector, length: int) -> Vector:
    return vector * length if len(vector) == 1 else vector


def _combined(a: Entry, b: Entry, compute: Callable[[int, int], int], closed: bool) -> Entry:
    if isinstance(a, int) and isinstance(b, int):
        return compute(a, b)
    if not closed or a is None or b is None or any(isinstance(entry, int) and entry < 0 for entry in (a, b)):
        return None
    return Product()


def _fix_target(editor: Editor, node: ir.Node, known: Known) -> bool:
    target, data = _vector(get(node, 1), known), _sizes(get(node, 0))
    if target is None or is_constant(get(node, 1)) or node.attributes.get_int("allowzero", 0) == 1:
        return False
    written = _written(target, data or ())
    if written is None:
        return False
    constant = editor.constant(np.array(written, np.int64), f"{node.outputs[0].name}_shape")
    node.replace_input_with(1, constant)
    return True


def _written(target: Sequence[Entry], data: Sequence[Entry]) -> list[int] | None:
    written: list[int] = []
    for axis, entry in enumerate(target):
        if isinstance(entry, int):
            written.append(entry)
        elif isinstance(entry, Size) and axis < len(data) and entry == data[axis]:
            written.append(0)
        elif entry is None:
            return None
        else:
            written.append(-1)
    return written if written.count(-1) <= 1 else None


RULES: dict[str, Callable[[ir.Node, Known], Vector | None]] = {
    "Shape": _shape,
    "Size": _size_op,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Cast": _cast,
    "Identity": _same,
    "Squeeze": _same,
    "Unsqueeze": _same,
    "Add": _arithmetic(lambda a, b: a + b, closed=True),
    "Mul": _arithmetic(lambda a, b: a * b, closed=True),
    "Sub": _arithmetic(lambda a, b: a - b, closed=False),
}
