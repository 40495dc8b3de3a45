"""Sessions: kernels that can be kept from overflowing."""

from __future__ import annotations

import numpy as np

from optimizer.runtime.session import Options, open_session
from tests.builders import model

SUM = """g (uint8[4,32] x) => (int32[4,8] y) <int8[32,8] w = {WEIGHTS}, uint8 z = {0}, int8 v = {0}> {
    y = MatMulInteger (x, w, z, v) }"""


def test_int8_sums_can_be_kept_from_overflowing() -> None:
    net = model(SUM.replace("WEIGHTS", ", ".join(["127"] * 256)))
    (found,) = open_session(net, Options(saturate=False)).run({"x": np.full((4, 32), 255, np.uint8)})
    assert (found == 32 * 127 * 255).all()
