"""A weight as a matrix product: ``y[o] = sum_k rows[o, k] * x[k]``, with k in the kernels' order of summation.

* MatMul, and Gemm with or without transB: k is the contracted axis;
* Conv with g groups: k runs over (kernel position, channel of the group), channels innermost, as in im2col of a
  channels-last image; output channel o belongs to group ``o // (O / g)`` and sees that group's input channels;
* weights of recurrent layers, [directions, gates * H, K]: o runs over directions, then gates.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.gram import Window
from optimizer.model.ports import Array


@dataclasses.dataclass(frozen=True)
class Lowering:
    """How one weight, of shape `shape`, reads as rows [O, K]."""

    shape: tuple[int, ...]
    axis: int
    """Output channels in the weight."""
    conv: bool
    groups: int = 1

    @property
    def depthwise(self) -> bool:
        return self.conv and self.groups > 1 and self.groups == self.shape[0] and self.shape[1] == 1

    @property
    def stacked(self) -> bool:
        """Whether the weight has one matrix for each direction."""
        return not self.conv and len(self.shape) == 3

    def rows(self, weight: Array) -> Array:
        """The weight as [O, K]."""
        if self.stacked:
            return weight.reshape(-1, self.shape[-1])
        moved = np.moveaxis(weight, 1, -1) if self.conv else np.moveaxis(weight, self.axis, 0)
        return moved.reshape(len(moved), -1)

    def weight(self, rows: Array) -> Array:
        """Inverse of `rows`."""
        if self.stacked:
            return rows.reshape(self.shape)
        if not self.conv:
            return np.ascontiguousarray(np.moveaxis(rows, 0, self.axis))
        outer, inner, *kernel = self.shape
        return np.ascontiguousarray(np.moveaxis(rows.reshape(outer, *kernel, inner), -1, 1))

    def spread(self, channels: Array) -> Array:
        """A figure per input channel, shape [C], as seen by each weight: [K], or [O, K] for grouped convolution."""
        if not self.conv:
            return channels
        positions = int(np.prod(self.shape[2:]))
        if self.groups == 1:
            return np.tile(channels, positions)
        outer, inner = self.shape[:2]
        first = np.arange(outer) // (outer // self.groups) * inner
        return np.tile(channels[first[:, None] + np.arange(inner)], (1, positions))


def conv_window(node: ir.Node, lowering: Lowering) -> Window:
    """How a convolution looks at its input."""
    spatial = len(lowering.shape) - 2

    def ints(name: str, default: int, count: int) -> tuple[int, ...]:
        return tuple(node.attributes[name].as_ints()) if name in node.attributes else (default,) * count

    return Window(
        tuple(lowering.shape[2:]),
        ints("strides", 1, spatial),
        ints("dilations", 1, spatial),
        ints("pads", 0, 2 * spatial),
        lowering.groups,
        node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET",
    )
