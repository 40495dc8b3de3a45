"""What every op does to the positions of tensor axes, and so what can be removed from a graph.

To read in this order: what is known of a tensor (`layout`, `labels`), how an op says what it does (`sentence`, then
its `rows`), how that is carried out on labels (`op`, `reading`, `grids`), and how a removal reaches the numbers that a
node has about its axes (`cut`).
A new op is one row in `rows` and one example in the tests.
"""

from optimizer.ops.axes.cut import Cut
from optimizer.ops.axes.labels import Labels, Sets
from optimizer.ops.axes.layout import Axis, Layout, constant, describe, dims, fixed
from optimizer.ops.axes.op import STATISTICS, Edit, Op, Refuse
from optimizer.ops.axes.rows import RULES

__all__ = [
    "RULES", "STATISTICS", "Axis", "Cut", "Edit", "Labels", "Layout", "Op", "Refuse", "Sets",
    "constant", "describe", "dims", "fixed",
]  # fmt: skip
