"""Outputs whose size the data decides, and what to compare instead.

A detector ends in NonMaxSuppression: a score that moves by a hair changes which boxes come out, how many, and in what
order, so that two such outputs cannot be subtracted. What can be compared is what the first selection reads.

`comparable` gives a model whose outputs are those that depend on no selection; for every selection that depends on no
other, the real values that decide it: its float inputs, or for masks and indices the nearest float values that they are
made of; and what is selected from: real values that depend on no selection, and are read by nodes that do (boxes of
which some are picked by score). They are called ``NODE:0``, ``NODE:1`` ... after the selecting or the reading node,
which keep their names in quantization.
`pinned` gives a model that is told what to select, which can be compared beyond that too.

Selecting are NonMaxSuppression, NonZero, Unique and Compress, and nodes that hold one of these in a body; only if what
they read depends on a product by weights (the masks of padding do not, and are the same in both models).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx_ir as ir

from optimizer.model import bodies, shapes

_SELECTORS = frozenset({"NonMaxSuppression", "NonZero", "Unique", "Compress"})
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN"})
_REAL = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16})


def behind(model: ir.Model) -> set[str]:
    """The names of the nodes of the main graph that a selection comes before, selecting nodes included."""
    found = _selections(model)
    return {node.name or "" for node in (*found.first, *found.later)}


def comparable(model: ir.Model) -> ir.Model:
    """A clone of `model` whose outputs can be compared one by one; `model` itself if its own can. Nodes and values
    need names."""
    if not _selections(model).first:
        return model
    copy = model.clone()
    shapes.infer(copy)
    found = _selections(copy)
    selected = {value for node in (*found.first, *found.later) for value in node.outputs}
    kept = [value for value in copy.graph.outputs if value not in selected]
    chosen = {node: _deciding(node, found.computed) for node in found.first}
    chosen |= {node: _reading(node, found.computed) for node in found.later}
    _put_out(copy.graph, [*kept, *_seen(chosen)])
    return copy


def telling(model: ir.Model) -> ir.Model:
    """A clone of `model` that puts out all that its selections give, for `pinned` to be fed with."""
    copy = model.clone()
    _put_out(copy.graph, [value for node in _picking(copy)[0] for value in _used(node)])
    return copy


def pinned(model: ir.Model) -> ir.Model:
    """A clone of `model` that selects nothing: what selections give are inputs, named as `telling` puts them out.

    So models that would select differently by a hair can be compared up to their ends, and by what decides.
    """
    copy = model.clone()
    shapes.infer(copy)
    nodes, computed = _picking(copy)
    kept = [value for value in copy.graph.outputs if value.producer() not in nodes]
    _put_out(copy.graph, [*kept, *_seen({node: _deciding(node, computed) for node in nodes})])
    for node in nodes:
        for value in _used(node):
            given = ir.Value(name=value.name, type=value.type, shape=value.shape)
            value.replace_all_uses_with(given)
            copy.graph.inputs.append(given)
    copy.graph.remove(nodes)
    return copy


def _put_out(graph: ir.Graph, values: Sequence[ir.Value]) -> None:
    graph.outputs.clear()
    graph.outputs.extend(values)


def _seen(values: Mapping[ir.Node, Iterable[ir.Value]]) -> Iterator[ir.Value]:
    """Copies of the values, named after the nodes."""
    for node, own in values.items():
        for number, value in enumerate(dict.fromkeys(own)):
            copy = ir.node("Identity", [value], num_outputs=1)
            copy.outputs[0].name, copy.outputs[0].type = f"{node.name}:{number}", value.type
            if node.graph is not None:
                node.graph.append(copy)
            yield copy.outputs[0]


@dataclasses.dataclass(frozen=True)
class _Selections:
    first: list[ir.Node]
    """The selecting nodes that depend on no other."""
    later: list[ir.Node]
    """All nodes that depend on these."""
    computed: set[ir.Value]
    """What depends on a product by weights, and on no selection."""


def _selections(model: ir.Model) -> _Selections:
    found = _Selections([], [], set())
    selected: set[ir.Value] = set()
    for node in model.graph:
        read = set(bodies.read(node))
        depends = not read.isdisjoint(found.computed)
        if not read.isdisjoint(selected):
            found.later.append(node)
            selected.update(node.outputs)
        elif depends and _selects(node):
            found.first.append(node)
            selected.update(node.outputs)
        elif depends or node.op_type in _PRODUCTS:
            found.computed.update(node.outputs)
    return found


def _picking(model: ir.Model) -> tuple[list[ir.Node], set[ir.Value]]:
    """The nodes whose results turn on hairs, and all that depends on a product by weights."""
    found = _selections(model)
    computed = found.computed | {value for node in (*found.first, *found.later) for value in node.outputs}
    selecting = {*found.first, *(node for node in found.later if _selects(node))}
    ranking = {node for node in model.graph if node.op_type == "TopK" and not computed.isdisjoint(node.inputs)}
    return [node for node in model.graph if node in selecting | ranking], computed


def _used(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.outputs if value.uses()]


def _deciding(node: ir.Node, computed: set[ir.Value]) -> Iterator[ir.Value]:
    """The float values that decide what `node` selects."""
    for value in bodies.read(node):
        producer = value.producer()
        if value not in computed or producer is None:
            continue
        if value.dtype in _REAL:
            yield value
        else:
            yield from _deciding(producer, computed)


def _reading(node: ir.Node, computed: set[ir.Value]) -> Iterator[ir.Value]:
    """The float values that `node` reads of those."""
    yield from (value for value in bodies.read(node) if value in computed and value.dtype in _REAL)


def _selects(node: ir.Node) -> bool:
    inner = (one for body in bodies.subgraphs(node) for one in body.all_nodes())
    return any(one.op_type in _SELECTORS and not one.domain for one in (node, *inner))
