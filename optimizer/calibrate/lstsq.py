"""Weights fitted in closed form: what a weight W made of x, a new weight V is to make of y, for some columns K only.

With centred second moments over the samples, C_xy = E[x y^T] - E[x]E[y]^T and C_yy likewise::

    V = W + (W C_xy - W_K C_yy)[:, K] (C_yy[K, K] + ridge I)^-1       (zero outside K)
    shift = W E[x] - V E[y]                                              (goes into the bias)

the minimum of ``E|Wx - Vy - shift|^2 + ridge |V - W_K|^2``: the ridge draws towards the weight as it was, not to zero.
x and y are what the weight reads in the original and in the pruned model; where they are the same, this is the
least-squares reconstruction of He et al. (arXiv 1707.06168) with the mean of what is lost in the bias (FLAP, arXiv
2312.11983). Without a bias to write to, the moments are not centred and the shift is 0.

Everything is stacked by convolution groups: weights [G, O, K], moments [G, K, K]. Columns outside K are decoupled (rows
and columns of the identity), so one batched solve serves all groups whatever each of them keeps.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from optimizer.calibrate.gram import POSITIONS, Gram, Past, Sums, Window
from optimizer.model.ports import Array

RIDGE = 1e-3
"""Of the mean diagonal of the kept moments."""


class Pairs:
    """Moments of two streams of inputs of one weight, row by row; `most` rows of one batch. A monoid."""

    def __init__(self, window: Window | Past | None, most: int = POSITIONS) -> None:
        self._gram = Gram(window, most)
        self._sums, self._turn = Sums(), 0

    @property
    def count(self) -> int:
        """Rows that were seen."""
        return self._sums.count

    def update(self, x: Array, y: Array, more: Array | None = None) -> None:
        """Fold in one batch as the original (x) and the pruned model (y) see it; `more` is to be added to Wx."""
        rows = self._gram.rows(x, self._turn)
        given = rows if x is y else self._gram.rows(y, self._turn)
        if more is not None:
            rows = np.concatenate([rows, self._gram.beside(more, self._turn)], axis=2)
        self._sums.update(rows, given)
        self._turn += 1

    def merge(self, other: Pairs) -> None:
        """Fold in what `other` has seen."""
        self._sums.merge(other._sums)

    def moments(self) -> Moments:
        """The means over all rows. Raises `ValueError` if there were none."""
        found = self._sums.sums()
        if found is None:
            raise ValueError("no batch was seen")
        return Moments(*(one.astype(np.float64) / self.count for one in found))


@dataclasses.dataclass(frozen=True)
class Moments:
    """E[x y^T], E[y y^T], E[x], E[y], float64; behind x may stand what is to be added to Wx."""

    cross: Array
    own: Array
    first: Array
    second: Array

    def wanted(self, weight: Array) -> Array:
        """E[t y^T], [G, O, K], of what the weight's fit is to answer, t."""
        return _answered(weight, self.cross)

    def level(self, weight: Array) -> Array:
        """E[t], [G, O, 1]."""
        return _answered(weight, self.first[:, :, None])

    def of(self, outputs: Array) -> Moments:
        """With nothing to be added to Wx but at `outputs` [G, O]."""
        columns = self.own.shape[2]
        cross, first = self.cross.copy(), self.first.copy()
        if cross.shape[1] > columns:
            cross[:, columns:] *= outputs[:, :, None]
            first[:, columns:] *= outputs
        return Moments(cross, self.own, first, self.second)

    def centred(self) -> Moments:
        """Without what the means make of them."""
        cross = self.cross - self.first[:, :, None] * self.second[:, None, :]
        own = self.own - self.second[:, :, None] * self.second[:, None, :]
        return Moments(cross, own, self.first, self.second)


@dataclasses.dataclass(frozen=True)
class Fit:
    """A weight [G, O, K] and what is added to its bias, [G, O]."""

    weight: Array
    shift: Array

    def error(self, original: Array, moments: Moments) -> float:
        """``E|Wx - Vy - shift|^2``, less what does not depend on the fit."""
        wanted, mean = moments.wanted(original), moments.level(original)
        given = self.weight @ moments.second[:, :, None]
        shift = self.shift[:, :, None]
        product = np.sum(self.weight * (self.weight @ moments.own - 2 * wanted))
        return float(product + np.sum(shift * (shift + 2 * given - 2 * mean)))


def _answered(weight: Array, x: Array) -> Array:
    columns = weight.shape[2]
    found = weight @ x[:, :columns]
    return np.asarray(found + x[:, columns:] if x.shape[1] > columns else found)


def fit(weight: Array, moments: Moments, kept: Array, bias: bool, ridge: float = RIDGE) -> Fit:
    """The best weight [G, O, K] on the columns `kept` [G, K]; a shift only where there is a `bias` to take it."""
    used = moments.centred() if bias else moments
    columns = kept[:, None, :]
    size = np.einsum("gkk->gk", used.own)
    damping = ridge * (size * kept).sum(1) / np.maximum(kept.sum(1), 1) + 1e-12
    matrix = used.own * (columns & kept[:, :, None])
    diagonal = np.arange(matrix.shape[1])
    matrix[:, diagonal, diagonal] += np.where(kept, damping[:, None], 1.0)
    start = weight * columns
    missing = (used.wanted(weight) - start @ used.own) * columns
    found = start + np.linalg.solve(matrix, missing.transpose(0, 2, 1)).transpose(0, 2, 1)
    return Fit(found, _shift(weight, found, moments, bias))


def shifted(weight: Array, moments: Moments, kept: Array, bias: bool) -> Fit:
    """The weight as it is on the columns `kept`, with the mean of what is lost in the bias."""
    return fitted_to(weight, weight * kept[:, None, :], moments, bias)


def fitted_to(weight: Array, found: Array, moments: Moments, bias: bool) -> Fit:
    """`found` in place of `weight`, with the mean of what is lost in the bias."""
    return Fit(found, _shift(weight, found, moments, bias))


def _shift(weight: Array, found: Array, moments: Moments, bias: bool) -> Array:
    if not bias:
        return np.zeros(weight.shape[:2])
    lost = moments.level(weight) - found @ moments.second[:, :, None]
    return np.asarray(lost[:, :, 0])


def variances(weight: Array, covariance: Array) -> Array:
    """What one column each brings into the output, ``|w_k|^2 C_kk``, as a share of the output's variance; [G, K]."""
    whole = float(np.sum((weight @ covariance) * weight))
    return np.asarray(np.square(weight).sum(1) * np.einsum("gkk->gk", covariance) / max(whole, 1e-30))
