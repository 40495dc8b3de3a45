"""The proof that goes with every pruned model: removed and masked give the same outputs, in ONNX Runtime.

Where an output comes from a function that saturates, what goes into it is compared: there a difference cannot hide, and
the last bit of a number near 0 (a Sigmoid is right to about 6e-8, whatever its result) is not taken for one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from optimizer.errors import OptimizeError
from optimizer.model.ports import Array, Feed
from optimizer.runtime.session import Options, open_session

TOLERANCE = 1e-4
"""Largest difference relative to the largest output, in float32."""
_COARSE = {"float16": 2e-2, "bfloat16": 1e-1}
_QUANTIZED = 5e-2
"""Rounding to 8 bits turns a last-bit difference into a step of the scale."""
_SATURATES = frozenset({"HardSigmoid", "Sigmoid", "Softmax", "Tanh"})


class Unequal(OptimizeError):
    """Removal and masking differ: a rule is wrong. Nothing may be written."""


def prove(removed: ir.Model, masked: ir.Model, feeds: Iterable[Feed], threads: int = 1) -> float:
    """The largest relative difference over all outputs and feeds. Raises `Unequal` above the tolerance."""
    options = Options(threads=threads, level="basic")
    sessions = [open_session(_before_saturation(model), options) for model in (removed, masked)]
    limit = tolerance(masked)
    worst = 0.0
    for feed in feeds:
        for name, one, other in zip(sessions[0].outputs, *(session.run(feed) for session in sessions), strict=True):
            worst = max(worst, found := difference(one, other))
            if not found <= limit:
                raise Unequal(
                    f"pruning would change {name!r} by {found:.1e} of its size beyond what masking does, so nothing "
                    f"was written. This is a fault in an axis rule: please report it with the model"
                )
    return worst


def _before_saturation(model: ir.Model) -> ir.Model:
    """The model with what goes into saturating functions in place of their results as outputs."""
    found = model.clone()
    for index, output in enumerate(found.graph.outputs):
        node = output.producer()
        if node is None or node.domain or node.op_type not in _SATURATES:
            continue
        source = node.inputs[0]
        if source is not None and source.producer() is not None and not source.is_graph_output():
            source.type, source.shape = output.type, output.shape
            found.graph.outputs[index] = source
    return found


def tolerance(model: ir.Model) -> float:
    """What the model's number formats allow."""
    values = [value for node in model.graph for value in node.outputs]
    names = {value.dtype.name.lower() for value in values if value.dtype is not None}
    coarse = [limit for name, limit in _COARSE.items() if name in names]
    quantized = any(node.op_type.endswith(("QuantizeLinear", "Integer")) for node in model.graph)
    return max([TOLERANCE, *coarse, *([_QUANTIZED] if quantized else [])])


def difference(one: Array, other: Array) -> float:
    """Largest difference relative to the largest number; of integers, the share that differs beyond a rare tie."""
    if one.shape != other.shape:
        return float("inf")
    if one.dtype.kind not in "fc":
        return 0.0 if np.mean(one != other) <= 0.01 else 1.0
    a, b = one.astype(np.float64), other.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    apart = np.abs(np.where(same, 0, a) - np.where(same, 0, b)).max(initial=0)
    size = np.abs(np.where(np.isfinite(b), b, 0)).max(initial=0)
    return float(apart / max(size, 1e-30)) if apart else 0.0
