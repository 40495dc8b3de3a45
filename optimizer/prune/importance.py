"""How much a label matters: one score per label, higher = keep. A criterion is a function from `Axes` to scores.

`magnitude`: the norm of everything that goes with the label, summed over all tensors that it ties together, each
tensor's norms relative to their mean (as group norms in DepGraph, arXiv 2301.12900), averaged over the tensors.
`wanda`: the variance that the channel brings into what reads it (Wanda, arXiv 2306.11695; FLAP, arXiv 2312.11983).
`obs`: what the best repair of its readers still loses, from second moments (optimal brain surgeon).
`random`: to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from optimizer.calibrate.lstsq import losses, variances
from optimizer.model.ports import Array
from optimizer.prune.consumers import Consumer
from optimizer.prune.groups import Axes

Scores: TypeAlias = npt.NDArray[np.float64]
"""One number per label; those of labels that are in no group mean nothing."""
Criterion: TypeAlias = Callable[[Axes], Scores]


def magnitude(axes: Axes) -> Scores:
    """Mean over tensor axes of the label's norm relative to the axis' mean norm."""
    total, count = np.zeros(len(axes.sets.root)), np.zeros(len(axes.sets.root))
    for value in axes.parameters:
        array = np.square(_floats(value.const_value))
        for index, axis in enumerate(axes.layouts[value] or ()):
            position, root = axes.sets.members(axis.labels)
            if not len(root):
                continue
            norms = np.sqrt(array.sum(axis=tuple(other for other in range(array.ndim) if other != index)))
            relative = norms / max(norms[np.unique(position)].mean(), 1e-30)
            here, times = (np.bincount(root, weights, len(total)) for weights in (relative[position], None))
            total[here > 0] += (here / np.maximum(times, 1))[here > 0]
            count[here > 0] += 1
    return total / np.maximum(count, 1)


def _floats(tensor: object) -> npt.NDArray[np.float64]:
    return np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else tensor, np.float64)


def random(axes: Axes) -> Scores:
    """Scores that mean nothing, to compare with; always the same."""
    return np.random.default_rng(0).random(len(axes.sets.root))


CRITERIA: dict[str, Criterion] = {"magnitude": magnitude, "random": random}
"""Those that need weights only."""


def informed(name: str, found: Sequence[Consumer], covariances: Mapping[str, Array]) -> Criterion:
    """`obs` or `wanda` as a criterion, by what `found` read: covariances [G, K, K] by node name.

    A label's score is the sum over all that reads it of what the consumer's output loses, as a share of that output's
    variance. Groups that nothing reads through a weight (queries and keys) are ranked by magnitude, at the usual level.
    """
    loss = losses if name == "obs" else variances

    def criterion(axes: Axes) -> Scores:
        total, seen = np.zeros(len(axes.sets.root)), np.zeros(len(axes.sets.root), np.bool_)
        for one in found:
            layout = axes.layouts.get(one.given)
            if layout is None or one.lowering.depthwise or (one.node.name or "") not in covariances:
                continue
            lost = one.gathered(loss(one.rows(), covariances[one.node.name or ""]))
            position, root = axes.sets.members(layout[one.channel_axis].labels)
            np.add.at(total, root, lost[position])
            seen[root] = True
        plain = magnitude(axes)
        level = total[seen].mean() / max(plain[seen].mean(), 1e-30) if seen.any() else 1.0
        return np.where(seen, total, plain * level)

    return criterion
