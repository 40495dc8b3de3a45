"""What becomes one group: which nodes a kernel absorbs, and which it must leave behind it."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.quantize import groups
from tests.quantize.nets import Array, build, group, normal

CONV = {"w": normal(4, 3, 3, 3), "b": normal(4)}
MATMUL = {"w": normal(6, 5), "b": normal(5)}
SIX, ZERO, ONE, MINUS = (np.array(value, np.float32) for value in (6, 0, 1, -1))


def conv(behind: str, arrays: dict[str, Array] | None = None, **options: int) -> ir.Model:
    text = "g (float[1,3,8,8] x, float v) => (float[1,4,6,6] y) { a = Conv(x, w, b) " + behind + " }"
    return build(text, CONV | (arrays or {}), **options)


def matmul(behind: str, arrays: dict[str, Array] | None = None, x: str = "float[2,6]") -> ir.Model:
    return build("g (" + x + " x, float[2,5] v) => (y) { a = MatMul(x, w) " + behind + " }", MATMUL | (arrays or {}))


def members(net: ir.Model, op: str) -> list[str]:
    names = {node.name: node.op_type for node in net.graph}
    return [names[name] for name in group(net, op).nodes]


def test_a_lone_convolution_is_a_group_with_its_weight_and_bias() -> None:
    found = group(conv("y = Identity(a)"), "Conv")
    assert (found.inputs, found.outputs, found.weight, found.bias) == (("x",), ("a",), "w", "b")
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_relu_is_absorbed_as_a_bound_of_zero() -> None:
    net = conv("y = Relu(a)")
    assert members(net, "Conv") == ["Conv", "Relu"]
    assert (group(net, "Conv").low, group(net, "Conv").high, group(net, "Conv").output) == (0, math.inf, "y")


def test_clip_is_absorbed_with_its_bounds() -> None:
    found = group(conv("y = Clip(a, lo, hi)", {"lo": ZERO, "hi": SIX}), "Conv")
    assert (len(found.nodes), found.low, found.high) == (2, 0, 6)


def test_a_clip_without_one_of_its_bounds_is_absorbed_too() -> None:
    found = group(conv('y = Clip(a, "", hi)', {"hi": SIX}), "Conv")
    assert (found.low, found.high) == (-math.inf, 6)
    found = group(conv("y = Clip(a, lo)", {"lo": MINUS}), "Conv")
    assert (found.low, found.high) == (-1, math.inf)


def test_the_attributes_of_an_old_clip_are_its_bounds() -> None:
    found = group(conv("y = Clip <min = 0.0, max = 6.0> (a)", opset=10), "Conv")
    assert (len(found.nodes), found.low, found.high) == (2, 0, 6)


@pytest.mark.parametrize(("low", "high"), [(ONE, SIX), (MINUS, ZERO), (MINUS - 5, MINUS)])
def test_a_clip_that_keeps_zero_out_of_its_range_stays(low: Array, high: Array) -> None:
    assert members(conv("y = Clip(a, lo, hi)", {"lo": low, "hi": high}), "Conv") == ["Conv"]


def test_a_clip_to_a_computed_bound_stays() -> None:
    assert members(conv("y = Clip(a, v)"), "Conv") == ["Conv"]


def test_nothing_is_absorbed_behind_a_value_that_others_read() -> None:
    net = conv("r = Relu(a) s = Neg(a) y = Add(r, s)")
    assert members(net, "Conv") == ["Conv"]
    assert groups.partition(net).floats.keys() >= {node.name for node in net.graph if node.op_type in ("Relu", "Neg")}


def test_nothing_is_absorbed_behind_a_graph_output() -> None:
    text = "g (float[1,3,8,8] x) => (float[1,4,6,6] a, float[1,4,6,6] y) { a = Conv(x, w, b) y = Relu(a) }"
    assert members(build(text, CONV), "Conv") == ["Conv"]


def test_a_reader_inside_a_subgraph_keeps_the_value_alive() -> None:
    net = conv(
        """c = Cast <to = 9> (v)
        y = If (c) <then_branch = t () => (float[1,4,6,6] p) { p = Relu(a) },
                    else_branch = e () => (float[1,4,6,6] q) { q = Neg(a) }>"""
    )
    assert members(net, "Conv") == ["Conv"]


def test_a_relu_in_a_subgraph_is_not_absorbed_even_as_the_only_reader() -> None:
    net = conv(
        """c = Cast <to = 9> (v)
        y = If (c) <then_branch = t () => (float[1,4,6,6] p) { p = Relu(a) },
                    else_branch = e () => (float[1,4,6,6] q) { q = Constant <value = float[1] {0.0}> () }>"""
    )
    assert members(net, "Conv") == ["Conv"]


@pytest.mark.parametrize("add", ["Add(a, b)", "Add(b, a)"])
def test_a_bias_behind_a_matmul_is_absorbed_and_so_is_the_relu_behind_that(add: str) -> None:
    net = matmul(f"s = {add} y = Relu(s)")
    assert members(net, "MatMul") == ["MatMul", "Add", "Relu"]
    assert (group(net, "MatMul").bias, group(net, "MatMul").weight, group(net, "MatMul").low) == ("b", "w", 0)


def test_a_bias_may_come_as_a_row() -> None:
    assert members(matmul("y = Add(a, b)", {"b": normal(1, 5)}), "MatMul") == ["MatMul", "Add"]


@pytest.mark.parametrize("shape", [(2, 1), (1,), (), (2, 5)])
def test_what_is_no_value_per_channel_is_no_bias(shape: tuple[int, ...]) -> None:
    assert members(matmul("y = Add(a, b)", {"b": normal(*shape)}), "MatMul") == ["MatMul"]


def test_a_bias_that_adds_an_axis_is_no_bias() -> None:
    assert members(matmul("y = Add(a, b)", {"b": normal(1, 1, 5)}), "MatMul") == ["MatMul"]


def test_an_activation_added_behind_a_matmul_is_a_group_of_its_own() -> None:
    net = matmul("y = Add(a, v)")
    assert members(net, "MatMul") == ["MatMul"]
    assert group(net, "Add").inputs == ("a", "v")


def test_a_product_of_activations_has_no_weight() -> None:
    net = build("g (float[2,4] x, float[4,3] v) => (y) { a = MatMul(x, v) y = Relu(a) }")
    found = group(net, "MatMul")
    assert (found.rule.role, found.weight, found.inputs, len(found.nodes)) == ("product", None, ("x", "v"), 2)


def test_additions_and_multiplications_absorb_a_relu() -> None:
    for op in ("Add", "Mul"):
        assert members(build(f"g (float[4] x, float[4] v) => (y) {{ a = {op}(x, v) y = Relu(a) }}"), op) == [op, "Relu"]


@pytest.mark.parametrize("op", ["Sigmoid", "LeakyRelu", "GlobalAveragePool", "MaxPool <kernel_shape = [2, 2]>"])
def test_other_kernels_absorb_nothing(op: str) -> None:
    net = build(f"g (float[1,2,4,4] x) => (y) {{ a = {op} (x) y = Relu(a) }}")
    assert members(net, op.split()[0]) == [op.split()[0]]


def test_a_value_read_twice_by_one_node_is_one_input() -> None:
    assert group(build("g (float[4] x) => (y) { y = Mul(x, x) }"), "Mul").inputs == ("x",)


def test_constants_are_no_activations() -> None:
    assert group(build("g (float[4] x) => (y) { y = Mul(x, c) }", {"c": normal(4)}), "Mul").inputs == ("x",)


def test_a_view_reads_one_activation_and_writes_all_its_outputs() -> None:
    net = build("g (float[1,4] x) => (a, b, c) { a, b, c = Split <axis = 1> (x, n) }", {"n": np.array([1, 1, 2])})
    assert (group(net, "Split").inputs, group(net, "Split").outputs) == (("x",), ("a", "b", "c"))


def test_every_node_is_in_one_group_or_has_a_reason() -> None:
    net = conv("r = Relu(a) t = Tanh(r) s = Sigmoid(t) y = Mul(r, s)")
    found = groups.partition(net)
    inside = [name for one in found.groups for name in one.nodes]
    assert sorted([*inside, *found.floats]) == sorted(str(node.name) for node in net.graph)
    assert found.floats == {next(node.name for node in net.graph if node.op_type == "Tanh"): "Tanh has no int8 kernel"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (double[4] x, double[4] v) => (y) { y = Add(x, v) }", "works on double values"),
        ("g (float16[4] x, float16[4] v) => (y) { y = Mul(x, v) }", "works on float16 values"),
        ("g (int64[4] x) => (y) { y = Reshape(x, s) }", "works on int64 values"),
        ("g (int64[4] x, int64[4] v) => (y) { y = Concat <axis = 0> (x, v) }", "works on int64 values"),
        ("g (float[4] x) => (y) { z = Reshape(c, s) y = Sub(x, z) }", "what it reads is constant"),
    ],
)
def test_int8_stands_for_float32_activations_only(text: str, reason: str) -> None:
    net = build(text, {"s": np.array([2, 2]), "c": normal(4)} if "s" in text.split("=>")[1] else {})
    assert reason in groups.partition(net).floats.values()


def test_a_value_of_unknown_type_is_left_alone() -> None:
    net = build("g (float[4] x) => (float[4] y) { a = Sigmoid(x) y = Neg(a) }")
    net.graph[0].outputs[0].type = None
    assert "the type of its values is not known" in groups.partition(net).floats.values()


def test_a_bias_behind_the_product_of_a_vector_is_none_for_it_would_gain_an_axis() -> None:
    net = build("g (float[6] x) => (y) { a = MatMul(x, w) y = Add(a, b) }", MATMUL)
    assert members(net, "MatMul") == ["MatMul"]
