"""Rows of com.microsoft's operators in which the weight alone is integers for good: blocks of few bits, and int8 under
activations that are rounded in each run.

    MatMulNBits            y = x W' + b,    W[n, k] = (B[n, k] - zero[n, block of k]) * scale[n, block of k]
    DynamicQuantizeMatMul  y = x ((B - zero) * scale) + b
    MatMulIntegerToFloat   y = ((A - a_zero) * a_scale) ((B - b_zero) * b_scale) + b
    DynamicQuantizeLSTM    an LSTM of (W - zero) * scale and R likewise, both stored with the inputs first

How the kernels round activations inside is left out: whatever the activations become, it follows them. B comes as it is
stored or, while it is learnt, unpacked: floats with integer values [N, blocks, block size].
"""

from __future__ import annotations

from typing import Any

from optimizer.train.rows.linear import matmul
from optimizer.train.rows.quantized import centred
from optimizer.train.rows.recurrent import lstm
from optimizer.train.table import Call, Row, Tensor


def unpacked(torch: Any, stored: Tensor, bits: int) -> Tensor:
    """Bytes [..., n] as [..., n * 8 / bits] integers, the first of a byte in its lowest bits."""
    if bits == 8:
        return stored
    return torch.stack([(stored >> shift) & (2**bits - 1) for shift in range(0, 8, bits)], -1).flatten(-2)


def block_zeros(torch: Any, zero: Tensor, rows: int, blocks: int, bits: int) -> Tensor:
    """The zero points of MatMulNBits as [rows, blocks, 1]: half of the range where there are none."""
    if zero is None:
        return torch.tensor(float(2 ** (bits - 1)))
    if zero.is_floating_point():
        return zero.reshape(rows, blocks, 1)
    return unpacked(torch, zero.reshape(rows, -1), bits)[:, :blocks, None].float()


def by_gate(parameter: Tensor, q: Tensor) -> Tensor:
    """A scale or zero point of DynamicQuantizeLSTM, one number or one per column, shaped for its weight `q`."""
    return parameter.reshape(len(q), 1, -1)


def matmul_n_bits(at: Call, a: Tensor, b: Tensor, scale: Tensor, zero: Tensor = None, groups: Tensor = None,
                  bias: Tensor = None) -> Tensor:  # fmt: skip
    if groups is not None:
        raise at.refuse("its inputs are assigned to blocks one by one (g_idx)")
    bits, (rows, blocks) = at.integer("bits", 4), b.shape[:2]
    q = b if b.is_floating_point() else unpacked(at.torch, b, bits).float()
    w = (q - block_zeros(at.torch, zero, rows, blocks, bits)) * scale.reshape(rows, blocks, 1)
    y = matmul(at, a, w.reshape(rows, -1)[:, : at.integer("K", a.shape[-1])].T)
    return y if bias is None else y + bias


def dynamic_quantize_matmul(at: Call, a: Tensor, b: Tensor, scale: Tensor, zero: Tensor = None,
                            bias: Tensor = None) -> Tensor:  # fmt: skip
    y = matmul(at, a, centred(b, zero, -1) * scale)
    return y if bias is None else y + bias


def matmul_integer_to_float(at: Call, a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, a_zero: Tensor = None,
                            b_zero: Tensor = None, bias: Tensor = None) -> Tensor:  # fmt: skip
    y = matmul(at, centred(a, a_zero, -2) * a_scale, centred(b, b_zero, -1) * b_scale)
    return y if bias is None else y + bias


def dynamic_quantize_lstm(
    at: Call, x: Tensor, w: Tensor, r: Tensor, bias: Tensor, lengths: Tensor, h0: Tensor, c0: Tensor, p: Tensor,
    w_scale: Tensor, w_zero: Tensor, r_scale: Tensor, r_zero: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    def real(q: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return ((q.float() - by_gate(zero.float(), q)) * by_gate(scale, q)).transpose(1, 2)

    return lstm(at, x, real(w, w_scale, w_zero), real(r, r_scale, r_zero), bias, lengths, h0, c0, p)


ROWS = {
    "com.microsoft::MatMulNBits": Row(matmul_n_bits, weights=(5,), rounds=True),
    "com.microsoft::DynamicQuantizeMatMul": Row(dynamic_quantize_matmul, weights=(4,), rounds=True),
    "com.microsoft::MatMulIntegerToFloat": Row(matmul_integer_to_float, weights=(6,), rounds=True),
    "com.microsoft::DynamicQuantizeLSTM": Row(dynamic_quantize_lstm, weights=(3, 7), rounds=True),
}
"""Their integers and scales are learnt as `optimizer.train.encoded` says."""
