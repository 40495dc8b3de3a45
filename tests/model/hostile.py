"""Models made to be refused, and what a refusal must look like."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from optimizer.errors import ModelError
from optimizer.model import io

T = TensorProto
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def info(name: str, shape: list[int | str | None] | None = None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, [4] if shape is None else shape)


def proto(
    nodes: list[onnx.NodeProto],
    initializers: list[TensorProto] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [info("x")], [info("y")], initializers or [])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions or [])


def with_tensor(tensor: TensorProto) -> onnx.ModelProto:
    return proto([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])


def external(dims: tuple[int, ...] = (4,), dtype: int = FLOAT, **entries: object) -> TensorProto:
    tensor = TensorProto(name="w", dims=dims, data_type=dtype, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def write(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refuse(path: Path, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        io.load(path)
    message = str(caught.value)
    assert text in message and "\n" not in message and str(path) in message


def embedded(dtype: int, dims: tuple[int, ...], **fields: object) -> TensorProto:
    return TensorProto(name="w", data_type=dtype, dims=dims, **fields)


WHOLE = {
    "no elements": embedded(T.FLOAT, (0,)),
    "a scalar": embedded(T.FLOAT, (), float_data=[1]),
    "typed halves": embedded(T.FLOAT16, (2,), int32_data=[1, 2]),
    "typed bytes": embedded(T.UINT8, (2,), int32_data=[1, 2]),
    "packed fours": embedded(T.UINT4, (3,), raw_data=b"\1\2"),
    "complex": embedded(T.COMPLEX64, (1,), float_data=[1, 2]),
    "strings": embedded(T.STRING, (2,), string_data=[b"a", b"\xff"]),
    "unsigned": embedded(T.UINT32, (1,), uint64_data=[1]),
    "doubles": embedded(T.DOUBLE, (1,), double_data=[1]),
    "longs": embedded(T.INT64, (1,), int64_data=[1]),
}


def relu(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [x], [y])


def function(name: str, *callees: str) -> onnx.FunctionProto:
    names = ["x", *(f"h{i}" for i in range(len(callees) - 1)), "y"]
    nodes = [helper.make_node(callee, [names[i]], [names[i + 1]], domain="f") for i, callee in enumerate(callees)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["x"], ["y"], nodes or [relu("x", "y")], opsets)
