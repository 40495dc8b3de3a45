"""The rows of the table, one per op, by what ops do. Whoever takes `RULES` from here has it filled."""

from optimizer.ops.axes.rows import attention, moves, norms, pointwise, products, shaping
from optimizer.ops.axes.rules import RULES

__all__ = ["RULES", "attention", "moves", "norms", "pointwise", "products", "shaping"]
