"""Rows of attention as one op: ONNX Attention and RotaryEmbedding (opset 23), and ONNX Runtime's fused forms.

    A = softmax(scale * Q K^T + bias + mask),  Y = A V        per head; K and V may have fewer heads than Q

Refused, by name: outputs that a cache needs (present keys and values), and variants that no row here covers.
"""

from __future__ import annotations

import math

from optimizer.train.table import Call, Row, Tensor

MASKED = -1e30
"""Stands for minus infinity, so that a query that may see nothing gets zeros and not NaN, forward and backward."""


def _heads(x: Tensor, count: int) -> Tensor:
    """[B, T, H*D] as [B, H, T, D]."""
    return x if x.ndim == 4 else x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def _attend(at: Call, q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor, cap: float = 0.0) -> Tensor:
    repeat = q.shape[1] // k.shape[1]
    k, v = (k, v) if repeat == 1 else (k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1))
    scores = at.torch.matmul(q, k.transpose(-1, -2)) * scale
    scores = cap * at.torch.tanh(scores / cap) if cap else scores
    if bias is None:
        return at.torch.matmul(at.torch.softmax(scores, -1), v)
    live = (bias != -math.inf).any(-1, keepdim=True)
    return at.torch.matmul(at.torch.softmax(scores + bias.clamp(min=MASKED), -1) * live, v)


def _causal(at: Call, queries: int, keys: int, offset: int) -> Tensor:
    late = at.torch.arange(keys) > at.torch.arange(queries).reshape(-1, 1) + offset
    return at.torch.zeros(queries, keys).masked_fill(late, -math.inf)


def attention(at: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor = None, past_k: Tensor = None,
              past_v: Tensor = None, lengths: Tensor = None) -> tuple[Tensor, ...]:  # fmt: skip
    if at.wants(3) or lengths is not None or any(name.endswith("window_size") for name in at.node.attributes):
        raise at.refuse("its score output, its per-sequence lengths or a window are used")
    flat = q.ndim == 3
    q, k, v = (
        _heads(q, at.integer("q_num_heads", 1)),
        _heads(k, at.integer("kv_num_heads", 1)),
        _heads(v, at.integer("kv_num_heads", 1)),
    )
    past = 0 if past_k is None else past_k.shape[2]
    k = k if past_k is None else at.torch.cat([past_k, k], 2)
    v = v if past_v is None else at.torch.cat([past_v, v], 2)
    bias = _bias(at, mask, q, k, past)
    y = _attend(at, q, k, v, at.real("scale", 1 / math.sqrt(q.shape[-1])), bias, at.real("softcap", 0.0))
    return _merge(y) if flat else y, k, v


def _bias(at: Call, mask: Tensor, q: Tensor, k: Tensor, past: int) -> Tensor:
    bias = mask
    if mask is not None and mask.dtype == at.torch.bool:
        bias = at.torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
    if bias is not None and bias.shape[-1] < k.shape[2]:
        bias = at.functional.pad(bias, [0, k.shape[2] - bias.shape[-1]], value=-math.inf)
    if at.flag("is_causal"):
        causal = _causal(at, q.shape[2], k.shape[2], past).to(q.dtype)
        bias = causal if bias is None else bias + causal
    return bias


def rotary(at: Call, x: Tensor, cos: Tensor, sin: Tensor, places: Tensor = None) -> Tensor:
    flat, heads = x.ndim == 3, at.integer("num_heads", 0)
    x = x.reshape(x.shape[0], x.shape[1], heads, -1) if flat else x.transpose(1, 2)
    width = at.integer("rotary_embedding_dim", 0) or x.shape[-1]
    cos, sin = (cos, sin) if places is None else (cos[places.long()], sin[places.long()])
    cos, sin = cos[..., : width // 2].unsqueeze(2), sin[..., : width // 2].unsqueeze(2)
    turned, rest = x[..., :width], x[..., width:]
    mixed = at.flag("interleaved")
    a, b = (turned[..., 0::2], turned[..., 1::2]) if mixed else turned.chunk(2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    if mixed:
        turned = at.torch.stack([real, imaginary], -1).flatten(-2)
    else:
        turned = at.torch.cat([real, imaginary], -1)
    y = at.torch.cat([turned, rest], -1)
    return y.flatten(2) if flat else y.transpose(1, 2)


def _key_bias(at: Call, mask: Tensor, keys: int, low: float) -> Tensor:
    """ONNX Runtime's key masks: [B] lengths or [B, T] flags."""
    if mask is None:
        return None
    if mask.ndim == 1:
        mask = at.torch.arange(keys) < mask.reshape(-1, 1)
    if mask.ndim == 2:
        mask = mask.reshape(mask.shape[0], 1, 1, -1)
    if mask.ndim == 3:
        mask = mask.unsqueeze(1)
    return (1.0 - mask.float()) * low


def fused_attention(at: Call, x: Tensor, w: Tensor, b: Tensor = None, mask: Tensor = None, past: Tensor = None,
                    bias: Tensor = None) -> Tensor:  # fmt: skip
    if past is not None or at.flag("do_rotary"):
        raise at.refuse("it uses a cache or rotary positions")
    heads = at.integer("num_heads", 1)
    joined = x @ w if b is None else x @ w + b
    sizes = at.integers("qkv_hidden_sizes") or [w.shape[1] // 3] * 3
    q, k, v = (_heads(part, heads) for part in joined.split(sizes, -1))
    total = _seen(at, q, k, mask, bias)
    return _merge(_attend(at, q, k, v, at.real("scale", 0.0) or 1 / math.sqrt(q.shape[-1]), total))


def multi_head(at: Call, q: Tensor, k: Tensor = None, v: Tensor = None, b: Tensor = None, mask: Tensor = None,
               bias: Tensor = None, *cache: Tensor) -> Tensor:  # fmt: skip
    if k is None or v is None or k.ndim != 3 or any(part is not None for part in cache):
        raise at.refuse("it uses packed inputs or a cache")
    if b is not None:
        size_q, size_v = q.shape[-1], v.shape[-1]
        q, k, v = q + b[:size_q], k + b[size_q : 2 * size_q], v + b[-size_v:]
    heads = at.integer("num_heads", 1)
    q, k, v = _heads(q, heads), _heads(k, heads), _heads(v, heads)
    total = _seen(at, q, k, mask, bias)
    return _merge(_attend(at, q, k, v, at.real("scale", 0.0) or 1 / math.sqrt(q.shape[-1]), total))


def _seen(at: Call, q: Tensor, k: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
    """What ONNX Runtime's forms add to the scores."""
    low = at.real("mask_filter_value", -10000.0)
    total = _plus(_key_bias(at, mask, k.shape[2], low), bias)
    if at.flag("unidirectional"):
        total = _plus(total, _causal(at, q.shape[2], k.shape[2], 0).clamp(min=low))
    return total


def _plus(a: Tensor, b: Tensor) -> Tensor:
    return b if a is None else a if b is None else a + b


ROWS = {
    "Attention": Row(attention),
    "RotaryEmbedding": Row(rotary),
    "com.microsoft::Attention": Row(fused_attention, weights=(1, 2)),
    "com.microsoft::MultiHeadAttention": Row(multi_head, weights=(3,)),
}
