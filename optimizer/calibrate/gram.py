"""Second moments of what a weight multiplies: for ``y = W x`` the error of any change D of W is ``tr(D H D^T)``,
``H = E[x x^T]``. Second-order rounding and least-squares repair need nothing else of the data.

`Gram` is a monoid (see `observers`): sum of outer products, sum of x, count. Its columns follow the kernels' order of
summation: k for a matrix product; for convolution (kernel position, channel of the group), channels innermost, one
matrix per group. Of a large batch only `POSITIONS` evenly spread rows are used; convolution windows of other positions
are never built, so the cost does not grow with the image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from optimizer.model.ports import Array

POSITIONS = 192
"""Rows (output positions, tokens) taken from one batch at most."""
_TOGETHER = 512
"""Rows that are multiplied at once."""
_LEAST = 16
_TIMES = 64


def enough(columns: int, batches: int) -> int:
    """Rows of each of so many batches that tell enough about so many columns: `_TIMES` as many in all."""
    return min(POSITIONS, max(_LEAST, -(-_TIMES * columns // max(1, batches))))


@dataclasses.dataclass(frozen=True)
class Window:
    """How a convolution looks at its input. `pads` are (begin..., end...) per spatial axis, as in ONNX; if `auto_pad`
    is SAME_UPPER or SAME_LOWER they follow from the size of the input instead."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int = 1
    auto_pad: str = "NOTSET"

    def edges(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The pads around an input of these spatial sizes: SAME gives ``ceil(size / stride)`` positions, with the odd
        pixel at the end (UPPER) or at the begin (LOWER)."""
        if not self.auto_pad.startswith("SAME"):
            return (0,) * len(self.pads) if self.auto_pad == "VALID" else self.pads
        total = [
            max((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
            for size, length, stride, dilation in zip(sizes, self.kernel, self.strides, self.dilations, strict=True)
        ]
        small, large = [amount // 2 for amount in total], [amount - amount // 2 for amount in total]
        return tuple(small + large if self.auto_pad == "SAME_UPPER" else large + small)


@dataclasses.dataclass(frozen=True)
class Past:
    """How a recurrent weight looks at the states [steps, directions, batch, H] that its own layer puts out: each step
    at the step before, in the backward direction (the second, or a `reverse` one) at the step after."""

    reverse: bool = False

    def rows(self, states: Array, most: int, turn: int = 0) -> Array:
        """The states as the weight reads them, [directions, rows, H], without what comes before the first step."""
        ways = range(states.shape[1])
        seen = [states[1:, way] if self.reverse or way else states[:-1, way] for way in ways]
        flat = np.stack(seen).reshape(len(seen), -1, states.shape[-1])
        return np.asarray(flat[:, _spread(flat.shape[1], most, turn)], np.float32)


class Sums:
    """Sums of x, y, x y^T and y y^T over rows x [G, n, K] and y, float32; rows are gathered, as large products are
    quicker. A monoid. Sums of some ten thousand rows keep four digits, and damping is 1%."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[tuple[Array, Array]] = []
        self._rows = 0
        self._sums: list[Array] | None = None

    def update(self, x: Array, y: Array) -> None:
        """Fold in rows of both, as many."""
        if not x.size:
            return
        self._waiting.append((x, y))
        self._rows += x.shape[1]
        self.count += x.shape[1]
        if self._rows >= _TOGETHER:
            self._fold()

    def merge(self, other: Sums) -> None:
        """Fold in what `other` has seen."""
        theirs = other.sums()
        if theirs is not None:
            self._fold()
            copies = {id(array): array.copy() for array in theirs}
            self._add([copies[id(array)] for array in theirs])
            self.count += other.count

    def sums(self) -> list[Array] | None:
        """Of x y^T, y y^T, x and y: [G, K, K] and [G, K]; None if nothing was seen."""
        self._fold()
        return self._sums

    def _fold(self) -> None:
        if not self._waiting:
            return
        same = all(x is y for x, y in self._waiting)
        x = np.concatenate([x for x, _ in self._waiting], axis=1)
        y = x if same else np.concatenate([y for _, y in self._waiting], axis=1)
        own, second = np.matmul(y.transpose(0, 2, 1), y), y.sum(axis=1)
        self._add([own, own, second, second] if same else [x.transpose(0, 2, 1) @ y, own, x.sum(1), second])
        self._waiting, self._rows = [], 0

    def _add(self, new: list[Array]) -> None:
        """Fold in sums, which become this one's own. Where x is y, both are the same arrays, added to once."""
        mine = self._sums
        if mine is None:
            self._sums = new
            return
        same = new[0] is new[1]
        if mine[0] is mine[1] and not same:
            mine[0], mine[2] = mine[0].copy(), mine[2].copy()
        for i in (1, 3) if mine[0] is mine[1] else range(4):
            mine[i] += new[i]


class Gram:
    """Moments of the inputs of one weight; `window` None is a matrix product over the last axis.

    `most` are the rows of one batch.
    """

    def __init__(self, window: Window | Past | None = None, most: int = POSITIONS) -> None:
        self.window, self.most = window, most
        self._sums, self._turn = Sums(), 0

    @property
    def count(self) -> int:
        """Rows that were seen."""
        return self._sums.count

    @property
    def products(self) -> Array | None:
        """The sum of outer products, [groups, K, K], float32."""
        found = self._sums.sums()
        return None if found is None else found[1]

    def update(self, batch: Array) -> None:
        rows = self.rows(batch, self._turn)
        self._turn += 1
        self._sums.update(rows, rows)

    def merge(self, other: Gram) -> None:
        self._sums.merge(other._sums)

    def rows(self, batch: Array, turn: int = 0) -> Array:
        """The inputs of the weight, float32 [groups, rows, K]; which of them, moves on with the `turn`."""
        if self.window is None:
            flat = batch.reshape(-1, batch.shape[-1])
            return flat[_spread(len(flat), self.most, turn)][None].astype(np.float32)
        return (
            self.window.rows(batch, self.most, turn)
            if isinstance(self.window, Past)
            else windows(batch, self.window, self.most, turn)
        )

    def beside(self, outputs: Array, turn: int = 0) -> Array:
        """What stands in arrays shaped like the weight's outputs where `rows` reads its inputs, [groups, rows, O]."""
        if not isinstance(self.window, Window):
            return self.rows(outputs, turn)
        flat = np.moveaxis(outputs, 1, -1).reshape(-1, self.window.groups, outputs.shape[1] // self.window.groups)
        return np.asarray(flat[_spread(len(flat), self.most, turn)].transpose(1, 0, 2), np.float32)

    def moments(self, centred: bool) -> Array:
        """``E[x x^T]``, or the covariance, float64 [groups, K, K]. Raises `ValueError` if nothing was seen."""
        second, mean = self._seen()[1].astype(np.float64) / self.count, self.mean
        return np.asarray(second - mean[:, :, None] * mean[:, None, :] if centred else second)

    @property
    def mean(self) -> Array:
        """``E[x]``, [groups, K]."""
        return np.asarray(self._seen()[3].astype(np.float64) / self.count)

    def _seen(self) -> list[Array]:
        found = self._sums.sums()
        if found is None:
            raise ValueError("no batch was seen")
        return found


def windows(batch: Array, window: Window, most: int = POSITIONS, turn: int = 0) -> Array:
    """Input windows of a convolution at up to `most` output positions, float32 [groups, rows, K]."""
    spatial, sizes = len(window.kernel), batch.shape[2:]
    pads = window.edges(sizes)
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(window.dilations, window.kernel, strict=True)]
    room = [size + pads[i] + pads[i + spatial] - reach[i] for i, size in enumerate(sizes)]
    if min(room) < 0:
        return np.zeros((window.groups, 0, 0), np.float32)
    places = batch.shape[:1] + tuple(free // step + 1 for free, step in zip(room, window.strides, strict=True))
    number, *begins = np.unravel_index(_spread(int(np.prod(places)), most, turn), places)
    index, outside = [], np.zeros(1, bool)
    for i, size in enumerate(sizes):
        taps = (begins[i] * window.strides[i] - pads[i])[:, None] + window.dilations[i] * np.arange(window.kernel[i])
        taps = taps.reshape(len(number), *(-1 if axis == i else 1 for axis in range(spatial)))
        outside = outside | (taps < 0) | (taps >= size)
        index.append(np.clip(taps, 0, size - 1))
    picked = (number.reshape(len(number), *(1,) * spatial), slice(None), *index)
    found = batch[picked]
    found[np.broadcast_to(outside, found.shape[:-1])] = 0
    channels = batch.shape[1] // window.groups
    grouped = found.reshape(len(number), -1, window.groups, channels).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(grouped, np.float32).reshape(window.groups, len(number), -1)


def _spread(count: int, most: int, turn: int) -> Array:
    """Up to `most` evenly spread indices below `count`, others at every turn (the golden ratio keeps turns apart)."""
    if count <= most:
        return np.arange(count)
    start = (turn * 0.6180339887) % 1
    return ((np.arange(most) + start) * (count / most)).astype(np.int64)
