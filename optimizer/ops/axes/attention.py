"""Attention as one op, and rotary embeddings: a merged axis is a grid (head, dim).

    q[..., heads*dims]   k[..., kv heads*dims]   v[..., kv heads*value dims]   ->   y[..., heads*value dims]
    heads = kv heads x sharers

Heads go together with their sharers, dims of q and k together, dims of v with those of the result. The scale stays what
it was for the dims before removal. Decomposed attention needs none of this: its Reshapes and MatMuls say the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optimizer.ops.axes.pointwise import mapped
from optimizer.ops.axes.rule import MS, Axis, Cut, Layout, Op, Refuse, fixed, rule


def _heads(op: Op, axis: Axis, count: int) -> tuple[Axis, Axis]:
    if axis.size is None or not count or axis.size % count:
        raise Refuse("has an open number of heads")
    return op.split(axis, count, axis.size // count)


def attend(op: Op, q: Axis, k: Axis, v: Axis, heads: int, kv_heads: int) -> tuple[Axis, Axis]:
    """Tie merged axes of q, k, v and return (heads, the result's merged axis)."""
    head, dim = _heads(op, q, heads)
    (k_head, k_dim), (v_head, v_dim) = _heads(op, k, kv_heads), _heads(op, v, kv_heads)
    op.align(k_head, v_head)
    op.align(op.split(head, kv_heads, heads // kv_heads)[0], k_head)
    op.contract(dim, k_dim)
    op.labels.heads.append(head.labels)
    out = op.merge([head, Axis(v_dim.labels, v_dim.zero)])
    return head, op.axis(out.labels, v.zero and heads == kv_heads)


def _counted(node: ir.Node, cut: Cut, value: ir.Value | None, name: str, part: slice = slice(None)) -> None:
    """A number of heads, from the merged last axis of a value."""
    heads = node.attributes.get_int(name, 0)
    if not heads:
        return
    keep = cut.keep(value, -1)[part].reshape(heads, -1)
    node.attributes[name] = ir.AttrInt64(name, int(keep.any(1).sum()))


def _scaled(node: ir.Node, dims: int) -> None:
    """The scale that the op would have derived from the dims before removal."""
    if not node.attributes.get_float("scale", 0.0):
        node.attributes["scale"] = ir.AttrFloat32("scale", 1 / math.sqrt(dims))


def recount(node: ir.Node, cut: Cut) -> None:
    """Numbers of heads and the scale."""
    q, k = node.inputs[0], node.inputs[1]
    name = "q_num_heads" if node.domain == "" else "num_heads"
    if len(cut.layout(q)) == 3:
        _scaled(node, len(cut.keep(q, -1)) // node.attributes.get_int(name, 1))
        _counted(node, cut, q, name)
        _counted(node, cut, k, "kv_num_heads")
    else:
        _scaled(node, len(cut.keep(q, -1)))


@rule("Attention", patch=recount)
def attention(op: Op) -> Sequence[Layout | None]:
    """q, k, v of 3 axes (merged) or 4 [batch, heads, time, dims]; mask; cached keys and values (which freeze)."""
    q, k, v = op.input(0), op.input(1), op.input(2)
    if op.has(4) or op.has(5) or op.used(1) or op.used(3):
        raise Refuse("keeps a cache")
    op.freeze("attends over this axis", *(axis for x in (q, k, v) for axis in (x[0], x[-2])))
    if len(q) == 3:
        heads, out = attend(op, q[2], k[2], v[2], op.number("q_num_heads", 0), op.number("kv_num_heads", 0))
        y: Layout = (q[0], q[1], out)
    else:
        kv_heads, sharers = len(k[1].labels), len(q[1].labels) // len(k[1].labels)
        heads = q[1]
        op.align(k[1], v[1], op.split(heads, kv_heads, sharers)[0])
        op.contract(q[3], k[3])
        y = (q[0], op.axis(heads.labels, v[1].zero and sharers == 1), q[2], v[3])
    _mask(op, 3, heads)
    return (y,)


def _mask(op: Op, index: int, heads: Axis) -> None:
    """A mask or bias[..., heads or 1, queries, keys]."""
    if not op.has(index):
        return
    mask = op.input(index)
    op.freeze("", *mask[-2:], *mask[:-3])
    if len(mask) > 2 and mask[-3].size != 1:
        op.align(mask[-3], heads)


@rule("MultiHeadAttention", domain=MS, patch=recount)
def multi_head(op: Op) -> Sequence[Layout | None]:
    """q, k, v, bias, key padding mask, attention bias; caches and packed forms freeze."""
    if not (op.has(1) and op.has(2)) or any(op.has(index) for index in (6, 7, 8, 9)) or op.used(1):
        raise Refuse("keeps a cache or packs q, k, v")
    q, k, v = op.input(0), op.input(1), op.input(2)
    if len(k) != 3 or len(v) != 3 or op.number("unidirectional", 0):
        raise Refuse("has keys of more than 3 axes")
    if op.has(3):
        _packed_bias(op, op.input(3)[0], (q[2], k[2], v[2]))
    if op.has(4):
        op.freeze("", *op.input(4))
    op.freeze("attends over this axis", *(axis for x in (q, k, v) for axis in x[:2]))
    if op.has(3):
        q, k, v = ((*x[:2], Axis(x[2].labels, x[2].zero and op.input(3)[0].zero)) for x in (q, k, v))
    heads, out = attend(op, q[2], k[2], v[2], op.number("num_heads", 0), op.number("num_heads", 0))
    _mask(op, 5, heads)
    return ((q[0], q[1], out),)


def _packed_bias(op: Op, bias: Axis, parts: Sequence[Axis]) -> list[Axis]:
    """Pieces of one axis, one after the other."""
    ends = np.cumsum([len(part.labels) for part in parts])
    if bias.size != ends[-1]:
        raise Refuse("has a bias of another size")
    pieces = [Axis(piece, bias.zero) for piece in np.split(bias.labels, ends[:-1])]
    for piece, part in zip(pieces, parts, strict=True):
        op.align(piece, part)
    return pieces


def recount_packed(node: ir.Node, cut: Cut) -> None:
    """Heads, the sizes of q, k and v, and the scale."""
    keep, heads = cut.keep(node.inputs[1], 1), node.attributes.get_int("num_heads", 1)
    sizes = list(node.attributes.get_ints("qkv_hidden_sizes") or [len(keep) // 3] * 3)
    _scaled(node, sizes[0] // heads)
    _counted(node, cut, node.inputs[1], "num_heads", slice(sizes[0]))
    kept = [int(part.sum()) for part in np.split(keep, np.cumsum(sizes)[:-1])]
    node.attributes["qkv_hidden_sizes"] = ir.AttrInt64s("qkv_hidden_sizes", kept)


@rule("Attention", domain=MS, patch=recount_packed)
def packed_attention(op: Op) -> Sequence[Layout | None]:
    """x, w[in, q + k + v], bias, mask, cache (which freezes), attention bias."""
    if op.has(4) or op.used(1) or op.number("do_rotary", 0) or op.number("unidirectional", 0):
        raise Refuse("keeps a cache, rotates or is causal")
    x, w, heads = op.input(0), op.input(1), op.number("num_heads", 0)
    sizes = op.numbers("qkv_hidden_sizes") or [len(w[1].labels) // 3] * 3
    q, k, v = (Axis(part, w[1].zero) for part in np.split(w[1].labels, np.cumsum(sizes)[:-1]))
    op.contract(x[2], w[0])
    if op.has(2):
        pieces = _packed_bias(op, op.input(2)[0], (q, k, v))
        q, k, v = (Axis(a.labels, a.zero and b.zero) for a, b in zip((q, k, v), pieces, strict=True))
    if op.has(3):
        op.freeze("", *op.input(3))
    op.freeze("attends over this axis", *x[:2])
    head, out = attend(op, q, k, v, heads, heads)
    _mask(op, 5, head)
    return ((x[0], x[1], out),)


@rule("GroupQueryAttention", domain=MS, patch=recount)
def grouped_query(op: Op) -> Sequence[Layout | None]:
    """q, k, v, caches[batch, kv heads, time, dims], lengths, cosines, sines: only heads go (dims come in 8s)."""
    if not (op.has(1) and op.has(2)):
        raise Refuse("packs q, k, v")
    q, k, v = op.input(0), op.input(1), op.input(2)
    heads, kv_heads = op.number("num_heads", 0), op.number("kv_num_heads", 0)
    (k_head, k_dim), (_, v_dim) = _heads(op, k[2], kv_heads), _heads(op, v[2], kv_heads)
    op.freeze("has kernels for some sizes of this axis only", k_dim, v_dim)
    for index in range(3, len(op.node.inputs)):
        cache = op.input(index) if op.has(index) else ()
        op.freeze("", *(axis for place, axis in enumerate(cache) if index > 4 or place != 1))
        if index < 5 and cache:
            op.align(cache[1], k_head)
    op.freeze("attends over this axis", *(axis for x in (q, k, v) for axis in x[:2]))
    _, out = attend(op, q[2], k[2], v[2], heads, kv_heads)
    present = (fixed(None), op.axis(k_head.labels, False), fixed(None), fixed(len(k_dim.labels)))
    return (q[0], q[1], out), present, present


def recount_rotary(node: ir.Node, cut: Cut) -> None:
    """The number of heads that stay."""
    if len(cut.layout(node.inputs[0])) == 3:
        _counted(node, cut, node.inputs[0], "num_heads")


@rule("RotaryEmbedding", patch=recount_rotary)
@rule("RotaryEmbedding", domain=MS, patch=recount_rotary)
def rotary(op: Op) -> Sequence[Layout | None]:
    """Pairs of dims are rotated, so only heads are free: x[batch, heads, time, dims] or x[batch, time, heads*dims]."""
    x = op.input(0)
    op.freeze("", *(axis for index in range(1, len(op.node.inputs)) if op.has(index) for axis in op.input(index)))
    if len(x) == 4:
        op.freeze("rotates this axis", x[0], x[2], x[3])
        return (mapped(op, zero=True),)
    op.freeze("rotates this axis", x[0], x[1], _heads(op, x[2], op.number("num_heads", 0))[1])
    return (mapped(op, zero=True),)
