"""How far two streams of arrays are apart: running sums, merged in any order, in memory that does not grow.

For a reference ``r`` and a candidate ``c``, element by element over all pairs seen::

    sqnr_db   = 10 · log10( Σ r² / Σ (r - c)² )       signal to quantization noise; inf when equal
    cosine    = mean over pairs of  r·c / (|r| |c|)     1 when both are zero, 0 when one is
    max_error = max |r - c|

Cases: places that are equal, infinities and NaN included, have error 0; a place where only one side is finite has
infinite error, and the SQNR is then -inf. No signal but some noise is -inf too; nothing on either side is +inf.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from optimizer.errors import DataError
from optimizer.model.ports import Array


@dataclasses.dataclass
class Distance:
    """Sums over the pairs of arrays seen so far."""

    signal: float = 0.0
    noise: float = 0.0
    cosines: float = 0.0
    max_error: float = 0.0
    pairs: int = 0

    def update(self, reference: Array, candidate: Array) -> None:
        """Fold in one pair of equal shape, of any real dtypes. Raises `DataError` on different shapes."""
        if reference.shape != candidate.shape:
            raise DataError(f"the shapes {reference.shape} and {candidate.shape} of two outputs cannot be compared")
        r, c = _finite(reference, candidate)
        self.pairs += 1
        self.cosines += _cosine(r, c)
        if r.size:
            self.signal += float(r @ r)
            self.noise += float((r - c) @ (r - c))
            self.max_error = max(self.max_error, float(np.abs(r - c).max()))

    def merge(self, other: Distance) -> None:
        """Fold in what `other` has seen."""
        self.signal += other.signal
        self.noise += other.noise
        self.cosines += other.cosines
        self.max_error = max(self.max_error, other.max_error)
        self.pairs += other.pairs

    @property
    def sqnr_db(self) -> float:
        if self.noise == 0:
            return math.inf
        return -math.inf if self.signal == 0 or math.isinf(self.noise) else 10 * math.log10(self.signal / self.noise)

    @property
    def cosine(self) -> float:
        return self.cosines / self.pairs if self.pairs else 1.0


def _finite(reference: Array, candidate: Array) -> tuple[Array, Array]:
    r, c = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
    kept = np.isfinite(r) & np.isfinite(c)
    if kept.all():
        return r, c
    same = (r == c) | (np.isnan(r) & np.isnan(c))
    lost = not (kept | same).all()
    r, c = r[kept], c[kept]
    return (np.append(r, 0.0), np.append(c, np.inf)) if lost else (r, c)


def _cosine(r: Array, c: Array) -> float:
    if not np.isfinite(c).all():
        return 0.0
    lengths = float(np.linalg.norm(r)), float(np.linalg.norm(c))
    if not all(lengths):
        return float(lengths[0] == lengths[1])
    return float(r @ c) / (lengths[0] * lengths[1])
