"""Checks on a model file that is not trusted, before anything is allocated, inferred or run.

Tensors (`tensors`): no size is negative, the declared bytes are neither more nor fewer than those present, whether
embedded (`raw_data`, or the typed field that the dtype prescribes) or in a file (`external`). The sum of a model's
tensors can then be no larger than the files it came in.

Structure (`graph`, see `structure`): names, order, nesting, functions.

All walks descend into the bodies of control flow, functions, and tensors in node attributes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto

from optimizer.errors import ModelError
from optimizer.model import external
from optimizer.model.structure import MAX_DEPTH, check_graph

_T = TensorProto.DataType
_BITS = {
    2: (_T.UINT2, _T.INT2),
    4: (_T.UINT4, _T.INT4, _T.FLOAT4E2M1),
    6: (_T.FLOAT6E2M3, _T.FLOAT6E3M2),
    8: (_T.UINT8, _T.INT8, _T.BOOL, _T.FLOAT8E4M3FN, _T.FLOAT8E4M3FNUZ, _T.FLOAT8E5M2, _T.FLOAT8E5M2FNUZ,
        _T.FLOAT8E8M0),
    16: (_T.UINT16, _T.INT16, _T.FLOAT16, _T.BFLOAT16),
    32: (_T.FLOAT, _T.INT32, _T.UINT32),
    64: (_T.DOUBLE, _T.INT64, _T.UINT64, _T.COMPLEX64),
    128: (_T.COMPLEX128,),
}  # fmt: skip
WIDTH: dict[int, int] = {dtype: bits for bits, dtypes in _BITS.items() for dtype in dtypes}
"""Bits per element of every dtype with a fixed width."""

_FIELDS = {
    "float_data": (_T.FLOAT, _T.COMPLEX64),
    "double_data": (_T.DOUBLE, _T.COMPLEX128),
    "int64_data": (_T.INT64,),
    "uint64_data": (_T.UINT32, _T.UINT64),
}
_FIELD: dict[int, str] = {dtype: field for field, dtypes in _FIELDS.items() for dtype in dtypes}
"""Where values are typed; every other dtype uses int32_data."""
_TYPED = (*_FIELDS, "int32_data", "string_data")


def tensors(proto: onnx.ModelProto, file: Path | None) -> Path | None:
    """Raise `ModelError` unless every tensor holds exactly what it declares.

    `file` is the model's own path, None for a model that must be self-contained. Returns the folder that external
    data lies in, None where there is none; locations are made relative to it.
    """
    folders: set[Path] = set()
    for tensor in all_tensors(proto):
        count = _elements(tensor)
        if tensor.data_location == TensorProto.EXTERNAL:
            folders.add(_check_external(tensor, count, file))
        else:
            _check_embedded(tensor, count)
    if len(folders) > 1:
        raise ModelError("the model's external data lies in several folders; put it beside the model file")
    return next(iter(folders), None)


def graph(proto: onnx.ModelProto) -> bool:
    """Raise `ModelError` unless the structure is sound; returns whether the nodes are sorted already."""
    return check_graph(proto)


def external_locations(proto: onnx.ModelProto) -> Iterator[str]:
    """The names of the external data files of a model, once per tensor."""
    for tensor in all_tensors(proto):
        for entry in tensor.external_data:
            if entry.key == "location" and tensor.data_location == TensorProto.EXTERNAL:
                yield entry.value


def relocate(proto: onnx.ModelProto, location: str) -> None:
    """Let every external tensor point to the file `location`."""
    for tensor in all_tensors(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location


def all_tensors(proto: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor in the file, wherever it hides."""
    yield from _graph_tensors(proto.graph, 0)
    for function in proto.functions:
        for node in function.node:
            yield from _node_tensors(node, 0)
        for attribute in function.attribute_proto:
            yield from _attribute_tensors(attribute, 0)


def _graph_tensors(graph: onnx.GraphProto, depth: int) -> Iterator[TensorProto]:
    if depth > MAX_DEPTH:
        raise ModelError(f"graphs are nested more than {MAX_DEPTH} deep")
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from _sparse(sparse)
    for node in graph.node:
        yield from _node_tensors(node, depth)


def _node_tensors(node: onnx.NodeProto, depth: int) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        yield from _attribute_tensors(attribute, depth)


def _attribute_tensors(attribute: onnx.AttributeProto, depth: int) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (
        *attribute.sparse_tensors,
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
    ):
        yield from _sparse(sparse)
    for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
        yield from _graph_tensors(body, depth + 1)


def _sparse(sparse: onnx.SparseTensorProto) -> Iterator[TensorProto]:
    if any(dim < 0 for dim in sparse.dims):
        raise ModelError(f"sparse tensor {sparse.values.name!r} has a negative size")
    yield sparse.values
    yield sparse.indices


def _elements(tensor: TensorProto) -> int:
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"tensor {tensor.name!r} has a negative size in its shape {list(tensor.dims)}")
    if tensor.data_type != _T.STRING and tensor.data_type not in WIDTH:
        raise ModelError(f"tensor {tensor.name!r} has the unknown data type {tensor.data_type}")
    if tensor.HasField("segment"):
        raise ModelError(f"tensor {tensor.name!r} is stored in segments, which is not supported")
    return math.prod(tensor.dims)


def _bytes(tensor: TensorProto, count: int) -> int:
    return -(-count * WIDTH[tensor.data_type] // 8)


def _check_external(tensor: TensorProto, count: int, file: Path | None) -> Path:
    if file is None:
        raise ModelError(f"tensor {tensor.name!r} is in an external file, but the model was not read from a file")
    if tensor.data_type == _T.STRING:
        raise ModelError(f"tensor {tensor.name!r} holds strings, which cannot be in an external file")
    if tensor.HasField("raw_data") or any(len(getattr(tensor, field)) for field in _TYPED):
        raise ModelError(f"tensor {tensor.name!r} has both embedded and external data")
    return external.check(tensor, _bytes(tensor, count), file)


def _check_embedded(tensor: TensorProto, count: int) -> None:
    filled = [field for field in (*_TYPED, "raw_data") if len(getattr(tensor, field))]
    field = _typed_field(tensor.data_type)
    expected = _values(tensor, count)
    if filled == ["raw_data"] and tensor.data_type != _T.STRING:
        field, expected = "raw_data", _bytes(tensor, count)
    if any(other != field for other in filled):
        raise ModelError(f"tensor {tensor.name!r} has its data in {' and '.join(filled)}, not in {field}")
    found = len(getattr(tensor, field))
    if found != expected:
        unit = "bytes" if field == "raw_data" else "values"
        raise ModelError(
            f"tensor {tensor.name!r} is damaged: its shape {list(tensor.dims)} needs {expected} {unit}, it has {found}"
        )


def _typed_field(dtype: int) -> str:
    return "string_data" if dtype == _T.STRING else _FIELD.get(dtype, "int32_data")


def _values(tensor: TensorProto, count: int) -> int:
    """How many entries the typed field of `tensor` must have."""
    if tensor.data_type == _T.STRING:
        return count
    if tensor.data_type in (_T.COMPLEX64, _T.COMPLEX128):
        return 2 * count
    return _bytes(tensor, count) if WIDTH[tensor.data_type] < 8 else count


__all__ = ["ModelError", "all_tensors", "external_locations", "graph", "relocate", "tensors"]
