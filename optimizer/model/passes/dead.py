"""What computes nothing new: Identity, unread nodes and initializers, the same node or the same constant twice.

Identity(x) goes unless it copies a graph input, a constant or a value of an enclosing graph to a graph output, or one
output to another: there it carries the second name. Cast to the type that a value has, Dropout in inference mode, and
Transpose by the identity permutation count as Identity.

Two nodes of one graph are the same when operator, attributes, inputs and the set of outputs in use are the same.
Only standard operators without subgraphs are compared: others may be random.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from optimizer.model.passes.edit import Editor, array, get, is_constant, is_op, nodes, opset, remove

RANDOM = frozenset({"RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike", "Multinomial",
                    "Bernoulli", "Dropout"})  # fmt: skip
_ONE_EACH = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""The runtime looks for int8 kernels around pairs of these, one pair per edge."""
_DROPOUT_INFERS = 7
"""From this opset on Dropout infers unless told to train."""


def remove_unused(model: ir.Model) -> int:
    """Remove nodes and initializers that no output depends on."""
    before = _count(model)
    RemoveUnusedNodesPass()(model)
    return before - _count(model)


def remove_identities(model: ir.Model) -> int:
    """Remove nodes that return their first input unchanged."""
    editor = Editor(model)
    version = opset(model)
    removed = 0
    for node in nodes(model):
        source = get(node, 0)
        if source is None or not _copies(node, source, version) or _carries_a_name(node, source):
            continue
        editor.replace(node.outputs[0], source)
        remove(node)
        removed += 1
    return removed


def merge_duplicates(model: ir.Model) -> int:
    """Let the readers of a node that occurs twice in a graph all read the first."""
    return sum(_merge(Editor(model), graph) for graph in tuple(model.graphs()))


def merge_constants(model: ir.Model) -> int:
    """Merge equal single numbers and equal short integer vectors (shapes, axes).

    Longer floating-point vectors stay apart: two biases that happen to be equal are still two parameters.
    """
    first: dict[Hashable, ir.Value] = {}
    merged = 0
    for name, value in tuple(model.graph.initializers.items()):
        if not is_constant(value) or value.is_graph_output() or not _is_small(value):
            continue
        known = first.setdefault(_content(value), value)
        if known is not value:
            value.replace_all_uses_with(known)
            del model.graph.initializers[name]
            merged += 1
    return merged


def _is_small(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return False
    return tensor.size == 1 or (tensor.dtype == ir.DataType.INT64 and tensor.size <= 16)


def _content(value: ir.Value) -> Hashable:
    tensor = value.const_value
    return None if tensor is None else (tensor.dtype, tensor.shape.numpy(), tensor.tobytes())


def _copies(node: ir.Node, source: ir.Value, version: int) -> bool:
    if is_op(node, "Identity"):
        return True
    if is_op(node, "Dropout") and version >= _DROPOUT_INFERS:
        trained = get(node, 2)
        return (trained is None or _is_false(trained)) and all(not _read(out) for out in node.outputs[1:])
    if is_op(node, "Cast"):
        return source.dtype is not None and source.dtype == node.attributes["to"].as_int()
    if is_op(node, "Transpose") and "perm" in node.attributes:
        perm = node.attributes["perm"].as_ints()
        return tuple(perm) == tuple(range(len(perm)))
    return False


def _is_false(value: ir.Value) -> bool:
    content = array(value)
    return content is not None and not content.any()


def _read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _carries_a_name(node: ir.Node, source: ir.Value) -> bool:
    if not node.outputs[0].is_graph_output():
        return False
    return source.producer() is None or source.graph is not node.graph or source.is_graph_output()


def _merge(editor: Editor, graph: ir.Graph) -> int:
    first: dict[Hashable, ir.Node] = {}
    merged = 0
    for node in graph:
        if node.domain or node.op_type in RANDOM | _ONE_EACH:
            continue
        key = fingerprint(node)
        if key is None:
            continue
        known = first.setdefault(key, node)
        if known is node or any(out.is_graph_output() for out in node.outputs):
            continue
        for old, new in zip(node.outputs, known.outputs, strict=True):
            editor.replace(old, new)
        remove(node)
        merged += 1
    return merged


def fingerprint(node: ir.Node) -> Hashable | None:
    """Equal for two standard nodes that compute the same from the same values; None where that cannot be told."""
    attributes = []
    for name, attribute in sorted(node.attributes.items()):
        value = _frozen(attribute)
        if value is None:
            return None
        attributes.append((name, value))
    used = tuple(bool(out.name) for out in node.outputs)
    return (node.op_type, tuple(node.inputs), used, tuple(attributes))


def _frozen(attribute: ir.Attr) -> Hashable | None:
    if attribute.is_ref():
        return None
    if attribute.type in (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING):
        return (attribute.type, attribute.value)
    if attribute.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return (attribute.type, tuple(attribute.value))
    if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().size <= 16:
        tensor = attribute.as_tensor()
        return None if tensor.dtype == ir.DataType.STRING else (tensor.dtype, tensor.shape.numpy(), tensor.tobytes())
    return None


def _count(model: ir.Model) -> int:
    return sum(1 for _ in nodes(model)) + sum(len(graph.initializers) for graph in model.graphs())
