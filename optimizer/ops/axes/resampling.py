"""Resize and Pad: axes that keep their size pass through, the others are never pruned.

Padding with a constant is a Concat with constants: what is there before and after stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optimizer.ops.axes.moves import position
from optimizer.ops.axes.rule import Axis, Cut, Layout, Op, Refuse, fixed, rule


def resize_sizes(node: ir.Node, cut: Cut) -> None:
    """The `sizes` input, where there is one, gets what stays."""
    if len(node.inputs) <= 3 or node.inputs[3] is None:
        return
    counts = cut.counts(node.outputs[0])
    axes = list(node.attributes.get_ints("axes") or range(len(counts)))
    pruned = [axis for axis in cut.pruned(node.outputs[0]) if axis in axes]
    cut.overwrite(node, 3, {axes.index(axis): counts[axis] or 0 for axis in pruned})


@rule("Resize", patch=resize_sizes)
def resize(op: Op) -> Sequence[Layout | None]:
    """Axes with a scale of 1 are left as they are."""
    x, sizes = op.input(0), op.dims()
    op.const(3)
    if op.node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Refuse("crops at places given by data")
    touched = op.numbers("axes") or range(len(x))
    scales = _scales(op)
    same = [_same(axis, size) for axis, size in zip(x, sizes, strict=True)]
    for place, axis in enumerate(position(axis, len(x)) for axis in touched):
        same[axis] = bool(scales[place] == 1) if scales is not None else same[axis]
    same = [kept or axis not in [position(t, len(x)) for t in touched] for axis, kept in enumerate(same)]
    op.freeze("resamples this axis", *(axis for axis, kept in zip(x, same, strict=True) if not kept))
    return (tuple(axis if kept else fixed(size) for axis, kept, size in zip(x, same, sizes, strict=True)),)


def _scales(op: Op) -> list[float] | None:
    """The scale factors, where they are given and constant."""
    found = op.const(2 if op.version >= 11 else 1)
    return None if found is None or not found.size else [float(scale) for scale in found.ravel()]


def _same(axis: Axis, size: int | None) -> bool:
    return axis.size is not None and axis.size == size


@rule("Pad")
def pad(op: Op) -> Sequence[Layout | None]:
    """Axes without padding pass; a constant leaves the others prunable too."""
    x, pads = op.input(0), op.numbers("pads", 1) or []
    axes = [position(axis, len(x)) for axis in op.numbers("axes", 3) or range(len(x))]
    if any(number < 0 for number in pads):
        raise Refuse("crops by negative padding")
    filled = op.const(2) if op.has(2) else np.float32(op.node.attributes.get_float("value", 0.0))
    zero = filled is not None and not np.any(filled)
    constant = op.node.attributes.get_string("mode", "constant") == "constant"
    out = [op.axis(axis.labels, axis.zero and (zero or not constant), axis.open) for axis in x]
    for place, axis in enumerate(axes):
        before, after = pads[place], pads[place + len(axes)]
        if before or after:
            out[axis] = _padded(op, x[axis], out[axis], before, after, constant)
    return (tuple(out),)


def _padded(op: Op, axis: Axis, out: Axis, before: int, after: int, constant: bool) -> Axis:
    if axis.size is None or not constant:
        op.freeze("pads this axis", axis)
        return fixed(None if axis.size is None else axis.size + before + after)
    return op.axis(np.pad(axis.labels, (before, after)), axis.zero)
