"""Which labels go, so that a target is met: scores per label -> a choice.

Every group has an order (lowest score first) and a level of how many go. One number t in 0..1 sets all levels: the same
share of every group (scope `layer`), or all labels below the t-quantile of all scores per saving, of no group more than
`MOST` (scope `global`). Kept counts are multiples of a step where a group is large enough for the kernels to care. The
measure (parameters or MACs left) falls with t, so bisection brackets the target; the groups between the two brackets
then move one after the other, and the nearest measure wins. Last, an axis that lost everything gets back its best
position.

Where no choice comes near the target in these steps (a model of one group), they are halved, unless the user set them;
what then is still not near is below the target rather than above it, since a target is the most that may be left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from optimizer.choice.importance import Scores
from optimizer.prune.groups import Axes, Bools, Group, Ints

MOST = 0.9
"""The largest share of one group that goes by global ranking."""
SLACK = 0.05
"""A target counts as met within this share of the whole."""
_HALVINGS, _RETRIES, _NEAR = 14, 4, 0.02

Measure = Callable[[Bools], float]
"""What is left (parameters, MACs, time) when the marked labels are dropped."""


@dataclasses.dataclass(frozen=True)
class Lane:
    """One group in the order in which its labels go, its kept counts' step, and its scores per saving in that order."""

    order: Ints
    step: int
    scores: Scores
    fixed: bool = False
    """Whether the step is what the user asked for."""

    @property
    def finer(self) -> Lane:
        """The lane with half the step, if it may have one."""
        return self if self.fixed else dataclasses.replace(self, step=max(1, self.step // 2))

    def down(self, going: int) -> int:
        """The number that goes so that a multiple of the step stays, nearest to `going`; at least one stays."""
        size = len(self.order)
        kept = size - min(going, size - 1)
        return size - min(size, max(self.step, round(kept / self.step) * self.step)) if self.step <= size else 0


def lanes(axes: Axes, groups: Sequence[Group], scores: Scores, align: int | None, measure: Measure) -> list[Lane]:
    """The groups as lanes; `align` fixes the step, None picks one for each group."""
    return [_lane(axes, group, scores, align, measure) for group in groups]


def _lane(axes: Axes, group: Group, scores: Scores, align: int | None, measure: Measure) -> Lane:
    own = scores[group.labels]
    order = np.argsort(own, kind="stable")
    value, index = group.places[0]
    layout = axes.layouts[value]
    assert layout is not None
    covered = max(1, int(np.isin(axes.sets.members(layout[index].labels)[1], group.labels).sum()) // len(own))
    wanted = align or min(16, max(1, 2 ** int(np.log2(max(1, len(own) * covered / 4)))))
    step = 1 if group.kind == "head" else max(1, wanted // covered)
    return Lane(group.labels[order], step, own[order] / _saved(axes, group, measure), align is not None)


def _saved(axes: Axes, group: Group, measure: Measure) -> float:
    """What one label of the group saves, when half of them go."""
    dropped, half = axes.none(), len(group.labels) // 2
    dropped[group.labels[:half]] = True
    return max(1e-9, (measure(axes.none()) - measure(dropped)) / max(1, half))


def choose(axes: Axes, ways: Sequence[Lane], measure: Measure, left: float, scope: str, scores: Scores) -> Bools:
    """Labels to drop so that the measure comes as near to `left` as the steps allow, above it only within `SLACK`."""
    above = left + SLACK * measure(axes.none())

    def away(levels: Sequence[int]) -> tuple[bool, float]:
        amount = measure(_dropped(axes, ways, levels))
        return amount > above, abs(amount - left)

    while True:
        best = min(_tried(axes, ways, measure, left, scope), key=away)
        if away(best)[1] <= above - left or all(lane.fixed or lane.step == 1 for lane in ways):
            return _refill(axes, _dropped(axes, ways, best), scores)
        ways = [lane.finer for lane in ways]


def _tried(axes: Axes, ways: Sequence[Lane], measure: Measure, left: float, scope: str) -> list[list[int]]:
    """Levels on both sides of `left`.

    A group of few labels can jump past the target on its own (half of a grouped convolution). It then stays at its
    lower level, and the others go on to make up for it.
    """
    held: dict[int, int] = {}
    found: list[list[int]] = []

    def away(levels: Sequence[int]) -> float:
        return abs(measure(_dropped(axes, ways, levels)) - left)

    for _ in range(_RETRIES):
        few, many = _bracket(axes, ways, measure, left, scope, held)
        below, above = _between(axes, ways, few, many, measure, left)
        found += [below, above]
        jumps = [index for index, (a, b) in enumerate(zip(below, above, strict=True)) if a != b]
        if not jumps or min(map(away, (below, above))) <= _NEAR * left:
            break
        held |= {index: below[index] for index in jumps}
    return found


def _bracket(
    axes: Axes, ways: Sequence[Lane], measure: Measure, left: float, scope: str, held: Mapping[int, int]
) -> tuple[list[int], list[int]]:
    """The levels of two neighbouring t between which the measure passes `left`."""

    def levels(t: float) -> list[int]:
        return [held.get(index, level) for index, level in enumerate(_levels(ways, t, scope))]

    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(_dropped(axes, ways, levels(middle))) > left else (low, middle)
    return levels(low), levels(high)


def _levels(ways: Sequence[Lane], t: float, scope: str) -> list[int]:
    if scope == "layer" or not ways:
        return [lane.down(round(t * len(lane.order))) for lane in ways]
    bar = np.quantile(np.concatenate([lane.scores for lane in ways]), t)
    return [lane.down(min(int(np.searchsorted(lane.scores, bar)), int(MOST * len(lane.order)))) for lane in ways]


def _dropped(axes: Axes, ways: Sequence[Lane], levels: Sequence[int]) -> Bools:
    dropped = axes.none()
    for lane, level in zip(ways, levels, strict=True):
        dropped[lane.order[:level]] = True
    return dropped


def _between(
    axes: Axes, ways: Sequence[Lane], few: Sequence[int], many: Sequence[int], measure: Measure, left: float
) -> tuple[list[int], list[int]]:
    """The first k groups at their higher level, the others at their lower one, on both sides of `left`."""
    moving = [index for index, (a, b) in enumerate(zip(few, many, strict=True)) if a != b]

    def mixed(count: int) -> list[int]:
        moved = set(moving[:count])
        return [many[index] if index in moved else level for index, level in enumerate(few)]

    low, high = 0, len(moving)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if measure(_dropped(axes, ways, mixed(middle))) > left else (low, middle)
    return mixed(low), mixed(high)


def _refill(axes: Axes, dropped: Bools, scores: Scores) -> Bools:
    """Give back the best position to every axis of which nothing is left."""
    gone = axes.gone(dropped)
    for layout in axes.layouts.values():
        for axis in layout or ():
            if len(axis.labels) and gone[axis.labels].all():
                position, root = axes.sets.members(axis.labels)
                worst = np.full(len(axis.labels), np.inf)
                np.minimum.at(worst, position, scores[root])
                dropped[root[position == worst.argmax()]] = False
                gone = axes.gone(dropped)
    return dropped
