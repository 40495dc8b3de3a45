"""Element types: what torch computes with for each ONNX type, and the way there and back.

Half-precision floats become float32, unsigned integers above 8 bits the next wider signed type (torch has no arithmetic
on them), 8-bit floats and integers below 8 bits are unpacked. Strings and complex numbers have no counterpart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array
from optimizer.train.table import Tensor, Unsupported

_T = ir.DataType
NAMES: dict[ir.DataType, str] = {
    _T.FLOAT: "float32", _T.DOUBLE: "float64", _T.FLOAT16: "float32", _T.BFLOAT16: "float32",
    _T.FLOAT8E4M3FN: "float32", _T.FLOAT8E4M3FNUZ: "float32", _T.FLOAT8E5M2: "float32", _T.FLOAT8E5M2FNUZ: "float32",
    _T.UINT8: "uint8", _T.INT8: "int8", _T.UINT16: "int32", _T.INT16: "int16", _T.UINT32: "int64", _T.INT32: "int32",
    _T.INT64: "int64", _T.UINT64: "int64", _T.BOOL: "bool", _T.INT4: "int8", _T.UINT4: "uint8", _T.INT2: "int8",
    _T.UINT2: "uint8",
}  # fmt: skip
"""ONNX element type -> name of the torch type it is computed in."""

FLOATS = frozenset({_T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.BFLOAT16})
"""Types whose tensors can be learnt."""

HALF = frozenset({_T.FLOAT16, _T.BFLOAT16})

RANGES: dict[ir.DataType, tuple[int, int]] = {
    _T.INT8: (-128, 127), _T.UINT8: (0, 255), _T.INT16: (-32768, 32767), _T.UINT16: (0, 65535),
    _T.INT4: (-8, 7), _T.UINT4: (0, 15), _T.INT2: (-2, 1), _T.UINT2: (0, 3), _T.INT32: (-(2**31), 2**31 - 1),
}  # fmt: skip
"""Types that quantized values have, with their smallest and largest integer."""


def torch_dtype(torch: Any, dtype: ir.DataType) -> Any:
    """The torch dtype that values of `dtype` are computed in. Raises `Unsupported`."""
    if dtype not in NAMES:
        raise Unsupported(f"tensors of type {dtype.name.lower()} cannot be trained through")
    return getattr(torch, NAMES[dtype])


def to_torch(torch: Any, array: Array) -> Tensor:
    """A copy of a numpy array (ml_dtypes included) as a tensor of the type it is computed in."""
    try:
        dtype = ir.DataType.from_numpy(np.asarray(array).dtype)
    except TypeError as error:
        raise Unsupported(f"tensors of type {np.asarray(array).dtype} cannot be trained through") from error
    return torch.from_numpy(np.array(array, dtype=_plain(torch_dtype(torch, dtype))))


def channels_last(torch: Any, tensor: Tensor) -> Tensor:
    """The same tensor, laid out as torch's CPU convolutions like it (up to twice as fast)."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def to_numpy(tensor: Tensor, dtype: ir.DataType) -> Array:
    """A tensor as an array of the ONNX type `dtype`; quantized values are rounded."""
    array: Array = tensor.detach().cpu().numpy()
    if dtype in RANGES and np.issubdtype(array.dtype, np.floating):
        array = np.rint(array)
    return array.astype(dtype.numpy())


def _plain(dtype: Any) -> np.dtype[Any]:
    return np.dtype(str(dtype).removeprefix("torch."))
