"""Ops that regroup positions without changing values: Reshape, Flatten, Expand, Tile, Resize, and shapes as data.

Reshape works on runs of axes of equal product, matched from the right and from the left: a run is merged into one axis
and seen as a grid of the new sizes, so heads and dims of attention, and the halves of a channel shuffle, appear by
themselves. What remains between is at most

    [open, a, b...] -> [open]     the new axis repeats the labels of a x b... (batch * heads)
    [open] -> [open]              as it was
    anything else                 frozen

Copies (Expand, Tile, ConstantOfShape) are equal, so any of them can go.

`Shape` speaks of the sizes before removal: where something was removed, the old numbers are put back, so that whatever
is computed from them (a scale, another shape) stays as it was; and each op that takes sizes gets the new ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, takewhile
from operator import mul
from typing import TypeVar

import onnx_ir as ir

from optimizer.ops.axes.cut import Count, Cut, Terms
from optimizer.ops.axes.layout import Axis, Dim, Layout, constant, dims, fixed
from optimizer.ops.axes.op import Op, Refuse
from optimizer.ops.axes.rules import rule, say
from optimizer.ops.axes.sentence import Place, Says, letters, spell

_RUNTIME = "copies or regroups axes of a size only known at run time"
T = TypeVar("T")


def _flat(op: Op) -> str:
    names = letters(rank := len(op.input(0)))
    axis = op.number("axis", 1) + rank * (op.number("axis", 1) < 0)
    return f"{spell(names)} -> ({spell(names[:axis])})({spell(names[axis:])})"


say("Flatten", _flat)


@rule("Reshape")
def reshape(op: Op) -> Sequence[Layout | None]:
    """Target sizes as inferred, or from a constant target with 0 (copy) and -1 (the rest)."""
    x = op.input(0)
    op.const(1)
    if op.node.attributes.get_ints("shape") is not None:
        raise Refuse("has its target as an attribute (opset 4)")
    sizes = list(op.dims(0, op.input(1)[0].size))
    if 0 in sizes:
        raise Refuse("has an empty result")
    listed = _entries(op.node.inputs[1])
    read = listed if not op.number("allowzero", 0) and len(listed) == len(sizes) else []
    for axis, number in enumerate(read):
        sizes[axis] = x[axis].size if number == 0 else number if number and number > 0 else sizes[axis]
    if sizes.count(None) == 1 and not any(axis.open for axis in x):
        sizes[sizes.index(None)] = math.prod(len(axis.labels) for axis in x) // math.prod(filter(None, sizes))
    copied = next((axis for axis, number in enumerate(read) if number != 0), len(read))
    out = (*x[:copied], *regroup(op, x[copied:], sizes[copied:]))
    told: dict[int | None, Terms] = {
        place: [[axis.labels]] for place, axis in enumerate(out) if not axis.open and listed[place : place + 1] != [-1]
    }
    op.edits += [Count("shape", told, 1), partial(_reopen, out)]
    return (out,)


def _entries(value: ir.Value | None) -> list[Dim]:
    """The numbers of a vector of sizes as far as they are constant: it may be put together from several."""
    if (known := constant(value)) is not None:
        return [int(number) for number in known.ravel()]
    made = value.producer() if value is not None else None
    if made is not None and made.op_type == "Concat":
        return [number for part in made.inputs for number in _entries(part)]
    sizes = dims(value)
    return [None] * (sizes[0] or 0) if sizes else [None]


def _reopen(out: Layout, node: ir.Node, cut: Cut) -> None:
    """An open axis that lost something is inferred."""
    for place, axis in enumerate(out):
        if axis.open and not cut.stay(axis.labels).all():
            cut.write(node, "shape", 1, {place: -1}, [place])


def regroup(op: Op, x: Layout, sizes: Sequence[Dim]) -> Layout:
    """The layout of `x` read in row-major order as a tensor of these sizes (1s are put aside)."""
    source = [part for axis in x if axis.size != 1 for part in _parts(axis)]
    slots = [slot for slot, size in enumerate(sizes) if size != 1]
    out: dict[int, Axis] = {}
    for end in (-1, 0):
        while source and slots and (run := _run([a.size for a in source], [sizes[slot] for slot in slots], end)):
            axes, places = _taken(source, run[0], end), _taken(slots, run[1], end)
            grid = [sizes[slot] or 1 for slot in places]
            pieces = op.split(op.merge(axes), [run[2], *grid] if end else [*grid, run[2]])
            rest = pieces.pop(0 if end else -1)
            out |= zip(places, pieces, strict=True)
            if run[2] > 1:
                source.insert(len(source) if end else 0, rest)
    if len(slots) == 1 and source and sizes[slots[0]] is None:
        out[slots[0]] = op.merge(source)
    else:
        op.freeze("regroups axes of a size only known at run time", *source)
    return tuple(out.get(slot) or fixed(size) for slot, size in enumerate(sizes))


def _parts(axis: Axis) -> list[Axis]:
    """An axis that repeats a period is an open axis of periods."""
    return [fixed(None), Axis(axis.labels, axis.zero)] if axis.open and len(axis.labels) > 1 else [axis]


def _run(have: Sequence[Dim], want: Sequence[Dim], end: int) -> tuple[int, int, int] | None:
    """How many axes and how many sizes, from one end (-1 right, 0 left), first have the same product.

    If none have, but the next size is open: the axes whose product is a multiple of all before it, and the factor.
    """
    mine, yours = (_products(sizes[::-1] if end else sizes) for sizes in (have, want))
    if common := set(mine) & set(yours):
        return mine.index(min(common)) + 1, yours.index(min(common)) + 1, 1
    if not yours or len(yours) == len(want):
        return None
    multiple = next((place for place, number in enumerate(mine) if number % yours[-1] == 0), None)
    return None if multiple is None else (multiple + 1, len(yours), mine[multiple] // yours[-1])


def _products(sizes: Sequence[Dim]) -> list[int]:
    """Of the first sizes, as far as they are known."""
    return list(accumulate(takewhile(lambda size: size is not None, sizes), mul))


def _taken(items: list[T], count: int, end: int) -> list[T]:
    """Items from one end, which `items` lose."""
    cut = slice(len(items) - count, None) if end else slice(count)
    taken, items[cut] = items[cut], []
    return taken


@rule("Expand")
def expand(op: Op) -> Says:
    """Axes of size 1 become copies; entries of the target become what stays."""
    x, sizes, target = op.input(0), op.dims(), op.input(1)[0].size
    op.const(1)
    left, right, known = letters(len(x)), letters(len(sizes), (), "r"), {}
    counts: dict[Place, str] = {}
    for place, size in enumerate(sizes):
        own = place - len(sizes) + len(x)
        have = x[own].size if own >= 0 else 1
        if size is None or have not in (1, size):
            right[place] = f"Z{place}"
            left[own : own + 1] = [f"P{own}"] * (own >= 0)
        elif have == size and own >= 0:
            right[place] = left[own]
        else:
            known[right[place]] = size
        entry = place - len(sizes) + (len(sizes) if target is None else target)
        if right[place][0] != "Z" and entry >= 0:
            counts["shape", 1, entry] = right[place]
    return Says(f"{spell(left)}, _ -> {spell(right)}", _RUNTIME, sizes=known, counts=counts)


@rule("Tile")
def tile(op: Op) -> Says:
    """The labels again and again, each copy with a label of its own; `repeats` becomes the number of copies."""
    x, repeats = op.input(0), op.numbers("repeats", 1) or []
    left, right, sizes = letters(len(x)), letters(len(x)), {}
    counts: dict[Place, str] = {}
    for axis, count in enumerate(repeats):
        if count > 1 and x[axis].open:
            left[axis], right[axis] = f"P{axis}", f"Z{axis}"
        elif count > 1:
            right[axis], sizes[f"r{axis}"] = f"(r{axis}{left[axis]})", count
            counts["repeats", 1, axis] = f"r{axis}"
    return Says(f"{spell(left)}, _ -> {spell(right)}", _RUNTIME, sizes=sizes, counts=counts)


@rule("ConstantOfShape")
def constant_of_shape(op: Op) -> Says:
    """Equal numbers everywhere."""
    op.const(0)
    attribute, sizes = op.node.attributes.get("value"), op.dims()
    mark = "~" if attribute is not None and attribute.as_tensor().numpy().any() else "0"
    names = letters(len(sizes), [axis for axis, size in enumerate(sizes) if size is None])
    known = {name: size for name, size in zip(names, sizes, strict=True) if size is not None}
    counts: dict[Place, str] = {("shape", 0, axis): name for axis, name in enumerate(names) if name in known}
    return Says(f"_ -> {mark}{spell(names)}", sizes=known, counts=counts)


@rule("Resize")
def resize(op: Op) -> Says:
    """Axes with a scale of 1 are left as they are; the `sizes` input, where there is one, gets what stays."""
    x, sizes = op.input(0), op.dims()
    op.const(3)
    if op.text("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Refuse("crops at places given by data")
    touched = [axis % len(x) for axis in op.numbers("axes") or range(len(x))]
    scales = op.const(2 if op.version >= 11 else 1)
    left, right = letters(len(x)), letters(len(x))
    counts: dict[Place, str] = {}
    for place, axis in enumerate(touched):
        scale = scales.ravel()[place] if scales is not None and scales.size else None
        same = scale == 1 if scale is not None else x[axis].size == sizes[axis] is not None
        if not same:
            left[axis], right[axis] = f"P{axis}", f"Z{axis}"
        elif op.has(3):
            counts["sizes", 3, place] = left[axis]
    return Says(f"{spell(left)} -> {spell(right)}", "resamples this axis", counts=counts)


@rule("Shape")
def shape(op: Op) -> Sequence[Layout | None]:
    """Numbers about sizes; those of axes that repeat a period cannot be put back."""
    if op.node.outputs[0].is_graph_output():
        raise Refuse("gives out sizes")
    op.freeze("reads the size of this axis", *(axis for axis in op.input(0) if axis.open))
    op.edits.append(partial(_restore, op.input(0)))
    return ((fixed(op.dims()[0]),),)


def _restore(x: Layout, node: ir.Node, cut: Cut) -> None:
    """The sizes before removal, for all who read this shape."""
    out = node.outputs[0]
    start, stop, _ = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None)).indices(len(x))
    numbers = {i - start: len(x[i].labels) for i in range(start, stop) if not cut.stay(x[i].labels).all()}
    if numbers:
        uses = out.uses()
        new = cut.patched(out, numbers, stop - start, node, after=True)
        for user, index in uses:
            user.replace_input_with(index, new)
