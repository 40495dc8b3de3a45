"""What student and teacher have in common: inputs, outputs, and tensors inside.

Inputs and outputs are matched by name, or by position where the names differ and the counts agree. A student whose
inputs are coded (see `data.convert`) gets the codes of the same values; an output that the student quantizes is
compared before it is. Integer outputs are ids: nothing can be learnt from them.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optimizer.data import convert
from optimizer.errors import ConfigError, DataError
from optimizer.model import ports
from optimizer.model.ports import Array, Feed
from optimizer.train.losses import Kind, Output, kind_of, scores_of

FEATURES = 8
"""The most tensors inside that are compared: evenly spread from input to output."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The teacher's feed as the student takes it."""

    names: Mapping[str, str]
    """Student input -> teacher input."""
    codes: Mapping[str, convert.Code]
    floats: Mapping[str, np.dtype[Any]]
    """Student inputs that take real numbers of another width."""

    def feed(self, feed: Feed) -> dict[str, Array]:
        found = {own: feed[other] for own, other in self.names.items()}
        found |= {name: found[name].astype(dtype) for name, dtype in self.floats.items()}
        for name, code in self.codes.items():
            if name in found and convert.is_float(found[name].dtype):
                found[name] = code.encode(found[name])
        return found


def inputs(student: ir.Model, teacher: ir.Model) -> Inputs:
    """How the student's inputs are fed. Raises `DataError` where they do not match the teacher's."""
    own, other = ports.inputs(student), ports.inputs(teacher)
    names = _pairs([port.name for port in own], [port.name for port in other], "inputs")
    codes = convert.codes(student)
    types = {port.name: port.dtype for port in other}
    floats: dict[str, np.dtype[Any]] = {}
    for port in own:
        taken = types[names[port.name]]
        if port.dtype == taken or port.name in codes:
            continue
        if not (convert.is_float(port.dtype) and convert.is_float(taken)):
            raise DataError(
                f"the student's input {port.name!r} takes {port.dtype}, the teacher's {taken}: "
                "they must take the same data"
            )
        floats[port.name] = port.dtype
    return Inputs(names, codes, floats)


def outputs(
    student: ir.Model, teacher: ir.Model, chosen: Sequence[str], examples: Mapping[str, Array], loss: str
) -> tuple[Output, ...]:
    """The outputs to learn from: all real ones, or those that a pattern of `chosen` fits.

    `examples` are outputs of the teacher by name. Raises `ConfigError`.
    """
    names = _pairs(
        [_name(value) for value in teacher.graph.outputs], [_name(v) for v in student.graph.outputs], "outputs"
    )
    kept = {name for name in names if not chosen or any(fnmatch.fnmatch(name, pattern) for pattern in chosen)}
    real = [name for name in names if name in kept and convert.is_float(examples[name].dtype)]
    if not real:
        raise ConfigError(
            f"none of the outputs {', '.join(names)} is a real one that is asked for: there is nothing to learn from"
        )
    values = {_name(value): value for value in student.graph.outputs}
    return tuple(_output(name, values[names[name]], examples[name], loss) for name in real)


def _output(name: str, value: ir.Value, example: Array, loss: str) -> Output:
    kind: Kind = kind_of(example) if loss == "auto" else loss  # type: ignore[assignment]
    return Output(name, _before_quantization(value), kind, scores_of(example), spread(example))


def spread(example: Array) -> float:
    """The variance of the finite values."""
    finite = example[np.isfinite(example)].astype(np.float64)
    return float(finite.var()) if finite.size else 0.0


def _before_quantization(value: ir.Value) -> str:
    node = value.producer()
    if node is None or node.op_type != "QuantizeLinear" or node.inputs[0] is None:
        return _name(value)
    return _name(node.inputs[0])


def _pairs(left: list[str], right: list[str], what: str) -> dict[str, str]:
    if set(left) <= set(right):
        return {name: name for name in left}
    if len(left) != len(right):
        raise DataError(f"student and teacher have different {what}: {', '.join(left)} and {', '.join(right)}")
    return dict(zip(left, right, strict=True))


def _names(values: Sequence[ir.Value]) -> list[str]:
    return [_name(value) for value in values]


def _name(value: ir.Value) -> str:
    return value.name or ""


def common_tensors(student: ir.Model, teacher: ir.Model) -> list[str]:
    """Real tensors inside the main graphs that the same kind of node makes under one name in both, in order."""
    own = {_name(out): node.op_type for node in student.graph for out in node.outputs}
    final = {_name(value) for graph in (student.graph, teacher.graph) for value in graph.outputs}
    names = [
        _name(node.outputs[0])
        for node in teacher.graph
        if own.get(_name(node.outputs[0])) == node.op_type and _name(node.outputs[0]) not in final
    ]
    return [name for name in names if name]


def spaced(names: Sequence[str], count: int = FEATURES) -> list[str]:
    """At most `count` of the names, evenly spaced, the last one among them."""
    if len(names) <= count:
        return list(names)
    step = len(names) / count
    return [names[int((position + 1) * step) - 1] for position in range(count)]
