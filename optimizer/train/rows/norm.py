"""Rows of normalizations.

Batch normalization uses its stored statistics, which are the model's; in training mode, those of the batch.
"""

from __future__ import annotations

from optimizer.train.table import Call, Row, Tensor, along


def batch_norm(at: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
    """In training mode the second and third output are the stored statistics moved towards the batch's."""
    kept = at.real("momentum", 0.9)
    moved: tuple[Tensor, ...] = ()
    if at.flag("training_mode"):
        axes = [axis for axis in range(x.ndim) if axis != 1]
        own, spread = x.mean(axes), x.var(axes, correction=0)
        moved = (kept * mean + (1 - kept) * own, kept * var + (1 - kept) * spread)
        mean, var = own, spread
    return (at.functional.batch_norm(x, mean, var, scale, bias, False, 0.0, at.real("epsilon", 1e-5)), *moved)


def _standardize(x: Tensor, axes: list[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = (centred.square().mean(axes, keepdim=True) + epsilon).rsqrt()
    return centred * inverse, mean, inverse


def instance_norm(at: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    plain, _, _ = _standardize(x, list(range(2, x.ndim)), at.real("epsilon", 1e-5))
    return plain * along(scale, 1, x.ndim) + along(bias, 1, x.ndim)


def _trailing(at: Call, x: Tensor) -> list[int]:
    return list(range(at.integer("axis", -1) % x.ndim, x.ndim))


def layer_norm(at: Call, x: Tensor, scale: Tensor, bias: Tensor = None) -> tuple[Tensor, ...]:
    plain, mean, inverse = _standardize(x, _trailing(at, x), at.real("epsilon", 1e-5))
    return plain * scale if bias is None else plain * scale + bias, mean, inverse


def rms_norm(at: Call, x: Tensor, scale: Tensor) -> Tensor:
    power = x.square().mean(_trailing(at, x), keepdim=True)
    return x * (power + at.real("epsilon", 1e-5)).rsqrt() * scale


def group_norm(at: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias are per group up to opset 20 and per channel since 21."""
    groups = at.integer("num_groups", 1)
    plain, _, _ = _standardize(x.reshape(x.shape[0], groups, -1), [-1], at.real("epsilon", 1e-5))
    each = x.shape[1] // groups if at.opset < 21 else 1
    scale, bias = (vector.repeat_interleave(each) for vector in (scale, bias))
    return plain.reshape(x.shape) * along(scale, 1, x.ndim) + along(bias, 1, x.ndim)


def mean_variance(at: Call, x: Tensor) -> Tensor:
    axes = at.integers("axes") or [0, 2, 3]
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


def lp_norm(at: Call, x: Tensor) -> Tensor:
    p, axis = at.integer("p", 2), at.integer("axis", -1)
    length = x.abs().sum(axis, keepdim=True) if p == 1 else x.square().sum(axis, keepdim=True).sqrt()
    return at.torch.where(length == 0, at.torch.zeros_like(x), x / at.torch.where(length == 0, 1.0, length))


def lrn(at: Call, x: Tensor) -> Tensor:
    size = at.integer("size", 1)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    square = at.functional.pad(x.square(), [0, 0] * (x.ndim - 2) + [before, after])
    total = sum(square.narrow(1, shift, x.shape[1]) for shift in range(size))
    return x / (at.real("bias", 1.0) + at.real("alpha", 1e-4) / size * total) ** at.real("beta", 0.75)


def skip_layer_norm(
    at: Call, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor = None, bias: Tensor = None
) -> tuple[Tensor, ...]:
    total = x + skip if bias is None else x + skip + bias
    plain, mean, inverse = _standardize(total, [-1], at.real("epsilon", 1e-12))
    return plain * gamma if beta is None else plain * gamma + beta, mean, inverse, total


def skip_rms_norm(at: Call, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor = None) -> tuple[Tensor, ...]:
    total = x + skip if bias is None else x + skip + bias
    inverse = (total.square().mean(-1, keepdim=True) + at.real("epsilon", 1e-12)).rsqrt()
    return total * inverse * gamma, total.mean(-1, keepdim=True), inverse, total


def embed_layer_norm(
    at: Call, words: Tensor, segments: Tensor, word: Tensor, position: Tensor, segment: Tensor, gamma: Tensor,
    beta: Tensor, mask: Tensor = None, places: Tensor = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    batch, length = words.shape
    places = at.torch.arange(length).reshape(1, -1) if places is None else places.long()
    total = word[words.long()] + position[places]
    total = total if segment is None or segments is None else total + segment[segments.long()]
    plain, _, _ = _standardize(total, [-1], at.real("epsilon", 1e-12))
    counts = at.torch.zeros(batch, dtype=at.torch.int32) if mask is None else mask.sum(1).to(at.torch.int32)
    return plain * gamma + beta, counts, total


ROWS = {
    "BatchNormalization": Row(batch_norm, weights=(1, 2)),
    "InstanceNormalization": Row(instance_norm, weights=(1, 2)),
    "LayerNormalization": Row(layer_norm, weights=(1, 2)),
    "RMSNormalization": Row(rms_norm, weights=(1,)),
    "SimplifiedLayerNormalization": Row(rms_norm, weights=(1,)),
    "GroupNormalization": Row(group_norm, weights=(1, 2)),
    "MeanVarianceNormalization": Row(mean_variance),
    "LpNormalization": Row(lp_norm),
    "LRN": Row(lrn),
    "com.microsoft::SkipLayerNormalization": Row(skip_layer_norm, weights=(2, 3, 4)),
    "com.microsoft::SkipSimplifiedLayerNormalization": Row(skip_rms_norm, weights=(2, 3)),
    "com.microsoft::EmbedLayerNormalization": Row(embed_layer_norm, weights=(2, 3, 4, 5, 6)),
}
