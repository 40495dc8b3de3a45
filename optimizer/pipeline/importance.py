"""`optimize inspect --importance`: how much every channel, head, neuron and block of a model matters.

With real data a score is noise at the outputs: what the label adds to it, as a share of the outputs' power, when it
goes after those of its group that matter less, and what reads it makes up for it. Without data it is the size of the
weights that go with the label, which says little about outputs; `measured` tells which of the two it is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from optimizer.choice.importance import Scores
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Silent
from optimizer.pipeline.pruning import Calibration
from optimizer.prune import layers
from optimizer.prune.groups import Axes, Group, analyse
from optimizer.prune.sizes import Sizes
from optimizer.recipe import Prune, Run

PARTS = (0.125, 0.25, 0.5)
"""Shares of a group for which the sum of the scores is given."""


@dataclasses.dataclass(frozen=True)
class GroupImportance:
    """One group: `scores` per label, in the order of their positions, and what a share of them costs together."""

    name: str
    kind: str
    scores: tuple[float, ...]
    macs: int
    """MACs that go when half of the group goes."""
    costs: tuple[float, ...]
    """The sum of the least scores of each share in `PARTS`."""


@dataclasses.dataclass(frozen=True)
class BlockImportance:
    """A block that could be skipped, and how much the outputs change then, as a share of their power."""

    name: str
    change: float


@dataclasses.dataclass(frozen=True)
class Importance:
    """All groups, those first whose half costs the most, and all blocks."""

    criterion: str
    measured: bool
    groups: tuple[GroupImportance, ...]
    blocks: tuple[BlockImportance, ...]
    parts: tuple[float, ...] = PARTS


def importance(path: Path | str, run: Run | None = None, *, progress: Progress | None = None) -> Importance:
    """Measure the model at `path` on the run's samples. Raises `UserError`."""
    run, progress = run or Run(), progress or Silent()
    work = Calibration(common.subject(path, run), Prune(sparsity=0.5, measure=False), run, progress)
    model = work.base.clone()
    axes = analyse(model)
    scores, sizes = work.criterion(axes, model)(axes), Sizes(axes, work.times)
    groups = [_group(axes, group, scores, sizes) for group in axes.groups]
    progress.stage("skipping blocks")
    changes = layers.worth(work.base, list(work.samples.take(layers.SAMPLES)))
    blocks = (BlockImportance(name, change) for name, change in changes)
    ranked = sorted(groups, key=lambda group: -group.costs[-1])
    return Importance(work.name, work.weighs, tuple(ranked), tuple(sorted(blocks, key=lambda block: -block.change)))


def _group(axes: Axes, group: Group, scores: Scores, sizes: Sizes) -> GroupImportance:
    own = scores[group.labels]
    order, dropped = np.argsort(own, kind="stable"), axes.none()
    dropped[group.labels[order[: len(own) // 2]]] = True
    sums = np.concatenate([[0.0], np.cumsum(own[order])])
    costs = tuple(float(sums[round(part * len(own))]) for part in PARTS)
    return GroupImportance(group.name, group.kind, tuple(own.tolist()), sizes.macs - int(sizes.macs_of(dropped)), costs)
