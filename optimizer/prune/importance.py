"""How much a label matters: one score per label, higher = keep. A criterion is a function from `Axes` to scores.

`magnitude`: the norm of everything that goes with the label, summed over all tensors that it ties together, each
tensor's norms relative to their mean (as group norms in DepGraph, arXiv 2301.12900), averaged over the tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

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
