"""Rows of Resize, Upsample and GridSample.

Resize is separable: along each axis the output is a fixed linear map of the input, so each axis gets one matrix
[out, in] built from the specification (coordinate transformation, nearest / linear / cubic kernel, `exclude_outside`,
`antialias`, extrapolation) and is multiplied with it. So all modes are one case and the gradient is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizer.train.table import Call, Row, Tensor, numbers

Matrix = npt.NDArray[np.float64]


def resize(at: Call, x: Tensor, roi: Tensor = None, scales: Tensor = None, sizes: Tensor = None) -> Tensor:
    if at.opset < 11:
        scales, sizes, roi = roi, None, None
    axes = [axis % x.ndim for axis in at.integers("axes") or range(x.ndim)]
    by, to = _targets(at, x, axes, scales, sizes)
    regions = None if roi is None or not roi.numel() else roi.reshape(2, -1).tolist()
    for position, axis in enumerate(axes):
        region = (0.0, 1.0) if regions is None else (regions[0][position], regions[1][position])
        if to[position] != x.shape[axis] or by[position] != 1 or at.text("coordinate_transformation_mode") == CROP:
            x = _apply(at, x, axis, _matrix(at, x.shape[axis], to[position], by[position], region))
    return x


CROP = "tf_crop_and_resize"


def upsample(at: Call, x: Tensor, scales: Tensor = None) -> Tensor:
    by = at.reals("scales") if scales is None else [float(scale) for scale in scales.tolist()]
    for axis, scale in enumerate(by):
        size = math.floor(x.shape[axis] * scale)
        if scale != 1:
            x = _apply(at, x, axis, _matrix(at, x.shape[axis], size, scale, (0.0, 1.0)))
    return x


def _targets(at: Call, x: Tensor, axes: list[int], scales: Tensor, sizes: Tensor) -> tuple[list[float], list[int]]:
    """Scale and output size of each axis."""
    if sizes is None or not sizes.numel():
        by = [float(scale) for scale in scales.tolist()]
        return by, [math.floor(x.shape[axis] * scale) for axis, scale in zip(axes, by, strict=True)]
    to = numbers(sizes)
    by = [size / x.shape[axis] for axis, size in zip(axes, to, strict=True)]
    policy = at.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        one = min(by) if policy == "not_larger" else max(by)
        by, to = [one] * len(by), [math.floor(one * x.shape[axis] + 0.5) for axis in axes]
    return by, to


def _apply(at: Call, x: Tensor, axis: int, parts: tuple[Matrix, npt.NDArray[np.bool_]]) -> Tensor:
    matrix, outside = parts
    kind = x.dtype if x.is_floating_point() else at.torch.float32
    weights = at.torch.from_numpy(matrix).to(kind)
    moved = at.torch.tensordot(x.to(kind), weights, dims=([axis], [1])).movedim(-1, axis)
    if outside.any():
        mask = at.torch.from_numpy(outside).reshape([-1 if place == axis else 1 for place in range(x.ndim)])
        moved = at.torch.where(mask, at.real("extrapolation_value", 0.0), moved)
    return moved if x.is_floating_point() else moved.round().to(x.dtype)


def _matrix(
    at: Call, n: int, size: int, scale: float, roi: tuple[float, float]
) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """The map [size, n] of one axis, and which outputs lie outside the region to be cropped."""
    mode = at.text("mode", "nearest")
    where, outside = _coordinates(at, n, size, scale, roi)
    if mode == "nearest":
        return _one_hot(_nearest(at, where), n), outside
    shrink = min(scale, 1.0) if at.flag("antialias") else 1.0
    return _kernel_matrix(at, where, n, shrink, cubic=mode == "cubic"), outside


def _coordinates(at: Call, n: int, size: int, scale: float, roi: tuple[float, float]) -> tuple[Matrix, Any]:
    x = np.arange(size, dtype=np.float64)
    old = at.node.op_type == "Upsample" or at.opset < 11
    mode = "asymmetric" if old else at.text("coordinate_transformation_mode", "half_pixel")
    inside = np.zeros(size, dtype=bool)
    if mode == "asymmetric":
        return x / scale, inside
    if mode == "align_corners":
        return (x * (n - 1) / (size - 1) if size > 1 else x * 0), inside
    if mode == CROP:
        begin, end = roi
        found = (
            begin * (n - 1) + x * (end - begin) * (n - 1) / (size - 1) if size > 1 else (begin + end) * (n - 1) / 2 + x
        )
        return found, (found < 0) | (found > n - 1)
    if mode == "pytorch_half_pixel" and size == 1:
        return x * 0, inside
    if mode == "tf_half_pixel_for_nn":
        return (x + 0.5) / scale, inside
    if mode == "half_pixel_symmetric":
        return n / 2 * (1 - size / (scale * n)) + (x + 0.5) / scale - 0.5, inside
    return (x + 0.5) / scale - 0.5, inside


def _nearest(at: Call, where: Matrix) -> Matrix:
    old = at.node.op_type == "Upsample" or at.opset < 11
    how = "floor" if old else at.text("nearest_mode", "round_prefer_floor")
    if how == "round_prefer_floor":
        return np.ceil(where - 0.5)
    if how == "round_prefer_ceil":
        return np.floor(where + 0.5)
    return np.floor(where) if how == "floor" else np.ceil(where)


def _one_hot(index: Matrix, n: int) -> Matrix:
    return np.asarray(np.clip(index, 0, n - 1)[:, None] == np.arange(n)[None, :], dtype=np.float64)


def _kernel_matrix(at: Call, where: Matrix, n: int, shrink: float, cubic: bool) -> Matrix:
    reach = math.ceil((2 if cubic else 1) / shrink)
    taps = np.floor(where)[:, None] + np.arange(-reach, reach + 1)[None, :]
    distance = np.abs(taps - where[:, None]) * shrink
    weights = _cubic(distance, at.real("cubic_coeff_a", -0.75)) if cubic else np.maximum(1 - distance, 0)
    if at.flag("exclude_outside"):
        weights = np.where((taps < 0) | (taps > n - 1), 0, weights)
    weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((len(where), n))
    np.add.at(matrix, (np.arange(len(where))[:, None], np.clip(taps, 0, n - 1).astype(int)), weights)
    return matrix


def _cubic(d: Matrix, a: float) -> Matrix:
    """Keys' kernel."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


GRID_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}


def grid_sample(at: Call, x: Tensor, grid: Tensor) -> Tensor:
    mode = GRID_MODES[at.text("mode", "linear")]
    return at.functional.grid_sample(x, grid, mode, at.text("padding_mode", "zeros"), at.flag("align_corners"))


ROWS = {"Resize": Row(resize), "Upsample": Row(upsample), "GridSample": Row(grid_sample)}
