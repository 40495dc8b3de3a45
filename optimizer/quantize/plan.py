"""Everything emission needs to know: which groups become int8, and with which numbers."""

from __future__ import annotations

import dataclasses

from optimizer.model.ports import Array
from optimizer.quantize.groups import Group
from optimizer.quantize.qparams import QParams


@dataclasses.dataclass(frozen=True)
class Weight:
    """A rounded weight: int8 `values`, float32 `scales` per channel of `axis`, and the (corrected) float bias.

    Groups that share a weight share its `name`, values and scales.
    """

    name: str
    values: Array
    scales: Array
    axis: int
    bias: Array | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The int8 groups in topological order, the parameters of activations by value name, weights by group name."""

    groups: tuple[Group, ...]
    activations: dict[str, QParams]
    weights: dict[str, Weight]
    dynamic: frozenset[str] = frozenset()
    """Names of the groups whose input's range is found in each run instead of by calibration."""
    stored: tuple[Group, ...] = ()
    """Groups that compute in float with a weight that the file keeps as int8."""

    def without(self, names: set[str]) -> Plan:
        """The same plan with some groups put back to float, their weights kept as int8."""
        kept = tuple(group for group in self.groups if group.name not in names)
        back = tuple(group for group in self.groups if group.name in names and group.weight is not None)
        return dataclasses.replace(self, groups=kept, stored=(*self.stored, *back))

    def only(self, names: set[str]) -> Plan:
        """The same plan with all but some groups in plain float."""
        return dataclasses.replace(self, groups=tuple(g for g in self.groups if g.name in names), stored=())
