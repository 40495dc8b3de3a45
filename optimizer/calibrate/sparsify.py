"""Zeros in a weight, with what is left making up for them: optimal brain surgeon column by column (SparseGPT,
arXiv 2301.00774), for one weight W [O, K] whose inputs have the second moments H [K, K].

With U the upper Cholesky factor of (H + ridge)^-1, dropping w[o, j] and refitting the columns behind it costs
``(w[o, j] / U[j, j])^2`` and changes them by ``-w[o, j] / U[j, j] * U[j, j:]``. Columns go from left to right; what
goes is chosen a few columns at a time, by the costs as the weight is by then. How many go of these follows from the
costs at the start, ``w^2 / [(H + ridge)^-1]_jj``, so that columns that carry little lose more.

Columns that went first were made up for without knowing what goes later, so at the end each row is fitted exactly to
what stays of it, where that is affordable.

`Pattern` says which entries may only go together: single ones; blocks of R rows by C columns; or N of every M
neighbouring columns stay.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from optimizer.errors import ConfigError
from optimizer.model.ports import Array

RIDGE = 1e-2
"""Of the mean diagonal."""
_COLUMNS = 64
"""Columns that are chosen from at a time."""
_LARGEST = 2e12
"""O K^3, up to which the rows of a weight are fitted once more, each exactly."""


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

    def cheapest(self, costs: Array, count: int) -> Array:
        """Which entries [O, K] go so that `count` of what goes together does."""
        if self.stay is not None:
            return np.asarray(_lowest(costs.reshape(-1, self.columns), self.columns - self.stay).reshape(costs.shape))
        found = self.gathered(costs)
        gone = np.zeros(found.size, np.bool_)
        gone[np.argsort(found, axis=None, kind="stable")[:count]] = True
        return np.asarray(np.repeat(np.repeat(gone.reshape(found.shape), self.rows, 0), self.columns, 1))


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
    """Second moments [K, K] that can be inverted."""
    size = max(float(np.trace(second)) / len(second), 1e-30)
    return np.asarray(second + ridge * size * np.eye(len(second)))


def costs(weight: Array, second: Array, ridge: float = RIDGE) -> Array:
    """What each entry alone costs, as a share of the output's power: [O, K]."""
    whole = max(float(np.sum((weight @ second) * weight)), 1e-30)
    return np.asarray(np.square(weight) / np.diag(np.linalg.inv(damped(second, ridge))) / whole)


def sparsify(weight: Array, second: Array, count: int, pattern: Pattern, ridge: float = RIDGE) -> Array:
    """The weight [O, K] with `count` of what goes together (of N:M: with the pattern) zero, and the others fitted."""
    inverse = np.linalg.inv(damped(second, ridge))
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    counts = _counts(np.square(weight) / np.diag(inverse), count, pattern)
    left: Array = weight.astype(np.float64).copy()
    width = _width(pattern)
    for number, start in enumerate(range(0, left.shape[1], width)):
        part = slice(start, start + width)
        inner = upper[part, part]
        gone = pattern.cheapest(np.square(left[:, part] / np.diag(inner)), counts[number])
        errors = _dropped(left[:, part], inner, gone)
        left[:, start + width :] -= errors @ upper[part, start + width :]
    return _refitted(weight, left, inverse) if left.size * left.shape[1] ** 2 <= _LARGEST else left


def _refitted(weight: Array, found: Array, inverse: Array) -> Array:
    """The best weight with zeros where `found` has them, row by row: a fit from left to right is not yet the best."""
    best: Array = weight.astype(np.float64).copy()
    for row, gone in zip(best, found == 0, strict=True):
        lost = np.linalg.solve(inverse[np.ix_(gone, gone)], row[gone])
        row -= lost @ inverse[gone]
        row[gone] = 0
    return best


def _width(pattern: Pattern) -> int:
    return max(1, _COLUMNS // pattern.columns) * pattern.columns


def _counts(first: Array, count: int, pattern: Pattern) -> list[int]:
    """How many of what goes together go in each part of the columns, by the costs at the start."""
    found = pattern.gathered(first)
    order = np.argsort(found, axis=None, kind="stable")[:count]
    width = _width(pattern) // (1 if pattern.stay is not None else pattern.columns)
    counts: list[int] = np.bincount(order % found.shape[1] // width, minlength=-(-found.shape[1] // width)).tolist()
    return counts


def _dropped(left: Array, upper: Array, gone: Array) -> Array:
    """Let entries of a part go, in place; the errors that columns behind it make up for."""
    errors = np.zeros(left.shape)
    for column in range(left.shape[1]):
        errors[:, column] = np.where(gone[:, column], left[:, column], 0) / upper[column, column]
        left[:, column:] -= errors[:, column, None] * upper[column, column:]
        left[gone[:, column], column] = 0
    return errors
