"""What may be done to an array's values so that they have the dtype an input wants, and nothing else.

==============  ==============  =========================================================
array           input           what happens
==============  ==============  =========================================================
same dtype      same dtype      nothing (byte order is made native)
integer, bool   integer         cast; every value must survive it
float           float           cast; with a note where it rounds; infinities refused
text            string          becomes an array of objects
float           coded integer   round(x / scale) + zero_point, clipped (see `Code`)
anything else   anything else   refused
==============  ==============  =========================================================

A float array with a NaN or an infinity is refused: it would turn every statistic into nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnx_ir as ir

from optimizer.errors import DataError, ModelError
from optimizer.model.ports import Array, Feed, Port

CODE_KEY, OUTPUT_KEY = "optimize.input.", "optimize.output."
"""Prefixes of the model metadata that say how a quantized input or output is coded."""

Conversion: TypeAlias = Callable[[Array], Array]
_INTEGERS = "iub"


class Encoder(Protocol):
    """What turns real values into those that another form of a model takes."""

    def encode(self, array: Array, /) -> Array: ...


@dataclasses.dataclass(frozen=True)
class Code:
    """How an integer input stands for real values: q = clip(round(x / scale) + zero_point), halves to even.

    Found in the model's metadata under `optimize.input.NAME` as
    ``{"scale": 0.02, "zero_point": 128, "dtype": "uint8"}``; lists instead of numbers are per channel on axis 1, and
    the zero point may be a fraction.
    """

    scale: tuple[float, ...]
    zero_point: tuple[float, ...]
    dtype: np.dtype[Any]

    def encode(self, array: Array) -> Array:
        """The codes of real values of shape (N, C, ...), or of any shape where there is one scale."""
        limits = np.iinfo(self.dtype)
        if len(self.scale) > 1 and array.shape[1:2] != (len(self.scale),):
            raise DataError(
                f"data of shape {array.shape} does not have the {len(self.scale)} channels of the coded input"
            )
        shape = (-1,) if len(self.scale) == len(self.zero_point) == 1 else (1, -1) + (1,) * (array.ndim - 2)
        scale = np.asarray(self.scale, np.float32).reshape(shape)
        zero = np.asarray(self.zero_point, np.float32).reshape(shape)
        codes = np.rint(array.astype(np.float32) / scale + (zero - np.floor(zero))) + np.floor(zero)
        clipped: Array = np.clip(codes, limits.min, limits.max).astype(self.dtype)
        return clipped.reshape(array.shape)

    def decode(self, array: Array) -> Array:
        """The real values, float32, of codes where there is one scale."""
        real = (array.astype(np.float32) - np.float32(self.zero_point[0])) * np.float32(self.scale[0])
        return np.asarray(real)


def codes(model: ir.Model) -> dict[str, Code]:
    """The coded inputs of a model by name. Raises `ModelError` if the metadata cannot be read."""
    return coded(model.metadata_props, CODE_KEY)


def encode(feed: Feed, how: Mapping[str, Encoder]) -> dict[str, Array]:
    """`feed` with the inputs named in `how` as their codes."""
    return {name: how[name].encode(array) if name in how else array for name, array in feed.items()}


def coded(metadata: Mapping[str, str], prefix: str) -> dict[str, Code]:
    """The coded inputs or outputs that a model's metadata tells of, by name."""
    return {key.removeprefix(prefix): _code(key, text) for key, text in metadata.items() if key.startswith(prefix)}


def _code(key: str, text: str) -> Code:
    try:
        fields = json.loads(text)
        scale = tuple(float(value) for value in np.atleast_1d(fields["scale"]))
        zero_point = tuple(float(value) for value in np.atleast_1d(fields["zero_point"]))
        dtype = np.dtype(fields["dtype"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the model's metadata {key!r} cannot be read ({error}); quantize the model again") from error
    if dtype.kind not in "iu" or not all(0 < value < np.inf for value in scale):
        raise ModelError(f"the model's metadata {key!r} makes no sense; quantize the model again")
    return Code(scale, zero_point, dtype)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether values of this dtype are floating point, bfloat16 and the 8-bit floats included."""
    if dtype.kind not in "fV":
        return False
    try:
        return ir.DataType.from_numpy(dtype).is_floating_point()
    except TypeError:
        return False


def conversion(dtype: np.dtype[Any], port: Port, code: Code | None) -> tuple[Conversion, str | None]:
    """What turns arrays of `dtype` into what `port` takes, and a note on it. Raises `DataError` if nothing may."""
    want = port.dtype
    if code is not None and is_float(dtype):
        return (lambda array: code.encode(finite(array, port.name))), None
    if dtype.newbyteorder("=") == want:
        return _plain(port), None
    if want.kind in "iu" and dtype.kind in _INTEGERS:
        return (lambda array: _exact(array, port)), None
    if is_float(want) and is_float(dtype):
        note = None if np.can_cast(dtype, want, "safe") else f"input {port.name!r}: {dtype} was rounded to {want}"
        return (lambda array: _rounded(array, port)), note
    if want.kind == "O" and dtype.kind in "USO":
        return (lambda array: array.astype(np.str_).astype(object)), None
    raise DataError(f"input {port.name!r} takes {_spell(want)}, the data has {_spell(dtype)}: convert it first")


def finite(array: Array, name: str) -> Array:
    """`array` itself, if it has neither NaN nor infinity."""
    if is_float(array.dtype) and not np.isfinite(array).all():
        raise DataError(f"input {name!r} has NaN or infinite values: remove or repair this sample")
    return array


def _plain(port: Port) -> Conversion:
    return lambda array: finite(array.astype(port.dtype, copy=False), port.name)


def _exact(array: Array, port: Port) -> Array:
    limits = np.iinfo(port.dtype)
    if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
        raise DataError(f"input {port.name!r} takes {port.dtype}, but a value of the data does not fit it")
    return array.astype(port.dtype)


def _rounded(array: Array, port: Port) -> Array:
    finite(array, port.name)
    with np.errstate(over="ignore"):
        return finite(array.astype(port.dtype), port.name)


def _spell(dtype: np.dtype[Any]) -> str:
    return "text" if dtype.kind in "USO" else str(dtype)
