"""What is left of a model for a choice of labels, without carrying it out: parameters and MACs.

A size that is open counts as 1. So that a layer at 100 x 100 places does not count like one at a single place, its MACs
are taken `times` what that makes of them: a factor for each node, found from the sizes of one run. Nothing of an open
axis can go, so the factor is the same for every choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from optimizer.model import cost
from optimizer.prune.groups import Axes, Bools


class Sizes:
    """Counts for one analysed model; `times` are factors by the names of nodes, 1 where there is none."""

    def __init__(self, axes: Axes, times: Mapping[str | None, float] | None = None) -> None:
        every = Counter(axes, axes.layouts)
        full = every.shapes(axes.gone(axes.none()))
        self.axes, self.nodes = axes, [node for node in axes.graph if cost.node_macs(node, full)]
        self._times = [(times or {}).get(node.name, 1.0) for node in self.nodes]
        self._parameters = Counter(axes, axes.parameters)
        self._factors = Counter(axes, {v: None for node in self.nodes for v in (*node.inputs, *node.outputs) if v})
        self.params, self.macs = self.params_of(axes.none()), self.macs_of(axes.none())
        frozen = axes.labels.frozen(np.arange(len(axes.sets.root)))
        self.prunable = sum(
            math.prod(full[value.name or ""])
            for value in axes.parameters
            if any(not frozen[axis.labels].all() for axis in axes.layouts[value] or ())
        )
        """Parameters of tensors of which something can go."""

    def params_of(self, dropped: Bools) -> int:
        """Parameters that are left."""
        return sum(map(math.prod, self._parameters.shapes(self.axes.gone(dropped)).values()))

    def macs_of(self, dropped: Bools) -> int:
        """MACs that are left."""
        shapes = self._factors.shapes(self.axes.gone(dropped))
        own = (cost.node_macs(node, shapes) or 0 for node in self.nodes)
        return round(sum(macs * times for macs, times in zip(own, self._times, strict=True)))

    def times(self, seen: Mapping[str, tuple[int, ...]]) -> dict[str | None, float]:
        """The factors that sizes `seen` in a run, by the names of values, tell of the nodes."""
        shapes = self._factors.shapes(self.axes.gone(self.axes.none()))
        own = {node.name: cost.node_macs(node, shapes) or 1 for node in self.nodes}
        return {node.name: (cost.node_macs(node, seen) or own[node.name]) / own[node.name] for node in self.nodes}


class Counter:
    """Shapes of some values for a choice, counted in one pass over all labels of all their axes."""

    def __init__(self, axes: Axes, values: Iterable[ir.Value]) -> None:
        layouts = {value.name: axes.layouts.get(value) for value in values}
        self._ranks = {name: len(layout) for name, layout in layouts.items() if name and layout is not None}
        labels = [axis.labels for name in self._ranks for axis in layouts[name] or ()]
        self._owner = np.repeat(np.arange(len(labels)), [len(own) for own in labels])
        self._labels = np.concatenate([*labels, np.zeros(0, np.int64)])
        self._axes = len(labels)

    def shapes(self, gone: Bools) -> dict[str, tuple[int, ...]]:
        left = iter(np.bincount(self._owner[~gone[self._labels]], minlength=self._axes).tolist())
        return {name: tuple(next(left) for _ in range(rank)) for name, rank in self._ranks.items()}
