"""Shape inference that never ends a run.

ONNX's own inference (with data propagation) sees a copy of the model in which every tensor above `SMALL` bytes is an
external placeholder: dtype and shape stay, the bytes do not. So models above protobuf's 2 GB work, and a 100 MB model
costs what its node count costs. Small tensors stay, because shape arithmetic reads them.

Cases:
1. The stored shapes of standard ops' results are dropped from the copy first: exporters and rewrites leave wrong ones
   behind, and a contradiction would stop the inference. Results of other domains keep theirs, since nothing can infer
   them; the runtime's own ops are inferred as the standard op that they stand for, where its result has the same type.
2. What is found is merged by position, graph by graph (two branches of an `If` may use the same names): an inferred
   size wins over a stored one, a stored name over an inferred name, and what was not inferred stays as it was.
3. Names of the form unk__7 are inference's own, and only hold until the next one.
4. A failure leaves all shapes as they were and returns the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import onnx
import onnx_ir as ir

from optimizer.ops.parameters import MS

SMALL = 1024
"""Bytes up to which a tensor stays in the copy."""

_STANDARD: dict[str, tuple[str, slice]] = {
    **dict.fromkeys(("Gelu", "QuickGelu", "FastGelu", "BiasGelu", "RotaryEmbedding"), ("Identity", slice(1))),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), ("Identity", slice(1))),
    "SimplifiedLayerNormalization": ("Identity", slice(1)),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), ("Identity", slice(1))),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), ("Add", slice(0, 4, 3))),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(1)),
    "QLinearAveragePool": ("AveragePool", slice(1)),
    "FusedConv": ("Conv", slice(2)),
    "FusedGemm": ("Gemm", slice(2)),
    **dict.fromkeys(("Scaler", "Normalizer"), ("Cast", slice(1))),
    **dict.fromkeys(("Imputer", "Binarizer"), ("Identity", slice(1))),
}  # fmt: skip
"""Ops of the runtime and of ai.onnx.ml whose first result has the type and the shape of a standard op over some of
their inputs. Those that are a Cast give floats."""

_ML, _SIMPLIFIED = "ai.onnx.ml", "SimplifiedLayerNormalization"
MADE_UP = re.compile(r"unk__\d+$")
"""Names of sizes that inference made up; they say nothing outside of it."""
_FAILURES = (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError)


def infer(model: ir.Model, dims: Mapping[str, int] | None = None) -> str | None:
    """Fill in the types and shapes of all values of `model`, subgraphs included, in place.

    `dims` replaces symbolic sizes of the graph inputs by numbers (`{"batch": 1}`), in the model too.
    Returns None, or one line on why nothing could be inferred.
    """
    fix(model, dims or {})
    try:
        proto = ir.to_proto(_light(model))
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)
        _merge(model.graph, inferred.graph)
    except _FAILURES as error:
        return f"shapes could not be inferred: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
    return None


def fix(model: ir.Model, dims: Mapping[str, int]) -> None:
    """Replace the symbolic sizes named in `dims` by numbers, in all shapes that the model states."""
    if not dims:
        return
    for value in _stated(model):
        if value.shape is not None and not value.shape.is_static():
            value.shape = ir.Shape([_fixed(dim, dims) for dim in value.shape])


def symbols(model: ir.Model) -> tuple[str, ...]:
    """The names of the symbolic sizes of the graph inputs, in order of appearance."""
    found: dict[str, None] = {}
    for value in model.graph.inputs:
        for dim in value.shape or ():
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                found[dim.value] = None
    return tuple(found)


def static(value: ir.Value | None) -> tuple[int, ...] | None:
    """The sizes of `value` where all are known numbers, else None (also where a file states negative ones)."""
    if value is None:
        return None
    if value.const_value is not None:
        return tuple(value.const_value.shape.numpy())
    if value.shape is None or not value.shape.is_static():
        return None
    sizes = tuple(value.shape.numpy())
    return None if any(size < 0 for size in sizes) else sizes


def rank(value: ir.Value | None) -> int | None:
    """The number of axes of `value`, where known."""
    if value is None:
        return None
    if value.const_value is not None:
        return len(value.const_value.shape)
    return None if value.shape is None else len(value.shape)


def _fixed(dim: int | ir.SymbolicDim, dims: Mapping[str, int]) -> int | ir.SymbolicDim:
    return dims.get(dim.value, dim) if isinstance(dim, ir.SymbolicDim) and dim.value is not None else dim


def _stated(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.outputs
        for node in graph:
            yield from node.outputs


def _light(model: ir.Model) -> ir.Model:
    """A copy without big tensors and without the shapes that inference will find itself."""
    copy = model.clone()
    for graph in copy.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _placeholder(value.const_value)
        for number, node in enumerate(graph):
            if (node.domain, node.op_type) == (MS, "MatMulNBits"):
                _plain_product(graph, node, number)
            elif node.op_type in _STANDARD and (node.domain in (MS, _ML) or node.op_type == _SIMPLIFIED):
                _standardize(node)
            _lighten(node)
    return copy


def _plain_product(graph: ir.Graph, node: ir.Node, number: int) -> None:
    shape = [node.attributes[name].as_int() for name in "KN"]
    name = f"{node.name}_{number}_placeholder"
    tensor = ir.ExternalTensor("placeholder", 0, 0, ir.DataType.FLOAT, shape=ir.Shape(shape), name=name)
    weight = ir.val(name, ir.DataType.FLOAT, ir.Shape(shape), const_value=tensor)
    graph.register_initializer(weight)
    node.domain, node.op_type = "", "MatMul"
    node.attributes.clear()
    node.resize_inputs(2)
    node.replace_input_with(1, weight)


def _standardize(node: ir.Node) -> None:
    if "channels_last" in node.attributes and node.attributes["channels_last"].as_int():
        return
    node.op_type, places = _STANDARD[node.op_type]
    node.domain, given = "", node.inputs[places]
    if node.op_type in ("Identity", "Cast"):
        node.attributes.clear()
    if node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    node.resize_inputs(len(given))
    for index, value in enumerate(given):
        node.replace_input_with(index, value)


def _lighten(node: ir.Node) -> None:
    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
            node.attributes[name] = ir.AttrTensor(name, _placeholder(attribute.as_tensor()))
    if node.domain == "":
        for value in node.outputs:
            value.shape = None


def _placeholder(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if tensor.dtype == ir.DataType.STRING or tensor.nbytes <= SMALL:
        return tensor
    return ir.ExternalTensor(
        "placeholder",
        0,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "placeholder",
    )


def _merge(graph: ir.Graph, proto: onnx.GraphProto) -> None:
    types = {info.name: info.type for infos in (proto.value_info, proto.output) for info in infos}
    for node, node_proto in zip(graph, proto.node, strict=True):
        for value in node.outputs:
            _forget_made_up(value)
            if value.name in types:
                _refine(value, types[value.name])
        protos = {attribute.name: attribute for attribute in node_proto.attribute}
        for name, attribute in node.attributes.items():
            found = _graph_protos(protos[name]) if name in protos else ()
            for subgraph, subproto in zip(_graphs(attribute), found, strict=True):
                _merge(subgraph, subproto)


def _forget_made_up(value: ir.Value) -> None:
    """Inference numbers the sizes it does not know; an older number would now mean another size."""
    if value.shape is not None and not value.shape.is_static():
        value.shape = ir.Shape([None if MADE_UP.match(str(dim)) else dim for dim in value.shape])


def _refine(value: ir.Value, proto: onnx.TypeProto) -> None:
    found = ir.serde.deserialize_type_proto_for_type(proto)
    if found is not None:
        value.type = found
    shape = ir.serde.deserialize_type_proto_for_shape(proto)
    if shape is None:
        return
    old = value.shape if value.shape is not None and len(value.shape) == len(shape) else (None,) * len(shape)
    value.shape = ir.Shape([_better(a, b) for a, b in zip(old, shape, strict=True)])


def _better(old: int | ir.SymbolicDim | None, new: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    if isinstance(new, int) or old is None:
        return new
    return new if isinstance(old, ir.SymbolicDim) and old.value is None else old


def _graphs(attribute: ir.Attr) -> Iterable[ir.Graph]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()


def _graph_protos(attribute: onnx.AttributeProto) -> Iterable[onnx.GraphProto]:
    return (attribute.g,) if attribute.HasField("g") else attribute.graphs


def described(model: ir.Model) -> bool:
    """Whether the shape of any inner value is told."""
    return any(value.shape is not None for value in _inner(model))


def forget(model: ir.Model) -> None:
    """Leave the shapes and types of inner values to whoever reads the file: inference gives them again.

    Values that no rule infers (outputs of operators of other domains) keep them.
    """
    for value in _inner(model):
        value.shape = value.type = None


def _inner(model: ir.Model) -> Iterator[ir.Value]:
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain in ("", "ai.onnx"):
            yield from (out for out in node.outputs if not out.is_graph_output())
