"""Models of float16 (or bfloat16), which ONNX Runtime's CPU kernels compute in float32 between two Casts each.

`widen` makes float32 of them in one go, so that they can be calibrated and quantized like any other: constants, the
types of values, Casts and other operators that name the type, bodies included. Graph inputs and outputs keep their
type, with one Cast behind or before them. The result rounds less than the model did; where float16 would have
overflowed it does not.

`narrow` undoes it for the large constants that are still float32 in the end: each goes back to its 16 bits in the file,
exactly, with a Cast that the runtime evaluates when it loads the model. So the file does not grow. Where not even int8
storage keeps the answers of a float32 model, it makes the file half as large instead, at a thousandth of the error.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import Editor, array, is_op, nodes
from optimizer.model.ports import Array
from optimizer.quantize.storage import SMALLEST

HALF = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_TYPED = ("to", "dtype")
"""Attributes that name the type of what an operator gives."""
_NEAR = 1e-3
"""Share of a constant's length that rounding may change."""


def kind(model: ir.Model) -> ir.DataType | None:
    """The 16-bit type that some node of `model` computes in, if any."""
    found = (value.dtype for node in nodes(model) if not is_op(node, "Cast") for value in node.outputs)
    return next((dtype for dtype in found if dtype in HALF), None)


def widen(model: ir.Model) -> int:
    """Let `model`, whose types are inferred, compute in float32, in place; returns how many constants were widened."""
    inner = list(nodes(model))
    ports = [value for value in (*model.graph.inputs, *model.graph.outputs) if value.dtype in HALF]
    kinds = {value: value.dtype for value in ports}
    constants = [value for graph in model.graphs() for value in graph.initializers.values() if value.dtype in HALF]
    for value in constants:
        content = value.const_value
        assert content is not None
        value.const_value = ir.tensor(content.numpy().astype(np.float32), name=value.name)
        value.type = ir.TensorType(ir.DataType.FLOAT)
    for value in (*model.graph.inputs, *(output for node in inner for output in node.outputs)):
        _retype(value)
    for graph in model.graphs():
        for value in graph.inputs:
            _retype(value)
    for node in inner:
        _retarget(node)
    for value, kind in kinds.items():
        assert kind is not None
        _keep(model, value, kind)
    return len(constants)


def narrow(
    model: ir.Model,
    kind: ir.DataType = ir.DataType.FLOAT16,
    leave: Collection[str] = (),
    exact: bool = True,
    only: Collection[str] | None = None,
) -> set[str]:
    """Keep large float32 constants of the main graph of `model`, but those called in `leave` (or all in `only`), in 16
    bits, in place: only those that lose nothing, or, not `exact`, all that stay near. Returns the names of the nodes
    that read them.
    """
    editor, readers = Editor(model), set()
    for value in list(model.graph.initializers.values()):
        content = array(value)
        if content is None or content.dtype != np.float32 or content.size < SMALLEST or value.is_graph_output():
            continue
        if value.name in leave or (only is not None and value.name not in only):
            continue
        short = _short(content, kind, exact)
        if short is None:
            continue
        readers |= {use.node.name or "" for use in value.uses()}
        _shorten(editor, value, short)
    return readers


def _short(content: Array, kind: ir.DataType, exact: bool) -> Array | None:
    """`content` in 16 bits; None where that loses anything, or, not `exact`, more than their 11 bits lose (numbers too
    large or too small for their exponent)."""
    with np.errstate(over="ignore", invalid="ignore"):
        short: Array = content.astype(kind.numpy())
        error = np.linalg.norm(short.astype(np.float32) - content)
        near = error <= _NEAR * np.linalg.norm(content)
    same = np.array_equal(short.astype(np.float32), content, equal_nan=True)
    return short if same or (near and not exact) else None


def _shorten(editor: Editor, value: ir.Value, short: Array) -> None:
    """Let a Cast of `short` stand for the constant `value`."""
    graph = editor.model.graph
    kept = editor.constant(short, f"{value.name}_half")
    wide = editor.insert(graph[0], "Cast", [kept], {"to": ir.DataType.FLOAT}, value, f"{value.name}_wide")
    editor.replace(value, wide)
    del graph.initializers[value.name or ""]


def _retype(value: ir.Value) -> None:
    if value.dtype in HALF:
        value.type = ir.TensorType(ir.DataType.FLOAT)


def _retarget(node: ir.Node) -> None:
    """Let `node` give float32 where its attributes ask for 16 bits."""
    for name, attribute in list(node.attributes.items()):
        if name in _TYPED and attribute.type == ir.AttributeType.INT and ir.DataType(attribute.as_int()) in HALF:
            node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT)
        elif attribute.type == ir.AttributeType.TENSOR and (content := attribute.as_tensor()).dtype in HALF:
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(content.numpy().astype(np.float32)))


def _keep(model: ir.Model, value: ir.Value, kind: ir.DataType) -> None:
    """Let a graph input or output be of `kind` again, with a Cast between it and the graph."""
    editor, uses = Editor(model), tuple(value.uses())
    if value.is_graph_input():
        value.type = ir.TensorType(kind)
        wide = editor.insert(model.graph[0], "Cast", [value], {"to": ir.DataType.FLOAT})
        wide.type, wide.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        for use in uses:
            use.node.replace_input_with(use.idx, wide)
        return
    cast = ir.node("Cast", [value], {"to": kind}, num_outputs=1)
    model.graph.append(cast)
    short, name = cast.outputs[0], value.name
    value.name = editor.fresh(f"{name}_wide")
    short.name, short.type, short.shape = name, ir.TensorType(kind), value.shape
    outputs = model.graph.outputs
    for position, output in enumerate(list(outputs)):
        if output is value:
            outputs[position] = short
