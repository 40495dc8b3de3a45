"""Bytes in: the normalisation between raw bytes and the first convolution is folded into that convolution.

A byte b stands for ``x = scale * (b - zero)`` of a graph input x, one number or one per channel (say those of
``(b / 255 - mean) / std``). What the head of the graph makes of x before its convolutions, by Add, Sub, Mul, Div and
BatchNormalization with constants, is an affine map too, so that they read

    v_c = a_c * b + k_c.

A uint8 tensor has one scale S and one zero point z, so the graph gets the input ``u = S * (b - z)`` instead, with
S = max |a_c| and z = the mean of -k_c / a_c, rounded; each convolution takes the rest up exactly:

    W'[o, c] = W[o, c] * a_c / S           bias'[o] = bias[o] + sum over c, k of W[o, c, k] * (a_c * z + k_c)

Only where a convolution pads is there a difference: its padding is v = 0, which no single byte is if the channels'
zero points differ. There the padding is byte z, at most a few levels off, and a note says so.

Transpose may stand in between. Where anything else reads the input, `absorb` gives None: bytes then stand for x itself.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import Editor, array, get, is_op, only_use, remove
from optimizer.model.ports import Array
from optimizer.quantize.qparams import QParams

_AFFINE = ("Add", "Sub", "Mul", "Div", "BatchNormalization")


@dataclasses.dataclass(frozen=True)
class Bytes:
    """How a byte b stands for an input: ``x = scale * (b - zero)``, both of shape [1] or [channels] (on axis 1)."""

    scale: Array
    zero: Array

    def encode(self, x: Array) -> Array:
        """The bytes of `x`, as float64 whole numbers."""
        return np.asarray(np.clip(np.rint(x / self._along(self.scale, x) + self._along(self.zero, x)), 0, 255))

    def decode(self, codes: Array) -> Array:
        """What bytes stand for, float32."""
        return np.asarray((codes - self._along(self.zero, codes)) * self._along(self.scale, codes), np.float32)

    @staticmethod
    def _along(numbers: Array, x: Array) -> Array:
        return numbers if numbers.size == 1 else numbers.reshape(1, -1, *[1] * (x.ndim - 2))


@dataclasses.dataclass(frozen=True)
class Head:
    """An input that was changed to ``u = params.scale * (b - params.zero_point)``."""

    code: Bytes
    params: QParams
    notes: tuple[str, ...]

    def encode(self, x: Array) -> Array:
        """What the changed graph takes for `x`, float32."""
        return np.asarray((self.code.encode(x) - self.params.zero_point) * self.params.scale, np.float32)


@dataclasses.dataclass(frozen=True)
class _Map:
    """``v = a * b + k``, [1] each, or one per index of `axis`."""

    a: Array
    k: Array
    axis: int | None

    def then(self, factor: Array, offset: Array, axis: int | None) -> _Map | None:
        if self.axis is not None and axis is not None and self.axis != axis:
            return None
        both = self.axis if self.axis is not None else axis
        return _Map(self.a * factor, self.k * factor + offset, both)


def absorb(model: ir.Model, name: str, code: Bytes) -> Head | None:
    """Change the float input `name` of `model`, in place, to stand for the bytes of `code`; None, and no change, if
    not only convolutions read it."""
    value = next(value for value in model.graph.inputs if value.name == name)
    found = _Map(code.scale, -code.zero * code.scale, None if code.scale.size == code.zero.size == 1 else 1)
    passed: list[ir.Node] = []
    while only_use(value) and (step := _step(value, found, model.graph)) is not None:
        node, found = step
        passed.append(node)
        value = node.outputs[0]
    convs = [use.node for use in value.uses()]
    if not convs or value.is_graph_output() or not all(_takes(use.node, use.idx, found) for use in value.uses()):
        return None
    if not (np.isfinite(found.a).all() and np.isfinite(found.k).all() and found.a.all()):
        return None
    zeros = -found.k / found.a
    params = QParams(float(np.float32(np.abs(found.a).max())), int(np.clip(np.rint(zeros.mean()), 0, 255)))
    editor = Editor(model)
    for conv in dict.fromkeys(convs):
        _take_up(editor, conv, found, params)
    for node in passed:
        if not is_op(node, "Transpose"):
            kept = _carrier(node)
            assert kept is not None
            node.outputs[0].replace_all_uses_with(kept)
            remove(node)
    apart = np.ptp(zeros) > 1e-3 or abs(zeros.mean() - params.zero_point) > 1e-3
    notes = (_PADDED.format(name),) if apart and any(_pads(conv) for conv in convs) else ()
    return Head(code, params, notes)


def spell_out(model: ir.Model, name: str, code: Bytes) -> Head:
    """Change the float input `name` of `model`, in place, to be the bytes of `code` as numbers, with Sub and Mul behind
    it: for what `absorb` cannot change."""
    value = next(value for value in model.graph.inputs if value.name == name)
    editor, uses = Editor(model), tuple(value.uses())
    rank = len(value.shape or ())
    shape = (1, -1, *[1] * (rank - 2)) if code.scale.size > 1 or code.zero.size > 1 else (1,)
    first = model.graph[0]
    moved = editor.insert(first, "Sub", [value, editor.constant(_single(code.zero, shape), f"{name}_zero")], like=value)
    found = editor.insert(
        first, "Mul", [moved, editor.constant(_single(code.scale, shape), f"{name}_step")], like=value
    )
    for use in uses:
        use.node.replace_input_with(use.idx, found)
    return Head(code, QParams(1.0, 0), ())


def _single(numbers: Array, shape: tuple[int, ...]) -> Array:
    return numbers.astype(np.float32).reshape(shape if numbers.size > 1 else (1,))


_PADDED = "at the border of {!r}, padding stands for one byte in all channels, not for each channel's own zero"


def _step(value: ir.Value, found: _Map, graph: ir.Graph) -> tuple[ir.Node, _Map] | None:
    """The node behind `value` that is part of the head, and the map behind it."""
    node = next(iter(value.uses())).node
    if node.graph is not graph:
        return None
    if is_op(node, "Transpose"):
        order = list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else None
        if found.axis is not None and order is None:
            return None
        axis = None if found.axis is None or order is None else order.index(found.axis)
        return node, dataclasses.replace(found, axis=axis)
    if not is_op(node, *_AFFINE) or _carrier(node) is not value:
        return None
    own = _norm(node) if is_op(node, "BatchNormalization") else _arithmetic(node, value)
    then = None if own is None else found.then(*own)
    return None if then is None else (node, then)


def _carrier(node: ir.Node) -> ir.Value | None:
    """The input that is not constant."""
    first = get(node, 0)
    return first if is_op(node, "BatchNormalization") or array(first) is None else get(node, 1)


def _arithmetic(node: ir.Node, value: ir.Value) -> tuple[Array, Array, int | None] | None:
    first = array(get(node, 0)) is not None
    content = array(get(node, 0 if first else 1))
    if content is None or content.dtype.kind != "f" or (first and is_op(node, "Div")) or value.shape is None:
        return None
    rank = len(value.shape)
    shape = (1,) * (rank - content.ndim) + content.shape
    wide = [axis for axis, size in enumerate(shape) if size > 1]
    if content.ndim > rank or len(wide) > 1:
        return None
    k = content.reshape(-1).astype(np.float64)
    one, zero = np.ones_like(k), np.zeros_like(k)
    if is_op(node, "Div") and not k.all():
        return None
    sign = -one if first and is_op(node, "Sub") else one
    factor = k if is_op(node, "Mul") else 1 / k if is_op(node, "Div") else sign
    offset = k if is_op(node, "Add") else k if first and is_op(node, "Sub") else -k if is_op(node, "Sub") else zero
    return factor, offset, wide[0] if wide else None


def _norm(node: ir.Node) -> tuple[Array, Array, int | None] | None:
    contents = [array(get(node, index)) for index in range(1, 5)]
    if node.attributes.get_int("training_mode", 0) or len(node.outputs) > 1 or any(c is None for c in contents):
        return None
    gain, shift, mean, var = (content.astype(np.float64) for content in contents if content is not None)
    factor = gain / np.sqrt(var + float(np.float32(node.attributes.get_float("epsilon", 1e-5))))
    return factor, shift - mean * factor, 1


def _takes(node: ir.Node, index: int, found: _Map) -> bool:
    """Whether `node` is a convolution that can take `found` up."""
    if not is_op(node, "Conv") or index != 0 or node.attributes.get_int("group", 1) != 1:
        return False
    weight, bias = array(get(node, 1)), get(node, 2)
    if weight is None or weight.dtype != np.float32 or (bias is not None and array(bias) is None):
        return False
    return found.axis in (None, 1) and found.a.size in (1, weight.shape[1])


def _take_up(editor: Editor, conv: ir.Node, found: _Map, params: QParams) -> None:
    weight, bias = array(get(conv, 1)), array(get(conv, 2))
    assert weight is not None
    wide = weight.astype(np.float64)
    shape = (1, -1) + (1,) * (weight.ndim - 2)
    rest = found.a * params.zero_point + found.k
    moved = (wide * rest.reshape(shape)).sum(tuple(range(1, weight.ndim)))
    moved += 0 if bias is None else bias.astype(np.float64)
    editor.overwrite(conv, 1, (wide * (found.a / params.scale).reshape(shape)).astype(np.float32))
    if get(conv, 2) is not None:
        editor.overwrite(conv, 2, moved.astype(np.float32))
    elif moved.any():
        conv.resize_inputs(3)
        conv.replace_input_with(2, editor.constant(moved.astype(np.float32), f"{conv.outputs[0].name}_bias"))


def _pads(conv: ir.Node) -> bool:
    mode = conv.attributes.get_string("auto_pad", "NOTSET")
    return mode.startswith("SAME") or ("pads" in conv.attributes and any(conv.attributes["pads"].as_ints()))
