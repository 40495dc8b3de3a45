"""Rows of ops that move, select, repeat or describe elements. Integers that steer them are read at run time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from optimizer.train.dtypes import to_torch, torch_dtype
from optimizer.train.table import Call, Row, Tensor, numbers, pads


def axes_of(at: Call, given: Tensor, name: str = "axes") -> list[int] | None:
    """Axes from the input where there is one, else from the attribute."""
    return numbers(given) if given is not None else at.integers(name)


def shape(at: Call, x: Tensor) -> Tensor:
    end = at.integer("end", x.ndim)
    return at.torch.tensor(list(x.shape)[at.integer("start", 0) : end], dtype=at.torch.int64)


def size(at: Call, x: Tensor) -> Tensor:
    return at.torch.tensor(x.numel(), dtype=at.torch.int64)


def reshape(at: Call, x: Tensor, to: Tensor) -> Tensor:
    sizes = numbers(to)
    if not at.flag("allowzero"):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def flatten(at: Call, x: Tensor) -> Tensor:
    axis = at.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def transpose(at: Call, x: Tensor) -> Tensor:
    return x.permute(at.integers("perm") or list(reversed(range(x.ndim))))


def squeeze(at: Call, x: Tensor, axes: Tensor = None) -> Tensor:
    found = axes_of(at, axes)
    found = [axis for axis in range(x.ndim) if x.shape[axis] == 1] if found is None else found
    gone = {axis % x.ndim for axis in found}
    return x.reshape([size for axis, size in enumerate(x.shape) if axis not in gone])


def unsqueeze(at: Call, x: Tensor, axes: Tensor = None) -> Tensor:
    found = axes_of(at, axes) or []
    rank = x.ndim + len(found)
    for axis in sorted(axis % rank for axis in found):
        x = x.unsqueeze(axis)
    return x


def concat(at: Call, *inputs: Tensor) -> Tensor:
    return at.torch.cat(inputs, dim=at.integer("axis", 0))


def split(at: Call, x: Tensor, sizes: Tensor = None) -> tuple[Tensor, ...]:
    axis, parts = at.integer("axis", 0), at.integer("num_outputs", len(at.node.outputs))
    given = axes_of(at, sizes, "split")
    if given is None:
        each = -(-x.shape[axis] // parts)
        given = [each] * (parts - 1) + [x.shape[axis] - each * (parts - 1)]
    return tuple(at.torch.split(x, given, dim=axis))


def slice_(
    at: Call, x: Tensor, starts: Tensor = None, ends: Tensor = None, axes: Tensor = None, steps: Tensor = None
) -> Tensor:
    begin, end = axes_of(at, starts, "starts") or [], axes_of(at, ends, "ends") or []
    on = axes_of(at, axes) or list(range(len(begin)))
    by = [1] * len(begin) if steps is None else numbers(steps)
    for axis, bounds in zip(on, zip(begin, end, by, strict=True), strict=True):
        x = _cut(at, x, axis % x.ndim, slice(*bounds))
    return x


def _cut(at: Call, x: Tensor, axis: int, part: slice) -> Tensor:
    kept = range(x.shape[axis])[_bounded(part, x.shape[axis])]
    if kept.step > 0:
        return x[(slice(None),) * axis + (slice(kept.start, kept.stop, kept.step),)]
    return x.index_select(axis, at.torch.tensor(list(kept), dtype=at.torch.int64))


def _bounded(part: slice, size: int) -> slice:
    """Python means "up to the last element" by an end of -1; ONNX means "before the first" below -size only."""
    stop = None if part.step < 0 and part.stop < -size else part.stop
    return slice(part.start, stop, part.step)


def _positions(at: Call, index: Tensor, size: int) -> Tensor:
    index = index.to(at.torch.int64)
    return at.torch.where(index < 0, index + size, index)


def gather(at: Call, x: Tensor, index: Tensor) -> Tensor:
    axis = at.integer("axis", 0) % x.ndim
    flat = _positions(at, index, x.shape[axis]).reshape(-1)
    return x.index_select(axis, flat).reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def gather_elements(at: Call, x: Tensor, index: Tensor) -> Tensor:
    axis = at.integer("axis", 0)
    return at.torch.gather(x, axis, _positions(at, index, x.shape[axis]))


def _flat_index(at: Call, index: Tensor, sizes: Sequence[int]) -> Tensor:
    """The last axis of `index` (coordinates in axes of `sizes`) as one position in the flattened axes."""
    flat = at.torch.zeros(index.shape[:-1], dtype=at.torch.int64)
    for position, size in enumerate(sizes):
        flat = flat * size + _positions(at, index[..., position], size)
    return flat


def gather_nd(at: Call, x: Tensor, index: Tensor) -> Tensor:
    batch = at.integer("batch_dims", 0)
    depth = batch + index.shape[-1]
    lead, rest = x.shape[batch:depth], x.shape[depth:]
    rows = math.prod(x.shape[:batch])
    flat = _flat_index(at, index, lead).reshape(rows, -1)
    offset = at.torch.arange(rows).reshape(-1, 1) * math.prod(lead)
    picked = x.reshape(rows * math.prod(lead), *rest).index_select(0, (flat + offset).reshape(-1))
    return picked.reshape(*index.shape[:-1], *rest)


REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_elements(at: Call, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    axis, how = at.integer("axis", 0), at.text("reduction", "none")
    index = _positions(at, index, x.shape[axis])
    if how == "none":
        return x.scatter(axis, index, updates)
    return x.scatter_reduce(axis, index, updates, REDUCTIONS[how])


def scatter_nd(at: Call, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    depth, how = index.shape[-1], at.text("reduction", "none")
    flat = _flat_index(at, index, x.shape[:depth]).reshape(-1)
    rows = x.reshape(math.prod(x.shape[:depth]), -1)
    values = updates.reshape(flat.numel(), -1)
    if how == "none":
        return rows.index_copy(0, flat, values).reshape(x.shape)
    spread = flat.reshape(-1, 1).expand(-1, rows.shape[1])
    return rows.scatter_reduce(0, spread, values, REDUCTIONS[how]).reshape(x.shape)


def expand(at: Call, x: Tensor, to: Tensor) -> Tensor:
    return x.expand(at.torch.broadcast_shapes(x.shape, numbers(to)))


def tile(at: Call, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(numbers(repeats)) if x.ndim else x


def pad(at: Call, x: Tensor, amount: Tensor = None, value: Tensor = None, axes: Tensor = None) -> Tensor:
    mode, given = at.text("mode", "constant"), axes_of(at, amount, "pads") or []
    on = [axis % x.ndim for axis in numbers(axes)] if axes is not None else list(range(x.ndim))
    full = [0] * (2 * x.ndim)
    for position, axis in enumerate(on):
        full[axis], full[axis + x.ndim] = given[position], given[position + len(on)]
    if mode == "constant":
        fill = at.real("value", 0.0) if value is None else value.item()
        return at.functional.pad(x, pads(full), value=fill)
    for axis in on:
        x = _pad_by_index(at, x, axis, (full[axis], full[axis + x.ndim]), mode)
    return x


def _pad_by_index(at: Call, x: Tensor, axis: int, sides: tuple[int, int], mode: str) -> Tensor:
    size = x.shape[axis]
    wanted = at.torch.arange(-sides[0], size + sides[1])
    if mode == "wrap":
        return x.index_select(axis, wanted % size)
    if mode == "edge":
        return x.index_select(axis, wanted.clamp(0, size - 1))
    period = max(2 * (size - 1), 1)
    folded = wanted.remainder(period)
    return x.index_select(axis, at.torch.minimum(folded, period - folded))


def constant(at: Call) -> Tensor:
    name, attribute = next(iter(at.node.attributes.items()))
    if name == "value":
        return to_torch(at.torch, attribute.as_tensor().numpy())
    kind = at.torch.float32 if name.startswith("value_float") else at.torch.int64
    if name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise at.refuse(f"a constant given as {name!r} is no tensor of numbers")
    return at.torch.tensor(attribute.value, dtype=kind)


def constant_of_shape(at: Call, sizes: Tensor) -> Tensor:
    given = at.node.attributes.get_tensor("value", None)
    value = at.torch.zeros(1) if given is None else to_torch(at.torch, given.numpy())
    return value.reshape(-1)[0].expand(numbers(sizes)).clone()


def range_(at: Call, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    count = max(math.ceil((limit.item() - start.item()) / step.item()), 0)
    return start.reshape(()) + at.torch.arange(count, dtype=start.dtype) * step.reshape(())


def one_hot(at: Call, index: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    size, axis = numbers(depth)[0], at.integer("axis", -1) % (index.ndim + 1)
    wanted = at.torch.where(index < 0, index + size, index).to(at.torch.int64).unsqueeze(axis)
    grid = at.torch.arange(size).reshape([-1 if position == axis else 1 for position in range(index.ndim + 1)])
    return at.torch.where(wanted == grid, values[1], values[0])


def eye_like(at: Call, x: Tensor) -> Tensor:
    rows, columns = at.torch.arange(x.shape[0]).reshape(-1, 1), at.torch.arange(x.shape[1])
    kind = ir.DataType(at.integer("dtype", 1)) if at.has("dtype") else None
    found = columns - rows == at.integer("k", 0)
    return found.to(x.dtype if kind is None else torch_dtype(at.torch, kind))


def trilu(at: Call, x: Tensor, k: Tensor = None) -> Tensor:
    keep = at.torch.triu if at.flag("upper", True) else at.torch.tril
    return keep(x, 0 if k is None else int(k))


def non_zero(at: Call, x: Tensor) -> Tensor:
    return at.torch.nonzero(x).T


def compress(at: Call, x: Tensor, condition: Tensor) -> Tensor:
    kept = at.torch.nonzero(condition).reshape(-1)
    return x.index_select(at.integer("axis", 0), kept) if at.has("axis") else x.reshape(-1).index_select(0, kept)


def depth_to_space(at: Call, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = at.integer("blocksize", 1)
    if at.text("mode", "DCR") == "CRD":
        return x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def space_to_depth(at: Call, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b, order = at.integer("blocksize", 1), (0, 3, 5, 1, 2, 4) if at.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).permute(order).reshape(n, c * b * b, h // b, w // b)


def reverse_sequence(at: Call, x: Tensor, lengths: Tensor) -> Tensor:
    time, batch = at.integer("time_axis", 0), at.integer("batch_axis", 1)
    moved = x.movedim((time, batch), (0, 1))
    steps = at.torch.arange(moved.shape[0]).reshape(-1, 1)
    order = at.torch.where(steps < lengths, lengths - 1 - steps, steps)
    picked = moved[order, at.torch.arange(moved.shape[1])]
    return picked.movedim((0, 1), (time, batch))


ROWS = {
    "Shape": Row(shape, smooth=False),
    "Size": Row(size, smooth=False),
    "Reshape": Row(reshape),
    "Flatten": Row(flatten),
    "Transpose": Row(transpose),
    "Squeeze": Row(squeeze),
    "Unsqueeze": Row(unsqueeze),
    "Concat": Row(concat),
    "Split": Row(split),
    "Slice": Row(slice_),
    "Gather": Row(gather, weights=(0,)),
    "GatherElements": Row(gather_elements),
    "GatherND": Row(gather_nd),
    "ScatterElements": Row(scatter_elements),
    "Scatter": Row(scatter_elements),
    "ScatterND": Row(scatter_nd),
    "Expand": Row(expand),
    "Tile": Row(tile),
    "Pad": Row(pad),
    "Constant": Row(constant, smooth=False),
    "ConstantOfShape": Row(constant_of_shape, smooth=False),
    "Range": Row(range_, smooth=False),
    "OneHot": Row(one_hot),
    "EyeLike": Row(eye_like, smooth=False),
    "Trilu": Row(trilu),
    "NonZero": Row(non_zero, smooth=False),
    "Compress": Row(compress),
    "DepthToSpace": Row(depth_to_space),
    "SpaceToDepth": Row(space_to_depth),
    "ReverseSequence": Row(reverse_sequence),
}
