# ruff: noqa: E501
"""Files that are damaged or mean harm: each is refused with one line, or is harmless and loads. Nothing hangs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from optimizer.errors import ModelError
from optimizer.model import cleanup, cost, io, shapes

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    return inside


def test_external_data_beside_the_model_is_read(folder: Path) -> None:
    model = io.load(write(folder, with_tensor(external(location="w.bin", offset=0, length=16))))
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), np.arange(4))  # type: ignore[union-attr]


EXTERNAL: dict[str, tuple[TensorProto, str]] = {
    "a name that climbs out": (external(location="../secret"), "must be beside the model"),
    "a name that climbs out later": (external(location="a/../../secret"), "must be beside the model"),
    "an absolute name": (external(location="/etc/hostname"), "must be beside the model"),
    "a name for another system": (external(location="..\\secret"), "must be beside the model"),
    "a drive letter": (external(location="C:secret"), "must be beside the model"),
    "no name": (external(), "must be beside the model"),
    "a name that no system takes": (external(location="a" * 5000), "must be beside the model"),
    "a name with a null": (external(location="a\0b"), "must be beside the model"),
    "a folder": (external(location="."), "not a regular file"),
    "a missing file": (external(location="none.bin"), "is missing"),
    "a monstrous length": (external(location="w.bin", length=2**50), "length says"),
    "a negative offset": (external(location="w.bin", offset=-4), "no size in bytes"),
    "an offset past the end": (external(location="w.bin", offset=8), "truncated"),
    "an offset in words": (external(location="w.bin", offset="four"), "no size in bytes"),
    "sizes that need more than the file has": (external((2**40,), location="w.bin"), "truncated"),
    "sizes whose product overflows": (external((2**40, 2**40), location="w.bin"), "truncated"),
    "a negative size": (external((-4,), location="w.bin"), "negative size"),
    "an unknown entry": (external(location="w.bin", base_dir="/"), "unknown external data entries: base_dir"),
    "strings": (external(dtype=TensorProto.STRING, location="w.bin"), "strings"),
}


@pytest.mark.parametrize("case", EXTERNAL)
def test_external_data_is_refused_with(case: str, folder: Path) -> None:
    tensor, text = EXTERNAL[case]
    refuse(write(folder, with_tensor(tensor)), text)


@pytest.mark.parametrize("case", ["constant", "branch", "function"])
def test_external_data_is_checked_wherever_it_hides(case: str, folder: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=external(location="../secret"))
    add = helper.make_node("Add", ["x", "c"], ["y"])
    body = helper.make_graph([constant, helper.make_node("Add", ["x", "c"], ["z"])], "b", [], [info("z")])
    condition = helper.make_tensor("k", TensorProto.BOOL, [], [1])
    models = {
        "constant": proto([constant, add]),
        "branch": proto([helper.make_node("If", ["k"], ["y"], then_branch=body, else_branch=body)], [condition]),
        "function": proto([helper.make_node("F", ["x"], ["y"], domain="f")], functions=[
            helper.make_function("f", "F", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 17)])]),
    }  # fmt: skip
    refuse(write(folder, models[case]), "must be beside the model")


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret")
    refuse(write(folder, with_tensor(external(location="link.bin"))), "link out of the model's folder")


def test_a_link_to_a_folder_outside_is_refused(folder: Path) -> None:
    (folder / "sub").symlink_to(folder.parent)
    refuse(write(folder, with_tensor(external(location="sub/secret"))), "link out of the model's folder")


def test_a_hard_link_is_refused(folder: Path) -> None:
    os.link(folder.parent / "secret", folder / "hard.bin")
    refuse(write(folder, with_tensor(external(location="hard.bin"))), "hard links")


def test_a_pipe_is_refused_and_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    refuse(write(folder, with_tensor(external(location="pipe"))), "not a regular file")


def test_a_download_cache_of_links_is_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "beef").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (blobs / "cafe").write_bytes(with_tensor(external(location="model.onnx.data")).SerializeToString())
    (snapshot / "model.onnx").symlink_to("../../blobs/cafe")
    (snapshot / "model.onnx.data").symlink_to("../../blobs/beef")
    model = io.load(snapshot / "model.onnx")
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), np.arange(4))  # type: ignore[union-attr]


def embedded(dtype: int, dims: tuple[int, ...], **fields: object) -> TensorProto:
    return TensorProto(name="w", data_type=dtype, dims=dims, **fields)


T = TensorProto
EMBEDDED: dict[str, tuple[TensorProto, str]] = {
    "too few bytes": (embedded(T.FLOAT, (4,), raw_data=b"\0" * 15), "needs 16 bytes, it has 15"),
    "too many bytes": (embedded(T.FLOAT, (4,), raw_data=b"\0" * 17), "needs 16 bytes, it has 17"),
    "no data": (embedded(T.FLOAT, (2**40,)), "values, it has 0"),
    "a negative size": (embedded(T.FLOAT, (-1,), float_data=[1]), "negative size"),
    "the wrong typed field": (embedded(T.FLOAT, (1,), int32_data=[1]), "not in float_data"),
    "its data twice": (embedded(T.FLOAT, (1,), float_data=[1], raw_data=b"\0" * 4), "float_data and raw_data"),
    "too few values": (embedded(T.FLOAT16, (3,), int32_data=[1, 2]), "needs 3 values, it has 2"),
    "too few packed values": (embedded(T.INT4, (3,), int32_data=[1]), "needs 2 values, it has 1"),
    "half a complex number": (embedded(T.COMPLEX64, (1,), float_data=[1]), "needs 2 values, it has 1"),
    "too few strings": (embedded(T.STRING, (2,), string_data=[b"a"]), "needs 2 values, it has 1"),
    "an unknown dtype": (embedded(999, (1,), raw_data=b"\0"), "unknown data type 999"),
    "no dtype": (embedded(0, (1,), raw_data=b"\0"), "unknown data type 0"),
    "segments": (embedded(T.FLOAT, (1,), raw_data=b"\0" * 4, segment=T.Segment(begin=0, end=1)), "segments"),
}  # fmt: skip


@pytest.mark.parametrize("case", EMBEDDED)
def test_an_embedded_tensor_is_refused_with(case: str, tmp_path: Path) -> None:
    tensor, text = EMBEDDED[case]
    refuse(write(tmp_path, with_tensor(tensor)), text)


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


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_tensor_is_read(case: str, tmp_path: Path) -> None:
    assert io.load(write(tmp_path, with_tensor(WHOLE[case]))).graph.initializers["w"].const_value is not None


def relu(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [x], [y])


def negative(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    return model


def twice(model: onnx.ModelProto, field: str) -> onnx.ModelProto:
    getattr(model.graph, field).append(getattr(model.graph, field)[0])
    return model


def function(name: str, *callees: str) -> onnx.FunctionProto:
    names = ["x", *(f"h{i}" for i in range(len(callees) - 1)), "y"]
    nodes = [helper.make_node(callee, [names[i]], [names[i + 1]], domain="f") for i, callee in enumerate(callees)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["x"], ["y"], nodes or [relu("x", "y")], opsets)


def bomb(levels: int) -> onnx.ModelProto:
    functions = [function(f"F{i}", f"F{i + 1}", f"F{i + 1}") for i in range(levels)] + [function(f"F{levels}")]
    return proto([helper.make_node("F0", ["x"], ["y"], domain="f")], functions=functions)


def nested(levels: int) -> onnx.ModelProto:
    body = helper.make_graph([relu("x", "z")], "b", [], [info("z")])
    for _ in range(levels):
        body = helper.make_graph(
            [helper.make_node("If", ["k"], ["z"], then_branch=body, else_branch=body)], "b", [], [info("z")]
        )
        if body.ByteSize() > 2**24:
            break
    condition = helper.make_tensor("k", TensorProto.BOOL, [], [1])
    return proto([helper.make_node("If", ["k"], ["y"], then_branch=body, else_branch=body)], [condition])


def deep(levels: int) -> onnx.ModelProto:
    body = helper.make_graph([relu("x", "z")], "b", [], [info("z")])
    for _ in range(levels):
        body = helper.make_graph([helper.make_node("Odd", ["x"], ["z"], body=body)], "b", [], [info("z")])
    return proto([helper.make_node("Odd", ["x"], ["y"], body=body)])


STRUCTURE: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a cycle": (lambda: proto([relu("b", "a"), relu("a", "b"), relu("b", "y")]), "circle"),
    "a node that reads itself": (lambda: proto([relu("a", "a"), relu("a", "y")]), "circle"),
    "one name for two results": (lambda: proto([relu("x", "y"), relu("x", "y")]), "'y' is given to more than one node output"),
    "a result named like an input": (lambda: proto([relu("x", "x"), relu("x", "y")]), "already an input"),
    "a name that nothing gives": (lambda: proto([relu("nobody", "y")]), "reads 'nobody', which nothing gives"),
    "an output that nothing gives": (lambda: proto([relu("x", "z")]), "graph output 'y' is given by no node"),
    "a repeated initializer": (lambda: twice(with_tensor(WHOLE["doubles"]), "initializer"), "more than one initializer"),
    "a repeated input": (lambda: twice(proto([relu("x", "y")]), "input"), "more than one graph input"),
    "a repeated output": (lambda: twice(proto([relu("x", "y")]), "output"), "more than one graph output"),
    "a negative size": (lambda: negative(proto([relu("x", "y")]), -7), "negative size -7"),
    "functions that double 60 times": (lambda: bomb(60), "expand to more than"),
    "a function that calls itself": (lambda: proto([helper.make_node("F", ["x"], ["y"], domain="f")], functions=[function("F", "F")]), "calls itself"),
    "functions that call each other": (lambda: proto([relu("x", "y")], functions=[function("F", "G"), function("G", "F")]), "calls itself"),
    "graphs in graphs in graphs": (lambda: deep(27), "nested"),
    "two attributes of one name": (lambda: doubled(), "more than one attribute"),
    "an attribute that the operator does not have": (lambda: proto([helper.make_node("Relu", ["x"], ["y"], slope=1.0)]), "which its operator does not have"),
    "an attribute of the wrong type": (lambda: proto([helper.make_node("Elu", ["x"], ["y"], alpha=1)]), "wrong type"),
    "a missing attribute": (lambda: proto([helper.make_node("Cast", ["x"], ["y"])]), "lacks the attribute 'to'"),
    "too many inputs": (lambda: proto([helper.make_node("Relu", ["x", "x"], ["y"])]), "has 2 inputs, its operator takes 1"),
    "too many outputs": (lambda: proto([helper.make_node("Relu", ["x"], ["y", "z"])]), "has 2 outputs, its operator takes 1"),
    "a branch with too few outputs": (lambda: short_branch(), "outputs in a branch"),
    "a call with too many inputs": (lambda: proto([helper.make_node("F", ["x", "x"], ["y"], domain="f")], functions=[function("F")]), "has 2 inputs"),
    "a map as its result": (lambda: mapped(), "'y' is a map and no tensor: export the model without ZipMap"),
    "a constant without a value": (lambda: proto([helper.make_node("Constant", [], ["y"])]), "exactly one value"),
}  # fmt: skip


def mapped() -> onnx.ModelProto:
    model = proto([helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])])
    probability = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    each = helper.make_map_type_proto(TensorProto.INT64, probability)
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(each))
    return model


def short_branch() -> onnx.ModelProto:
    body = helper.make_graph([relu("x", "z")], "b", [], [info("z")])
    condition = helper.make_tensor("k", TensorProto.BOOL, [], [1])
    return proto([helper.make_node("If", ["k"], ["y", "z2"], then_branch=body, else_branch=body)], [condition])


def doubled() -> onnx.ModelProto:
    model = proto([helper.make_node("Elu", ["x"], ["y"], alpha=1.0)])
    model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])
    return model


@pytest.mark.parametrize("case", STRUCTURE)
def test_a_graph_is_refused_with(case: str, tmp_path: Path) -> None:
    build, text = STRUCTURE[case]
    path = write(tmp_path, build())
    started = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        io.load(path)
    assert time.perf_counter() - started < 5
    assert text in str(caught.value) or "does not parse" in str(caught.value)


def test_a_graph_without_outputs_is_refused(tmp_path: Path) -> None:
    model = proto([relu("x", "y")])
    del model.graph.output[:]
    refuse(write(tmp_path, model), "no outputs")


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    model = io.load(write(tmp_path, proto([relu("b", "y"), relu("a", "b"), relu("x", "a")])))
    assert [node.outputs[0].name for node in model.graph] == ["a", "b", "y"]


def test_the_size_minus_one_means_unknown(tmp_path: Path) -> None:
    model = io.load(write(tmp_path, negative(proto([relu("x", "y")]), -1)))
    assert str(model.graph.inputs[0].shape) == "[None]"


def test_functions_that_expand_to_little_are_inlined(tmp_path: Path) -> None:
    model = io.load(write(tmp_path, bomb(6)))
    cleanup.clean(model)
    assert not model.functions and {node.op_type for node in model.graph} == {"Relu"}


def test_a_name_used_again_inside_a_branch_is_told_apart(tmp_path: Path) -> None:
    model = io.load(write(tmp_path, nested(2)))
    names = [out.name for graph in model.graphs() for node in graph for out in node.outputs]
    assert len(set(names)) == len(names)
    onnx.checker.check_model(io.to_proto(model))


def test_a_shape_of_400_gb_is_loaded_and_cleaned_without_being_made(tmp_path: Path) -> None:
    shape = helper.make_tensor("s", INT64, [2], [100_000, 1_000_000])
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
             helper.make_node("Add", ["x", "r"], ["y"])]  # fmt: skip
    model = io.load(write(tmp_path, proto(nodes, [shape])))
    cleanup.clean(model)
    assert cost.count(model).bytes < 100


def test_a_chain_of_20000_nodes_takes_seconds(tmp_path: Path) -> None:
    nodes = [relu(f"v{i}" if i else "x", f"v{i + 1}" if i < 19_999 else "y") for i in range(20_000)]
    started = time.perf_counter()
    model = io.load(write(tmp_path, proto(nodes)))
    assert time.perf_counter() - started < 30
    assert len(model.graph) == 20_000


def sample() -> bytes:
    weight = helper.make_tensor("w", FLOAT, [4], [1, 2, 3, 4])
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", FLOAT, [1], [2.0]))
    body = helper.make_graph([helper.make_node("Add", ["x", "w"], ["z"])], "b", [], [info("z")])
    other = helper.make_graph([helper.make_node("Mul", ["x", "c"], ["z"])], "b", [], [info("z")])
    condition = helper.make_tensor("k", TensorProto.BOOL, [], [1])
    branch = helper.make_node("If", ["k"], ["h"], then_branch=body, else_branch=other)
    data: bytes = proto(
        [constant, branch, helper.make_node("F", ["h"], ["y"], domain="f")], [weight, condition], [function("F")]
    ).SerializeToString()
    return data


SAMPLE = sample()


def load_or_refuse(data: bytes) -> None:
    """Loading ends in a model or a ModelError, and so does all that reads the model next."""
    try:
        model = io.load_bytes(data)
    except ModelError:
        return
    shapes.infer(model)
    cost.count(model)
    cleanup.clean(model)
    io.to_bytes(model)


def test_a_file_cut_anywhere_is_refused_or_loads() -> None:
    for length in range(len(SAMPLE)):
        load_or_refuse(SAMPLE[:length])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_refused_or_load(flips: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for place, byte in flips:
        data[place] = byte
    load_or_refuse(bytes(data))


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not a model", b"PK\3\4" + b"\0" * 50])
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refuse(path, "not an ONNX model")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "none.onnx", "no such file")
    refuse(tmp_path, "not a regular file")
