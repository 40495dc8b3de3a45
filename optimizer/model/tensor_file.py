"""Reading a serialized tensor (`.pb`, as in ONNX test data sets) that may be damaged or hostile."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from optimizer.errors import DataError
from optimizer.model.ports import Array

_UNREADABLE = (DecodeError, ValueError, TypeError, KeyError, UnicodeDecodeError)


def read(path: Path) -> tuple[str, Array]:
    """The tensor's name (may be empty) and value. Raises `DataError`."""
    try:
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise DataError(f"{path}: refers to another file, which is not followed; embed the values")
        array = onnx.numpy_helper.to_array(tensor)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _UNREADABLE as error:
        raise DataError(f"{path}: not a serialized tensor: {(str(error).splitlines() or ['damaged'])[0]}") from error
    if math.prod(tensor.dims) != array.size or not tensor.data_type:
        raise DataError(f"{path}: not a serialized tensor")
    return tensor.name, np.asarray(array)
