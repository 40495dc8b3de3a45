"""What a model costs: parameters, multiply-accumulates of one run, and bytes of its tensors.

Parameters are counted by role (`ops.parameters`), so that the same network has the same number in float and in int8;
a tensor that several nodes share counts once. Weights in `Constant` nodes count like initializers.

MACs come from `ops.macs`. Sizes come, in this order, from `shapes` (a run's), from shape inference with `dims` put
in for the symbols, and 1 for every input size left open. Control flow: of an `If` the dearer branch counts; the body
of a `Loop` counts as often as its constant trip count says, of a `Scan` as often as the scanned axis is long, once
where that is unknown. Model functions are counted where they are called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import onnx_ir as ir

from optimizer.model import shapes as shapes_
from optimizer.model.bodies import subgraphs
from optimizer.model.passes.functions import inline
from optimizer.ops import macs, parameters


@dataclasses.dataclass(frozen=True)
class Cost:
    """Parameters (elements), MACs of one run, bytes of all constant tensors."""

    params: int
    macs: int
    bytes: int
    unknown: tuple[str, ...] = ()
    """Names of nodes whose MACs are missing from `macs`, because a size could not be found out."""


def count(
    model: ir.Model,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Cost:
    """The cost of `model`, which is not changed. `dims` gives symbolic input sizes, `shapes` sizes by value name."""
    sized = _sized(model, dims or {})
    counter = _Counter(shapes or {})
    total = counter.graph(sized.graph)
    return Cost(params(model), total, tensor_bytes(model), tuple(counter.unknown))


def node_macs(node: ir.Node, shapes: Mapping[str, tuple[int, ...]] | None = None) -> int | None:
    """MACs of one run of `node`, its subgraphs included; None where a size is unknown."""
    counter = _Counter(shapes or {})
    total = counter.node(node)
    return None if counter.unknown else total


def params(model: ir.Model) -> int:
    """The number of trained parameters in the model, quantized ones included."""
    return sum(_parameters(value, tensor) for value, tensor in constants(model))


def tensor_bytes(model: ir.Model) -> int:
    """Bytes of all constant tensors in the model."""
    return sum(tensor.nbytes for _, tensor in constants(model))


def constants(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """All constant tensors, those of subgraphs, functions and Constant nodes included, with the value each defines."""
    for graph in (*model.graphs(), *_function_graphs(model)):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value, value.const_value
        for node in graph:
            if node.op_type == "Constant" and node.domain == "":
                tensor = ir.convenience.get_const_tensor(node.outputs[0])
                if tensor is not None:
                    yield node.outputs[0], tensor


def _function_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    for function in model.functions.values():
        yield function.graph
        yield from function.subgraphs()


def _parameters(value: ir.Value, tensor: ir.TensorProtocol) -> int:
    for node, index in value.uses():
        if parameters.is_parameter(tensor.dtype, node, index):
            return parameters.elements(node, index, tensor.size)
    return 0


def _sized(model: ir.Model, dims: Mapping[str, int]) -> ir.Model:
    sized = model.clone()
    inline(sized)
    for value in sized.graph.inputs:
        if value.shape is not None and not value.shape.is_static():
            value.shape = ir.Shape([_number(dim, dims) for dim in value.shape])
    shapes_.infer(sized, dict.fromkeys(shapes_.symbols(model), 1) | dict(dims))
    return sized


def _number(dim: int | ir.SymbolicDim, dims: Mapping[str, int]) -> int:
    return dim if isinstance(dim, int) else dims.get(dim.value or "", 1)


class _Counter:
    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.unknown: list[str] = []

    def graph(self, graph: ir.Graph) -> int:
        return sum(self.node(node) for node in graph)

    def node(self, node: ir.Node) -> int:
        found = macs.node_macs(node, self._sizes)
        if found is None:
            self.unknown.append(node.name or node.op_type)
        bodies = [self.graph(body) for body in subgraphs(node)]
        inner = max(bodies, default=0) if node.op_type == "If" else sum(bodies)
        return (found or 0) + inner * self._trips(node)

    def _sizes(self, value: ir.Value | None) -> tuple[int, ...] | None:
        if value is not None and value.name is not None and value.name in self.shapes:
            return self.shapes[value.name]
        return shapes_.static(value)

    def _trips(self, node: ir.Node) -> int:
        if node.op_type == "Loop" and node.inputs[0] is not None:
            trips = ir.convenience.get_const_tensor(node.inputs[0])
            return 1 if trips is None else int(trips.numpy().reshape(()))
        if node.op_type == "Scan" and node.domain == "":
            scanned = self._sizes(node.inputs[-1])
            axes = node.attributes.get_ints("scan_input_axes", [0])
            return 1 if not scanned else scanned[axes[-1]]
        return 1
