"""Which groups may become int8 at all: what the caller asks for, and what calibration and judging can vouch for."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import onnx_ir as ir

from optimizer.calibrate import selection
from optimizer.quantize.groups import Partition
from optimizer.quantize.statistics import Statistics
from optimizer.recipe import Quantize

_ASKED = "left out on request"
_SELECTED = "what it reads was selected by the data: answers behind it cannot be compared"
_INFINITE = "its values are infinite or no numbers"


def finite(found: Partition, seen: Statistics) -> Partition:
    """`found` without the groups that read or write infinite values (masks): a finite range would change them."""
    kept, floats = [], dict(found.floats)
    for group in found.groups:
        if any(seen.histograms[name].infinite for name in (*group.inputs, *group.outputs)):
            floats |= dict.fromkeys(group.nodes, _INFINITE)
        else:
            kept.append(group)
    return Partition(tuple(kept), floats)


def selected(found: Partition, step: Quantize, model: ir.Model) -> tuple[Partition, dict[str, str]]:
    """The groups that --only, --exclude and data-dependent selections leave, and the reason for the nodes of the
    others. A metric of the caller's own judges whatever comes out."""
    hidden = set() if ":" in (step.metric or "") else selection.behind(model)
    reasons = {
        group.name: _SELECTED if hidden.intersection(group.nodes) else _ASKED
        for group in found.groups
        if hidden.intersection(group.nodes) or not _matches((*group.nodes, group.op), step)
    }
    kept = tuple(group for group in found.groups if group.name not in reasons)
    out = {node: reasons[group.name] for group in found.groups if group.name in reasons for node in group.nodes}
    return Partition(kept, found.floats), out


def unwanted(model: ir.Model, step: Quantize) -> set[str]:
    """The constants that nodes read which --only and --exclude keep out."""
    every = ir.traversal.RecursiveGraphIterator(model.graph)
    out = [node for node in every if not _matches((node.name or "", node.op_type), step)]
    return {value.name or "" for node in out for value in node.inputs if value is not None and value.is_initializer()}


def _matches(names: Sequence[str], step: Quantize) -> bool:
    """Whether a node or group with these names and op is among those to quantize."""

    def like(patterns: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return (not step.only or like(step.only)) and not like(step.exclude)
