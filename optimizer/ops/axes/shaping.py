"""Ops that regroup positions without changing values: Reshape, Flatten, Expand, Tile, and shapes as data.

Reshape works on factors: a merge of axes is their row-major product of labels; a split sees the axis as a grid, so
heads and dims of attention, and the halves of a channel shuffle, appear by themselves. Sizes are matched from the
right and from the left; what remains between is at most

    [open, a, b...] -> [open]     the new axis repeats the labels of a x b... (batch * heads)
    [open] -> [open]              as it was
    anything else                 frozen

Copies (Expand, Tile, ConstantOfShape) are equal, so any of them can go: their axes get fresh labels.

`Shape` speaks of the sizes before removal: where something was removed, the old numbers are put back, so that whatever
is computed from them (a scale, another shape) stays as it was; and each op that takes sizes gets the new ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from optimizer.ops.axes.moves import position
from optimizer.ops.axes.rule import Axis, Cut, Dim, Layout, Op, Refuse, constant, dims, fixed, rule


def resize(node: ir.Node, cut: Cut) -> None:
    """Entries of the target shape (input 1) become what stays; -1 for an open axis that changed."""
    counts, (length,) = cut.counts(node.outputs[0]), dims(node.inputs[1]) or (None,)
    first = len(counts) - (length or len(counts))
    numbers = {axis - first: -1 if counts[axis] is None else counts[axis] for axis in cut.pruned(node.outputs[0])}
    if (target := constant(node.inputs[1])) is not None:
        listed = target.ravel().tolist()
        copied = [place for place, number in enumerate(listed) if number == 0 and counts[place] is not None]
        numbers |= {place: counts[place] for place in copied}
        numbers = {place: number for place, number in numbers.items() if listed[place] != -1}
    cut.overwrite(node, 1, {place: number or 0 for place, number in numbers.items() if place >= 0})


@rule("Reshape", patch=resize)
def reshape(op: Op) -> Sequence[Layout | None]:
    """Target sizes as inferred, or from a constant target with 0 (copy) and -1 (the rest)."""
    x, target = op.input(0), op.const(1)
    if op.node.attributes.get_ints("shape") is not None:
        raise Refuse("has its target as an attribute (opset 4)")
    sizes = list(op.dims(0, None if target is None else target.size))
    if 0 in sizes:
        raise Refuse("has an empty result")
    if target is not None and not op.number("allowzero", 0):
        for axis, number in enumerate(target.ravel().tolist()):
            sizes[axis] = x[axis].size if number == 0 else number if number > 0 else sizes[axis]
    if sizes.count(None) == 1 and not any(axis.open for axis in x):
        sizes[sizes.index(None)] = math.prod(len(axis.labels) for axis in x) // math.prod(filter(None, sizes))
    return (regroup(op, x, sizes),)


@rule("Flatten")
def flatten(op: Op) -> Sequence[Layout | None]:
    """Two axes: those before `axis`, and the rest."""
    x = op.input(0)
    axis = position(op.number("axis", 1), len(x))
    return (tuple(_together(op, part) for part in (x[:axis], x[axis:])),)


def regroup(op: Op, x: Layout, sizes: Sequence[Dim]) -> Layout:
    """The layout of `x` read in row-major order as a tensor of these sizes (1s are put aside)."""
    source = [part for axis in x if axis.size != 1 for part in _parts(axis)]
    slots = [slot for slot, size in enumerate(sizes) if size != 1]
    out: dict[int, Axis] = {}
    _match_ends(op, source, slots, sizes, out, -1)
    _match_ends(op, source, slots, sizes, out, 0)
    if len(slots) == 1 and source and sizes[slots[0]] is None:
        out[slots[0]] = _together(op, source)
    else:
        op.freeze("regroups axes of a size only known at run time", *source)
    return tuple(out.get(slot) or fixed(size) for slot, size in enumerate(sizes))


def _parts(axis: Axis) -> list[Axis]:
    """An axis that repeats a period is an open axis of periods."""
    return [fixed(None), Axis(axis.labels, axis.zero)] if axis.open and len(axis.labels) > 1 else [axis]


def _together(op: Op, parts: Sequence[Axis]) -> Axis:
    """Several axes as one."""
    sizes = [axis.size for axis in parts]
    if None not in sizes:
        return op.merge(parts)
    last = len(sizes) - sizes[::-1].index(None)
    merged = op.merge(parts[last:])
    if any(size not in (None, 1) for size in sizes[:last]):
        op.freeze("regroups axes of a size only known at run time", *parts[:last])
    return Axis(merged.labels, merged.zero, True)


def _match_ends(
    op: Op, source: list[Axis], slots: list[int], sizes: Sequence[Dim], out: dict[int, Axis], end: int
) -> None:
    """Match sizes from one end (-1 right, 0 left), and take what matched out of `source` and `slots`."""
    while source and slots:
        have, want = source[end].size, sizes[slots[end]]
        if have is None or want is None:
            return
        if have == want:
            out[slots.pop(end)] = source.pop(end)
        elif have % want == 0:
            big, small = (have // want, want) if end else (want, have // want)
            parts = op.split(source.pop(end), big, small)
            out[slots.pop(end)] = parts[1 if end else 0]
            source.insert(len(source) if end else 0, parts[0 if end else 1])
        elif len(source) > 1 and source[end - 1 if end else 1].size is not None:
            pair = (source.pop(end), source.pop(end))
            source.insert(len(source) if end else 0, op.merge(pair[::-1] if end else pair))
        else:
            return


@rule("Expand", patch=resize)
def expand(op: Op) -> Sequence[Layout | None]:
    """Axes of size 1 become copies."""
    x, sizes = op.input(0), op.dims()
    op.const(1)
    padded = [fixed(1)] * (len(sizes) - len(x)) + list(x)
    return (tuple(_expanded(op, axis, size) for axis, size in zip(padded, sizes, strict=True)),)


def _expanded(op: Op, axis: Axis, size: Dim) -> Axis:
    if axis.size == size or axis.size not in (1, None):
        if size is None:
            op.freeze("copies an axis of a size only known at run time", axis)
        return axis if axis.size == size else fixed(size)
    if axis.open:
        op.freeze("copies an axis of a size only known at run time", axis)
        return fixed(size)
    return fixed(None) if size is None else op.fresh(size)


def recount_tiles(node: ir.Node, cut: Cut) -> None:
    """`repeats` becomes the number of copies that stay."""
    assert node.inputs[0] is not None
    before, after = cut.counts(node.inputs[0]), cut.counts(node.outputs[0])
    pruned = cut.pruned(node.outputs[0])
    cut.overwrite(node, 1, {axis: (after[axis] or 0) // (before[axis] or 1) for axis in pruned})


@rule("Tile", patch=recount_tiles)
def tile(op: Op) -> Sequence[Layout | None]:
    """The label list again and again, each copy with a label of its own."""
    x, repeats = op.input(0), op.numbers("repeats", 1) or []
    return (tuple(_tiled(op, axis, count) for axis, count in zip(x, repeats, strict=True)),)


def _tiled(op: Op, axis: Axis, count: int) -> Axis:
    if count == 1:
        return axis
    if axis.open:
        op.freeze("repeats an axis of a size only known at run time", axis)
        return fixed(None)
    return op.merge([op.fresh(count), axis])


def resize_constant(node: ir.Node, cut: Cut) -> None:
    """The shape (input 0) becomes what stays."""
    counts = cut.counts(node.outputs[0])
    cut.overwrite(node, 0, {axis: counts[axis] or 0 for axis in cut.pruned(node.outputs[0])})


@rule("ConstantOfShape", patch=resize_constant)
def constant_of_shape(op: Op) -> Sequence[Layout | None]:
    """Equal numbers everywhere."""
    op.const(0)
    attribute = op.node.attributes.get("value")
    zero = attribute is None or not attribute.as_tensor().numpy().any()
    return (tuple(fixed(None) if size is None else op.fresh(size, zero) for size in op.dims()),)


def restore(node: ir.Node, cut: Cut) -> None:
    """The sizes before removal, for all who read this shape."""
    value, out = node.inputs[0], node.outputs[0]
    pruned = cut.pruned(value)
    if not pruned or value is None:
        return
    full = [None if axis.open else len(axis.labels) for axis in cut.layout(value)]
    start, stop, _ = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None)).indices(len(full))
    numbers = {axis - start: size for axis in pruned if start <= axis < stop and (size := full[axis]) is not None}
    if numbers:
        uses = out.uses()
        new = cut.patched(out, numbers, stop - start, node, after=True)
        for user, index in uses:
            user.replace_input_with(index, new)


@rule("Shape", patch=restore)
def shape(op: Op) -> Sequence[Layout | None]:
    """Numbers about sizes; those of axes that repeat a period cannot be put back."""
    if op.node.outputs[0].is_graph_output():
        raise Refuse("gives out sizes")
    op.freeze("reads the size of this axis", *(axis for axis in op.input(0) if axis.open))
    return ((fixed(op.dims()[0]),),)
