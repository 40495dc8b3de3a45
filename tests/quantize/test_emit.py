"""Plans written into graphs: structure, checker, and numbers as close to the float model as the scales allow."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.quantize import emit
from optimizer.quantize.plan import Plan
from optimizer.runtime.session import open_session
from tests.quantize.emitted import IMAGE, OTHERS, PLAIN, WEIGHTED, net, slack
from tests.quantize.nets import evaluate, feeds, noise, normal, ops, planned, quantized


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weighted_op_is_off_by_no_more_than_its_scales_allow(name: str) -> None:
    model = net(*WEIGHTED[name])
    plan = planned(model, how=PLAIN)
    int8 = emit.emit(model, plan)
    (group,) = plan.groups
    step = plan.activations[group.output].scale if ops(int8)["QuantizeLinear"] > 1 else 0.0
    for feed in feeds(model):
        want, got = evaluate(model, feed)[0], evaluate(int8, feed)[0]
        most = slack(model, feed, plan.activations["x"], float(plan.weights[group.name].scales.max()), step)
        assert np.abs(got - want).max() <= most * 1.001
        assert noise(got, want) < 0.02


@pytest.mark.parametrize("name", OTHERS)
def test_another_op_is_off_by_little(name: str) -> None:
    model = net(*OTHERS[name])
    int8 = quantized(model)
    assert ops(int8)["QuantizeLinear"]
    for feed in feeds(model):
        want, got = evaluate(model, feed)[0], evaluate(int8, feed)[0]
        assert got.shape == want.shape
        assert noise(got, want) < 0.04


@pytest.mark.parametrize("name", [*WEIGHTED, *OTHERS])
def test_inputs_and_outputs_keep_names_types_shapes_and_order(name: str) -> None:
    model = net(*(WEIGHTED | OTHERS)[name])
    int8 = quantized(model)
    for ports in ("inputs", "outputs"):
        facts = [[(v.name, v.dtype, v.shape) for v in getattr(m.graph, ports)] for m in (model, int8)]
        assert facts[0] == facts[1]


@pytest.mark.parametrize("name", [*WEIGHTED, *OTHERS])
def test_the_runtime_agrees_with_the_reference(name: str) -> None:
    model = net(*(WEIGHTED | OTHERS)[name])
    plan = planned(model, how=PLAIN)
    int8 = emit.emit(model, plan)
    step = max(plan.activations[group.output].scale for group in plan.groups if group.output in plan.activations)
    for feed in feeds(model, 3):
        np.testing.assert_allclose(open_session(int8).run(feed)[0], evaluate(int8, feed)[0], atol=2.01 * step)


def test_the_model_planned_for_is_left_as_it_was() -> None:
    model = net(*WEIGHTED["Conv"])
    before = ir.to_proto(model).SerializeToString()
    quantized(model)
    assert ir.to_proto(model).SerializeToString() == before


def test_nothing_in_the_plan_changes_nothing() -> None:
    model = net(*WEIGHTED["Conv"])
    same = emit.emit(model, Plan((), {}, {}))
    assert ir.to_proto(same).SerializeToString() == ir.to_proto(model).SerializeToString()


def test_one_pair_of_nodes_serves_all_readers_of_a_value() -> None:
    model = net("float[3,4] x", "a = Sigmoid(x) b = LeakyRelu(x) y = Mul(a, b)", {})
    counts = ops(quantized(model))
    assert (counts["QuantizeLinear"], counts["DequantizeLinear"]) == (4, 4)


def test_a_graph_input_read_in_int8_and_in_float_reaches_the_float_reader_untouched() -> None:
    model = net("float[3,4] x", "a = Sigmoid(x) y = Tanh(x)", {}, "a, y")
    int8, feed = quantized(model), feeds(model)[0]
    np.testing.assert_array_equal(evaluate(int8, feed)[1], np.tanh(feed["x"]))
    tanh = next(node for node in int8.graph if node.op_type == "Tanh")
    assert tanh.inputs[0] is int8.graph.inputs[0]


def test_a_float_value_read_in_int8_and_in_float_keeps_its_float_reader() -> None:
    model = net("float[3,4] x", "t = Tanh(x) a = Sigmoid(t) y = Neg(t)", {}, "a, y")
    int8 = quantized(model)
    assert next(node for node in int8.graph if node.op_type == "Neg").inputs[0].name == "t"


def test_a_value_that_is_output_and_int8_input_is_both() -> None:
    model = net(IMAGE, "a = Conv(x, w, b) y = Sigmoid(a)", {"w": normal(6, 8, 3, 3), "b": normal(6)}, "a, y")
    int8, feed = quantized(model), feeds(model)[0]
    assert [value.name for value in int8.graph.outputs] == ["a", "y"]
    for got, want in zip(evaluate(int8, feed), evaluate(model, feed), strict=True):
        assert noise(got, want) < 0.02
    assert open_session(int8).outputs == ("a", "y")


def test_an_input_that_is_also_an_output_stays_itself() -> None:
    model = net("float[3,4] x", "y = Sigmoid(x)", {}, "float[3,4] x, float[3,4] y")
    int8, feed = quantized(model), feeds(model)[0]
    np.testing.assert_array_equal(evaluate(int8, feed)[0], feed["x"])


def test_one_value_may_be_two_outputs_by_way_of_a_view() -> None:
    model = net("float[3,4] x", "y = Sigmoid(x) z = Transpose(y)", {}, "y, z")
    int8, feed = quantized(model), feeds(model)[0]
    for got, want in zip(evaluate(int8, feed), evaluate(model, feed), strict=True):
        np.testing.assert_allclose(got, want, atol=0.02)


def test_relu_goes_and_the_saturation_of_uint8_stands_in_for_it() -> None:
    model = net(IMAGE, "a = Conv(x, w) y = Relu(a)", {"w": normal(6, 8, 3, 3)})
    plan = planned(model)
    int8 = emit.emit(model, plan)
    assert ops(int8)["Relu"] == 0
    assert plan.activations["y"].zero_point == 0
    assert evaluate(int8, feeds(model)[0])[0].min() == 0


def test_clip_goes_and_its_upper_bound_holds() -> None:
    bounds = {"lo": np.array(0, np.float32), "hi": np.array(6, np.float32)}
    model = net(IMAGE, "a = Conv(x, w) y = Clip(a, lo, hi)", {"w": normal(6, 8, 3, 3)} | bounds)
    int8 = quantized(model)
    assert ops(int8)["Clip"] == 0
    assert not {"lo", "hi"} & set(int8.graph.initializers)
    out = evaluate(int8, feeds(model)[0])[0]
    assert out.min() == 0
    assert out.max() <= 6


def test_a_relu_behind_a_product_that_writes_float_stays() -> None:
    model = net("float[2,8] x", "a = MatMul(x, w) r = Relu(a) y = Tanh(r)", {"w": normal(8, 4)})
    int8 = quantized(model)
    assert ops(int8)["Relu"] == 1
    assert ops(int8)["QuantizeLinear"] == 1
    for feed in feeds(model):
        assert noise(evaluate(int8, feed)[0], evaluate(model, feed)[0]) < 0.02


def test_a_product_read_by_int8_kernels_only_writes_uint8_and_loses_its_relu() -> None:
    model = net("float[2,8] x", "a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)", {"w": normal(8, 8), "v": normal(8, 4)})
    int8 = quantized(model)
    assert ops(int8)["Relu"] == 0
    assert ops(int8)["QuantizeLinear"] == 2
    for feed in feeds(model):
        assert noise(evaluate(int8, feed)[0], evaluate(model, feed)[0]) < 0.03


def test_a_product_of_matrices_with_a_bias_becomes_a_gemm_that_writes_uint8() -> None:
    body = "a = MatMul(x, w) s = Add(b, a) r = Relu(s) y = MatMul(r, v)"
    model = net("float[2,8] x", body, {"w": normal(8, 8), "b": normal(8), "v": normal(8, 4)})
    int8 = quantized(model)
    assert (ops(int8)["Relu"], ops(int8)["Add"], ops(int8)["Gemm"], ops(int8)["QuantizeLinear"]) == (0, 0, 1, 2)
    for feed in feeds(model):
        assert noise(evaluate(int8, feed)[0], evaluate(model, feed)[0]) < 0.03


def test_a_product_with_a_bias_writes_float_whoever_reads_it() -> None:
    body = "a = MatMul(x, w) s = Add(a, b) r = Relu(s) y = MatMul(r, v)"
    model = net("float[1,2,8] x", body, {"w": normal(8, 8), "b": normal(8), "v": normal(8, 4)})
    int8 = quantized(model)
    assert (ops(int8)["Relu"], ops(int8)["Add"]) == (1, 1)
    for feed in feeds(model):
        assert noise(evaluate(int8, feed)[0], evaluate(model, feed)[0]) < 0.03


def test_all_outputs_of_a_split_share_the_parameters_of_its_input() -> None:
    model = net(*OTHERS["Split"], outputs="a, y, c")
    plan = planned(model)
    assert len({plan.activations[name] for name in "xayc"}) == 1
    int8, feed = emit.emit(model, plan), feeds(model)[0]
    for got, want in zip(evaluate(int8, feed), evaluate(model, feed), strict=True):
        np.testing.assert_allclose(got, want, atol=plan.activations["x"].scale * 0.501)


def test_an_output_of_a_split_that_nobody_reads_does_no_harm() -> None:
    model = net(IMAGE, "p, q = Split <axis = 1, num_outputs = 2> (x) y = Sigmoid(q)", {})
    int8, feed = quantized(model), feeds(model)[0]
    np.testing.assert_allclose(evaluate(int8, feed)[0], evaluate(model, feed)[0], atol=0.02)
    assert open_session(int8).run(feed)[0].shape == (1, 4, 6, 6)


def test_a_weight_of_two_readers_is_kept_once() -> None:
    model = net("float[2,8] x", "a = MatMul(x, w) t = Tanh(a) y = MatMul(t, w)", {"w": normal(8, 8)})
    int8 = quantized(model)
    stored = [value for value in int8.graph.initializers.values() if value.dtype == ir.DataType.INT8 and value.shape]
    assert len([value for value in stored if len(value.shape or ()) == 2]) == 1
    assert "w" not in int8.graph.initializers
    for feed in feeds(model):
        assert noise(evaluate(int8, feed)[0], evaluate(model, feed)[0]) < 0.03


def test_a_weight_read_along_and_across_keeps_scales_for_each() -> None:
    body = "a = MatMul(x, w) t = Tanh(a) y = Gemm <transB = 1> (t, w)"
    model = net("float[2,8] x", body, {"w": normal(8, 8) * np.geomspace(0.01, 1, 8, dtype=np.float32)})
    int8 = quantized(model)
    for feed in feeds(model):
        assert noise(evaluate(int8, feed)[0], evaluate(model, feed)[0]) < 0.03


def test_a_weight_that_a_float_node_reads_too_stays_for_it() -> None:
    body = "a = MatMul(x, w) n = Neg(w) y = MatMul(a, n)"
    model = net("float[2,8] x", body, {"w": normal(8, 8)})
    int8 = quantized(model, keep=[next(str(node.name) for node in model.graph)])
    assert "w" in int8.graph.initializers
    assert noise(evaluate(int8, feeds(model)[0])[0], evaluate(model, feeds(model)[0])[0]) < 0.03


def test_a_bias_shared_by_two_convolutions_serves_both() -> None:
    body = "a = Conv(x, w, b) t = Tanh(a) y = Conv(t, v, b)"
    model = net(IMAGE, body, {"w": normal(6, 8, 1, 1), "v": normal(6, 6, 1, 1), "b": normal(6)})
    for feed in feeds(model):
        assert noise(evaluate(quantized(model), feed)[0], evaluate(model, feed)[0]) < 0.03


def test_a_constant_operand_shared_by_two_additions_serves_both() -> None:
    model = net("float[3,4] x", "a = Add(x, c) t = Tanh(a) y = Mul(t, c)", {"c": normal(4)})
    for feed in feeds(model):
        assert noise(evaluate(quantized(model), feed)[0], evaluate(model, feed)[0]) < 0.04


def test_a_reader_inside_a_body_gets_the_value_under_its_name() -> None:
    body = """s = Sigmoid(x) y = If (c) <then_branch = t () => (float[3,4] p) { p = Neg(s) },
                                         else_branch = e () => (float[3,4] q) { q = Abs(s) }>"""
    model = net("float[3,4] x, bool c", body, {})
    int8 = quantized(model)
    for flag in (True, False):
        feed = feeds(model)[0] | {"c": np.array(flag)}
        np.testing.assert_allclose(open_session(int8).run(feed)[0], evaluate(model, feed)[0], atol=0.01)


def test_hard_sigmoid_saturates_at_exactly_zero_and_one() -> None:
    model = net(*OTHERS["HardSigmoid steep"])
    out = evaluate(quantized(model, samples=feeds(model, scale=3)), feeds(model, scale=3)[0])[0]
    assert (out.min(), out.max()) == (0, pytest.approx(1, abs=1e-6))


def test_a_name_that_emission_would_give_may_be_taken_already() -> None:
    arrays = {"x_scale": normal(4), "x_zero_point": normal(4)}
    body = "x_quantized = Sigmoid(x) a = Mul(x_quantized, x_scale) y = Add(a, x_zero_point)"
    model = net("float[3,4] x", body, arrays)
    for feed in feeds(model):
        assert noise(open_session(quantized(model)).run(feed)[0], evaluate(model, feed)[0]) < 0.05
