"""Does every node fit what its operator declares? The runtime refuses the same files, later and less clearly.

For standard operators (ONNX's own schemas): the number of inputs and outputs, the names and types of attributes, and
that required ones are there. For calls of a model's own functions: the number of inputs and outputs. Operators of
other domains, and standard ones that this version of onnx does not know, are not judged.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping

import onnx

from optimizer.errors import ModelError

_STANDARD = ("", "ai.onnx")
_NUMBER = {
    getattr(onnx.defs.OpSchema.AttrType, name): number
    for name, number in onnx.AttributeProto.AttributeType.items()
    if hasattr(onnx.defs.OpSchema.AttrType, name)
}
"""The protobuf's number of each attribute type of a schema."""
_HELD_IN = {onnx.AttributeProto.GRAPH: "g", onnx.AttributeProto.TENSOR: "t"}


def check_operators(proto: onnx.ModelProto) -> None:
    """Raise `ModelError` unless every node of the model fits its operator."""
    functions = {(function.domain, function.name): function for function in proto.functions}
    _check_nodes(proto.graph.node, _version(proto.opset_import), functions)
    for function in proto.functions:
        _check_nodes(function.node, _version(function.opset_import), functions)


def label(node: onnx.NodeProto) -> str:
    """What to call `node` in a message."""
    return f"{node.name!r} ({node.op_type})" if node.name else f"of {node.op_type}"


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that the attributes of `node` hold."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _version(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    return next((entry.version for entry in imports if entry.domain in _STANDARD), 1)


def _check_nodes(
    nodes: Iterable[onnx.NodeProto], version: int, functions: Mapping[tuple[str, str], onnx.FunctionProto]
) -> None:
    for node in nodes:
        _check_attributes(node)
        function = functions.get((node.domain, node.op_type))
        schema = _schema(node.op_type, version) if node.domain in _STANDARD else None
        if function is not None:
            _check_count(len(node.input), 0, len(function.input), node, "inputs")
            _check_count(len(node.output), 0, len(function.output), node, "outputs")
        elif schema is not None:
            _check_node(node, schema)
        for body in bodies(node):
            if node.op_type == "If":
                _check_count(len(body.output), len(node.output), len(node.output), node, "outputs in a branch")
            _check_nodes(body.node, version, functions)


def _check_attributes(node: onnx.NodeProto) -> None:
    if not node.op_type:
        raise ModelError(f"node {node.name!r} has no operator")
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) < len(names):
        raise ModelError(f"node {label(node)} has more than one attribute of the same name")
    if not all(attribute.type or attribute.ref_attr_name for attribute in node.attribute):
        raise ModelError(f"node {label(node)} has an attribute without a type")
    for attribute in node.attribute:
        field = _HELD_IN.get(attribute.type)
        if field and not attribute.ref_attr_name and not attribute.HasField(field):
            raise ModelError(f"node {label(node)} has the attribute {attribute.name!r} without a value")


def _check_node(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> None:
    known = schema.attributes
    for attribute in node.attribute:
        if attribute.name not in known:
            raise ModelError(
                f"node {label(node)} has the attribute {attribute.name!r}, which its operator does not have"
            )
        if attribute.type and attribute.type != _NUMBER[known[attribute.name].type]:
            raise ModelError(f"node {label(node)} has the attribute {attribute.name!r} with a value of the wrong type")
    present = {attribute.name for attribute in node.attribute}
    missing = [name for name, attribute in known.items() if attribute.required and name not in present]
    if missing:
        raise ModelError(f"node {label(node)} lacks the attribute {missing[0]!r}")
    if node.op_type == "Constant" and len(present) != 1:
        raise ModelError(f"node {label(node)} must have exactly one value")
    _check_count(len(node.input), schema.min_input, schema.max_input, node, "inputs")
    _check_count(len(node.output), schema.min_output, schema.max_output, node, "outputs")


@functools.cache
def _schema(op: str, version: int) -> onnx.defs.OpSchema | None:
    if not onnx.defs.has(op, ""):
        return None
    try:
        return onnx.defs.get_schema(op, version, "")
    except onnx.defs.SchemaError:
        return None


def _check_count(found: int, least: int, most: int, node: onnx.NodeProto, kind: str) -> None:
    if not least <= found <= most:
        allowed = str(least) if least == most else f"{least} to {most}"
        raise ModelError(f"node {label(node)} has {found} {kind}, its operator takes {allowed}")
