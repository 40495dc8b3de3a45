# ruff: noqa: E501
"""Graphs and files that are damaged or mean harm: each is refused with one line, or is harmless. Nothing hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from optimizer.errors import ModelError
from optimizer.model import cleanup, cost, io, shapes
from tests.model.hostile import (
    FLOAT,
    INT64,
    WHOLE,
    function,
    info,
    proto,
    refuse,
    relu,
    with_tensor,
    write,
)


def negative(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    return model


def twice(model: onnx.ModelProto, field: str) -> onnx.ModelProto:
    getattr(model.graph, field).append(getattr(model.graph, field)[0])
    return model


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
