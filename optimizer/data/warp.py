"""Moving the pixels of an image by a random affine map, in numpy.

An output pixel p (coordinates relative to the centre, in pixels) is read at A p + t by bilinear interpolation, beyond
the border from the nearest pixel there. One map serves rotation, scaling, shifting, cropping and mirroring, so the
image is interpolated only once:

    A = R(angle) S(shear) / zoom,   t = the shift, plus where the crop lies,   mirrored by the sign of a column of A

with S the horizontal shear x + shear * y.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from optimizer.model.ports import Array

Read = Callable[[Array, Array, Array], Array]
"""What reads an image (C, H, W) at real coordinates x and y (H, W), as `bilinear` does."""


@dataclasses.dataclass
class Map:
    """An affine map of pixels. `zoom` above 1 enlarges; shifts are shares of width and height."""

    angle: float = 0.0
    """In degrees, counter-clockwise as seen."""
    zoom: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    shear: float = 0.0
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def identity(self) -> bool:
        return self == Map()

    def apply(self, image: Array, read: Read | None = None) -> Array:
        """`image` of shape (C, H, W), any real dtype, as float32 of the same shape; `read` stands in for `bilinear`."""
        height, width = image.shape[1:]
        if not self.angle and not self.shear:
            return self._straight(image)
        y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
        x, y = (-x if self.mirror_x else x), (-y if self.mirror_y else y)
        x = x + self.shear * y
        cosine, sine = (f(math.radians(self.angle)) / self.zoom for f in (math.cos, math.sin))
        from_x = cosine * x - sine * y - self.shift_x * width + (width - 1) / 2
        from_y = sine * x + cosine * y - self.shift_y * height + (height - 1) / 2
        return (read or bilinear)(image, from_x, from_y)

    def _straight(self, image: Array) -> Array:
        """Without a turn rows and columns are independent: interpolated one after the other, several times faster."""
        found = image.astype(np.float32)
        sides = ((1, self.mirror_y, self.shift_y), (2, self.mirror_x, self.shift_x))
        for axis, mirrored, shift in sides:
            length = image.shape[axis]
            place = (np.arange(length) - (length - 1) / 2) * (-1 if mirrored else 1) / self.zoom
            found = linear(found, place - shift * length + (length - 1) / 2, axis)
        return found


def linear(image: Array, place: Array, axis: int) -> Array:
    """`image` (C, H, W) read at the real coordinates `place` along `axis`; the border continues outside."""
    place = np.clip(place, 0, image.shape[axis] - 1)
    before = np.minimum(place.astype(np.intp), max(image.shape[axis] - 2, 0))
    share = (place - before).astype(np.float32).reshape((-1, 1) if axis == 1 else (1, -1))
    after = np.minimum(before + 1, image.shape[axis] - 1)
    found: Array = np.take(image, before, axis) * (1 - share) + np.take(image, after, axis) * share
    return found


def bilinear(image: Array, x: Array, y: Array) -> Array:
    """`image` (C, H, W) read at the real coordinates `x`, `y` (H, W); the border continues outside."""
    height, width = image.shape[1:]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.minimum(x.astype(np.intp), max(width - 2, 0)), np.minimum(y.astype(np.intp), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = (x - left).astype(np.float32), (y - top).astype(np.float32)
    flat = image.reshape(len(image), -1).astype(np.float32)
    upper = flat[:, top * width + left] * (1 - u) + flat[:, top * width + right] * u
    lower = flat[:, bottom * width + left] * (1 - u) + flat[:, bottom * width + right] * u
    found: Array = upper * (1 - v) + lower * v
    return found
