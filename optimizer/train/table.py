"""What a table row of the ONNX-to-torch evaluator is.

A row is a function of one node at one opset: it takes a `Call` (the node, the opset of its domain, torch, a way to run
subgraphs) and the node's inputs as torch tensors (None where an optional input is left out) and returns the output, or
a tuple of outputs in order. Rows get torch through the call, so that their modules load without torch.

Numbers: 16-bit floats are computed in float32 (ONNX Runtime's CPU kernels do the same); quantized integers come out of
QuantizeLinear as *floats with integer values*, so that a gradient can pass (see `rows/quantized.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx_ir as ir

from optimizer.errors import ModelError

Tensor: TypeAlias = Any
"""A torch tensor. Any, because mypy runs without torch too."""


class Unsupported(ModelError):
    """The evaluator has no row for an op, or not for the form it takes here."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One node being evaluated."""

    node: ir.Node
    opset: int
    torch: Any
    subgraph: Callable[[ir.Graph, Sequence[Tensor]], list[Tensor]]
    """Runs a graph of the node's attributes on its inputs, in the scope of the node."""

    @property
    def functional(self) -> Any:
        return self.torch.nn.functional

    def integer(self, name: str, default: int) -> int:
        return self.node.attributes.get_int(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.node.attributes.get_int(name, int(default)))

    def real(self, name: str, default: float) -> float:
        return self.node.attributes.get_float(name, default)

    def text(self, name: str, default: str = "") -> str:
        return self.node.attributes.get_string(name, default)

    def integers(self, name: str) -> list[int] | None:
        found = self.node.attributes.get_ints(name, None)
        return None if found is None else [int(number) for number in found]

    def reals(self, name: str) -> list[float]:
        return list(self.node.attributes.get_floats(name, ()))

    def texts(self, name: str) -> list[str]:
        return list(self.node.attributes.get_strings(name, ()))

    def graph(self, name: str) -> ir.Graph:
        return self.node.attributes[name].as_graph()

    def has(self, name: str) -> bool:
        return name in self.node.attributes

    def wants(self, index: int) -> bool:
        """Whether output `index` of the node exists."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index].name)

    def refuse(self, why: str) -> Unsupported:
        return Unsupported(f"node {self.node.name!r} ({self.node.op_type}): {why}; it cannot be trained through")


@dataclasses.dataclass(frozen=True)
class Row:
    """How an op is computed. `weights` and `vectors` say which inputs are learnt when they are constants."""

    compute: Callable[..., Any]
    weights: tuple[int, ...] = ()
    """Inputs that are weights whatever their shape: kernels, embeddings, norm scales and shifts."""
    vectors: tuple[int, ...] = ()
    """Inputs that are weights only as a vector along one axis (a bias written as Add, a scale written as Mul)."""
    smooth: bool = True
    """Whether a gradient passes from some float input to the output."""
    rounds: bool = False
    """Whether activations are rounded on the way, so that a rounding error more or less may move a value by a step."""


Table: TypeAlias = Mapping[str, Row]


def key(node: ir.Node) -> str:
    """The table key of a node: its op, with the domain before it unless it is ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def numbers(tensor: Tensor) -> list[Any]:
    """A 0-d or 1-d integer tensor as Python ints."""
    return [int(number) for number in tensor.reshape(-1).tolist()]


def pads(begins_then_ends: Sequence[int]) -> list[int]:
    """ONNX pads (all begins, then all ends) as torch's (last axis first, begin and end together)."""
    half = len(begins_then_ends) // 2
    return [side for axis in reversed(range(half)) for side in begins_then_ends[axis::half]]


def along(tensor: Tensor, axis: int, rank: int) -> Tensor:
    """A vector shaped so that it broadcasts along `axis` of a tensor of `rank` axes."""
    return tensor.reshape([-1 if position == axis % rank else 1 for position in range(rank)])
