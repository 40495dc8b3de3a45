"""Layer normalization, written out by exporters in up to nine nodes, becomes LayerNormalization (opset 17).

    d = x - ReduceMean(x)       over the last axis, keeping it
    n = d / Sqrt(ReduceMean(d * d) + epsilon)
    y = n * scale (+ bias)      scale, bias: constants as long as the last axis

`d * d` may be Pow(d, 2) or Mul(d, d). Refused: another axis or several, a scale that is missing or of another length,
an intermediate value that something else reads or that is an output, a type other than float32.
"""

from __future__ import annotations

import onnx_ir as ir

from optimizer.model import shapes
from optimizer.model.passes.edit import (
    Editor,
    array,
    get,
    integers,
    is_op,
    nodes,
    only_use,
    opset,
    producer,
    remove,
    scalar,
)

_SINCE = 17


def fuse_layer_norm(model: ir.Model) -> int:
    """Rewrite the pattern, in models of opset 17 and above."""
    if opset(model) < _SINCE:
        return 0
    editor = Editor(model)
    return sum(_fuse(editor, node) for node in nodes(model) if is_op(node, "Div"))


def _fuse(editor: Editor, div: ir.Node) -> bool:
    found = _normalized(div)
    if found is None or not only_use(div.outputs[0]):
        return False
    data, epsilon = found
    scaled = div.outputs[0].consumers()[0]
    scale = _vector(scaled, "Mul", div.outputs[0])
    if scale is None or data.dtype != ir.DataType.FLOAT:
        return False
    last, bias = scaled, None
    if only_use(scaled.outputs[0]):
        shifted = scaled.outputs[0].consumers()[0]
        bias = _vector(shifted, "Add", scaled.outputs[0], scale)
        last = scaled if bias is None else shifted
    inputs = [data, scale] if bias is None else [data, scale, bias]
    out = editor.insert(last, "LayerNormalization", inputs, {"axis": -1, "epsilon": epsilon}, like=last.outputs[0])
    editor.replace(last.outputs[0], out)
    remove(last)
    return True


def _normalized(div: ir.Node) -> tuple[ir.Value, float] | None:
    """(x, epsilon) if the node computes n."""
    centred, root = get(div, 0), producer(get(div, 1), "Sqrt")
    sub = producer(centred, "Sub")
    if sub is None or root is None or centred is None or not only_use(get(div, 1)):
        return None
    variance, epsilon = _plus_constant(producer(get(root, 0), "Add"))
    data, mean = get(sub, 0), producer(get(sub, 1), "ReduceMean")
    spread = producer(variance, "ReduceMean")
    if data is None or mean is None or spread is None or epsilon is None or not only_use(get(root, 0)):
        return None
    if get(mean, 0) is not data or not _is_over_last(mean) or not _is_over_last(spread) or not only_use(variance):
        return None
    square = get(spread, 0)
    if not _is_square(square, centred) or not only_use(square) or not only_use(get(sub, 1)):
        return None
    readers = {div, None if square is None else square.producer()}
    return (data, epsilon) if set(centred.consumers()) == readers and not centred.is_graph_output() else None


def _plus_constant(adder: ir.Node | None) -> tuple[ir.Value | None, float | None]:
    if adder is None:
        return None, None
    first = scalar(get(adder, 0))
    return (get(adder, 0), scalar(get(adder, 1))) if first is None else (get(adder, 1), first)


def _is_over_last(node: ir.Node) -> bool:
    axes, rank = integers(node, "axes", 1), shapes.rank(get(node, 0))
    if axes is None or len(axes) != 1 or node.attributes.get_int("keepdims", 1) != 1:
        return False
    return axes[0] == -1 or (rank is not None and axes[0] == rank - 1)


def _is_square(square: ir.Value | None, centred: ir.Value) -> bool:
    power, product = producer(square, "Pow"), producer(square, "Mul")
    if power is not None:
        return get(power, 0) is centred and scalar(get(power, 1)) == 2
    return product is not None and get(product, 0) is centred and get(product, 1) is centred


def _vector(node: ir.Node, op: str, data: ir.Value, like: ir.Value | None = None) -> ir.Value | None:
    """The constant vector that `node`, an `op`, applies to `data`, as long as the last axis (or as `like`)."""
    if not is_op(node, op):
        return None
    other = get(node, 1) if get(node, 0) is data else get(node, 0)
    content = array(other)
    if content is None or content.ndim != 1:
        return None
    reference = data.shape if like is None else like.shape
    return other if reference is not None and reference[-1] == content.shape[0] else None
