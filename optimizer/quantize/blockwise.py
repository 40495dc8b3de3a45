"""Weights of products in 4 or 8 bits, one scale per block of inputs, multiplied as they are by MatMulNBits.

``MatMul(x, W)`` with W float32 [K, N], and ``Gemm(x, W, b)`` (transB or not, alpha and beta 1, no transA, b a row or
none), become com.microsoft's ``MatMulNBits(x, B, scales, b)``: the K inputs of each output are cut into blocks of
`size` (a power of two from 16 on), the last one filled up with zeros, and

    w = (q - 2**(bits - 1)) * scale        q in 0 .. 2**bits - 1,        one scale per output and block.

Integers are one more on the negative side, so a scale may be negative: of both signs and some shrunken scales the one
of least squared error is taken. 4-bit values lie two in a byte, the earlier one in the lower half.

With accuracy level 4 the kernels round the activations to int8 block by block in each run, which makes them faster
than float where the CPU multiplies bytes; only weights are touched here, so no sample is needed.

Bodies of If and Loop are included. Left alone: weights of fewer than 1,024 elements or fewer rows than a block has, not
finite ones, and other constants than float32.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import Editor, array, get, is_op, nodes
from optimizer.model.ports import Array
from optimizer.ops import int8
from optimizer.quantize import storage

_DOMAIN, _LEVEL = "com.microsoft", 4
_SHRINK = np.linspace(1.0, 0.7, 13)


def store(model: ir.Model, bits: int, size: int, leave: Collection[str] = ()) -> set[str]:
    """Turn the products of `model` into MatMulNBits, in place, but those by the constants called in `leave`.

    Returns the names of the nodes that were turned; a float weight stays where something else reads it.
    """
    editor = Editor(model)
    turned = set()
    packed: dict[tuple[ir.Value, bool], tuple[ir.Value, ir.Value]] = {}
    for node in nodes(model):
        weight = get(node, 1)
        if weight is None or (weight.name or "") in leave or not _fits(node, size):
            continue
        across = is_op(node, "Gemm") and int8.attribute(node, "transB", 0) == 1
        key = (weight, across)
        if key not in packed:
            packed[key] = _pack(editor, weight, across, bits, size)
        _turn(editor, node, packed[key], across, bits, size)
        turned.add(node.name or "")
    for weight in {weight for weight, _ in packed}:
        if not weight.uses() and not weight.is_graph_output():
            del model.graph.initializers[weight.name or ""]
    if turned:
        model.graph.opset_imports.setdefault(_DOMAIN, 1)
    return turned


def rounded(rows: Array, bits: int, size: int) -> tuple[Array, Array]:
    """Codes uint8 [N, blocks, size] and float32 scales [N, blocks] of `rows` [N, K]."""
    half, count = 2 ** (bits - 1), -(-rows.shape[1] // size)
    filled = np.zeros((len(rows), count * size), np.float32)
    filled[:, : rows.shape[1]] = rows
    blocks = filled.reshape(len(rows), count, size)
    far = np.take_along_axis(blocks, np.abs(blocks).argmax(2, keepdims=True), 2)
    far = np.where(np.abs(far) < 1e-12, 1e-12, far)
    best, least = np.ones_like(far), np.full(far.shape, np.inf)
    for share in _SHRINK:
        for levels in (-half, half - 1):
            scale = (far * share / levels).astype(np.float32)
            error = np.square(blocks - np.clip(np.rint(blocks / scale), -half, half - 1) * scale)
            found = error.sum(2, keepdims=True)
            best, least = np.where(found < least, scale, best), np.minimum(found, least)
    codes = np.clip(np.rint(blocks / best), -half, half - 1) + half
    return codes.astype(np.uint8), np.ascontiguousarray(best[:, :, 0], np.float32)


def _fits(node: ir.Node, size: int) -> bool:
    weight = get(node, 1)
    if weight is None or not storage.storable(weight) or len(weight.shape or ()) != 2:
        return False
    if is_op(node, "Gemm"):
        return int8.refusal(node) is None and int8.attribute(node, "transA", 0) == 0 and _depth(node) >= size
    return is_op(node, "MatMul") and array(get(node, 0)) is None and _depth(node) >= size


def _depth(node: ir.Node) -> int:
    content = array(get(node, 1))
    assert content is not None
    return int(content.shape[1 if int8.attribute(node, "transB", 0) else 0])


def _pack(editor: Editor, weight: ir.Value, across: bool, bits: int, size: int) -> tuple[ir.Value, ir.Value]:
    content = array(weight)
    assert content is not None
    codes, scales = rounded(content if across else content.T, bits, size)
    if bits == 4:
        codes = codes[:, :, 0::2] | (codes[:, :, 1::2] << 4)
    return editor.constant(codes, f"{weight.name}_int{bits}"), editor.constant(scales, f"{weight.name}_scales")


def _turn(editor: Editor, node: ir.Node, packed: tuple[ir.Value, ir.Value], across: bool, bits: int, size: int) -> None:
    """Let `node` be a MatMulNBits under its old name."""
    content = array(get(node, 1))
    assert content is not None
    wide, deep = content.shape if across else content.shape[::-1]
    bias = _row(editor, get(node, 2), wide)
    node.domain, node.op_type = _DOMAIN, "MatMulNBits"
    node.attributes.clear()
    for name, number in {"K": deep, "N": wide, "bits": bits, "block_size": size, "accuracy_level": _LEVEL}.items():
        node.attributes[name] = ir.AttrInt64(name, number)
    node.resize_inputs(3 if bias is None else 6)
    node.replace_input_with(1, packed[0])
    node.replace_input_with(2, packed[1])
    if bias is not None:
        node.replace_input_with(5, bias)


def _row(editor: Editor, bias: ir.Value | None, wide: int) -> ir.Value | None:
    """The bias of a Gemm as a vector."""
    content = array(bias)
    if bias is None or content is None or content.shape == (wide,):
        return bias
    return editor.constant(np.broadcast_to(content.reshape(-1), (wide,)), f"{bias.name}_row")
