"""Learnable constants: how each kind turns what the optimizer moves into what the graph reads, and back into bytes.

    kind      learnt tensor       the graph reads                       written back
    Float     w                   w * mask                              w * mask
    Scale     t                   s0 * exp(t)                           the same
    Integer   w in real units     clamp(round(w / s) + z)               the same, as int8 / int4 / packed bits ...
    Bias      b in real units     round(b / s)                          the same, as int32
    Product   (nothing)           s_x * s_w                             the same

`mask` keeps exact zeros where they are: a pruned weight stays pruned. A quantized weight is learnt in the units of the
float weight it stands for, so one learning rate fits all; rounding passes its gradient straight through. A scale is
learnt as a factor, so it stays positive and one rate fits large and small ones. The int32 bias of an int8 operator has
no scale of its own: it is the product of the scales of input and weight, which the runtime assumes without looking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from optimizer.model.ports import Array
from optimizer.train.constants import Constant
from optimizer.train.dtypes import RANGES, to_numpy
from optimizer.train.rows.quantized import straight_round
from optimizer.train.table import Tensor

Scale = Callable[[], Tensor]
"""The current scale of a tensor, shaped to broadcast over it."""


class Slot(Protocol):
    """A constant that training changes."""

    @property
    def constant(self) -> Constant: ...

    @property
    def learnt(self) -> Tensor:
        """What the optimizer moves; None where nothing."""

    @property
    def matrix(self) -> bool:
        """Whether weight decay applies."""

    def value(self) -> Tensor:
        """What the graph reads now."""

    def array(self) -> Array:
        """The same in the constant's own type."""


@dataclasses.dataclass(frozen=True)
class Float:
    constant: Constant
    learnt: Tensor
    mask: Tensor
    """1 where the weight may move, or None."""

    @property
    def matrix(self) -> bool:
        return bool(self.learnt.ndim > 1)

    def value(self) -> Tensor:
        return self.learnt if self.mask is None else self.learnt * self.mask

    def array(self) -> Array:
        return to_numpy(self.value(), self.constant.dtype)


@dataclasses.dataclass(frozen=True)
class ScaleSlot:
    constant: Constant
    learnt: Tensor
    """The logarithm of the factor, flat; shared by scales that were equal, so that they stay equal."""
    start: Tensor
    matrix: bool = False

    def value(self) -> Tensor:
        return self.start * self.learnt.exp().reshape(self.start.shape)

    def array(self) -> Array:
        return to_numpy(self.value(), self.constant.dtype)


@dataclasses.dataclass(frozen=True)
class Integer:
    constant: Constant
    learnt: Tensor
    mask: Tensor
    scale: Scale
    zero: Tensor
    """The zero point, shaped to broadcast."""
    reach: float
    """The farthest that a weight lies from its zero point. It is kept, because where it is less than the type allows
    the int8 kernels of the target would saturate beyond it."""
    bits: int = 0
    """Of an integer, where several lie in a byte; the graph reads them unpacked."""
    matrix: bool = True

    def value(self) -> Tensor:
        low, high = (0, 2**self.bits - 1) if self.bits else RANGES[self.constant.dtype]
        real = self.learnt if self.mask is None else self.learnt * self.mask
        steps = straight_round(real / self.scale()).clamp(-self.reach, self.reach)
        return (steps + self.zero).clamp(low, high)

    def array(self) -> Array:
        found = to_numpy(self.value(), self.constant.dtype)
        return packed(found, self.bits) if self.bits else found


@dataclasses.dataclass(frozen=True)
class Bias:
    constant: Constant
    learnt: Tensor
    scale: Scale
    matrix: bool = False

    def value(self) -> Tensor:
        return straight_round(self.learnt / self.scale())

    def array(self) -> Array:
        exact = (self.learnt.detach().double() / self.scale().detach().double()).round()
        low, high = RANGES[self.constant.dtype]
        return to_numpy(exact.clamp(low, high), self.constant.dtype)


@dataclasses.dataclass(frozen=True)
class Product:
    constant: Constant
    left: Scale
    right: Scale
    learnt: Any = None
    matrix: bool = False

    def value(self) -> Tensor:
        found = (self.left() * self.right()).reshape(-1)
        shape = tuple(self.constant.tensor.shape.numpy())
        return found.expand(shape) if found.numel() == 1 else found.reshape(shape)

    def array(self) -> Array:
        return to_numpy(self.value(), self.constant.dtype)


def packed(integers: Array, bits: int) -> Array:
    """Integers [..., n] as bytes [..., n * bits / 8], the first of a byte in its lowest bits."""
    each = integers.reshape(*integers.shape[:-1], -1, 8 // bits) << np.arange(0, 8, bits, dtype=np.uint8)
    found: Array = np.bitwise_or.reduce(each, -1)
    return found
