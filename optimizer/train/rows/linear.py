"""Rows of products and convolutions.

Convolutions of any rank go through `torch.convolution`. `auto_pad` and uneven pads are made explicit first: SAME gives
`ceil(size / stride)` positions, with the odd pixel at the end (UPPER) or at the begin (LOWER).
"""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.train.table import Call, Row, Tensor, along, pads


def spatial_pads(at: Call, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """All begins, then all ends, of the padding of a convolution or pooling node over `sizes`."""
    rank, mode = len(kernel), at.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return at.integers("pads") or [0] * (2 * rank)
    if mode == "VALID":
        return [0] * (2 * rank)
    strides, dilations = at.integers("strides") or [1] * rank, at.integers("dilations") or [1] * rank
    total = [
        max((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
        for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    small, large = [amount // 2 for amount in total], [amount - amount // 2 for amount in total]
    return small + large if mode == "SAME_UPPER" else large + small


def matmul(at: Call, a: Tensor, b: Tensor) -> Tensor:
    return at.torch.matmul(a, b)


def gemm(at: Call, a: Tensor, b: Tensor, c: Tensor = None) -> Tensor:
    a, b = a.T if at.flag("transA") else a, b.T if at.flag("transB") else b
    product = at.torch.matmul(a, b)
    alpha, beta = at.real("alpha", 1.0), at.real("beta", 1.0)
    product = product if alpha == 1.0 else product * alpha
    return product if c is None else product + (c if beta == 1.0 else c * beta)


def fused_matmul(at: Call, a: Tensor, b: Tensor) -> Tensor:
    a = a.transpose(-1, -2) if at.flag("transA") else a
    b = b.transpose(-1, -2) if at.flag("transB") else b
    return at.torch.matmul(a, b) * at.real("alpha", 1.0)


def conv(at: Call, x: Tensor, w: Tensor, b: Tensor = None) -> Tensor:
    rank = w.ndim - 2
    around = spatial_pads(at, x.shape[2:], w.shape[2:])
    if around[:rank] != around[rank:]:
        x, around = at.functional.pad(x, pads(around)), [0] * (2 * rank)
    strides, dilations = at.integers("strides") or [1] * rank, at.integers("dilations") or [1] * rank
    return at.torch.convolution(x, w, b, strides, around[:rank], dilations, False, [0] * rank, at.integer("group", 1))


def conv_transpose(at: Call, x: Tensor, w: Tensor, b: Tensor = None) -> Tensor:
    """Computed without padding, then cut: so uneven pads, `output_shape` and `output_padding` are one case."""
    rank = w.ndim - 2
    strides, dilations = at.integers("strides") or [1] * rank, at.integers("dilations") or [1] * rank
    extra, group = at.integers("output_padding") or [0] * rank, at.integer("group", 1)
    full = at.torch.convolution(x, w, None, strides, [0] * rank, dilations, True, [0] * rank, group)
    begins, sizes = _transposed_window(at, x.shape[2:], full.shape[2:], strides, extra)
    for axis, (begin, size) in enumerate(zip(begins, sizes, strict=True), start=2):
        missing = max(begin + size - full.shape[axis], 0)
        full = at.functional.pad(full, [0, 0] * (full.ndim - 1 - axis) + [0, missing]).narrow(axis, begin, size)
    return full if b is None else full + along(b, 1, full.ndim)


def _transposed_window(
    at: Call, sizes: Sequence[int], full: Sequence[int], strides: Sequence[int], extra: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Where the wanted output begins in the unpadded one, and its sizes (ONNX ConvTranspose, `pads`)."""
    rank, mode = len(full), at.text("auto_pad", "NOTSET")
    wanted = at.integers("output_shape")
    if wanted is None and mode.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    if wanted is None:
        around = at.integers("pads") or [0] * (2 * rank)
        ends = zip(full, extra, around[:rank], around[rank:], strict=True)
        return around[:rank], [length + more - begin - end for length, more, begin, end in ends]
    total = [max(length + more - size, 0) for length, more, size in zip(full, extra, wanted[-rank:], strict=True)]
    upper = mode == "SAME_UPPER"
    return [amount // 2 if upper else amount - amount // 2 for amount in total], wanted[-rank:]


def einsum(at: Call, *inputs: Tensor) -> Tensor:
    return at.torch.einsum(at.text("equation").replace(" ", ""), *inputs)


def det(at: Call, x: Tensor) -> Tensor:
    return at.torch.linalg.det(x)


ROWS = {
    "MatMul": Row(matmul, weights=(0, 1)),
    "Gemm": Row(gemm, weights=(0, 1, 2)),
    "Conv": Row(conv, weights=(1, 2)),
    "ConvTranspose": Row(conv_transpose, weights=(1, 2)),
    "Einsum": Row(einsum, weights=(0, 1)),
    "Det": Row(det),
    "com.microsoft::FusedMatMul": Row(fused_matmul, weights=(0, 1)),
}
