"""Shape inference: on a light copy, into subgraphs, never fatal."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.model import shapes
from tests.builders import model

BRANCHES = """
agraph (float[N, 4] x, bool c) => (float[M, K] y) {
    y = If (c) <
        then_branch = t () => (z) { h = Relu (x)  z = Concat <axis = 1> (h, x) },
        else_branch = e () => (z) { h = Concat <axis = 1> (x, x)  z = Sigmoid (h) }
    >
}"""


def named(found: ir.Model, name: str) -> list[ir.Value]:
    return [v for graph in found.graphs() for node in graph for v in node.outputs if v.name == name]


def test_symbols_are_kept_and_can_be_replaced() -> None:
    net = model("agraph (float[N, 4] x) => (float[N, 4] y) { h = Relu (x)  y = Sigmoid (h) }")
    assert shapes.infer(net) is None
    assert str(named(net, "h")[0].shape) == "[N,4]"
    assert shapes.symbols(net) == ("N",)
    assert shapes.infer(net, {"N": 3}) is None
    assert shapes.static(named(net, "h")[0]) == (3, 4)
    assert shapes.static(net.graph.inputs[0]) == (3, 4)


def test_branches_that_use_the_same_names_keep_their_own_shapes() -> None:
    net = model(BRANCHES)
    shapes.infer(net)
    assert [str(value.shape) for value in named(net, "h")] == ["[N,4]", "[N,8]"]
    assert [str(value.shape) for value in named(net, "z")] == ["[N,8]", "[N,8]"]


def test_a_stale_shape_in_the_file_gives_way_to_the_inferred_one() -> None:
    net = model("agraph (float[2, 4] x) => (float[2, 4] y) <float[2, 5] h> { h = Relu (x)  y = Sigmoid (h) }")
    assert shapes.infer(net) is None
    assert shapes.static(named(net, "h")[0]) == (2, 4)


def test_the_shape_of_an_unknown_operator_is_taken_from_the_file() -> None:
    net = model(
        "agraph (float[2, 4] x) => (float[A, B] y) <float[2, 5] h> { h = my.domain.Mystery (x)  y = Relu (h) }",
        extra_opsets=', "my.domain" : 1',
    )
    assert shapes.infer(net) is None
    assert shapes.static(named(net, "y")[0]) == (2, 5)


def test_bytes_of_big_tensors_are_not_touched() -> None:
    def read() -> ir.TensorProtocol:
        raise AssertionError("the tensor was read")

    net = model("agraph (float[N, 100000] x) => (float[N, 100000] y) { y = MatMul (x, w) }")
    weight = ir.LazyTensor(read, dtype=ir.DataType.FLOAT, shape=ir.Shape((100_000, 100_000)), name="w")
    value = next(v for v in net.graph.node(0).inputs if v is not None and v.name == "w")
    value.const_value = weight
    net.graph.register_initializer(value)
    assert shapes.infer(net) is None
    assert str(named(net, "y")[0].shape) == "[N,100000]"
    assert value.const_value is weight


def test_small_integer_tensors_feed_shape_arithmetic() -> None:
    net = model("""
    agraph (float[2, 12] x) => (float[A, B, C] y) <int64[3] target = {2, 3, -1}> { y = Reshape (x, target) }""")
    shapes.infer(net)
    assert shapes.static(named(net, "y")[0]) == (2, 3, 4)


def test_a_node_that_makes_no_sense_leaves_shapes_unknown() -> None:
    net = model("agraph (float[2, 3] x, float[7, 5] w) => (float[A, B] y) { h = MatMul (x, w)  y = Relu (h) }")
    note = shapes.infer(net)
    assert note is None or "shapes could not be inferred" in note
    assert shapes.static(named(net, "h")[0]) is None


def test_a_constant_attribute_keeps_its_value() -> None:
    net = model("agraph (float[1] x) => (float[A] y) { c = Constant <value = float[2] {1., 2.}> ()  y = Add (x, c) }")
    shapes.infer(net)
    constant = net.graph.node(0).attributes["value"].as_tensor().numpy()
    np.testing.assert_array_equal(constant, [1, 2])
    assert shapes.static(named(net, "y")[0]) == (2,)


def test_ops_of_the_runtime_are_inferred_as_what_they_stand_for() -> None:
    text = """agraph (uint8[N, 4, 6] x, float s, uint8 z, float[N, 5] f, float[5] b) => (a, h) {
        c = com.microsoft.QLinearConcat <axis = 1> (s, z, x, s, z, x, s, z)
        p = com.microsoft.QLinearGlobalAveragePool (c, s, z, s, z)
        a = com.microsoft.QLinearAdd (p, s, z, p, s, z, s, z)
        g = com.microsoft.BiasGelu (f, b)
        n = SimplifiedLayerNormalization (g, b)  h = com.microsoft.SkipLayerNormalization (n, g, b, b) }"""
    net = model(text, extra_opsets=', "com.microsoft" : 1')
    assert shapes.infer(net) is None
    assert [str(named(net, name)[0].shape) for name in "cpagnh"] == ["[N,8,6]", *["[N,8,1]"] * 2, *["[N,5]"] * 3]
    assert [named(net, name)[0].dtype for name in "cg"] == [ir.DataType.UINT8, ir.DataType.FLOAT]
    assert {node.domain for node in net.graph} == {"com.microsoft", ""}


def test_rows_that_a_scaler_prepares_keep_their_shape() -> None:
    net = model(
        """agraph (double[N, 4] x) => (float[N, 4] y, double[N, 4] z) {
        a = ai.onnx.ml.Scaler <offset = [0.5], scale = [2.0]> (x)  y = Relu (a)  z = ai.onnx.ml.Imputer (x) }""",
        extra_opsets=', "ai.onnx.ml" : 1',
    )
    assert shapes.infer(net) is None
    scaled = named(net, "a")[0]
    assert (str(scaled.shape), scaled.dtype) == ("[N,4]", ir.DataType.FLOAT)


def test_a_pool_with_the_channels_last_stands_for_nothing() -> None:
    text = """agraph (uint8[1, 3, 6, 4] x, float s, uint8 z) => (p) {
        p = com.microsoft.QLinearGlobalAveragePool <channels_last = 1> (x, s, z, s, z) }"""
    net = model(text, extra_opsets=', "com.microsoft" : 1')
    assert shapes.infer(net) is None
    assert named(net, "p")[0].shape is None
