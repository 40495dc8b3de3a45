"""Means that rounding the inputs of a layer moves come back in its bias."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.quantize import emit, shift
from optimizer.quantize.plan import Plan
from optimizer.quantize.qparams import from_range
from tests.quantize.nets import Array, build, evaluate, feeds, normal, planned

NETS = {
    "matrix": ("g (float[16,8] x) => (y) { y = Gemm(x, w, b) }", {"w": normal(8, 6), "b": normal(6)}, "x"),
    "image": ("g (float[2,8,9,9] x) => (y) { y = Conv(x, w, b) }", {"w": normal(6, 8, 3, 3), "b": normal(6)}, "x"),
    "groups": (
        "g (float[2,8,9,9] x) => (y) { y = Conv <group = 4> (x, w, b) }", {"w": normal(8, 2, 3, 3), "b": normal(8)}, "x"
    ),
    "within": (
        "g (float[16,8] x) => (y) { h = MatMul(x, w)  a = Add(h, b)  r = Relu(a)  m = MatMul(r, v)  y = Add(m, c) }",
        {"w": normal(8, 6), "b": normal(6), "v": normal(6, 4), "c": normal(4)}, "r",
    ),
}  # fmt: skip


def cut(plan: Plan, name: str) -> Plan:
    """`plan` with a range that cuts off much on one side of the value called `name`."""
    params = plan.activations[name]
    return dataclasses.replace(plan, activations={**plan.activations, name: from_range(params.low, params.high / 4)})


def means(model: ir.Model) -> Array:
    found = [evaluate(model, feed)[0] for feed in feeds(model, 4)]
    axes = (0, 2, 3) if found[0].ndim == 4 else (0,)
    return np.asarray(np.mean([array.mean(axes) for array in found], axis=0))


@pytest.mark.parametrize("case", NETS)
def test_the_mean_of_each_output_channel_comes_back(case: str) -> None:
    text, arrays, name = NETS[case]
    model = build(text, arrays)
    plan = cut(planned(model), name)
    wanted = means(model)
    before = np.abs(means(emit.emit(model, plan)) - wanted).max()
    after = np.abs(means(emit.emit(model, shift.corrected(model, plan, feeds(model, 4)))) - wanted).max()
    assert before > 0.1
    assert after < before / 5


def test_what_has_no_bias_or_finds_its_range_itself_stays() -> None:
    model = build("g (float[4,8] x) => (y) { h = MatMul(x, w)  y = Gemm(h, v, c) }",
                  {"w": normal(8, 8), "v": normal(8, 4), "c": normal(4)})  # fmt: skip
    names = [group.name for group in planned(model).groups]
    plan = planned(model, dynamic=names[1:])
    assert shift.corrected(model, plan, feeds(model, 2)) == plan
