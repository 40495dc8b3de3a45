"""Attention as one op, and rotary embeddings: a merged axis is a grid (head, dim).

    q[..., heads*dims]   k[..., kv heads*dims]   v[..., kv heads*value dims]   ->   y[..., heads*value dims]
    heads = kv heads x sharers: h x s

Heads go together with their sharers, dims d of q and k together, dims e of v with those of the result. The scale stays
what it was for the dims before removal. Decomposed attention needs none of this: its Reshapes and MatMuls say the same.
"""

from __future__ import annotations

import dataclasses
import math

from optimizer.ops.axes.op import Op, Refuse
from optimizer.ops.axes.rules import MS, rule, say
from optimizer.ops.axes.sentence import Place, Says

_WHY = "attends over this axis, or has kernels for some sizes of it only"


def attention(op: Op, text: str, dims: int, counts: dict[Place, str]) -> Says:
    """A sentence about attention with so many dims per head."""
    pins = {} if op.node.attributes.get_float("scale", 0.0) else {"scale": 1 / math.sqrt(dims)}
    return Says(text, _WHY, counts=counts, heads="hs", pins=pins)


def _size(op: Op, index: int) -> int:
    """The length of the last axis."""
    if (size := op.input(index)[-1].size) is None:
        raise Refuse("has an open number of heads")
    return size


@rule("Attention")
def plain_attention(op: Op) -> Says:
    """q, k, v of 3 axes (merged) or 4 [batch, heads, time, dims]; mask; cached keys and values are refused."""
    if len(op.input(0)) == 4:
        return attention(op, "~B(hs)Td, ~BhSd, BhSe, ~B(hs)TS, !, ! -> B(hs)Te", _size(op, 0), {})
    heads = op.number("q_num_heads", 1)
    counts: dict[Place, str] = {"q_num_heads": "hs", "kv_num_heads": "h"}
    return attention(op, "~BT(hsd), ~BS(hd), BS(he), ~B(hs)TS, !, ! -> BT(hse)", _size(op, 0) // heads, counts)


@rule("MultiHeadAttention", domain=MS)
def multi_head(op: Op) -> Says:
    """q, k, v, bias, key padding mask, attention bias; caches and packed forms are refused."""
    if not (op.has(1) and op.has(2)):
        raise Refuse("packs q, k, v")
    text = "~BT(hd), ~BS(hd), BS(he), +(hd+hd+he), _, ~BhTS, !, !, !, ! -> BT(he)"
    return attention(op, text, _size(op, 0) // op.number("num_heads", 1), {"num_heads": "h"})


@rule("Attention", domain=MS)
def packed_attention(op: Op) -> Says:
    """x, w[in, q + k + v], bias, mask, cache (refused), attention bias."""
    if op.number("do_rotary", 0):
        raise Refuse("rotates dims")
    heads = op.number("num_heads", 1)
    sizes = op.numbers("qkv_hidden_sizes") or [_size(op, 1) // 3] * 3
    counts: dict[Place, str] = {"num_heads": "h"}
    counts |= {("qkv_hidden_sizes", None, entry): term for entry, term in enumerate(("hd", "hd", "he"))}
    says = attention(op, "BTi, i(hd+hd+he), +(hd+hd+he), _, !, ~BhTS -> BT(he)", sizes[0] // heads, counts)
    return dataclasses.replace(says, sizes={"d": sizes[0] // heads, "e": sizes[2] // heads})


@rule("GroupQueryAttention", domain=MS)
def grouped_query(op: Op) -> Says:
    """q, k, v, caches[batch, kv heads, time, dims], lengths, cosines, sines: only heads go (dims come in 8s)."""
    if not (op.has(1) and op.has(2)):
        raise Refuse("packs q, k, v")
    counts: dict[Place, str] = {"num_heads": "hs", "kv_num_heads": "h"}
    text = "~BT(hsD), ~BS(hD), BS(hE), ~BhPD, ~BhPE -> BT(hsE), ~BhRD, ~BhRE"
    return attention(op, text, _size(op, 0) // op.number("num_heads", 1), counts)


def _rotary(op: Op) -> Says:
    """Pairs of dims are rotated, so only heads are free: x[batch, heads, time, dims] or x[batch, time, heads*dims]."""
    if len(op.input(0)) == 4:
        return Says("BhTD -> BhTD", "rotates this axis")
    return Says("BT(hD) -> BT(hD)", "rotates this axis", counts={"num_heads": "h"})


say("RotaryEmbedding", _rotary)
say("RotaryEmbedding", _rotary, domain=MS)
