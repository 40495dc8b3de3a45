"""Operators without an int8 kernel, spelled out in ones that have it; the same function, in float as fast within 1%.

    HardSwish(x)                         HardSigmoid(x; 1/6, 1/2) * x        what ONNX Runtime makes of it at load, too
    Swish(x; a), QuickGelu(x; a)         Sigmoid(x) * x                      for a = 1; joined again in float
    PRelu(x, slope)                      LeakyRelu(x; slope)                 for one slope
    Attention(x, W, b, mask) of the      MultiHeadAttention(x Wq + bq, x Wk + bk, x Wv + bv, mask)
    runtime's own                        for constant W and b, without a cache and rotary positions

Only in the main graph: in bodies nothing becomes int8.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import Editor, array, get, remove
from optimizer.ops import int8
from optimizer.ops.parameters import MS

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


def _attention(editor: Editor, node: ir.Node) -> ir.Value | None:
    """Products of their own for queries, keys and values; what follows is one kernel as before."""
    weight, bias = array(get(node, 1)), array(get(node, 2))
    if weight is None or weight.ndim != 2 or (bias is None and get(node, 2) is not None) or not _plain_attention(node):
        return None
    sizes = node.attributes.get_ints("qkv_hidden_sizes") or [weight.shape[1] // 3] * 3
    parts = []
    for letter, stop, size in zip("qkv", accumulate(sizes), sizes, strict=True):
        own, stem = slice(stop - size, stop), f"{node.outputs[0].name}_{letter}"
        part = editor.constant(weight[:, own], f"{stem}_weight")
        made = editor.insert(node, "MatMul", [node.inputs[0], part], stem=stem)
        made.type = node.outputs[0].type
        if bias is not None:
            made = editor.insert(node, "Add", [made, editor.constant(bias[own], f"{stem}_bias")], like=made, stem=stem)
        parts.append(made)
    kept = {name: found.value for name, found in node.attributes.items() if name in _SHARED}
    found = editor.insert(node, "MultiHeadAttention", [*parts, None, get(node, 3), get(node, 5)], kept)
    maker = found.producer()
    assert maker is not None
    maker.domain = MS
    return found


_SHARED = ("num_heads", "mask_filter_value", "scale", "unidirectional")
"""Attributes that mean the same in both forms."""


def _plain_attention(node: ir.Node) -> bool:
    """Whether this is attention without a cache and rotary positions, with a mask that both forms read alike."""
    x, mask = node.inputs[0], get(node, 3)
    cached = any(get(node, index) is not None for index in (4, 6)) or any(value.uses() for value in node.outputs[1:])
    if cached or node.attributes.get_int("do_rotary", 0) != 0:
        return False
    if mask is None or (int8.rank(mask) or 0) > 1:
        return True
    # A vector of one length for each row is read by both forms, one of twice as many numbers by this form alone.
    rows = [value.shape[0] for value in (mask, x) if value is not None and value.shape]
    return len(rows) == 2 and rows[0] == rows[1] != ir.SymbolicDim(None)


_REWRITES: dict[tuple[str, str], Rewrite] = {
    ("", "HardSwish"): _hard_swish,
    ("", "Swish"): _swish,
    (MS, "QuickGelu"): _swish,
    (MS, "Attention"): _attention,
    ("", "PRelu"): _prelu,
}
