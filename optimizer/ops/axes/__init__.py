"""What every op does to the positions of tensor axes: labels, layouts and one rule per op (see `rule`)."""

from optimizer.ops.axes import (
    attention,
    moves,
    pointwise,
    products,
    quantized,
    recurrent,
    reduction,
    resampling,
    shaping,
)
from optimizer.ops.axes.labels import Labels, Sets
from optimizer.ops.axes.rule import (
    RULES,
    STATISTICS,
    Axis,
    Cut,
    Dim,
    Dims,
    Layout,
    Op,
    Refuse,
    constant,
    describe,
    dims,
    fixed,
)

FAMILIES = (attention, moves, pointwise, products, quantized, recurrent, reduction, resampling, shaping)
"""The modules that register rules."""

__all__ = [
    "FAMILIES", "RULES", "STATISTICS", "Axis", "Cut", "Dim", "Dims", "Labels", "Layout", "Op", "Refuse", "Sets",
    "constant", "describe", "dims", "fixed",
]  # fmt: skip
