"""The runtime's own graph is asked what became of each group."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from optimizer.quantize import emit, verify
from optimizer.quantize.plan import Plan
from optimizer.quantize.qparams import QParams
from optimizer.quantize.verify import Names
from tests.quantize.nets import build, normal, ops, planned

CONV_RELU = "g (float[1,8,6,6] x) => (y) { a = Conv(x, w, b) y = Relu(a) }"
ARRAYS = {"w": normal(6, 8, 3, 3), "b": normal(6)}


def shifted(plan: Plan, name: str) -> Plan:
    """The plan with a zero point that leaves room below zero in a value that has none there."""
    wrong = QParams(plan.activations[name].scale, 128)
    return dataclasses.replace(plan, activations=plan.activations | {name: wrong})


def test_groups_that_became_int8_kernels_are_not_mentioned() -> None:
    model = build(CONV_RELU, ARRAYS)
    plan = planned(model)
    assert verify.unfused(emit.emit(model, plan), plan) == {}


def test_a_relu_that_stayed_behind_its_convolution_keeps_both_in_float_and_is_told() -> None:
    """With a zero point other than 0 the Q behind a Relu does not do the Relu's work."""
    model = build(CONV_RELU, ARRAYS)
    plan = planned(model)
    (group,) = plan.groups
    kept = dataclasses.replace(group, nodes=group.nodes[:1], low=-np.inf)
    unabsorbed = shifted(dataclasses.replace(plan, groups=(kept,)), "y")
    copy = emit.emit(model, dataclasses.replace(unabsorbed, groups=()))
    assert ops(copy)["Relu"] == 1
    # The graph as a naive quantizer would write it: Q behind the Relu, with the wrong zero point.
    naive = emit._Writer(copy.graph, unabsorbed)
    head = naive.nodes[group.name]
    head.replace_input_with(0, naive._dequantized("x"))
    naive._weigh(group, head, plan.weights[group.name])
    result = naive._dequantized("y")
    naive.swap_output(naive.values["y"], result)
    assert verify.unfused(copy, plan) == {group.name: "onnxruntime did not fuse this Conv into an int8 kernel"}


def test_a_group_that_is_still_float_in_the_model_is_told() -> None:
    model = build(CONV_RELU, ARRAYS)
    plan = planned(model)
    assert verify.unfused(model, plan).keys() == {plan.groups[0].name}


def test_products_in_dynamic_form_are_recognized() -> None:
    model = build("g (float[2,64] x) => (y) { h = Gemm(x, w, b) r = Tanh(h) y = MatMul(r, w) }",
                  {"w": normal(64, 64), "b": normal(64)})  # fmt: skip
    names = [group.name for group in planned(model).groups]
    plan = planned(model, dynamic=names)
    assert [group.op for group in plan.groups] == ["Gemm", "MatMul"]
    assert verify.unfused(emit.emit(model, plan), plan) == {}
    assert verify.unfused(model, plan).keys() == set(names)


def test_a_view_between_float_kernels_is_told() -> None:
    """Its Q and DQ would cost two kernels more than the view in float."""
    model = build("g (float[2,4] x) => (y) { t = Tanh(x) r = Transpose(t) y = Neg(r) }")
    plan = planned(model)
    found = verify.unfused(emit.emit(model, plan), plan)
    assert set(found) <= {plan.groups[0].name}


def test_all_groups_of_a_larger_net_are_found_again_under_the_runtimes_names() -> None:
    body = """a = Conv(x, w, b) r = Relu(a) s = Sigmoid(r) m = Mul(r, s) p = GlobalAveragePool(m)
              f = Flatten(p) y = Gemm(f, v)"""
    model = build(f"g (float[1,8,6,6] x) => (y) {{ {body} }}", ARRAYS | {"v": normal(6, 4)})
    plan = planned(model)
    assert len(plan.groups) == 6
    assert verify.unfused(emit.emit(model, plan), plan) == {}


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("conv1", "conv1"),
        ("conv1_token_3", "conv1"),
        ("conv10", None),
        ("conv1/add", "conv1/add"),
        ("conv1/add_quant", "conv1/add"),
        ("conv1/addition", "conv1"),
        ("other", None),
        ("", None),
    ],
)
def test_an_optimized_node_belongs_to_the_longest_name_that_begins_its_own(name: str, owner: str | None) -> None:
    assert Names(["conv1", "conv1/add"]).owner(name) == owner
