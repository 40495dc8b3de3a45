"""Seeded inputs for a model without data."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from optimizer.data import axes
from optimizer.model.ports import Array, Port


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """Feeds drawn from a generator that is seeded by the seed, the sample's index and the input's name."""

    ports: tuple[Port, ...]
    sizes: Mapping[str, int]
    seed: int
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> dict[str, Array]:
        return {port.name: self._draw(port, index) for port in self.ports}

    def _draw(self, port: Port, index: int) -> Array:
        rng = np.random.default_rng([self.seed, index, zlib.crc32(port.name.encode())])
        return draw(rng, port.dtype, shape(port, self.sizes))


def shape(port: Port, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of an input once its open axes have sizes."""
    return tuple(
        dim if isinstance(dim, int) and not axes.is_open(dim) else sizes[axes.symbol(port, axis)]
        for axis, dim in enumerate(port.shape)
    )


def draw(rng: np.random.Generator, dtype: np.dtype[Any], size: tuple[int, ...]) -> Array:
    if dtype.kind == "b":
        return rng.integers(0, 2, size).astype(bool)
    if dtype.kind in "iu":
        return rng.integers(0, 2, size).astype(dtype)
    return rng.standard_normal(size).astype(dtype)
