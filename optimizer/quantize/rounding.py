"""Second-order rounding of weights, and the refit of their scales.

Rounding W to Q changes the layer's output by ``(W - Q) x``; its mean square is ``tr(D H D^T)`` with D = W - Q and H the
second moments of x (the covariance where a bias can take up the mean). Columns are rounded one after the other, those
with the largest H_jj first; what rounding column j gets wrong is taken back by the columns not yet rounded:

    w_rest -= (w_j - q_j) / [H^-1]_jj * [H^-1]_j,rest

with H^-1 of the remaining columns, read off one Cholesky factor (OBQ, Frantar & Alistarh 2022; the order of GPTQ,
Frantar et al. 2023). H is damped by 1% of its mean diagonal. Afterwards each scale is refitted by least squares,
``s = (w H q) / (q H q)``.
"""

from __future__ import annotations

import numpy as np

from optimizer.calibrate.triangular import inverse
from optimizer.model.ports import Array

_DAMPING = 0.01
_TRIES = 6
_BLOCK = 128
_TOP = 127


def second_order(rows: Array, scales: Array, moments: Array) -> Array:
    """int8 of `rows` [groups, O, K] with `scales` [groups, O], given `moments` [groups, K, K]."""
    diagonal = np.einsum("gkk->gk", moments)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    sorted_moments = np.take_along_axis(np.take_along_axis(moments, order[:, :, None], 1), order[:, None, :], 2)
    upper = _damped_factor(sorted_moments).astype(np.float32)
    left = np.take_along_axis(rows, order[:, None, :], 2).astype(np.float32)
    rounded = _sweep(left, scales[:, :, None].astype(np.float32), upper)
    back = np.argsort(order, axis=1)
    return np.take_along_axis(rounded, back[:, None, :], 2).astype(np.int8)


def refit(rows: Array, rounded: Array, scales: Array, moments: Array, per_tensor: bool = False) -> Array:
    """Scales [groups, O] of least error for fixed integers, one for all if `per_tensor`; those that would change sign
    or vanish stay."""
    integers = rounded.astype(np.float64)
    against = np.matmul(integers, moments)
    above, below = (against * rows).sum(axis=2), (against * integers).sum(axis=2)
    if per_tensor:
        above, below = np.full_like(above, above.sum()), np.full_like(below, below.sum())
    found = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return np.where(found > 0.5 * scales, found, scales).astype(np.float32)


def _damped_factor(moments: Array) -> Array:
    """`_inverse_factor` of the damped moments. Those of nearly constant inputs, a small difference of large sums, may
    miss being positive by more than the usual damping: it grows tenfold until they are."""
    damping = _DAMPING * np.maximum(np.abs(np.einsum("gkk->gk", moments)).mean(axis=1), 1e-12)
    unit = damping[:, None, None] * np.eye(moments.shape[1])
    for power in range(_TRIES):
        try:
            return _inverse_factor(moments + unit * 10**power)
        except np.linalg.LinAlgError:
            continue
    return np.broadcast_to(np.eye(moments.shape[1]), moments.shape)


def _inverse_factor(matrix: Array) -> Array:
    """The upper triangular U with ``U^T U = matrix^-1``, batched.

    Cholesky of the matrix with its axes reversed gives V upper with ``V V^T = matrix``; U is V's inverse.
    """
    reversed_lower = np.linalg.cholesky(matrix[:, ::-1, ::-1])
    return inverse(reversed_lower[:, ::-1, ::-1])


def _sweep(left: Array, scales: Array, factor: Array) -> Array:
    """Round column after column. `factor` is upper triangular with ``factor^T factor = H^-1`` in sweep order."""
    columns = left.shape[2]
    rounded = np.zeros_like(left)
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        errors = np.zeros((*left.shape[:2], stop - start), np.float32)
        for j in range(start, stop):
            column = left[:, :, j : j + 1]
            integers = np.clip(np.rint(column / scales), -_TOP, _TOP)
            rounded[:, :, j : j + 1] = integers
            error = (column - integers * scales) / factor[:, None, j : j + 1, j]
            left[:, :, j:stop] -= error * factor[:, None, j, j:stop]
            errors[:, :, j - start : j - start + 1] = error
        left[:, :, stop:] -= np.matmul(errors, factor[:, start:stop, stop:])
    return rounded
