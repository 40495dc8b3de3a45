"""Seeded inputs for a model without data: its dtypes, its shapes, and values the graph can work with.

=========================  =======================================================================================
input                      values
=========================  =======================================================================================
a mask                     ones
a position                 0, 1, 2, ... along the last axis
an index                   uniform below the smallest of its tables (0 where no size is known)
compared with constants    the first of them where there are few (a mode), any of them where there are many
a length                   the size of the sequence it counts
a size                     1
other integers             uniform: uint8 and int8 over all values, int32 below 256, others below 10; no 0 in a divisor
the size of an image       height and width of the image beside it, for an input (N, 2) named like im_shape
bool                       random; true for a mask; false for a single one, which is a switch
a state                    normal, standard deviation 0.1
a scale or a threshold     uniform in 0.5..1
an image                   in turn noise, a texture as natural images have it and a smooth one (`pictures`)
other floats               standard normal; its absolute value plus 0.001 where a logarithm, root or divisor needs it
text                       short words
=========================  =======================================================================================

Each array is drawn by a generator seeded with (seed, sample, input's name): sample i is the same whatever the number
of samples, and an original and its optimized model are fed the same. A coded input (`convert.Code`) gets the code of
the same normal values that the original model gets.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.data import axes, convert, demands, pictures, sizes
from optimizer.data.wiring import Wiring
from optimizer.model.ports import Array, Port, inputs

_MASK = re.compile(r"mask", re.IGNORECASE)
_POSITION = re.compile(r"pos(ition)?_?ids?$|positions?$", re.IGNORECASE)
_LENGTH = re.compile(r"(^|_|\b)len(gth)?s?(_|\b|$)", re.IGNORECASE)
_FACTOR = re.compile(r"(^|_)(scales?|speed|ratio|(\w*_)?threshold|temperature|\w*rate|factor)$", re.IGNORECASE)
_IMAGE_SIZE = re.compile(r"(shape|sizes?)$", re.IGNORECASE)
_FEW = 2
_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog")


@dataclasses.dataclass(frozen=True)
class Beside:
    """What the other inputs of the same feed tell."""

    length: int
    """The elements of their sequence."""
    image: tuple[int, int] | None
    """The height and width of their image."""
    turn: int = 0
    """The number of the sample."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that is known about one input before its values are drawn."""

    port: Port
    found: demands.Demands
    code: convert.Code | None
    state: bool

    def draw(self, rng: np.random.Generator, known: Mapping[str, int], beside: Beside) -> Array:
        """Values for open axes of the sizes `known`."""
        shape = fill(self.port, known)
        if self.code is not None:
            return self.code.encode(self._floats(rng, shape, beside.turn))
        dtype = self.port.dtype
        if dtype.kind == "O":
            return rng.choice(_WORDS, shape).astype(object)
        if dtype.kind == "b":
            return self._switches(rng, shape)
        if beside.image and shape[-1:] == (2,) and _IMAGE_SIZE.search(self.port.name):
            return np.tile(np.asarray(beside.image, dtype), (*shape[:-1], 1))
        if dtype.kind in "iu" or self.found.limits or (self.found.choices and not convert.is_float(dtype)):
            return np.asarray(self._integers(rng, shape, known, beside)).astype(dtype)
        return np.asarray(self._floats(rng, shape, beside.turn)).astype(dtype)

    def _is_mask(self) -> bool:
        told = self.found.mask and not self.found.indexes and self.port.dtype.kind in "iub"
        return told or _MASK.search(self.port.name) is not None

    def _switches(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        if np.prod(shape) == 1:
            return np.full(shape, _MASK.search(self.port.name) is not None)
        return np.ones(shape, np.bool_) if self._is_mask() else rng.integers(0, 2, shape).astype(np.bool_)

    def _integers(
        self, rng: np.random.Generator, shape: tuple[int, ...], known: Mapping[str, int], beside: Beside
    ) -> Array:
        if self._is_mask():
            return np.ones(shape, np.int64)
        limit = self._limit(known)
        if _POSITION.search(self.port.name) and shape:
            return np.broadcast_to(np.arange(shape[-1]) % (limit or shape[-1]), shape)
        if self.found.length or (_LENGTH.search(self.port.name) and not self.found.limits):
            return np.full(shape, min(self._sizes(self.found.lengths, known), default=beside.length))
        if limit is not None:
            return rng.integers(0, limit, shape)
        return self._unlimited(rng, shape)

    def _unlimited(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        choices = self.found.choices
        if len(choices) > _FEW:
            return rng.choice(np.unique(choices), shape)
        if choices:
            return np.full(shape, choices[0])
        if self.found.size:
            return np.ones(shape, np.int64)
        dtype = self.port.dtype
        if dtype.itemsize == 1:
            return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, endpoint=True)
        return rng.integers(int(self.found.positive), 256 if dtype == np.int32 else 10, shape)

    def _limit(self, known: Mapping[str, int]) -> int | None:
        """The exclusive upper bound of an index, or None for what is no index."""
        limits = self._sizes(self.found.limits, known)
        if not limits:
            return 1 if self.found.indexes else None
        return max(min(limits), 1)

    @staticmethod
    def _sizes(found: Sequence[int | str], known: Mapping[str, int]) -> list[int]:
        sizes = (known.get(size) if isinstance(size, str) else size for size in found)
        return [size for size in sizes if size is not None]

    def _floats(self, rng: np.random.Generator, shape: tuple[int, ...], turn: int) -> Array:
        if self._is_mask():
            return np.ones(shape)
        if self.state:
            return 0.1 * rng.standard_normal(shape)
        if len(shape) < 3 and _FACTOR.search(self.port.name):
            return rng.uniform(0.5, 1.0, shape)
        values = pictures.draw(rng, shape, turn) if pictures.is_picture(shape) else rng.standard_normal(shape)
        return np.abs(values) + 1e-3 if self.found.positive else values


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """A reader that draws its feeds."""

    recipes: tuple[Recipe, ...]
    known: Mapping[str, int]
    seed: int
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> dict[str, Array]:
        return {recipe.port.name: self._draw(recipe, index) for recipe in self.recipes}

    def _draw(self, recipe: Recipe, index: int) -> Array:
        rng = np.random.default_rng([self.seed, index, zlib.crc32(recipe.port.name.encode())])
        return recipe.draw(rng, self.known, self._beside(recipe.port, index))

    def _beside(self, port: Port, turn: int) -> Beside:
        """The sequence is the first open axis after the batch, or the second axis, of an input that is no mask."""
        others = [other.port for other in self.recipes if other.port != port]
        shapes = {other: fill(other, self.known) for other in others if len(other.shape) > 1}
        opened = [
            shape[axis]
            for other, shape in shapes.items()
            for axis in range(1, len(shape))
            if axes.is_open(other.shape[axis])
        ]
        fixed = [shape[1] for other, shape in shapes.items() if not _MASK.search(other.name)]
        images = [shape for shape in shapes.values() if len(shape) == 4]
        image = sizes.height_and_width(images[0]) if images else None
        return Beside(next(iter(opened + fixed), 1), image, turn)


def recipes(model: ir.Model) -> tuple[Recipe, ...]:
    """What there is to know about each input of `model`, whose shapes should have been inferred."""
    wiring, codes = Wiring(model), convert.codes(model)
    values = {value.name: value for value in model.graph.inputs}
    found = [(port, demands.of(values[port.name], wiring)) for port in inputs(model)]
    return tuple(Recipe(port, need, codes.get(port.name), sizes.is_state(port, need)) for port, need in found)


def fill(port: Port, known: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of an input once its open axes have sizes."""
    return tuple(_size(port, axis, dim, known) for axis, dim in enumerate(port.shape))


def _size(port: Port, axis: int, dim: int | str | None, known: Mapping[str, int]) -> int:
    return dim if isinstance(dim, int) and not axes.is_open(dim) else known[axes.symbol(port, axis)]
