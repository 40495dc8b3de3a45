"""Ops that move positions about: array indexing on labels.

Where a node tells positions by number (Slice, Split, Gather with constant indices), the numbers are computed anew from
what stays. A vocabulary that is looked up by computed indices stays whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optimizer.ops.axes.rule import Array, Axis, Cut, Layout, Op, Refuse, constant, fixed, rule


def take(op: Op, axis: Axis, places: Array) -> Axis:
    """The positions at `places`, in that order."""
    return op.axis(axis.labels[places], axis.zero)


def position(axis: int, rank: int) -> int:
    """An axis number without a sign."""
    return axis + rank if axis < 0 else axis


@rule("Transpose")
def transpose(op: Op) -> Sequence[Layout | None]:
    """Axes in another order."""
    x = op.input(0)
    return (tuple(x[axis] for axis in op.numbers("perm") or range(len(x))[::-1]),)


@rule("Squeeze")
def squeeze(op: Op) -> Sequence[Layout | None]:
    """Axes of size 1 leave."""
    x = op.input(0)
    axes = op.numbers("axes", 1)
    gone = {i for i, a in enumerate(x) if a.size == 1} if axes is None else {position(a, len(x)) for a in axes}
    if axes is None and any(axis.open for axis in x):
        raise Refuse("squeezes axes of unknown size")
    return (tuple(axis for index, axis in enumerate(x) if index not in gone),)


@rule("Unsqueeze")
def unsqueeze(op: Op) -> Sequence[Layout | None]:
    """Axes of size 1 come in."""
    x, axes = list(op.input(0)), op.numbers("axes", 1) or []
    rank = len(x) + len(axes)
    for axis in sorted(position(axis, rank) for axis in axes):
        x.insert(axis, fixed(1))
    return (tuple(x),)


@rule("Concat")
def concat(op: Op) -> Sequence[Layout | None]:
    """Label lists one after the other; the other axes align."""
    return (joined(op, [op.input(index) for index in range(len(op.node.inputs))]),)


def joined(op: Op, parts: Sequence[Layout]) -> Layout:
    """Tensors one after the other along `axis`."""
    along = position(op.number("axis", 1), len(parts[0]))
    out = [op.align(*axes) if i != along else fixed(None) for i, axes in enumerate(zip(*parts, strict=True))]
    pieces = [part[along] for part in parts]
    if any(axis.open for axis in pieces):
        op.freeze("joins axes of a size only known at run time", *pieces)
    else:
        out[along] = op.axis(np.concatenate([axis.labels for axis in pieces]), all(axis.zero for axis in pieces))
    return tuple(out)


def recount(node: ir.Node, cut: Cut) -> None:
    """`split` becomes the lengths that stay."""
    values = [value for value in node.outputs if value.name]
    axis = position(node.attributes.get_int("axis", 0), len(cut.layout(node.inputs[0])))
    if axis not in cut.pruned(node.inputs[0]):
        return
    node.attributes.pop("num_outputs", None)
    cut.set_ints(node, "split", 1 if cut.version >= 13 else None, [cut.counts(value)[axis] or 0 for value in values])


@rule("Split", patch=recount)
def split(op: Op) -> Sequence[Layout | None]:
    """The label list cut into pieces."""
    x, count = op.input(0), len(op.node.outputs)
    axis = position(op.number("axis", 0), len(x))
    if any(not value.name for value in op.node.outputs):
        raise Refuse("drops one of its results")
    if (size := x[axis].size) is None:
        op.freeze("cuts an axis of a size only known at run time", x[axis])
        return [(*x[:axis], fixed(op.dims(output)[axis]), *x[axis + 1 :]) for output in range(count)]
    sizes = op.numbers("split", 1) or _equal(size, op.number("num_outputs", count))
    ends = np.cumsum(sizes)
    pieces = [take(op, x[axis], np.arange(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    return [(*x[:axis], piece, *x[axis + 1 :]) for piece in pieces]


def _equal(size: int, count: int) -> list[int]:
    part = -(-size // count)
    return [part] * (count - 1) + [size - part * (count - 1)]


def reslice(node: ir.Node, cut: Cut) -> None:
    """Ranges in the numbers of what stays; a strided range of a pruned axis becomes a Gather."""
    value = node.inputs[0]
    assert value is not None
    pruned = set(cut.pruned(value))
    spans = _spans(node, len(cut.layout(value)))
    if not pruned & set(spans):
        return
    starts, ends = (list(_numbers(node, name, i) or []) for i, name in ((1, "starts"), (2, "ends")))
    for order, (axis, span) in enumerate(spans.items()):
        if axis not in pruned:
            continue
        assert span is not None
        keep = cut.keep(value, axis)
        chosen = np.arange(len(keep))[span]
        numbers = (np.cumsum(keep) - 1)[chosen[keep[chosen]]]
        starts[order], ends[order] = int(numbers.min()), int(numbers.max()) + 1
        if span.step != 1:
            _gather_first(node, cut, axis, numbers)
            starts[order], ends[order] = 0, len(numbers)
            _unit_step(node, cut, order)
    cut.set_ints(node, "starts", 1, starts)
    cut.set_ints(node, "ends", 2, ends)


def _gather_first(node: ir.Node, cut: Cut, axis: int, numbers: Array) -> None:
    value = node.inputs[0]
    assert value is not None
    indices = cut.constant(numbers.astype(np.int64), f"{node.outputs[0].name}_places")
    node.replace_input_with(0, cut.node("Gather", [value, indices], node, {"axis": axis}))


def _unit_step(node: ir.Node, cut: Cut, order: int) -> None:
    steps = list(_numbers(node, "steps", 4) or [])
    steps[order] = 1
    cut.set_ints(node, "steps", 4, steps)


@rule("Slice", patch=reslice)
def slice_(op: Op) -> Sequence[Layout | None]:
    """Ranges of positions."""
    x = list(op.input(0))
    op.freeze("", *(axis for index in range(1, len(op.node.inputs)) if op.has(index) for axis in op.input(index)))
    for axis, span in _spans(op.node, len(x)).items():
        size = x[axis].size
        if span is None or size is None:
            op.freeze("cuts an axis at places only known at run time", x[axis])
            x[axis] = fixed(op.dims()[axis])
        else:
            x[axis] = take(op, x[axis], np.arange(size)[span])
    return (tuple(x),)


def _spans(node: ir.Node, rank: int) -> dict[int, slice | None]:
    """The slice of each axis that has one; None where it is computed."""
    starts, ends, axes, steps = (
        _numbers(node, name, index) for index, name in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    has_axes = node.attributes.get_ints("axes") is not None or (len(node.inputs) > 3 and node.inputs[3] is not None)
    if axes is None and has_axes:
        raise Refuse("computes its axes at run time")
    if starts is None or ends is None or (steps is None and len(node.inputs) > 4 and node.inputs[4] is not None):
        return {position(axis, rank): None for axis in axes or range(rank)}
    axes = axes or list(range(len(starts)))
    spans = zip(axes, starts, ends, steps or [1] * len(axes), strict=True)
    return {position(a, rank): slice(s, None if step < 0 and e < -(2**31) + 1 else e, step) for a, s, e, step in spans}


def _numbers(node: ir.Node, name: str, index: int) -> list[int] | None:
    if (attribute := node.attributes.get_ints(name)) is not None:
        return list(attribute)
    found = constant(node.inputs[index]) if index < len(node.inputs) else None
    return None if found is None else [int(number) for number in found.ravel()]


def renumber(node: ir.Node, cut: Cut) -> None:
    """Constant indices in the numbers of what stays, without those that go."""
    data, indices = node.inputs[0], constant(node.inputs[1])
    axis = position(node.attributes.get_int("axis", 0), len(cut.layout(data)))
    if axis not in cut.pruned(data) or indices is None:
        return
    keep = cut.keep(data, axis)
    indices = np.where(indices < 0, indices + len(keep), indices)
    chosen = indices if indices.ndim == 0 else indices[keep[indices]]
    new = (np.cumsum(keep) - 1)[chosen].astype(indices.dtype)
    node.replace_input_with(1, cut.constant(new, f"{node.outputs[0].name}_indices"))


@rule("Gather", patch=renumber)
def gather(op: Op) -> Sequence[Layout | None]:
    """Constant indices (a number or a list) pick labels; otherwise the looked-up axis stays whole."""
    x, indices = op.input(0), op.const(1)
    axis = position(op.number("axis", 0), len(x))
    size = x[axis].size
    if indices is None or indices.ndim > 1 or size is None:
        op.freeze("looks up this axis", x[axis])
        inner = op.input(1)
        return ((*x[:axis], *(op.axis(i.labels, False, i.open) for i in inner), *x[axis + 1 :]),)
    picked = take(op, x[axis], np.atleast_1d(indices))
    if indices.ndim:
        return ((*x[:axis], picked, *x[axis + 1 :]),)
    op.freeze("picks one position of this axis", picked)
    return ((*x[:axis], *x[axis + 1 :]),)


@rule("GatherND")
def gather_nd(op: Op) -> Sequence[Layout | None]:
    """data[batch..., looked up..., rest...]: only the rest is free."""
    x, indices, batch = op.input(0), op.input(1), op.number("batch_dims", 0)
    depth = indices[-1].size
    if depth is None:
        raise Refuse("has indices of unknown depth")
    op.freeze("looks up this axis", *x[: batch + depth], *indices)
    return ((*(fixed(axis.size) for axis in indices[:-1]), *x[batch + depth :]),)


@rule("ScatterND")
def scatter_nd(op: Op) -> Sequence[Layout | None]:
    """data, indices[..., depth], updates[indices..., rest...]: only the rest is free."""
    x, indices, updates = op.input(0), op.input(1), op.input(2)
    depth = indices[-1].size
    if depth is None:
        raise Refuse("has indices of unknown depth")
    op.freeze("writes to places of this axis", *x[:depth], *indices, *updates[: len(indices) - 1])
    rest = [op.align(*pair) for pair in zip(x[depth:], updates[len(indices) - 1 :], strict=True)]
    return ((*x[:depth], *rest),)


@rule("GatherElements", "ScatterElements")
def elements(op: Op) -> Sequence[Layout | None]:
    """data, indices (, updates) of one rank: `axis` is looked up, the others are aligned where they are as long."""
    given = [op.input(index) for index in range(len(op.node.inputs))]
    scatters = len(given) > 2
    out = list(given[0 if scatters else 1])
    along = position(op.number("axis", 0), len(out))
    for index, axes in enumerate(zip(*given, strict=True)):
        if index == along or len({axis.size for axis in axes}) > 1:
            op.freeze("looks up this axis", *axes)
            out[index] = fixed(out[index].size)
        else:
            out[index] = op.axis(op.align(*axes).labels, axes[0].zero and (axes[-1].zero or not scatters), axes[0].open)
    return (tuple(out),)


@rule("OneHot")
def one_hot(op: Op) -> Sequence[Layout | None]:
    """Indices get a new axis of `depth`."""
    x = op.input(0)
    axis = op.number("axis", -1)
    axis = axis + len(x) + 1 if axis < 0 else axis
    op.freeze("", *op.input(1), *op.input(2))
    wide = [op.axis(own.labels, False, own.open) for own in x]
    return ((*wide[:axis], fixed(op.dims()[axis]), *wide[axis:]),)


@rule("RoiAlign", "MaxRoiPool", "GridSample")
def sampled(op: Op) -> Sequence[Layout | None]:
    """x[batch, channels, height, width] at places that other inputs give: only channels are free."""
    x = op.input(0)
    others = [axis for index in range(1, len(op.node.inputs)) if op.has(index) for axis in op.input(index)]
    op.freeze("is sampled at places given by data", x[0], *x[2:], *others)
    sizes = op.dims(0, len(x))
    return ((fixed(sizes[0]), x[1], *(fixed(size) for size in sizes[2:])),)


@rule("DepthToSpace", "SpaceToDepth")
def blocks(op: Op) -> Sequence[Layout | None]:
    """Channels are a grid of blocks and places: (block, place), with mode CRD (place, block); blocks stay whole."""
    x, area = op.input(0), op.number("blocksize", 1) ** 2
    op.freeze("turns this axis into blocks", *x[2:])
    spatial = [fixed(size) for size in op.dims()[2:]]
    size = x[1].size
    if size is None:
        raise Refuse("has an open number of channels")
    if op.node.op_type == "SpaceToDepth":
        return ((x[0], op.merge([fixed(area), x[1]]), *spatial),)
    if op.node.attributes.get_string("mode", "DCR") == "DCR":
        block, place = op.split(x[1], area, size // area)
    else:
        place, block = op.split(x[1], size // area, area)
    op.freeze("turns blocks of channels into space", block)
    return ((x[0], place, *spatial),)
