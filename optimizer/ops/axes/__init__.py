"""What every op does to the positions of tensor axes: labels (`labels`), and a sentence for every op (`sentence`)."""

from optimizer.ops.axes import attention, moves, norms, pointwise, products, shaping
from optimizer.ops.axes.cut import Cut
from optimizer.ops.axes.labels import Labels, Sets
from optimizer.ops.axes.layout import Axis, Layout, constant, describe, dims, fixed
from optimizer.ops.axes.op import STATISTICS, Edit, Op, Refuse
from optimizer.ops.axes.rules import RULES

FAMILIES = (attention, moves, norms, pointwise, products, shaping)
"""The modules that register rules."""

__all__ = [
    "FAMILIES", "RULES", "STATISTICS", "Axis", "Cut", "Edit", "Labels", "Layout", "Op", "Refuse",
    "Sets", "constant", "describe", "dims", "fixed",
]  # fmt: skip
