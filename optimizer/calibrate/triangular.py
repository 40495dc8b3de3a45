"""Inverses of upper triangular matrices, which cost less than those of others."""

from __future__ import annotations

import numpy as np

from optimizer.model.ports import Array

_BLOCK = 128


def inverse(upper: Array) -> Array:
    """Of upper triangular matrices [G, K, K], half by half: a third of the work that those without zeros take."""
    size = upper.shape[1]
    if size <= _BLOCK:
        return np.asarray(np.linalg.inv(upper))
    cut = size // 2
    found = np.zeros_like(upper)
    found[:, :cut, :cut], found[:, cut:, cut:] = inverse(upper[:, :cut, :cut]), inverse(upper[:, cut:, cut:])
    found[:, :cut, cut:] = -found[:, :cut, :cut] @ upper[:, :cut, cut:] @ found[:, cut:, cut:]
    return found
