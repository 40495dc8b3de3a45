"""Weights that single entries may go of: Conv, ConvTranspose, Gemm, MatMul and recurrent layers, as matrices [G, O, K].

A weight that a consumer (`consumers`) reads can be fitted when entries of it are gone. Others (shared by several nodes,
recurrent, scaled Gemm, more columns than can be inverted) lose entries by magnitude and keep the rest as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import onnx_ir as ir

from optimizer.calibrate.consumers import Consumer, consumers, is_float
from optimizer.calibrate.lowering import Lowering
from optimizer.calibrate.sparsify import Pattern
from optimizer.model.passes.edit import content
from optimizer.model.ports import Array

_WEIGHTS = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Weight:
    """One weight, the first node that reads it, and who can fit it."""

    value: ir.Value
    node: ir.Node
    consumer: Consumer | None

    @property
    def name(self) -> str:
        return self.value.name or ""

    def rows(self) -> Array:
        """The weight as float64 [G, O, K]."""
        if self.consumer is not None:
            return self.consumer.rows()
        numbers = content(self.value)
        lowered = self._lowering()
        return (numbers.reshape(-1, numbers.shape[-1]) if lowered is None else lowered.rows(numbers)).astype("f8")[None]

    def stored(self, rows: Array) -> Array:
        """Inverse of `rows`, in the weight's own type."""
        if self.consumer is not None:
            return self.consumer.stored(rows)
        numbers, lowered = content(self.value), self._lowering()
        shaped = rows[0].reshape(numbers.shape) if lowered is None else lowered.weight(rows[0])
        return shaped.astype(numbers.dtype)

    def _lowering(self) -> Lowering | None:
        shape = tuple(content(self.value).shape)
        if self.node.op_type == "Conv":
            return Lowering(shape, 0, True)
        columns = self.node.op_type in ("Gemm", "MatMul") and not self.node.attributes.get_int("transB", 0)
        return Lowering(shape, 1, False) if columns and len(shape) == 2 and self.node.inputs[1] is self.value else None

    def suits(self, pattern: Pattern) -> bool:
        """Whether the pattern fits into the matrix; columns of a convolution run over its channels first."""
        _, outer, columns = self.rows().shape
        return pattern.suits(outer, columns, content(self.value).shape[1] if self.node.op_type == "Conv" else columns)


def weights(graph: ir.Graph, only: Sequence[str], exclude: Sequence[str]) -> list[Weight]:
    """All of a graph, in its order; of those that globs name (tensor, node or op), if there are globs."""
    own = {one.weight: one for one in consumers(graph)}
    found = {value: Weight(value, node, own.get(value)) for node, value in _read(graph)}
    named = [one for one in found.values() if not only or _matches(one, only)]
    return [one for one in named if not _matches(one, exclude)]


def _read(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    seen = set[ir.Value]()
    for node in graph:
        for index in _WEIGHTS.get(node.op_type, ()) if node.domain == "" else ():
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and value not in seen and _is_weight(value):
                seen.add(value)
                yield node, value


def _is_weight(value: ir.Value) -> bool:
    return is_float(value) and content(value).ndim > 1


def _matches(one: Weight, globs: Sequence[str]) -> bool:
    names = (one.name, one.node.name or "", one.node.op_type)
    return any(fnmatchcase(name, glob) for name in names for glob in globs)
