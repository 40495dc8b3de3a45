"""What this machine can do at most, as far as the runtime gets it out of it: one matrix product in float, one in int8.

The products are square, of `SIZE`, with a constant second factor that the runtime packs beforehand: large enough to
hide the call, small enough to stay in the caches. The best of many runs counts, since disturbance only takes away.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array, Feed
from optimizer.runtime.session import Options, open_session

SIZE = 384
SECONDS = 0.3

_HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
_FLOAT = "g (float[{n},{n}] x, float[{n},{n}] w) => (float[{n},{n}] y) {{ y = MatMul(x, w) }}"
_INT8 = """g (uint8[{n},{n}] x, int8[{n},{n}] w) => (int32[{n},{n}] y)
    <uint8 zero = {{128}}> {{ y = MatMulInteger(x, w, zero) }}"""


class Peak(NamedTuple):
    """Multiply-accumulates a second, in float and in int8."""

    float32: float
    int8: float


def peak(threads: int) -> Peak:
    """Measure it, in about `2 * SECONDS`."""
    return Peak(_rate(product(), threads), _rate(_product_int8(), threads))


def product() -> tuple[ir.Model, Feed]:
    """The product in float, and what to feed it: work that never changes."""
    rng = np.random.default_rng(0)
    return _model(_FLOAT, rng.random((SIZE, SIZE), np.float32)), {"x": rng.random((SIZE, SIZE), np.float32)}


def _product_int8() -> tuple[ir.Model, Feed]:
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 255, (SIZE, SIZE), np.uint8), rng.integers(-64, 64, (SIZE, SIZE), np.int8)
    return _model(_INT8, factors[1]), {"x": factors[0]}


def _model(text: str, weight: Array) -> ir.Model:
    model = ir.from_onnx_text(_HEADER + text.format(n=SIZE))
    factor = model.graph.inputs.pop()
    factor.const_value = ir.tensor(weight)
    model.graph.register_initializer(factor)
    return model


def _rate(work: tuple[ir.Model, Feed], threads: int) -> float:
    model, feed = work
    session = open_session(model, Options(threads=threads))
    best, end = float("inf"), time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        session.run(feed)
        best = min(best, time.perf_counter() - began)
    return SIZE**3 / best
