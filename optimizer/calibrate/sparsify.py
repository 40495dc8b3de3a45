"""Zeros in a weight, with what is left making up for them: optimal brain surgeon column by column (SparseGPT,
arXiv 2301.00774), for weights W [G, O, K], one for each convolution group, whose inputs have the second moments
H [G, K, K].

With U upper triangular and U^T U = (H + ridge)^-1, dropping w[o, j] and refitting the columns behind it costs
``(w[o, j] / U[j, j])^2`` and changes them by ``-w[o, j] / U[j, j] * U[j, j:]``. Columns go from left to right; what
goes is chosen a few columns at a time, by the costs as the weight is by then. How many go of these follows from the
costs at the start, ``w^2 / [(H + ridge)^-1]_jj``, so that columns that carry little lose more.

Columns that went first were made up for without knowing what goes later, so at the end all rows are fitted to what
stays of them: conjugate gradients, all rows at once, since every row has its own equations.

`Pattern` says which entries may only go together: single ones; blocks of R rows by C columns; or N of every M
neighbouring columns stay.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from optimizer.calibrate.triangular import inverse
from optimizer.errors import ConfigError
from optimizer.model.ports import Array

RIDGE = 1e-2
"""Of the mean diagonal."""
_COLUMNS = 64
"""Columns that are chosen from at a time."""
_STEPS = 16
"""Of conjugate gradients, at most; each brings a row nearer to its best."""
_NEAR = 1e-5
"""The share of the squared gradient at which they stop."""


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Blocks of `rows` outputs by `columns` inputs; with `stay`, that many of every `columns` inputs stay."""

    rows: int = 1
    columns: int = 1
    stay: int | None = None

    @property
    def share(self) -> float | None:
        """The share of zeros, where the pattern fixes it."""
        return None if self.stay is None else 1 - self.stay / self.columns

    def suits(self, rows: int, columns: int, run: int) -> bool:
        """Whether a weight [rows, columns], whose columns hang together in runs of `run`, can have it."""
        return rows % self.rows == 0 and columns % run == 0 and run % self.columns == 0

    def gathered(self, costs: Array) -> Array:
        """Costs of what goes together, [O / rows, K / columns]; of N:M, each entry by itself."""
        if self.stay is not None:
            return costs
        outer, inner = costs.shape
        return np.asarray(costs.reshape(outer // self.rows, self.rows, inner // self.columns, self.columns).sum((1, 3)))

    def lowest(self, units: Array, count: int) -> Array:
        """Which entries [O, K] go so that the `count` cheapest of all units, as `gathered` gives them, do."""
        if self.stay is not None:
            return np.asarray(_lowest(units.reshape(-1, self.columns), self.columns - self.stay).reshape(units.shape))
        gone = np.zeros(units.size, np.bool_)
        gone[np.argsort(units, axis=None, kind="stable")[:count]] = True
        return np.asarray(np.repeat(np.repeat(gone.reshape(units.shape), self.rows, 0), self.columns, 1))


def parse(text: str) -> Pattern:
    """`2:4` or `4x1`. Raises `ConfigError`."""
    for mark in (":", "x"):
        parts = text.split(mark)
        if len(parts) == 2 and all(part.isdigit() and int(part) > 0 for part in parts):
            first, second = map(int, parts)
            if mark == "x":
                return Pattern(first, second)
            if first < second:
                return Pattern(1, second, first)
    raise ConfigError(f"--pattern {text!r}: write N:M with N below M (2:4: of every 4, 2 stay) or ROWSxCOLUMNS (4x1)")


def _lowest(rows: Array, count: int) -> Array:
    """The `count` smallest entries of every row."""
    gone = np.zeros(rows.shape, np.bool_)
    np.put_along_axis(gone, np.argsort(rows, axis=1, kind="stable")[:, :count], True, axis=1)
    return gone


def damped(second: Array, ridge: float = RIDGE) -> Array:
    """Second moments [G, K, K] that can be inverted."""
    size = np.maximum(np.einsum("gkk->g", second) / second.shape[1], 1e-30)
    return np.asarray(second + ridge * size[:, None, None] * np.eye(second.shape[1]))


def root(second: Array) -> Array:
    """U, upper triangular, with U^T U the inverse of `second`, [G, K, K]."""
    lower = np.linalg.cholesky(second[:, ::-1, ::-1])
    return inverse(lower[:, ::-1, ::-1])


def costs(weight: Array, second: Array, ridge: float = RIDGE) -> Array:
    """What each entry alone costs, as a share of the outputs' power: [G, O, K]."""
    whole = max(float(np.sum((weight @ second) * weight)), 1e-30)
    return np.asarray(np.square(weight) / (np.square(root(damped(second, ridge))).sum(1)[:, None] * whole))


def sparsify(weight: Array, second: Array, count: int, pattern: Pattern, ridge: float = RIDGE) -> Array:
    """The weight with `count` of what goes together (of N:M: with the pattern) zero, and the others fitted."""
    matrix = damped(second, ridge)
    upper = root(matrix)
    counts = _counts(np.square(weight) / np.square(upper).sum(1)[:, None], count, pattern)
    left, upper, width = weight.astype(np.float32), upper.astype(np.float32), _width(pattern)
    for number, start in enumerate(range(0, left.shape[2], width)):
        part = slice(start, start + width)
        inner = upper[:, part, part]
        spent = np.square(left[:, :, part] / np.einsum("gkk->gk", inner)[:, None])
        gone = pattern.lowest(pattern.gathered(_flat(spent)), counts[number]).reshape(spent.shape)
        errors = _dropped(left[:, :, part], inner, gone)
        left[:, :, start + width :] -= errors @ upper[:, part, start + width :]
    return refitted(weight, left, matrix)


def refitted(weight: Array, found: Array, matrix: Array) -> Array:
    """The best stand-in for `weight` with zeros where `found`, where it starts, has them; moments are `matrix`."""
    kept, moments = found != 0, matrix.astype(np.float32)
    scale = kept / np.einsum("gkk->gk", moments)[:, None]
    best = found.astype(np.float32)
    rest = kept * ((weight.astype(np.float32) - best) @ moments)
    way = scale * rest
    size = first = (rest * way).sum(2, keepdims=True)
    for _ in range(_STEPS):
        image = kept * (way @ moments)
        step = size / np.maximum((way * image).sum(2, keepdims=True), 1e-30)
        best, rest = best + step * way, rest - step * image
        before, size = size, (rest * scale * rest).sum(2, keepdims=True)
        if size.sum() <= _NEAR * first.sum():
            break
        way = scale * rest + size / np.maximum(before, 1e-30) * way
    return np.asarray(best, np.float64)


def _flat(array: Array) -> Array:
    return array.reshape(-1, array.shape[2])


def _width(pattern: Pattern) -> int:
    return max(1, _COLUMNS // pattern.columns) * pattern.columns


def _counts(first: Array, count: int, pattern: Pattern) -> list[int]:
    """How many of what goes together go in each part of the columns, by the costs at the start."""
    found = pattern.gathered(_flat(first))
    order = np.argsort(found, axis=None, kind="stable")[:count]
    width = _width(pattern) // (1 if pattern.stay is not None else pattern.columns)
    counts: list[int] = np.bincount(order % found.shape[1] // width, minlength=-(-found.shape[1] // width)).tolist()
    return counts


def _dropped(left: Array, upper: Array, gone: Array) -> Array:
    """Let entries of a part go, in place; the errors that columns behind it make up for."""
    errors = np.zeros(left.shape, left.dtype)
    for column in range(left.shape[2]):
        own = gone[:, :, column]
        errors[:, :, column] = np.where(own, left[:, :, column], 0) / upper[:, column, None, column]
        left[:, :, column:] -= errors[:, :, column, None] * upper[:, column, None, column:]
        left[:, :, column][own] = 0
    return errors
