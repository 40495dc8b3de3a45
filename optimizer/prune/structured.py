"""Structured pruning of one model: groups -> scores -> a choice -> the removed model and the masked one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

import onnx_ir as ir

from optimizer.errors import NothingToDo
from optimizer.prune import allocate, prepare, remove
from optimizer.prune.groups import Axes, Bools, Group, analyse
from optimizer.prune.importance import Criterion, magnitude
from optimizer.prune.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class Target:
    """What to reach and what may go. `left` is the share of parameters (of MACs where `macs`) that is to stay."""

    left: float
    macs: bool = False
    granularity: tuple[str, ...] = ("channel", "head")
    align: int | None = None
    scope: str = "layer"
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    lossy: bool = False


@dataclasses.dataclass(frozen=True)
class Pruned:
    """The same choice carried out twice, and the analysis it was made on (of the model before)."""

    removed: ir.Model
    masked: ir.Model
    axes: Axes
    dropped: Bools


def prune(model: ir.Model, target: Target, criterion: Criterion = magnitude) -> Pruned:
    """Prune a copy of `model` (clean, with shapes). Raises `NothingToDo` where no group can go."""
    base = model.clone()
    prepare.unshare(base)
    axes = analyse(base, lossy=target.lossy)
    dropped = choose(axes, target, criterion)
    removed, masked = base.clone(), base.clone()
    remove.remove(axes.on(removed), dropped)
    remove.mask(axes.on(masked), dropped)
    return Pruned(removed, masked, axes, dropped)


def choose(axes: Axes, target: Target, criterion: Criterion) -> Bools:
    """The labels that go. Raises `NothingToDo`."""
    groups = eligible(axes, target)
    if not groups:
        reasons = [frozen.reason for frozen in axes.frozen()][:1]
        raise NothingToDo("nothing can be removed from this model" + "".join(f": {reason}" for reason in reasons))
    sizes, scores = Sizes(axes), criterion(axes)
    lanes = allocate.lanes(axes, groups, scores, target.align)
    measure = sizes.share_of_macs if target.macs else sizes.sparsity
    return allocate.choose(axes, lanes, measure, target.left, target.scope, scores)


def eligible(axes: Axes, target: Target) -> list[Group]:
    """The groups that the target allows to shrink."""
    return [
        group
        for group in axes.groups
        if len(group.labels) > 1
        and group.kind in target.granularity
        and (not target.only or _matches(group, target.only))
        and not _matches(group, target.exclude)
    ]


def _matches(group: Group, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for name in names(group) for glob in globs)


def names(group: Group) -> Collection[str]:
    """What a group is known by: its tensors, the nodes that read them, and those nodes' types."""
    users = [node for value, _ in group.places for node, _ in value.uses()]
    return {value.name or "" for value, _ in group.places} | {n.name or "" for n in users} | {n.op_type for n in users}


__all__ = ["Pruned", "Target", "choose", "eligible", "names", "prune"]
