"""The proof that goes with every pruned model: removed and masked give the same outputs, in ONNX Runtime.

Where an output comes from a function that saturates, what goes into it is compared: there a difference cannot hide, and
the last bit of a number near 0 (a Sigmoid is right to about 6e-8, whatever its result) is not taken for one. Where a
tensor is rounded to 8 bits and decoded again, the rounding is left out of both: it makes steps of last bits, which grow
from layer to layer, and hides what is smaller. Kernels that overflow 16 bits are kept from it. Where a detector picks
other boxes because a score differs in its last bit, both are told what to pick, and what it depends on is compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.selection import pinned, telling
from optimizer.errors import DataError, OptimizeError
from optimizer.model.passes.dead import remove_unused
from optimizer.model.passes.edit import is_op, nodes, scalar
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
    feeds, limit = list(feeds), tolerance(masked)
    worst, name = largest(removed, masked, feeds, threads)
    if not worst <= limit and (tells := telling(masked)).graph.outputs:
        session = open_session(tells, Options(threads, level="basic"))
        told = [{**feed, **dict(zip(session.outputs, session.run(feed), strict=True))} for feed in feeds]
        with contextlib.suppress(DataError):  # a ranking from which channels went cannot be told the other's
            worst, name = largest(pinned(removed), pinned(masked), told, threads)
    if not worst <= limit:
        raise Unequal(
            f"pruning would change {name!r} by {worst:.1e} of its size beyond what masking does, so nothing "
            f"was written. This is a fault in an axis rule: please report it with the model"
        )
    return worst


def largest(removed: ir.Model, masked: ir.Model, feeds: Iterable[Feed], threads: int = 1) -> tuple[float, str]:
    """The largest relative difference, and the output that has it."""
    # The runtime turns int8 weights into uint8 ones, whose products do not saturate, from this level on.
    options = Options(threads, level="extended" if _quantized(masked) else "basic", saturate=False)
    sessions = [open_session(_before_saturation(unrounded(model)), options) for model in (removed, masked)]
    worst, place = 0.0, ""
    for feed in feeds:
        for name, one, other in zip(sessions[0].outputs, *(session.run(feed) for session in sessions), strict=True):
            if not (found := difference(one, other)) <= worst:
                worst, place = found, name
    return worst, place


def unrounded(model: ir.Model) -> ir.Model:
    """A copy whose activations are not rounded where that is undone at once, with one scale and zero point."""
    found = model.clone()
    for node in nodes(found):
        made = node.inputs[0].producer() if is_op(node, "DequantizeLinear") and node.inputs[0] is not None else None
        if made is None or not is_op(made, "QuantizeLinear") or _number(made, 1) is None or made.inputs[0] is None:
            continue
        if [_number(made, 1), _number(made, 2)] == [_number(node, 1), _number(node, 2)]:
            node.op_type = "Identity"
            node.attributes.clear()
            node.replace_input_with(0, made.inputs[0])
            node.resize_inputs(1)
    remove_unused(found)
    return found


def _number(node: ir.Node, index: int) -> float | None:
    """The one number in an input, 0 where there is no zero point; None where it holds several or is computed."""
    return scalar(node.inputs[index]) if index < len(node.inputs) and node.inputs[index] is not None else 0.0


def _before_saturation(found: ir.Model) -> ir.Model:
    """The model with what goes into saturating functions in place of their results as outputs."""
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
    return max([TOLERANCE, *coarse, *([_QUANTIZED] if _quantized(model) else [])])


def _quantized(model: ir.Model) -> bool:
    """Whether anything is computed with bytes; weights and inputs that are only decoded are not."""
    own = {ir.DataType.INT8, ir.DataType.UINT8}
    computing = [node for node in nodes(model) if not is_op(node, "Cast", "DequantizeLinear")]
    return any(
        node.op_type.endswith("QuantizeLinear")
        or any(value is not None and value.dtype in own for value in node.inputs)
        for node in computing
    )


def difference(one: Array, other: Array) -> float:
    """Largest difference relative to the largest number; of integers, the share that differs beyond a rare tie."""
    if one.shape != other.shape:
        return float("inf")
    if one.dtype.kind not in "fc":
        return 0.0 if (one != other).sum() <= 0.01 * one.size else 1.0
    a, b = one.astype(np.float64), other.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    apart = np.abs(np.where(same, 0, a) - np.where(same, 0, b)).max(initial=0)
    size = np.abs(np.where(np.isfinite(b), b, 0)).max(initial=0)
    return float(apart / max(size, 1e-30)) if apart else 0.0
