"""Which constants of quantized operators are learnable: weights, biases and the scales they are encoded with.

    data                    scale            zero point        per-channel axis
    DequantizeLinear 0      1                2                 attribute `axis`
    QLinearConv      3      4                5                 0
    QLinearMatMul    3      4                5                 last
    MatMulInteger    1      none: see below  3                 last
    ConvInteger      1      none             3                 0
    MatMulNBits      1      2                3                 see 7
    QGemm, DynamicQuantizeMatMul, MatMulIntegerToFloat, DynamicQuantizeLSTM (two weights): as `DATA` says

Cases:
1. An int32 constant behind DequantizeLinear, input 8 of QLinearConv or 6 of QGemm, is a bias. Its scale is that of
   the input times that of the weight: where the file says so (to 1e-3), it is derived from them from then on; else it
   is fixed.
2. Scales that are equal stay equal: the runtime drops the pair around a MaxPool or a Concat only while they are.
3. A weight of MatMulInteger or ConvInteger gets its scale only after the product, by a Mul that is learnt as any other
   factor. It moves as if its values had the spread 1 / sqrt(fan-in).
4. A constant that two operators read with different scales, or that is rearranged between being stored and being
   dequantized per channel, is left as it is.
5. Zeros of a quantized weight were pruned, and stay, where they are more than `MANY` times as frequent as the steps
   next to them; else most of them are small weights that were rounded.
6. ``Mul(Cast(q), scale)`` is a weight that is only stored as integers: its scale has the shape to broadcast already.
7. Weights of MatMulNBits lie packed in bytes, with a scale per output and block of inputs; the scale may be negative.
8. A scale of 0 (a block of zeros) is not learnt, and what it scales stays 0.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from optimizer.train.constants import Constant
from optimizer.train.dtypes import FLOATS, RANGES, channels_last, to_torch
from optimizer.train.rows.packed import block_zeros, by_gate, unpacked
from optimizer.train.rows.quantized import fit
from optimizer.train.slots import Bias, Integer, Product, Scale, ScaleSlot, Slot
from optimizer.train.table import Tensor, key

GEMM = "com.microsoft::QGemm"
BLOCKS, LSTM = "com.microsoft::MatMulNBits", "com.microsoft::DynamicQuantizeLSTM"
SCALES = {
    "QuantizeLinear": (1,), "DequantizeLinear": (1,), "com.microsoft::QuantizeLinear": (1,),
    "com.microsoft::DequantizeLinear": (1,), "QLinearConv": (1, 4, 6), "QLinearMatMul": (1, 4, 6),
    BLOCKS: (2,), "com.microsoft::DynamicQuantizeMatMul": (2,),
    "com.microsoft::QLinearAdd": (1, 4, 6), "com.microsoft::QLinearMul": (1, 4, 6),
    GEMM: (1, 4, 7), "com.microsoft::QLinearConcat": (0,),
    **{f"com.microsoft::QLinear{op}": (1, 3) for op in
       ("Sigmoid", "LeakyRelu", "Softmax", "AveragePool", "GlobalAveragePool")},
    "com.microsoft::MatMulIntegerToFloat": (2, 3), LSTM: (8, 10),
}  # fmt: skip
DATA: dict[str, tuple[tuple[int, int | None, int, int | None], ...]] = {
    "DequantizeLinear": ((0, 1, 2, None),),
    "com.microsoft::DequantizeLinear": ((0, 1, 2, None),),
    "QLinearConv": ((3, 4, 5, 0),),
    "QLinearMatMul": ((3, 4, 5, -1),),
    "MatMulInteger": ((1, None, 3, -1),),
    "ConvInteger": ((1, None, 3, 0),),
    BLOCKS: ((1, 2, 3, None),),
    "com.microsoft::DynamicQuantizeMatMul": ((1, 2, 3, -1),),
    "com.microsoft::MatMulIntegerToFloat": ((1, 3, 5, -1),),
    GEMM: ((3, 4, 5, None),),
    LSTM: ((1, 8, 9, None), (2, 10, 11, None)),
}
BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
"""Operators whose kernel adds an int32 bias, and the position of that input."""
SUMMED = {"QLinearConv": 8, GEMM: 6}
"""Operators with an int32 bias of their own, and the position of that input; 1 and 4 are the scales of its unit."""

MANY = 2.0


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The learnable constants of the quantized operators among `nodes`, as slots; `held` are the model's constants."""

    torch: Any
    nodes: list[ir.Node]
    held: dict[ir.Value, Constant]

    def slots(self) -> list[Slot]:
        products = {slot.constant.key: slot for slot in self._products()}
        scales: list[Slot] = [*self._scale_slots.values(), *products.values()]
        found = [self._weight(node, *row) for node in self.nodes for row in DATA.get(key(node), ())]
        found.extend(self._restored(node) for node in self.nodes)
        biases = [self._bias(node, products) for node in self.nodes]
        kept: dict[str, Slot] = {}
        for slot in (*found, *biases):
            if slot is not None:
                kept.setdefault(slot.constant.key, slot)
        return [*scales, *kept.values()]

    @functools.cached_property
    def _scale_slots(self) -> dict[str, ScaleSlot]:
        """A slot for each constant scale that no bias owns, sharing what is learnt where they are equal."""
        owned = {constant.key for _, constant in self._bias_scales()}
        learnt: dict[bytes, Tensor] = {}
        found: dict[str, ScaleSlot] = {}
        for node in self.nodes:
            for index in (*SCALES.get(key(node), ()), *(place[1] for place in self._stored(node))):
                constant = self._constant(node, index)
                if constant is None or constant.key in owned or constant.dtype not in FLOATS:
                    continue
                start = to_torch(self.torch, constant.array())
                if bool((start != 0).all()):
                    tied = learnt.setdefault(constant.array().tobytes(), self.torch.zeros_like(start.reshape(-1)))
                    found[constant.key] = ScaleSlot(constant, tied, start)
        return found

    def _constant(self, node: ir.Node, index: int | None) -> Constant | None:
        value = node.inputs[index] if index is not None and index < len(node.inputs) else None
        return None if value is None else self.held.get(value)

    def _scale(self, constant: Constant) -> Scale:
        if constant.key in self._scale_slots:
            return self._scale_slots[constant.key].value
        fixed = to_torch(self.torch, constant.array())
        return lambda: fixed

    def _bias_scales(self) -> Iterator[tuple[ir.Node, Constant]]:
        """Each DequantizeLinear of an int32 constant, with its scale."""
        for node in self.nodes:
            data, scale = self._constant(node, 0), self._constant(node, 1)
            found = key(node).endswith("DequantizeLinear") and data is not None and data.dtype == ir.DataType.INT32
            if found and scale is not None:
                yield node, scale

    def _products(self) -> Iterator[Product]:
        for node, scale in self._bias_scales():
            sides = self._sides(node.outputs[0])
            if sides is None:
                continue
            left, right = self._scale(sides[0]), self._scale(sides[1])
            now = (left() * right()).reshape(-1)
            stored = to_torch(self.torch, scale.array()).reshape(-1)
            if now.numel() in (1, stored.numel()) and self.torch.allclose(now, stored, rtol=1e-3, atol=0.0):
                yield Product(scale, left, right)

    def _sides(self, bias: ir.Value) -> tuple[Constant, Constant] | None:
        """The scales of input and weight of the one operator that adds `bias`."""
        uses = list(bias.uses())
        if len(uses) != 1 or BIASED.get(key(uses[0].node)) != uses[0].idx:
            return None
        found = [self._encoding(value) for value in uses[0].node.inputs[:2]]
        return (found[0], found[1]) if found[0] is not None and found[1] is not None else None

    def _encoding(self, value: ir.Value | None) -> Constant | None:
        node = None if value is None else value.producer()
        return self._constant(node, 1) if node is not None and key(node).endswith("DequantizeLinear") else None

    def _stored(self, node: ir.Node) -> list[tuple[Constant, int]]:
        """Case 6: the integers that a Mul scales, and the position of the scale; nothing for any other node."""
        found = []
        for data, scale in ((0, 1), (1, 0)) if key(node) == "Mul" else ():
            value = node.inputs[data]
            cast = None if value is None else value.producer()
            constant = self._constant(cast, 0) if cast is not None and key(cast) == "Cast" else None
            known = constant is not None and constant.dtype in RANGES and constant.dtype != ir.DataType.INT32
            if constant is not None and known and self._constant(node, scale) is not None:
                found.append((constant, scale))
        return found

    def _restored(self, node: ir.Node) -> Slot | None:
        for constant, index in self._stored(node):
            by = self._constant(node, index)
            if by is not None and by.key in self._scale_slots:
                q = to_torch(self.torch, constant.array()).float()
                return self._integer(constant, q, self.torch.zeros(()), self._scale(by))
        return None

    def _integer(self, constant: Constant, q: Tensor, zero: Tensor, scale: Scale, bits: int = 0) -> Integer:
        steps = q - zero
        mask = (steps != 0).float() if _pruned(steps) else None
        learnt = channels_last(self.torch, steps * scale().detach())
        safe = self._nonzero(scale) if bool((scale() == 0).any()) else scale
        return Integer(constant, learnt, mask, safe, zero, float(steps.abs().max()), bits)

    def _nonzero(self, scale: Scale) -> Scale:
        """Case 8."""
        return lambda: self.torch.where(scale() == 0, 1.0, scale())

    def _weight(self, node: ir.Node, data: int, scale: int | None, zero: int, axis: int | None) -> Slot | None:
        constant, by = self._constant(node, data), self._constant(node, scale)
        if constant is None or constant.dtype not in RANGES or constant.dtype == ir.DataType.INT32:
            return None
        if scale is not None and by is None:
            return None
        if key(node) == BLOCKS and by is not None:
            return self._blocks(node, constant, by, zero)
        q = to_torch(self.torch, constant.array()).float()
        step = self._scale(by) if by is not None else self._pseudo(q)
        return self._integer(constant, q, self._zero(node, zero, q, axis), lambda: _fitted(node, step(), q, axis))

    def _zero(self, node: ir.Node, index: int, q: Tensor, axis: int | None) -> Tensor:
        constant = self._constant(node, index)
        if constant is None:
            return self.torch.zeros(())
        return _fitted(node, to_torch(self.torch, constant.array()).float(), q, axis)

    def _blocks(self, node: ir.Node, constant: Constant, by: Constant, index: int) -> Slot:
        """Case 7. What fills up the last block has no influence and stays."""
        bits = node.attributes.get_int("bits", 4)
        q = unpacked(self.torch, to_torch(self.torch, constant.array()), bits).float()
        stored, scale = self._constant(node, index), self._scale(by)
        zero = None if stored is None else to_torch(self.torch, stored.array())
        rows, blocks = q.shape[:2]
        zeros = block_zeros(self.torch, zero, rows, blocks, bits)
        return self._integer(constant, q, zeros, lambda: scale().reshape(rows, blocks, 1), bits)

    def _pseudo(self, q: Tensor) -> Scale:
        fan = max(q.numel() // max(q.shape[0], 1), 1)
        fixed = self.torch.tensor(float(np.sqrt(1 / fan)) / float(q.std() + 1e-6))
        return lambda: fixed

    def _bias(self, node: ir.Node, products: dict[str, Product]) -> Slot | None:
        if key(node) in SUMMED:
            bias, left, right = (self._constant(node, index) for index in (SUMMED[key(node)], 1, 4))
            if bias is None or left is None or right is None:
                return None
            sides = self._scale(left), self._scale(right)
            return self._bias_slot(bias, lambda: sides[0]() * sides[1]())
        constant, scale = self._constant(node, 0), self._constant(node, 1)
        if not key(node).endswith("DequantizeLinear") or constant is None or scale is None:
            return None
        if constant.dtype != ir.DataType.INT32:
            return None
        return self._bias_slot(constant, products[scale.key].value if scale.key in products else self._scale(scale))

    def _bias_slot(self, constant: Constant, scale: Scale) -> Bias:
        q = to_torch(self.torch, constant.array())
        return Bias(constant, (q.double() * scale().double()).to(self.torch.float32), scale)


def _fitted(node: ir.Node, parameter: Tensor, q: Tensor, axis: int | None) -> Tensor:
    """A scale or zero point shaped to broadcast over the integers `q` that it belongs to."""
    if key(node) == LSTM:
        return by_gate(parameter, q)
    if key(node) == GEMM:
        axis = 0 if node.attributes.get_int("transB", 0) else 1
    axis = node.attributes.get_int("axis", 1) if axis is None else axis
    return fit(parameter, q, axis, node.attributes.get_int("block_size", 0))


def _pruned(steps: Tensor) -> bool:
    zeros, next_to = int((steps == 0).sum()), int((steps.abs() == 1).sum())
    return zeros > MANY * next_to / 2 and zeros > 1
