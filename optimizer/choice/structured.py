"""Structured pruning of one model: groups -> scores -> a choice -> the removed model and the masked one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase

import onnx_ir as ir

from optimizer.choice import allocate
from optimizer.choice.importance import Criterion, magnitude
from optimizer.errors import NothingToDo
from optimizer.model.ports import Array
from optimizer.prune.groups import Axes, Bools, Group
from optimizer.prune.remove import carry_out
from optimizer.prune.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class Target:
    """What to reach and what may go. `goal` is how much is to be left, in what `measure` counts."""

    goal: float
    measure: Callable[[Axes], allocate.Measure] = lambda axes: Sizes(axes).params_of
    granularity: tuple[str, ...] = ("channel", "head")
    align: int | None = None
    scope: str = "layer"
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Pruned:
    """The same choice carried out twice."""

    removed: ir.Model
    masked: ir.Model


Mend = Callable[[Bools], Mapping[str, Array]]
"""New constants by name that make up for a choice of labels."""


def unmended(dropped: Bools) -> Mapping[str, Array]:
    """No new constants."""
    return {}


def prune(
    axes: Axes,
    model: ir.Model,
    masked: ir.Model,
    target: Target,
    criterion: Criterion = magnitude,
    mend: Mend = unmended,
) -> Pruned:
    """Prune `model`, which `axes` was made of, and mask `masked`, which has the same constants, both in place.

    Raises `NothingToDo` where no group can go.
    """
    dropped = choose(axes, target, criterion)
    carry_out(axes, model, masked, dropped, mend(dropped))
    return Pruned(model, masked)


def choose(axes: Axes, target: Target, criterion: Criterion) -> Bools:
    """The labels that go. Raises `NothingToDo`."""
    groups = eligible(axes, target)
    if not groups:
        reasons = [frozen.reason for frozen in axes.frozen()][:1]
        raise NothingToDo("nothing can be removed from this model" + "".join(f": {reason}" for reason in reasons))
    scores, measure = criterion(axes), target.measure(axes)
    lanes = allocate.lanes(axes, groups, scores, target.align, measure)
    return allocate.choose(axes, lanes, measure, target.goal, target.scope, scores)


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
