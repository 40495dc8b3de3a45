"""Which constants are learnt, and that they come back into the same places of the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.model import io  # noqa: E402
from optimizer.train.constants import constants  # noqa: E402
from optimizer.train.evaluator import Evaluator  # noqa: E402
from optimizer.train.parameters import Parameters  # noqa: E402
from tests.builders import model  # noqa: E402

SAMPLES = Path(__file__).parents[2] / "sample_models"


def learnt(text: str, **kwargs: Any) -> set[str]:
    graph = model(text, **kwargs)
    return set(Parameters(Evaluator(graph), graph).tensors)


def test_kernels_biases_and_norm_scales_are_learnt_but_statistics_are_not() -> None:
    assert learnt("""g (float[1,1,3,3] x) => (float[1,2,1,1] y)
        <float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}, float[2] b = {1,2}, float[2] s = {1,2},
         float[2] c = {1,2}, float[2] m = {1,2}, float[2] v = {1,2}>
        { t = Conv(x, w, b) y = BatchNormalization(t, s, c, m, v) }""") == {"w", "b", "s", "c"}


def test_an_added_vector_is_a_bias_but_a_matrix_and_a_number_are_not() -> None:
    assert learnt("""g (float[2,3] x) => (float[2,3] y)
        <float[3] b = {1,2,3}, float[1,3] c = {1,2,3}, float[2,3] mask = {0,1,0,1,0,1}, float two = {2},
         float[3] far = {-1e9, 0, 0}>
        { p = Add(x, b) q = Mul(p, c) r = Add(q, mask) s = Mul(r, two) y = Add(s, far) }""") == {"b", "c"}


def test_a_weight_is_found_behind_a_transposition_and_in_a_constant_node() -> None:
    assert learnt("""g (float[2,3] x) => (float[2,2] y) <float[2,3] w = {1,2,3,4,5,6}>
        { t = Transpose(w) h = MatMul(x, t) k = Constant<value = float[2,2] {1,2,3,4}>() y = MatMul(h, k) }""") == {
        "w",
        "k",
    }


def test_a_weight_inside_a_branch_is_learnt() -> None:
    assert learnt("""g (float[2,2] x, bool c) => (float[2,2] y) {
        y = If (c) <then_branch = a () => (float[2,2] t) {
                        w = Constant<value = float[2,2] {1,2,3,4}>() t = MatMul(x, w) },
                    else_branch = b () => (float[2,2] e) {
                        w = Constant<value = float[2,2] {1,2,3,4}>() e = MatMul(x, w) }> }""") == {"w", "w#2"}


def test_writing_back_unchanged_gives_the_same_bytes() -> None:
    for name in ("residual_cnn", "gru", "vision_transformer"):
        path = SAMPLES / f"{name}.onnx"
        if not path.exists():
            pytest.skip(f"{path.name} is not there")
        sample = io.load(path)
        copy = sample.clone()
        Parameters(Evaluator(sample), sample).write(copy)
        assert io.to_bytes(copy) == io.to_bytes(sample)


def test_writing_back_changes_only_the_numbers_of_what_was_learnt() -> None:
    graph = model("""g (float[1,3] x) => (float[1,2] y) <float[3,2] w = {1,2,3,4,5,6}, int64[2] s = {1,2}>
        { t = MatMul(x, w) y = Reshape(t, s) }""")
    parameters = Parameters(Evaluator(graph), graph)
    with torch.no_grad():
        parameters.tensors["w"].mul_(2)
    copy = graph.clone()
    parameters.write(copy)
    before, after = constants(graph), constants(copy)
    assert after["w"].array().tolist() == [[2, 4], [6, 8], [10, 12]]
    assert before["w"].array().tolist() == [[1, 2], [3, 4], [5, 6]]
    assert [node.op_type for node in copy.graph] == [node.op_type for node in graph.graph]
    assert after["s"].array().tolist() == [1, 2]


def test_half_precision_weights_stay_half_precision() -> None:
    graph = model("""g (float16[1,2] x) => (float16[1,2] y) <float16[2,2] w = {1,2,3,4}> { y = MatMul(x, w) }""")
    parameters = Parameters(Evaluator(graph), graph)
    copy = graph.clone()
    parameters.write(copy)
    assert constants(copy)["w"].dtype == ir.DataType.FLOAT16


def test_zeros_in_a_weight_do_not_move_and_those_of_a_zero_bias_do() -> None:
    graph = model("""g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {0,2,3,0}, float[2] b = {0,0}>
        { t = MatMul(x, w) y = Add(t, b) }""")
    parameters = Parameters(Evaluator(graph), graph)
    with torch.no_grad():
        for tensor in parameters.tensors.values():
            tensor.add_(1)
    copy = graph.clone()
    parameters.write(copy)
    assert constants(copy)["w"].array().tolist() == [[0, 3], [4, 0]]
    assert constants(copy)["b"].array().tolist() == [1, 1]


def test_a_tied_weight_gets_the_gradients_of_all_its_uses() -> None:
    graph = model("""g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1,0.5,0.5,1}>
        { t = MatMul(x, w) y = MatMul(t, w) }""")
    evaluator = Evaluator(graph)
    parameters = Parameters(evaluator, graph)
    found = evaluator.run({"x": torch.ones(1, 2)}, parameters.given())["y"].sum()
    found.backward()
    w = torch.tensor([[1, 0.5], [0.5, 1]], requires_grad=True)
    (torch.ones(1, 2) @ w @ w).sum().backward()
    assert torch.allclose(parameters.tensors["w"].grad, w.grad)


@pytest.mark.parametrize("opset", [9, 17])
def test_a_function_keeps_its_constants(opset: int) -> None:
    text = f"""<ir_version: 8, opset_import: ["": {opset}, "local": 1]>
    g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {{1,2,3,4}}> {{ t = MatMul(x, w) y = local.twice(t) }}
    <domain: "local", opset_import: ["": {opset}]> twice (a) => (b) {{
        k = Constant<value = float[2] {{2, 2}}>() b = Mul(a, k) }}"""
    graph = ir.from_onnx_text(text)
    parameters = Parameters(Evaluator(graph), graph)
    assert set(parameters.tensors) == {"w"}
    copy = graph.clone()
    parameters.write(copy)
    assert np.array_equal(constants(copy)["w"].array(), constants(graph)["w"].array())
    assert len(copy.functions) == 1
