"""Which node of a model file a node of the runtime's optimized graph came from.

The runtime fuses nodes and names the result after one of them, after the value it produces, or either with a suffix
(`_token_12` of the int8 selector, `_nchwc` of the layout transformer, `/MatMulAddFusion`...). So a name is looked up
among node names, then among value names, whole and with suffixes taken off. A node that multiplies but is named after
what was fused into it (`Conv + BatchNormalization + Clip`, named after the Clip's output) belongs to the multiplying
node that the chain of first inputs leads back to. What is found nowhere, such as layout changes, stays by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import onnx_ir as ir

from optimizer.model import cost, shapes
from optimizer.ops import macs
from optimizer.runtime.profile import NodeTime
from optimizer.runtime.told import tell

_SUFFIX = re.compile(r"(_token_\d+|_nchwc|/\w*Fusion\w*|_\d+)$")
_MULTIPLIES = re.compile(r"Conv|Gemm|MatMul|LSTM|GRU|RNN|Attention|Einsum")
_LONGEST_CHAIN = 8


class Layer(NamedTuple):
    """A node of the model file: its name, operator, and multiply-accumulates in one run."""

    name: str
    op_type: str
    macs: int


class Layers:
    """Look-up of a model's layers by the names that the runtime gives."""

    def __init__(self, model: ir.Model, dims: Mapping[str, int]) -> None:
        sized = model.clone()
        tell(sized)
        shapes.infer(sized, dims)
        nodes = list(sized.graph.all_nodes())
        self._nodes = {node.name: node for node in nodes if node.name}
        self._makers = {value.name: node for node in nodes for value in node.outputs if value.name}

    def of(self, timed: NodeTime) -> Layer:
        """The layer that `timed` belongs to; itself, without MACs, where there is none."""
        node = next((self._find(name) for name in _spellings(timed.name) if self._find(name) is not None), None)
        if node is None:
            return Layer(timed.op_type if _is_made(timed.name, timed.op_type) else timed.name, timed.op_type, 0)
        if _MULTIPLIES.search(timed.op_type):
            node = _multiplying(node)
        return Layer(node.name or timed.name, node.op_type, cost.node_macs(node) or 0)

    def _find(self, name: str) -> ir.Node | None:
        return self._nodes.get(name) or self._makers.get(name)


def _spellings(name: str) -> Iterator[str]:
    yield name
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
        yield name


def _is_made(name: str, op_type: str) -> bool:
    """Whether the runtime made the node up (`Transpose_token_165`, `ReorderOutput`)."""
    return op_type in _spellings(name)


def _multiplying(node: ir.Node) -> ir.Node:
    found: ir.Node | None = node
    for _ in range(_LONGEST_CHAIN):
        if found is None or macs.has_row(found):
            return found or node
        found = found.inputs[0].producer() if found.inputs and found.inputs[0] is not None else None
    return node
