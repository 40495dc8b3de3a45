"""An ONNX graph run with torch ops, so that gradients reach its initializers.

The graph is taken as it is (functions inlined in a copy): nodes run in order, each through its row of the table.
Integers and shapes are computed eagerly with the rest, so nothing has to be folded and dynamic sizes just work; a
subgraph sees the values of the graphs around it. A value is dropped after its last use, unless autograd holds it. What
no wanted value needs is not run, so an op without a row does no harm there.

The caller may replace any constant by name, which is how parameters come in (`optimizer.train.parameters`).
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from optimizer.errors import MissingExtra
from optimizer.model.ports import Array
from optimizer.train.dtypes import to_numpy, to_torch
from optimizer.train.rows import ROWS
from optimizer.train.table import Call, Row, Tensor, Unsupported, key

Scope = dict[ir.Value, Any]


def import_torch() -> Any:
    """The torch module. Raises `MissingExtra` where it is not installed.

    Its threads must wait without spinning: on a machine that does anything else, spinning made two threads five times
    slower than one. OpenMP reads the setting when it is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtra("torch", "train") from error
    return torch


def inlined(model: ir.Model) -> ir.Model:
    """`model` itself, or, where it has functions, a copy without them."""
    if not model.functions:
        return model
    copy = model.clone()
    InlinePass()(copy)
    return copy


def missing_rows(model: ir.Model) -> list[str]:
    """The ops of `model` (functions inlined, subgraphs included) that its outputs need and no row covers, sorted."""
    return _without_row(_needed(inlined(model).graph))


class Evaluator:
    """Computes the values of `model` named in `wanted`, all outputs where there are none, in torch.

    Raises `Unsupported`, naming the ops, when the table lacks rows.
    """

    def __init__(self, model: ir.Model, wanted: Sequence[str] = ()) -> None:
        self.model = inlined(model)
        self.nodes = _needed(self.model.graph, wanted)
        if missing := _without_row(self.nodes):
            raise Unsupported(
                f"no gradients for the ops {', '.join(missing)}: the model cannot be trained through them "
                "(--outputs chooses what to learn from)"
            )
        self.torch = import_torch()
        self.wanted = list(wanted) or [value.name or "" for value in self.model.graph.outputs]
        self._constants: dict[ir.Value, Tensor] = {}
        self._last: dict[ir.Graph, list[list[ir.Value]]] = {}
        self._kept: set[str] = set()

    def run(
        self, feed: Mapping[str, Tensor], given: Mapping[ir.Value, Tensor] | None = None, keep: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """The wanted values and, as far as they are computed, those named in `keep`, by name. `given` replaces
        constants of `self.model`."""
        self._kept = {*keep, *self.wanted}
        scope: Scope = dict(given or {})
        named: dict[str, Tensor] = {}
        graph = self.model.graph
        for value in graph.inputs:
            name = value.name or ""
            if name in feed:
                scope[value] = feed[name]
        self._run_nodes(graph, self.nodes, scope, named)
        straight = (value for value in graph.outputs if value.name in self.wanted and value.name not in named)
        return named | {value.name or "": self._lookup(scope, value) for value in straight}

    def numpy(self, feed: Mapping[str, Array]) -> list[Array]:
        """The outputs in graph order as arrays of the declared types (sequences as lists), without gradients."""
        with self.torch.no_grad():
            found = self.run({name: to_torch(self.torch, array) for name, array in feed.items()})
        return [_array(found[value.name or ""], value.dtype) for value in self.model.graph.outputs]

    def constant(self, value: ir.Value) -> Tensor:
        """An initializer as a tensor, converted once."""
        if value not in self._constants:
            if value.const_value is None:
                raise Unsupported(f"no value for {value.name!r}, which is used")
            self._constants[value] = to_torch(self.torch, value.const_value.numpy())
        return self._constants[value]

    def _lookup(self, scope: Scope, value: ir.Value | None) -> Any:
        if value is None or value.name == "":
            return None
        return scope[value] if value in scope else self.constant(value)

    def every_node(self) -> list[ir.Node]:
        """The nodes that are run, those of subgraphs too."""
        return list(_deep(self.nodes))

    def _run_nodes(self, graph: ir.Graph, nodes: Sequence[ir.Node], scope: Scope, named: dict[str, Tensor]) -> None:
        for node, dead in zip(nodes, self._dead_after(graph, nodes), strict=True):
            self._run_node(node, scope, named)
            for value in dead:
                scope.pop(value, None)

    def _run_node(self, node: ir.Node, scope: Scope, named: dict[str, Tensor]) -> None:
        if node.op_type == "Constant" and node.outputs[0] in scope:
            return
        call = Call(
            node, self._opset(node), self.torch, lambda graph, inputs: self._branch(graph, inputs, scope, named)
        )
        inputs = [self._lookup(scope, value) for value in node.inputs]
        found = _computed(call, ROWS[key(node)], inputs)
        for value, result in zip(node.outputs, found, strict=False):
            scope[value] = result
            if value.name in self._kept:
                named[value.name] = result

    def _branch(self, graph: ir.Graph, inputs: Sequence[Any], scope: Scope, named: dict[str, Tensor]) -> list[Any]:
        inner: Scope = {**scope, **dict(zip(graph.inputs, inputs, strict=False))}
        self._run_nodes(graph, list(graph), inner, named)
        return [self._lookup(inner, value) for value in graph.outputs]

    def _opset(self, node: ir.Node) -> int:
        domain = "" if node.domain == "ai.onnx" else node.domain
        return self.model.opset_imports.get(domain, 1)

    def _dead_after(self, graph: ir.Graph, nodes: Sequence[ir.Node]) -> list[list[ir.Value]]:
        """Per node of `nodes`, the values that nothing reads after it."""
        if graph not in self._last:
            last: dict[ir.Value, int] = {}
            for position, node in enumerate(nodes):
                last.update(dict.fromkeys([*node.outputs, *_read(node)], position))
            dead: dict[int, list[ir.Value]] = collections.defaultdict(list)
            own = {value for node in nodes for value in node.outputs} - set(graph.outputs)
            for value, position in last.items():
                if value in own:
                    dead[position].append(value)
            self._last[graph] = [dead[position] for position in range(len(nodes))]
        return self._last[graph]


def _computed(call: Call, row: Row, inputs: list[Any]) -> Sequence[Any]:
    """The outputs of a node. A failure of the torch op names the node."""
    try:
        found = row.compute(call, *inputs)
    except (RuntimeError, IndexError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise call.refuse(f"torch cannot compute it: {reason}") from error
    return found if isinstance(found, tuple) else (found,)


def _without_row(nodes: Sequence[ir.Node]) -> list[str]:
    return sorted({key(node) for node in _deep(nodes)} - set(ROWS))


def _needed(graph: ir.Graph, wanted: Sequence[str] = ()) -> list[ir.Node]:
    """The nodes of `graph` that the values `wanted` (none: all outputs) are computed from, in order."""
    seen: set[ir.Node] = set()
    made = {value.name: value for node in graph for value in node.outputs}
    waiting: list[ir.Value] = [made[name] for name in wanted if name in made] if wanted else list(graph.outputs)
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(_read(node))
    return [node for node in graph if node in seen]


def _deep(nodes: Sequence[ir.Node]) -> Iterator[ir.Node]:
    """`nodes` and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from attribute.as_graph().all_nodes()


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """All values a node reads, those read inside its subgraphs included."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph().all_nodes():
                yield from (value for value in inner.inputs if value is not None)
            yield from attribute.as_graph().outputs


def _array(tensor: Tensor, dtype: ir.DataType | None) -> Any:
    if isinstance(tensor, list):
        return [_array(element, dtype) for element in tensor]
    array: Array = tensor.detach().cpu().numpy()
    return array if dtype is None else to_numpy(tensor, dtype)
