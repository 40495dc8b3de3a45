"""What is left of a model for a choice of labels, without carrying it out: parameters and MACs."""

from __future__ import annotations

import math

import numpy as np

from optimizer.model import cost
from optimizer.ops.axes import Layout
from optimizer.prune.groups import Axes, Bools


class Sizes:
    """Counts for one analysed model. A size that is open counts as 1."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        frozen, full = axes.labels.frozen(np.arange(len(axes.sets.root))), self._shapes(axes.none())
        self._nodes = [node for node in axes.graph if cost.node_macs(node, full)]
        self.params, self.macs = self.params_of(axes.none()), self.macs_of(axes.none())
        self.prunable = sum(
            math.prod(_counts(axes.layouts[value], axes.none()))
            for value in axes.parameters
            if any(not frozen[axis.labels].all() for axis in axes.layouts[value] or ())
        )
        """Parameters of tensors of which something can go."""

    def params_of(self, dropped: Bools) -> int:
        """Parameters that are left."""
        gone = self.axes.gone(dropped)
        return sum(math.prod(_counts(self.axes.layouts[value], gone)) for value in self.axes.parameters)

    def macs_of(self, dropped: Bools) -> int:
        """MACs that are left."""
        shapes = self._shapes(self.axes.gone(dropped))
        return sum(cost.node_macs(node, shapes) or 0 for node in self._nodes)

    def _shapes(self, gone: Bools) -> dict[str, tuple[int, ...]]:
        known = ((value, layout) for value, layout in self.axes.layouts.items() if layout is not None)
        return {value.name: _counts(layout, gone) for value, layout in known if value.name is not None}


def _counts(layout: Layout | None, gone: Bools) -> tuple[int, ...]:
    return tuple(int(len(axis.labels) - gone[axis.labels].sum()) for axis in layout or ())
