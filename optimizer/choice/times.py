"""What is left of a model's time for a choice of labels, by a table of times that were measured, per layer and load.

A layer's load is its multiply-accumulates; where it multiplies nothing, the elements that it puts out. Between loads
that were measured time is a straight line, beyond them it stays. What belongs to no layer (changes of layout) goes by
the load of all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from optimizer.model import cost
from optimizer.model.ports import Array
from optimizer.prune.groups import Axes, Bools
from optimizer.prune.sizes import Counter

REST = ""
"""The name of all that belongs to no layer."""


class Loads:
    """Loads of the named layers of one analysed model."""

    def __init__(self, axes: Axes) -> None:
        self.axes, self._nodes = axes, [node for node in axes.graph if node.name]
        values = {value: None for node in self._nodes for value in (*node.inputs, *node.outputs) if value is not None}
        self._counter = Counter(axes, values)

    def of(self, dropped: Bools) -> dict[str, float]:
        """The load of each layer, by its name, and of all of them."""
        shapes = self._counter.shapes(self.axes.gone(dropped))
        found = {node.name or "": float(cost.node_macs(node, shapes) or 0) for node in self._nodes}
        plain = {
            node.name or "": float(sum(math.prod(shapes[one.name]) for one in node.outputs if one.name in shapes))
            for node in self._nodes
            if not found[node.name or ""]
        }
        return {REST: sum(found.values()), **found, **plain}


@dataclasses.dataclass(frozen=True)
class Curve:
    """Loads of one layer, rising, and the time at each as a share of the whole model's."""

    loads: Array
    times: Array

    def at(self, load: float) -> float:
        return float(np.interp(load, self.loads, self.times))


def curve(loads: Array, times: Array) -> Curve:
    """One through the points that were measured; where less load took longer, that was noise."""
    order = np.argsort(loads, kind="stable")
    known, where = np.unique(loads[order], return_inverse=True)
    means = np.bincount(where, times[order]) / np.bincount(where)
    return Curve(known, np.maximum.accumulate(means))


class Times:
    """The share of the original's time that a choice is expected to leave."""

    def __init__(self, axes: Axes, table: Mapping[str, Curve]) -> None:
        self._loads, self._table = Loads(axes), table

    def of(self, dropped: Bools) -> float:
        return sum(self._table[name].at(load) for name, load in self._loads.of(dropped).items() if name in self._table)
