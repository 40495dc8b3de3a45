"""Images of no object, with the statistics that matter to ranges: mean 0 and standard deviation 1 over many.

White noise averages out in every convolution, so that a model seems to need far narrower ranges than photographs give
it. Natural images have an amplitude that falls as 1 / frequency (Field 1987), channels that go together, and a
brightness and contrast of their own. Samples take turns:

    turn mod 3    amplitude
    0             the same at every frequency (noise), brightness 0, contrast 1
    1             1 / frequency
    2             1 / frequency ** 2: smooth

All lie between -2.5 and 2.5: images are made of bytes, so they end somewhere.
"""

from __future__ import annotations

import numpy as np

from optimizer.model.ports import Array

_CHANNELS = (1, 3)
_LEAST = 24
"""Pixels along an axis from which a tensor is taken for an image."""
_END = 2.5
_SHARED = 0.9
"""Correlation of the channels."""


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether (N, C, H, W) or (N, H, W, C) is the shape of gray or colour images."""
    if len(shape) != 4:
        return False
    sides = shape[2:] if shape[1] in _CHANNELS else shape[1:3] if shape[3] in _CHANNELS else (0, 0)
    return min(sides) >= _LEAST


def draw(rng: np.random.Generator, shape: tuple[int, ...], turn: int) -> Array:
    """float64 images of `shape`."""
    slope = turn % 3
    if slope == 0:
        return np.clip(rng.standard_normal(shape), -_END, _END)
    last = shape[1] not in _CHANNELS
    count, channels, height, width = (shape[0], shape[3], *shape[1:3]) if last else shape
    noise = rng.standard_normal((count, channels + 1, height, width))
    mixed = np.sqrt(_SHARED) * noise[:, :1] + np.sqrt(1 - _SHARED) * noise[:, 1:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width)
    spectrum = np.fft.rfft2(mixed) / np.maximum(frequency, 1.0) ** slope
    texture = np.fft.irfft2(spectrum, (height, width))
    texture = (texture - texture.mean((1, 2, 3), keepdims=True)) / texture.std((1, 2, 3), keepdims=True)
    contrast, brightness = rng.uniform(0.5, 1.2, (count, 1, 1, 1)), rng.normal(0, 0.5, (count, 1, 1, 1))
    found = np.clip(texture * contrast + brightness, -_END, _END)
    return np.moveaxis(found, 1, -1) if last else found
