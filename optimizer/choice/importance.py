"""How much a label matters: one score per label, higher = keep. A criterion is a function from `Axes` to scores.

`magnitude`: the norm of everything that goes with the label, summed over all tensors that it ties together, each
tensor's norms relative to their mean (as group norms in DepGraph, arXiv 2301.12900), averaged over the tensors.
`wanda`: the variance that the channel brings into what reads it (Wanda, arXiv 2306.11695; FLAP, arXiv 2312.11983).
`obs`: what the best repair of its readers loses when it goes after all that go before it (`calibrate.elimination`).
`random`: to compare with.

A score is what goes *with* the label when those below it in its group have gone, so that scores of different groups,
each over what the label saves, can be ranked together. `obs` gives that by itself; the others, which score each label
alone, by `scarce`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from optimizer.calibrate.consumers import Consumer
from optimizer.calibrate.elimination import Curve, Reader, eliminate
from optimizer.calibrate.lstsq import variances
from optimizer.model.passes.edit import content
from optimizer.model.ports import Array
from optimizer.prune.groups import Axes, Group

Scores: TypeAlias = npt.NDArray[np.float64]
"""One number per label; those of labels that are in no group mean nothing."""
Criterion: TypeAlias = Callable[[Axes], Scores]

WIDEST = 2304
"""Columns up to which moments are inverted for importance."""
RIDGE = 1e-2
"""Of the mean diagonal of a covariance that is inverted for importance."""


def magnitude(axes: Axes) -> Scores:
    """Mean over tensor axes of the label's norm relative to the axis' mean norm."""
    return scarce(axes, norms(axes))


def norms(axes: Axes) -> Scores:
    """`magnitude` of each label alone."""
    total, count = np.zeros(len(axes.sets.root)), np.zeros(len(axes.sets.root))
    for value in axes.parameters:
        array = np.square(content(value).astype(np.float64))
        for index, axis in enumerate(axes.layouts[value] or ()):
            position, root = axes.sets.members(axis.labels)
            if not len(root):
                continue
            own = np.sqrt(array.sum(axis=tuple(other for other in range(array.ndim) if other != index)))
            relative = own / max(own[np.unique(position)].mean(), 1e-30)
            labels, back = np.unique(root, return_inverse=True)
            here, times = (np.bincount(back, weights) for weights in (relative[position], None))
            total[labels] += here / times
            count[labels] += here > 0
    return np.asarray(total / np.maximum(count, 1))


def scarce(axes: Axes, alone: Scores) -> Scores:
    """A label matters more as those before it have gone, since what is left must make up for more."""
    scores = alone.copy()
    for group in axes.groups:
        order = group.labels[np.argsort(alone[group.labels], kind="stable")]
        scores[order] *= len(order) / (len(order) - np.arange(len(order)))
    return np.asarray(scores)


def random(axes: Axes) -> Scores:
    """Scores that mean nothing, to compare with; always the same."""
    return scarce(axes, np.random.default_rng(0).random(len(axes.sets.root)))


CRITERIA: dict[str, Criterion] = {"magnitude": magnitude, "random": random}
"""Those that need weights only."""


def informed(found: Sequence[Consumer], covariances: Mapping[str, Array]) -> Criterion:
    """`wanda` as a criterion, by what `found` read: covariances [G, K, K] by weight.

    A label's score is the sum over all that reads it of its share in the variance of the consumer's output. Groups that
    nothing reads through a weight (queries and keys) are ranked by magnitude, at the usual level.
    """

    def criterion(axes: Axes) -> Scores:
        total, seen = np.zeros(len(axes.sets.root)), np.zeros(len(axes.sets.root), np.bool_)
        for one in _reading(axes, found, covariances):
            layout = axes.layouts[one.given] or ()
            brought = one.gathered(variances(one.rows(), covariances[one.name]))
            position, root = axes.sets.members(layout[one.channel_axis].labels)
            np.add.at(total, root, brought[position])
            seen[root] = True
        plain = norms(axes)
        level = total[seen].mean() / max(plain[seen].mean(), 1e-30) if seen.any() else 1.0
        return scarce(axes, np.where(seen, total, plain * level))

    return criterion


def curve(axes: Axes, group: Group, found: Sequence[Consumer], covariances: Mapping[str, Array]) -> Curve:
    """The order in which labels of a group go, as indices into `group.labels`, and what is lost on the way.

    Losses are shares of the variance of what `found` read, added up; [G, K, K] covariances by weight. A group that
    nothing reads through a weight goes by the norms of its labels, and its squared norms are its losses.
    """
    known = _reading(axes, found, covariances)
    readers = [reader for one in known for reader in _readers(axes, group, one, covariances)]
    if readers:
        return eliminate(readers, len(group.labels), RIDGE)
    own = norms(axes)[group.labels]
    order = np.argsort(own, kind="stable")
    return Curve(order, np.cumsum(np.square(own[order])) / max(float(np.square(own).sum()), 1e-30))


def _reading(axes: Axes, found: Sequence[Consumer], covariances: Mapping[str, Array]) -> list[Consumer]:
    known = [one for one in found if axes.layouts.get(one.given) is not None and not one.lowering.depthwise]
    return [one for one in known if one.name in covariances]


def _readers(axes: Axes, group: Group, one: Consumer, covariances: Mapping[str, Array]) -> list[Reader]:
    """A consumer, one reader per convolution group, if it reads labels of the group."""
    layout = axes.layouts[one.given] or ()
    labels = layout[one.channel_axis].labels
    position, root = axes.sets.members(labels)
    mine = np.isin(root, group.labels)
    if not mine.any():
        return []
    owner = np.full(len(labels), -1)
    owner[position[mine]] = np.searchsorted(group.labels, root[mine])
    columns, rows = one.spread(owner), one.rows()
    return [Reader(rows[g], covariances[one.name][g], columns[g]) for g in range(len(rows))]
