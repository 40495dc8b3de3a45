"""In which order to drop columns of weights, when those that are left make up for it: greedy optimal brain surgeon.

A *label* stands for columns of one or more weights (a channel with its kernel positions, a head with its dims, in all
that reads it). For one weight W [O, K] with covariance C of its inputs, P = (C + ridge)^-1, dropping columns S and
refitting the others costs, and leaves, exactly (Hassibi and Stork 1993; in blocks arXiv 2208.11580)::

    loss(S) = tr(W_S (P_SS)^-1 W_S^T)      W -= W_S (P_SS)^-1 P_S:      P -= P_:S (P_SS)^-1 P_S:

Losses are shares of the weight's output variance, added over all weights that read the label. One at a time would take
as many updates as labels; so a batch of the cheapest goes together, and is charged what it costs jointly: channels that
say the same are both cheap alone and dear together, so batches are kept small against what is left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from optimizer.model.ports import Array

BATCHES = 32
"""A batch is this part of the labels that are left."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A weight [O, K], the covariance of what it reads [K, K], and the label that each column goes with (-1: none)."""

    weight: Array
    covariance: Array
    owner: Array


@dataclasses.dataclass(frozen=True)
class Curve:
    """Labels in the order in which they go, and what is lost when the first k have gone, [count]."""

    order: Array
    lost: Array


def eliminate(readers: Sequence[Reader], count: int, ridge: float) -> Curve:
    """The order of `count` labels; the last one stays until the end."""
    states = [_State(reader, count, ridge) for reader in readers]
    left = np.ones(count, np.bool_)
    order: list[int] = []
    lost: list[float] = []
    while left.any():
        cost = sum((state.costs() for state in states), np.zeros(count))
        alive = np.flatnonzero(left)
        batch = alive[np.argsort(cost[alive], kind="stable")[: max(1, len(alive) // BATCHES)]]
        joint, alone = sum(state.drop(batch) for state in states), cost[batch]
        share = alone / alone.sum() if alone.sum() > 0 else np.full(len(batch), 1 / len(batch))
        order += batch.tolist()
        lost += (joint * share).tolist()
        left[batch] = False
    return Curve(np.array(order, np.int64), np.cumsum(np.maximum(lost, 0.0)))


class _State:
    """One weight and its precision as columns go."""

    def __init__(self, reader: Reader, count: int, ridge: float) -> None:
        size = max(float(np.trace(reader.covariance)) / max(1, len(reader.owner)), 1e-30)
        self.weight = reader.weight.astype(np.float64)
        self.precision = np.linalg.inv(reader.covariance + ridge * size * np.eye(len(reader.owner)))
        self.owner, self.count = reader.owner.copy(), count
        self.whole = max(float(np.sum((self.weight @ reader.covariance) * self.weight)), 1e-30)

    def costs(self) -> Array:
        """What each label alone would lose, [count]."""
        found = np.zeros(self.count)
        for labels, columns in self._blocks():
            inner = self.precision[columns[:, :, None], columns[:, None, :]]
            weight = self.weight[:, columns]
            found[labels] = np.einsum("lbc,olb,olc->l", np.linalg.inv(inner), weight, weight, optimize=True)
        return found / self.whole

    def _blocks(self) -> Iterator[tuple[Array, Array]]:
        """Labels with equally many columns, [L], and those columns, [L, b]."""
        columns = np.argsort(self.owner, kind="stable")
        columns = columns[self.owner[columns] >= 0]
        labels, first, sizes = np.unique(self.owner[columns], return_index=True, return_counts=True)
        for size in np.unique(sizes).tolist():
            chosen = sizes == size
            yield labels[chosen], columns[first[chosen][:, None] + np.arange(size)]

    def drop(self, labels: Array) -> float:
        """Let the columns of `labels` go; what that costs."""
        gone = np.isin(self.owner, labels)
        if not gone.any():
            return 0.0
        solved = np.linalg.solve(self.precision[np.ix_(gone, gone)], self.precision[gone])
        weight = self.weight[:, gone]
        lost = float(np.sum(weight * np.linalg.solve(self.precision[np.ix_(gone, gone)], weight.T).T))
        stays = ~gone
        self.weight = (self.weight - weight @ solved)[:, stays]
        self.precision = self.precision[np.ix_(stays, stays)] - self.precision[np.ix_(stays, gone)] @ solved[:, stays]
        self.owner = self.owner[stays]
        return lost / self.whole


def pooled(steps: Array) -> Array:
    """The nearest sequence that never falls (isotonic regression by pooling neighbours that are out of order)."""
    blocks: list[tuple[float, int]] = []
    for step in steps.tolist():
        total, size = step, 1
        while blocks and blocks[-1][0] * size >= total * blocks[-1][1]:
            total, size = total + blocks[-1][0], size + blocks[-1][1]
            blocks.pop()
        blocks.append((total, size))
    return np.concatenate([np.full(size, total / size) for total, size in blocks] or [np.zeros(0)])
