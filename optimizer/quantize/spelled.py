"""Operators without an int8 kernel, spelled out in ones that have it; the same function, and in float the same speed.

    HardSwish(x)                         HardSigmoid(x; 1/6, 1/2) * x        what ONNX Runtime makes of it at load, too
    Swish(x; a), QuickGelu(x; a)         Sigmoid(x) * x                      for a = 1; joined again in float
    PRelu(x, slope)                      LeakyRelu(x; slope)                 for one slope

Only in the main graph: in bodies nothing becomes int8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import Editor, array, get, remove

Rewrite = Callable[[Editor, ir.Node], "ir.Value | None"]


def spelled_out(model: ir.Model) -> ir.Model:
    """A clone of `model`, whose values and nodes have names, with the operators above spelled out."""
    copy = model.clone()
    editor = Editor(copy)
    for node in list(copy.graph):
        rewrite = _REWRITES.get((node.domain, node.op_type))
        found = rewrite(editor, node) if rewrite is not None else None
        if found is not None:
            _take_place(editor, node, found)
    return copy


def _take_place(editor: Editor, node: ir.Node, found: ir.Value) -> None:
    """Let `found` stand for what `node` wrote; its node takes over the name."""
    result, name, maker = node.outputs[0], node.name, found.producer()
    found.type, found.shape = result.type, result.shape
    editor.replace(result, found)
    remove(node)
    assert maker is not None
    maker.name = name


def _hard_swish(editor: Editor, node: ir.Node) -> ir.Value | None:
    x, slope = node.inputs[0], {"alpha": 1 / 6, "beta": 0.5}
    gate = editor.insert(node, "HardSigmoid", [x], slope, like=node.outputs[0], stem=f"{node.outputs[0].name}_gate")
    return editor.insert(node, "Mul", [x, gate])


def _swish(editor: Editor, node: ir.Node) -> ir.Value | None:
    default = 1.0 if node.domain == "" else 1.702
    if node.attributes.get_float("alpha", default) != 1.0:
        return None
    x = node.inputs[0]
    gate = editor.insert(node, "Sigmoid", [x], like=node.outputs[0], stem=f"{node.outputs[0].name}_gate")
    return editor.insert(node, "Mul", [x, gate])


def _prelu(editor: Editor, node: ir.Node) -> ir.Value | None:
    slope = array(get(node, 1))
    if slope is None or not slope.size or np.ptp(slope) or slope.ndim > len(node.outputs[0].shape or ()):
        return None
    return editor.insert(node, "LeakyRelu", [node.inputs[0]], {"alpha": float(slope.reshape(-1)[0])})


_REWRITES: dict[tuple[str, str], Rewrite] = {
    ("", "HardSwish"): _hard_swish,
    ("", "Swish"): _swish,
    ("com.microsoft", "QuickGelu"): _swish,
    ("", "PRelu"): _prelu,
}
