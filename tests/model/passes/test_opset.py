# ruff: noqa: E501
"""Every change between opsets 7 and 17 keeps the function; what cannot be converted leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.model import io, shapes
from optimizer.model.passes.edit import opset
from optimizer.model.passes.opset import upgrade
from tests.model.passes.numbers import assert_same, build, ops

ONE = np.ones(1, np.float32)
RAMP = np.arange(6, dtype=np.float32).reshape(2, 3)

CONVERTED: dict[str, tuple[int, str, dict[str, np.ndarray]]] = {
    "squeeze": (11, "agraph (float[2,1,3] x) => (float[A,B] y) { y = Squeeze <axes = [1]> (x) }", {}),
    "squeeze of all": (11, "agraph (float[2,1,3] x) => (float[A,B] y) { y = Squeeze (x) }", {}),
    "unsqueeze": (11, "agraph (float[2,3] x) => (float[A,B,C] y) { y = Unsqueeze <axes = [0]> (x) }", {}),
    "reduce sum": (11, "agraph (float[2,3] x) => (float[A] y) { y = ReduceSum <axes = [1], keepdims = 0> (x) }", {}),
    "reduce sum of all": (11, "agraph (float[2,3] x) => (float[A,B] y) { y = ReduceSum (x) }", {}),
    "reduce mean": (11, "agraph (float[2,3] x) => (float[A,B] y) { y = ReduceMean <axes = [1]> (x) }", {}),
    "split": (11, "agraph (float[2,3] x) => (float[A,B] y, float[C,D] z) { y, z = Split <axis = 1, split = [1, 2]> (x) }", {}),
    "split in halves": (11, "agraph (float[2,4] x) => (float[A,B] y, float[C,D] z) { y, z = Split <axis = 1> (x) }", {}),
    "slice": (9, "agraph (float[4,5] x) => (float[A,B] y) { y = Slice <starts = [1], ends = [-1], axes = [1]> (x) }", {}),
    "slice without axes": (9, "agraph (float[4,5] x) => (float[A,B] y) { y = Slice <starts = [1, 2], ends = [3, 9]> (x) }", {}),
    "top k": (9, "agraph (float[4,5] x) => (float[A,B] y, int64[C,D] z) { y, z = TopK <k = 2, axis = 1> (x) }", {}),
    "clip": (10, "agraph (float[4,5] x) => (float[A,B] y) { y = Clip <min = -1.0, max = 2.0> (x) }", {}),
    "clip below": (10, "agraph (float[4,5] x) => (float[A,B] y) { h = Relu (x) y = Clip <max = 2.0> (h) }", {}),
    "pad": (10, "agraph (float[4,5] x) => (float[A,B] y) { y = Pad <pads = [0, 1, 2, 0], value = 3.0> (x) }", {}),
    "pad by reflection": (10, 'agraph (float[4,5] x) => (float[A,B] y) { y = Pad <mode = "reflect", pads = [0, 1, 2, 0]> (x) }', {}),
    "upsample 7": (7, "agraph (float[1,2,3,4] x) => (float[A,B,C,D] y) { y = Upsample <scales = [1.0, 1.0, 2.0, 3.0]> (x) }", {}),
    "upsample 9": (9, "agraph (float[1,2,3,4] x) => (float[A,B,C,D] y) { y = Upsample (x, s) }", {"s": np.array([1, 1, 2, 1.5], np.float32)}),
    "linear upsample": (9, 'agraph (float[1,2,3,4] x) => (float[A,B,C,D] y) { y = Upsample <mode = "linear"> (x, s) }', {"s": np.array([1, 1, 2, 3], np.float32)}),
    "resize 10": (10, "agraph (float[1,2,3,4] x) => (float[A,B,C,D] y) { y = Resize (x, s) }", {"s": np.array([1, 1, 1.7, 2], np.float32)}),
    "linear resize 10": (10, 'agraph (float[1,2,6,8] x) => (float[A,B,C,D] y) { y = Resize <mode = "linear"> (x, s) }', {"s": np.array([1, 1, 0.5, 2], np.float32)}),
    "resize 11": (11, "agraph (float[1,2,3,4] x) => (float[A,B,C,D] y) { y = Resize (x, r, s) }", {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 2], np.float32)}),
    "dropout": (7, "agraph (float[4,5] x) => (float[A,B] y) { y = Dropout <ratio = 0.3> (x) }", {}),
    "dropout with an unread mask": (9, "agraph (float[4,5] x) => (float[A,B] y) { y, m = Dropout (x) }", {}),
    "batch norm": (7, "agraph (float[1,1,4] x) => (float[A,B,C] y) { y = BatchNormalization <spatial = 1> (x, o, o, o, o) }", {"o": ONE}),
    "scatter": (9, "agraph (float[2,3] x) => (float[A,B] y) { y = Scatter <axis = 1> (x, i, u) }", {"i": np.array([[1], [2]]), "u": RAMP[:, :1]}),
    "softmax along the last axis": (11, "agraph (float[2,3] x) => (float[A,B] y) { y = Softmax <axis = 1> (x) }", {}),
    "softmax by default": (7, "agraph (float[2,3] x) => (float[A,B] y) { y = Softmax (x) }", {}),
    "softmax over what ends in ones": (9, "agraph (float[2,3,1,1] x) => (float[A,B,C,D] y) { y = Softmax (x) }", {}),
    "softmax over several axes": (9, "agraph (float[2,3,4] x) => (float[A,B,C] y) { y = Softmax (x) }", {}),
    "softmax over a middle axis from behind": (11, "agraph (float[2,3,4] x) => (float[A,B,C] y) { y = Softmax <axis = -2> (x) }", {}),
    "log softmax": (9, "agraph (float[2,3,4] x) => (float[A,B,C] y) { y = LogSoftmax <axis = 1> (x) }", {}),
    "hardmax": (9, "agraph (float[2,3,4] x) => (float[A,B,C] y) { y = Hardmax <axis = 1> (x) }", {}),
    "roi align": (10, "agraph (float[1,1,8,8] x) => (float[A,B,C,D] y) { y = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2> (x, r, i) }",
                  {"r": np.array([[1, 1, 5, 6]], np.float32), "i": np.array([0])}),
    "lstm": (9, "agraph (float[3,1,2] x) => (float[A,B,C,D] y) { y = LSTM <hidden_size = 1> (x, w, r) }", {"w": np.ones((1, 4, 2), np.float32), "r": np.ones((1, 4, 1), np.float32)}),
}  # fmt: skip


@pytest.mark.parametrize("target", [13, 17])
@pytest.mark.parametrize("case", CONVERTED)
def test_the_function_stays_when_the_opset_rises(case: str, target: int) -> None:
    version, text, weights = CONVERTED[case]
    net = build(text, weights, opset=version)
    shapes.infer(net)
    before = net.clone()
    assert upgrade(net, target) is None
    assert opset(net) == target
    assert_same(before, net, rtol=1e-6)


def test_a_softmax_that_needs_it_is_flattened_and_restored() -> None:
    net = build(CONVERTED["softmax over several axes"][1], opset=9)
    shapes.infer(net)
    upgrade(net)
    assert set(ops(net)) == {"Flatten", "Softmax", "Shape", "Reshape"}


def test_a_softmax_in_a_branch_is_converted_too() -> None:
    net = build("""agraph (float[2,3] x, bool c) => (float[A,B] y) {
        y = If (c) <then_branch = t () => (a) { a = Softmax (x) }, else_branch = e () => (b) { b = Relu (x) }> }""",
                opset=11)  # fmt: skip
    shapes.infer(net)
    assert upgrade(net) is None
    branch = net.graph.node(0).attributes["then_branch"].as_graph()
    assert branch.node(0).attributes["axis"].as_int() == 1


REFUSED: dict[str, tuple[int, str, dict[str, np.ndarray], str]] = {
    "an old opset": (6, "agraph (float[4] x) => (float[A] y) { y = Relu (x) }", {}, "broadcast by attribute"),
    "a mask that is read": (9, "agraph (float[4] x) => (float[A] y, float[B] m) { y, m = Dropout (x) }", {}, "mask that is read"),
    "statistics per pixel": (7, "agraph (float[1,1,1] x) => (float[A,B,C] y) { y = BatchNormalization <spatial = 0> (x, o, o, o, o) }", {"o": ONE}, "per pixel"),
    "shrinking to the nearest": (10, "agraph (float[1,1,4] x) => (float[A,B,C] y) { y = Resize (x, s) }", {"s": np.array([1, 1, 0.5], np.float32)}, "shrink"),
    "unknown scales": (10, "agraph (float[1,1,4] x, float[3] s) => (float[A,B,C] y) { y = Resize (x, s) }", {}, "shrink"),
    "a sampling that went": (11, 'agraph (float[1,1,4] x) => (float[A,B,C] y) { y = Resize <coordinate_transformation_mode = "tf_half_pixel_for_nn"> (x, r, s) }',
                             {"r": np.zeros(0, np.float32), "s": np.ones(3, np.float32)}, "tf_half_pixel"),
    "no standard operator": (11, "agraph (float[4] x) => (float[A] y) { y = Mystery (x) }", {}, "no operator of the standard"),
    "a batch norm that trains": (9, "agraph (float[1,1,4] x) => (float[A,B,C] y, float[1] m) { y, m, v, s, t = BatchNormalization (x, o, o, o, o) }", {"o": ONE}, "trains"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_the_model_stays_as_it_is_because_of(reason: str) -> None:
    version, text, weights, message = REFUSED[reason]
    net = build(text, weights, opset=version)
    before = io.to_bytes(net)
    note = upgrade(net)
    assert note is not None and message in note and f"opset {version}" in note
    assert io.to_bytes(net) == before


def test_a_model_that_is_new_enough_is_not_touched() -> None:
    net = build("agraph (float[4] x) => (float[A] y) { y = Relu (x) }", opset=19)
    before = io.to_bytes(net)
    assert upgrade(net) is None
    assert io.to_bytes(net) == before
