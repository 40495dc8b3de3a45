"""The mean over all pixels becomes GlobalAveragePool, which has an int8 kernel where ReduceMean has none.

    ReduceMean(x, axes = [2, 3], keepdims = 1)  =          GlobalAveragePool(x)
    ReduceMean(x, axes = [2, 3], keepdims = 0)  =  Flatten(GlobalAveragePool(x), axis = 1)

for x of rank 4 and of a floating-point type; negative axes count from the end, their order does not matter.
"""

from __future__ import annotations

import onnx_ir as ir

from optimizer.model import shapes
from optimizer.model.passes.edit import Editor, get, integers, is_op, nodes, remove

_RANK = 4
_PIXELS = {2, 3}


def pool_means(model: ir.Model) -> int:
    """Rewrite ReduceMean over both axes of an image."""
    editor = Editor(model)
    return sum(_pool(editor, node) for node in nodes(model) if is_op(node, "ReduceMean"))


def _pool(editor: Editor, node: ir.Node) -> bool:
    data, axes = get(node, 0), integers(node, "axes", 1)
    if data is None or axes is None or shapes.rank(data) != _RANK or {axis % _RANK for axis in axes} != _PIXELS:
        return False
    if data.dtype is None or not data.dtype.is_floating_point():
        return False
    out = node.outputs[0]
    keeps = node.attributes.get_int("keepdims", 1) == 1
    pooled = editor.insert(node, "GlobalAveragePool", [data], like=out if keeps else None)
    if not keeps:
        pooled = editor.insert(node, "Flatten", [pooled], {"axis": 1}, like=out)
    editor.replace(out, pooled)
    remove(node)
    return True
