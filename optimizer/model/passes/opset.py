"""Raise a model's opset: int8 needs 13 (per-channel QuantizeLinear), LayerNormalization 17.

ONNX's own converter gives up on many real models, so here is what changed between opsets 7 and 17, read off the
operator changelog. An operator without a row changed at most in the types it accepts, in defaults that say what was
meant before, or not at all.

    opset   operator                       what changes
    9       BatchNormalization             `spatial` goes; per-pixel statistics (spatial = 0) are refused
    9, 10   Upsample                       becomes Resize(asymmetric, floor); scales move to an input
    9       Scan                           lost its batch axis: refused
    10      Slice, TopK                    starts, ends, axes; k: attributes become inputs
    10      Dropout                        the mask became bool: refused where it is read
    11      Clip, Pad                      min, max; pads, value: attributes become inputs
    11      Resize                         sampling must be named (asymmetric, floor); shrinking to the nearest pixel
                                           rounded in a way of its own: refused
    11      Scatter                        renamed ScatterElements
    12      Dropout                        ratio moves to an input, which inference leaves out
    13      Squeeze, Unsqueeze, ReduceSum  axes become an input
    13      Split                          split becomes an input
    13      Softmax, LogSoftmax, Hardmax   once over all axes from `axis` on, now along `axis`: the same where the axes
                                           after it are of size 1 or there are none; elsewhere flattened and restored
    13      Resize                         tf_half_pixel_for_nn went: refused
    14      BatchNormalization             more than one output meant training: refused
    16      RoiAlign                       the default moved by half a pixel: the old one is named

Below 7, operators broadcast by attribute: refused. Whatever is refused leaves the whole model as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from optimizer.model import shapes
from optimizer.model.passes.edit import Editor, array, get, nodes, opset, remove

OLDEST = 7
NEWEST = 17
_IR_VERSION = 8
"""The IR version that opset 17 came with."""

Change = Callable[[Editor, ir.Node], "str | None"]
"""Converts a node in place; returns why it cannot."""


def upgrade(model: ir.Model, target: int = NEWEST) -> str | None:
    """Convert `model` in place to opset `target` (13 to 17) unless it has that or a higher one.

    Returns None, or one line on what stands in the way; the model is then unchanged.
    """
    if opset(model) >= target:
        return None
    reason = _convert(model.clone(), target)
    if reason is not None:
        return f"the model stays at opset {opset(model)}: {reason}"
    _convert(model, target)
    return None


def _convert(model: ir.Model, target: int) -> str | None:
    old = opset(model)
    if old < OLDEST:
        return f"operators of opset {old} broadcast by attribute"
    if model.functions:
        return "it has functions of its own"
    editor = Editor(model)
    for node in nodes(model):
        reason = _convert_node(editor, node, old, target) if node.domain == "" else None
        if reason is not None:
            return f"{node.op_type} {node.name!r} {reason}"
    model.opset_imports[""] = target
    model.ir_version = max(model.ir_version, _IR_VERSION)
    return None


def _convert_node(editor: Editor, node: ir.Node, old: int, target: int) -> str | None:
    if not onnx.defs.has(node.op_type, ""):
        return "is no operator of the standard"
    for version, change in CHANGES.get(node.op_type, ()):
        if old < version <= target:
            reason = change(editor, node)
            if reason is not None:
                return reason
    return None


def _to_inputs(*names: str) -> Change:
    """Attributes `names` become inputs 1, 2, ... as int64 vectors."""

    def change(editor: Editor, node: ir.Node) -> str | None:
        for index, name in enumerate(names, 1):
            attribute = node.attributes.pop(name, None)
            if attribute is not None:
                numbers = [attribute.as_int()] if attribute.type == ir.AttributeType.INT else attribute.as_ints()
                _set(node, index, editor.constant(np.array(numbers, np.int64), f"{_stem(node)}_{name}"))
        return None

    return change


def _to_numbers(*names: str, first: int) -> Change:
    """Attributes `names` become scalar inputs `first`, ... of the type of input 0."""

    def change(editor: Editor, node: ir.Node) -> str | None:
        data = get(node, 0)
        dtype = None if data is None else data.dtype or node.outputs[0].dtype
        for index, name in enumerate(names, first):
            attribute = node.attributes.pop(name, None)
            if attribute is None:
                continue
            if dtype is None:
                return "has an input of unknown type"
            number = np.array(attribute.as_float(), dtype.numpy())
            _set(node, index, editor.constant(number, f"{_stem(node)}_{name}"))
        return None

    return change


def _pad(editor: Editor, node: ir.Node) -> str | None:
    _to_inputs("pads")(editor, node)
    return _to_numbers("value", first=2)(editor, node)


def _batch_norm_9(editor: Editor, node: ir.Node) -> str | None:
    spatial = node.attributes.pop("spatial", None)
    return "normalizes per pixel" if spatial is not None and not spatial.as_int() else None


def _batch_norm_14(editor: Editor, node: ir.Node) -> str | None:
    if any(_is_read(out) for out in node.outputs[1:]):
        return "trains"
    node.resize_outputs(1)
    return None


def _upsample(editor: Editor, node: ir.Node) -> str | None:
    scales = node.attributes.pop("scales", None)
    if scales is not None:
        _set(node, 1, editor.constant(np.array(scales.as_floats(), np.float32), f"{_stem(node)}_scales"))
    node.op_type = "Resize"
    return _resize_11(editor, node)


def _resize_11(editor: Editor, node: ir.Node) -> str | None:
    """Inputs x, scales become x, (no roi), scales."""
    mode = node.attributes.get_string("mode", "nearest")
    scales = array(get(node, 1))
    if mode == "nearest" and (scales is None or (scales < 1).any()):
        return "may shrink to the nearest pixel"
    _set(node, 2, get(node, 1))
    node.replace_input_with(1, None)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    if mode == "nearest":
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")
    return None


def _resize_13(editor: Editor, node: ir.Node) -> str | None:
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    return "uses tf_half_pixel_for_nn" if mode == "tf_half_pixel_for_nn" else None


def _dropout_10(editor: Editor, node: ir.Node) -> str | None:
    return "has a mask that is read" if any(_is_read(out) for out in node.outputs[1:]) else None


def _dropout_12(editor: Editor, node: ir.Node) -> str | None:
    node.attributes.pop("ratio", None)
    return None


def _scatter(editor: Editor, node: ir.Node) -> str | None:
    node.op_type = "ScatterElements"
    return None


def _scan(editor: Editor, node: ir.Node) -> str | None:
    return "has a batch axis"


def _roi_align(editor: Editor, node: ir.Node) -> str | None:
    name = "coordinate_transformation_mode"
    if name not in node.attributes:
        node.attributes[name] = ir.AttrString(name, "output_half_pixel")
    return None


def _softmax(editor: Editor, node: ir.Node) -> str | None:
    data = node.inputs[0]
    axis, rank = node.attributes.get_int("axis", 1), shapes.rank(data)
    if axis != -1 and (rank is None or axis % rank != rank - 1) and not _ends_in_ones(data, axis, rank):
        return _flattened(editor, node, axis)
    node.attributes["axis"] = ir.AttrInt64("axis", axis)
    return None


def _ends_in_ones(data: ir.Value | None, axis: int, rank: int | None) -> bool:
    if data is None or data.shape is None or rank is None:
        return False
    return all(dim == 1 for dim in tuple(data.shape)[axis % rank + 1 :])


def _flattened(editor: Editor, node: ir.Node, axis: int) -> str | None:
    data, out = node.inputs[0], node.outputs[0]
    flat = editor.insert(node, "Flatten", [data], {"axis": axis})
    best = editor.insert(node, node.op_type, [flat], {"axis": -1})
    shape = editor.insert(node, "Shape", [data])
    editor.replace(out, editor.insert(node, "Reshape", [best, shape], like=out))
    remove(node)
    return None


def _set(node: ir.Node, index: int, value: ir.Value | None) -> None:
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, value)


def _stem(node: ir.Node) -> str:
    return node.outputs[0].name or node.op_type


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


_AXES_13 = ((13, _to_inputs("axes")),)
CHANGES: dict[str, tuple[tuple[int, Change], ...]] = {
    "BatchNormalization": ((9, _batch_norm_9), (14, _batch_norm_14)),
    "Clip": ((11, _to_numbers("min", "max", first=1)),),
    "Dropout": ((10, _dropout_10), (12, _dropout_12)),
    "Hardmax": ((13, _softmax),),
    "LogSoftmax": ((13, _softmax),),
    "Pad": ((11, _pad),),
    "ReduceSum": _AXES_13,
    "Resize": ((11, _resize_11), (13, _resize_13)),
    "RoiAlign": ((16, _roi_align),),
    "Scan": ((9, _scan),),
    "Scatter": ((11, _scatter),),
    "Slice": ((10, _to_inputs("starts", "ends", "axes")),),
    "Softmax": ((13, _softmax),),
    "Split": ((13, _to_inputs("split")),),
    "Squeeze": _AXES_13,
    "TopK": ((10, _to_inputs("k")),),
    "Unsqueeze": _AXES_13,
    "Upsample": ((10, _upsample),),
}
