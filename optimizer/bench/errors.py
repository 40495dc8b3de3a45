"""Where accuracy goes: the error of every tensor that both models compute, in the order of the baseline's execution.

A tensor is matched by its name, after the same clean-up of both graphs (which folds batch norms and renames what it
folds). Where the candidate quantizes a tensor, its dequantized form is compared: that is what the rest of the graph
sees, and saturation there may stand for a Relu or Clip. Both graphs are run with their inner tensors as extra outputs,
which keeps the runtime from fusing them away; quantized graphs then compute in float what they would in int8, with
the same rounding of inputs, weights and activations, up to the rounding inside the kernels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import onnx_ir as ir

from optimizer.bench.subject import Subject
from optimizer.calibrate.answers import is_real
from optimizer.calibrate.distance import Distance
from optimizer.calibrate.run import watching
from optimizer.data.samples import Samples
from optimizer.model import cleanup
from optimizer.runtime.session import Session

SAMPLES = 4
AT_ONCE = 32
"""Tensors compared in one run: so many are in memory at the same time, of both models."""


@dataclasses.dataclass(frozen=True)
class TensorError:
    """How far the candidate's tensor is from the baseline's."""

    tensor: str
    op_type: str
    sqnr_db: float
    cosine: float


def by_tensor(first: Subject, second: Subject, threads: int) -> tuple[TensorError, ...]:
    """Errors of the tensors of equal name and shape, over the first `SAMPLES` samples."""
    models = _cleaned(first.model), _cleaned(second.model)
    makers = {value.name: node for node in models[0].graph for value in node.outputs if value.name}
    theirs = {value.name: _seen(value) for node in models[1].graph for value in node.outputs if value.name}
    names = [name for name, node in makers.items() if name in theirs and node.op_type != "Constant"]
    found: dict[str, Distance] = {}
    for start in range(0, len(names), AT_ONCE):
        pairs = {name: theirs[name] for name in names[start : start + AT_ONCE]}
        sessions = watching(models[0], pairs, threads=threads), watching(models[1], pairs.values(), threads=threads)
        found |= _distances(sessions, (first.samples, second.samples), pairs)
    return tuple(
        TensorError(name, makers[name].op_type, distance.sqnr_db, distance.cosine)
        for name, distance in found.items()
        if distance.pairs
    )


def _distances(
    sessions: tuple[Session, Session], samples: tuple[Samples, Samples], pairs: Mapping[str, str]
) -> dict[str, Distance]:
    found = {name: Distance() for name in pairs}
    for feeds in zip(*(own.take(SAMPLES) for own in samples), strict=True):
        ones = sessions[0].run(feeds[0], list(pairs))
        others = sessions[1].run(feeds[1], list(pairs.values()))
        for name, one, other in zip(pairs, ones, others, strict=True):
            if is_real(one) and is_real(other) and one.shape == other.shape:
                found[name].update(one, other)
    return found


def _cleaned(model: ir.Model) -> ir.Model:
    copy = model.clone()
    cleanup.clean(copy)
    return copy


def _seen(value: ir.Value) -> str:
    """The name of what the rest of the graph reads for `value`: its dequantized form, where it is quantized."""
    if value.is_graph_output():
        return value.name or ""
    codes = [node.outputs[0] for node in value.consumers() if node.op_type == "QuantizeLinear"]
    seen = [node.outputs[0] for code in codes for node in code.consumers() if node.op_type == "DequantizeLinear"]
    return (seen[0] if seen else value).name or ""
