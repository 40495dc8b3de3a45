"""Is the graph of an untrusted file sound? Checked on the protobuf, in time linear in its size.

1. Every name is given once per graph: by an input, an initializer (which may also be an input) or a node's output.
   A body of control flow may not name its inputs twice either. A body may give a name of an enclosing graph again
   (the spec forbids it, exporters do it): `io` renames it.
2. Every node reads only names that its graph or an enclosing one gives; graph outputs are given by
   their own graph.
3. Nodes out of order are reported, not refused: `io` sorts them, and finds cycles while doing so.
4. No negative size. A size of -1, an old exporters' habit, is made unknown.
5. Functions do not call each other in circles, and all calls together expand to at most `MAX_NODES` nodes: 1.5 KB of
   functions that call each other twice would otherwise expand for hours.
6. Nesting is bounded, and every node fits its operator (`schema`).
7. Inputs and outputs are no maps, which stand for no tensor.
8. Texts are UTF-8 (protobuf hands out bytes where they are not). A comment that is not is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from optimizer.errors import ModelError
from optimizer.model.schema import bodies, check_operators, label

MAX_NODES = 1_000_000
MAX_DEPTH = 25

Key = tuple[str, str, str]


def check_graph(proto: onnx.ModelProto) -> bool:
    """Raise `ModelError` for all cases but the third; returns False where the nodes must be sorted first."""
    _check_texts(proto)
    if not proto.graph.output:
        raise ModelError("the model has no outputs")
    functions = {_key(function.domain, function.name, function.overload): function for function in proto.functions}
    if len(functions) < len(proto.functions):
        raise ModelError("two functions of the model have the same name")
    _check_types(proto.graph)
    _check_expansion(proto, functions)
    sorted_ = _check(proto.graph, frozenset(), frozenset(), 0)
    for function in proto.functions:
        sorted_ &= _check_function(function)
    check_operators(proto)
    return sorted_


def _check_types(graph: onnx.GraphProto) -> None:
    """scikit-learn's converter ends classifiers with maps from class to probability, one for each row."""
    for info in (*graph.input, *graph.output):
        inner = info.type
        while inner.HasField("sequence_type") or inner.HasField("optional_type"):
            inner = (inner.sequence_type if inner.HasField("sequence_type") else inner.optional_type).elem_type
        if inner.HasField("map_type"):
            raise ModelError(
                f"{info.name!r} is a map and no tensor: export the model without ZipMap "
                "(skl2onnx: options={'zipmap': False})"
            )


def _check(graph: onnx.GraphProto, outer: frozenset[str], outer_done: frozenset[str], depth: int) -> bool:
    """`outer` is all that the enclosing graphs give, `outer_done` what they give before this graph is run."""
    if depth > MAX_DEPTH:
        raise ModelError(f"graphs are nested more than {MAX_DEPTH} deep")
    _clear_negative_sizes(graph)
    own = _given(graph)
    done = _unique((info.name for info in graph.input), "graph input") | own
    names = done | _unique((name for node in graph.node for name in node.output if name), "node output")
    _check_disjoint(graph, done)
    _unique((info.name for info in graph.output), "graph output")
    scope = outer | names
    for info in graph.output:
        if info.name not in names:
            raise ModelError(f"the graph output {info.name!r} is given by no node of its graph")
    return _check_nodes(graph.node, scope, outer_done | done, depth)


def _given(graph: onnx.GraphProto) -> frozenset[str]:
    dense = _unique((tensor.name for tensor in graph.initializer), "initializer")
    sparse = _unique((tensor.values.name for tensor in graph.sparse_initializer), "sparse initializer")
    return dense | sparse


def _check_disjoint(graph: onnx.GraphProto, done: frozenset[str]) -> None:
    for node in graph.node:
        for name in node.output:
            if name in done:
                raise ModelError(f"node {label(node)} writes {name!r}, which is already an input or initializer")


def _check_function(function: onnx.FunctionProto) -> bool:
    done = _unique(function.input, "function input")
    names = done | _unique((name for node in function.node for name in node.output if name), "node output")
    for name in function.output:
        if name not in names:
            raise ModelError(f"the output {name!r} of function {function.name!r} is given by no node")
    return _check_nodes(function.node, names, done, 0)


def _check_nodes(nodes: Iterable[onnx.NodeProto], scope: frozenset[str], before: frozenset[str], depth: int) -> bool:
    done, sorted_ = set(before), True
    for node in nodes:
        for name in node.input:
            if name and name not in scope:
                raise ModelError(f"node {label(node)} reads {name!r}, which nothing gives")
            sorted_ &= not name or name in done
        for body in bodies(node):
            sorted_ &= _check(body, scope, frozenset(done), depth + 1)
        done.update(node.output)
    return sorted_


def _unique(names: Iterable[str], kind: str) -> frozenset[str]:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise ModelError(f"a {kind} has no name")
        if name in seen:
            raise ModelError(f"the name {name!r} is given to more than one {kind}")
        seen.add(name)
    return frozenset(seen)


def _clear_negative_sizes(graph: onnx.GraphProto) -> None:
    for infos in (graph.input, graph.output, graph.value_info):
        for info in infos:
            for dim in info.type.tensor_type.shape.dim:
                if dim.HasField("dim_value") and dim.dim_value < -1:
                    raise ModelError(f"{info.name!r} has the negative size {dim.dim_value} in its shape")
                if dim.HasField("dim_value") and dim.dim_value == -1:
                    dim.ClearField("dim_value")


def _check_texts(model: onnx.ModelProto) -> None:
    messages: list[Message] = [model]
    while messages:
        message = messages.pop()
        for field, content in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                messages.extend([content] if isinstance(content, Message) else content)
            elif field.type == FieldDescriptor.TYPE_STRING and not _is_text(content):
                if field.name != "doc_string":
                    raise ModelError(f"a {field.name} in a {message.DESCRIPTOR.name} is no UTF-8 text")
                message.ClearField("doc_string")


def _is_text(content: object) -> bool:
    return isinstance(content, str) or (
        not isinstance(content, bytes)
        and isinstance(content, Iterable)
        and all(isinstance(item, str) for item in content)
    )


def _check_expansion(proto: onnx.ModelProto, functions: dict[Key, onnx.FunctionProto]) -> None:
    """Case 5, by adding up sizes from the callees to the callers, without expanding anything."""
    calls = {key: list(_calls(function.node, 0)) for key, function in functions.items()}
    sizes: dict[Key, int] = {}
    for key in functions:
        _measure(key, calls, sizes)
    total = sum(sizes.get(key, 1) for key in _calls(proto.graph.node, 0))
    if total > MAX_NODES:
        raise ModelError(f"the model's functions expand to more than {MAX_NODES} nodes")


def _measure(start: Key, calls: dict[Key, list[Key]], sizes: dict[Key, int]) -> None:
    stack, open_ = [start], {start}
    while stack:
        key = stack[-1]
        missing = next((callee for callee in calls[key] if callee in calls and callee not in sizes), None)
        if missing is None:
            sizes[key] = sum(sizes.get(callee, 1) for callee in calls[key])
            open_.discard(stack.pop())
        elif missing in open_:
            raise ModelError(f"the model's function {missing[1]!r} calls itself")
        else:
            stack.append(missing)
            open_.add(missing)


def _calls(nodes: Iterable[onnx.NodeProto], depth: int) -> Iterator[Key]:
    if depth > MAX_DEPTH:
        raise ModelError(f"graphs are nested more than {MAX_DEPTH} deep")
    for node in nodes:
        yield _key(node.domain, node.op_type, node.overload)
        for body in bodies(node):
            yield from _calls(body.node, depth + 1)


def _key(domain: str, name: str, overload: str) -> Key:
    return ("" if domain == "ai.onnx" else domain, name, overload)
