"""LSTM in int8 with ranges found at run time: com.microsoft's DynamicQuantizeLSTM.

    LSTM                                     DynamicQuantizeLSTM
    W [directions, 4 * hidden, input]        int8 [directions, input, 4 * hidden], scales [directions, 4 * hidden]
    R [directions, 4 * hidden, hidden]       int8 [directions, hidden, 4 * hidden], scales [directions, 4 * hidden]

One scale per gate unit, of least squared error; where the CPU adds pairs of products in 16 bits, enlarged until no pair
can overflow (`saturation`; each run stretches its input over all of uint8). Other inputs, outputs, attributes and the
name stay. Bodies of If and Loop are included, and nodes that share weights share the rounded ones.

Left alone: constants of fewer than 1,024 elements, not finite or not float32, `layout` = 1, and GRU and RNN, for which
the runtime has no such kernel.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import Editor, array, get, is_op, nodes
from optimizer.quantize import qparams, saturation, storage, weights

_DOMAIN = "com.microsoft"
_FIRST_SCALE = 8
"""Inputs 8 to 11 are scale and zero point of W, then of R."""

Packed = tuple[ir.Value, ir.Value, ir.Value]
"""Integers, scales, zero points."""


def turn(
    model: ir.Model, leave: Collection[str] = (), *, saturates: bool = False, per_tensor: bool = False
) -> set[str]:
    """Turn the LSTMs of `model`, but those that read a constant called in `leave`, in place.

    Returns their names; a float weight that nothing else reads goes.
    """
    editor = Editor(model)
    packed: dict[ir.Value, Packed] = {}
    turned = set()
    for node in nodes(model):
        if not is_op(node, "LSTM") or not _fits(node) or {value.name for value in node.inputs if value} & set(leave):
            continue
        for index in (1, 2):
            value = node.inputs[index]
            assert value is not None
            if value not in packed:
                packed[value] = _pack(editor, value, saturates, per_tensor)
            _give(node, index, packed[value])
        node.domain, node.op_type = _DOMAIN, "DynamicQuantizeLSTM"
        node.attributes.pop("layout", None)
        turned.add(node.name or "")
    for value in packed:
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[value.name or ""]
    if turned:
        model.graph.opset_imports.setdefault(_DOMAIN, 1)
    return turned


def _fits(node: ir.Node) -> bool:
    both = [get(node, 1), get(node, 2)]
    constant = all(value is not None and storage.storable(value) for value in both)
    return constant and node.attributes.get_int("layout", 0) == 0


def _pack(editor: Editor, value: ir.Value, saturates: bool, per_tensor: bool) -> Packed:
    content = array(value)
    assert content is not None
    directions, gates, depth = content.shape
    rows = content.reshape(-1, depth)
    scales = qparams.weight_scales(rows, 0)
    if saturates:
        low, high = (np.broadcast_to(bound, (depth,)) for bound in weights.ANY)
        scales = saturation.limited(rows, scales, low, high)
    scales = np.full_like(scales, scales.max()) if per_tensor else scales
    integers = qparams.round_weight(rows, scales, 0).reshape(content.shape).transpose(0, 2, 1)
    return (
        editor.constant(np.ascontiguousarray(integers), f"{value.name}_int8"),
        editor.constant(scales.reshape(directions, gates), f"{value.name}_scale"),
        editor.constant(np.zeros((directions, gates), np.int8), f"{value.name}_zero"),
    )


def _give(node: ir.Node, index: int, packed: Packed) -> None:
    node.resize_inputs(_FIRST_SCALE + 4)
    place = _FIRST_SCALE + 2 * (index - 1)
    for position, value in zip((index, place, place + 1), packed, strict=True):
        node.replace_input_with(position, value)
