"""Inverses of triangular matrices, against those of any matrix."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.triangular import inverse


@pytest.mark.parametrize("size", [1, 128, 129, 300])
def test_a_triangular_inverse_is_the_inverse(size: int) -> None:
    upper = np.triu(np.random.default_rng(0).normal(size=(2, size, size))) / size + np.eye(size)
    found = inverse(upper)
    np.testing.assert_allclose(found, np.linalg.inv(upper), atol=1e-9)
    assert not np.tril(found[0], -1).any()
