"""Repair on small networks: answers come closer, and the removed model still equals the masked one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.calibrate import forward
from optimizer.calibrate.consumers import consumers, give_biases, streams
from optimizer.choice.repair import repair
from optimizer.model import shapes
from optimizer.model.passes.edit import store_all
from optimizer.prune import remove
from optimizer.prune.groups import analyse
from optimizer.prune.remove import carry_out
from optimizer.prune.sizes import Sizes
from optimizer.runtime.session import Options, open_session
from tests import builders
from tests.prune.equality import some_labels

CONVS = """
net (float[1,3,8,8] x, float[16,3,3,3] w1, float[16] b1, float[16,1,3,3] w2, float[8,16,1,1] w3, float[8,8,3,3] w4,
     float[8,4,3,3] w5, float[8,5] w6) => (float[1,5] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)
    ar = Relu(a)
    d = Conv<group=16, pads=[1,1,1,1], strides=[2,2]>(ar, w2)
    dr = Relu(d)
    p = Conv(dr, w3)
    q = Conv<pads=[1,1,1,1]>(p, w4)
    s = Add(p, q)
    g = Conv<group=2, pads=[1,1,1,1]>(s, w5)
    gr = Relu(g)
    m = GlobalAveragePool(gr)
    f = Flatten(m)
    y = Gemm(f, w6)
}
"""
TOKENS = """
net (float[2,7,12] x, float[12,32] w1, float[32] b1, float[32,16] w2, float[16,6] w3) => (float[2,7,6] y) {
    a = MatMul(x, w1)
    ab = Add(a, b1)
    ar = Relu(ab)
    b = MatMul(ar, w2)
    br = Relu(b)
    y = MatMul(br, w3)
}
"""
STATES = """
net (float[9,1,12] x, float[2,24,12] w1, float[2,24,8] r1, float[16,16] w2, float[1,48,16] w3, float[1,48,12] r3,
     float[12,5] w4) => (float[1,1,5] y) <int64[3] size = {9,1,16}> {
    a, c = GRU<hidden_size=8, direction="bidirectional", linear_before_reset=1>(x, w1, r1)
    t = Transpose<perm=[0,2,1,3]>(a)
    b = Reshape(t, size)
    d = MatMul(b, w2)
    dr = Relu(d)
    , h = LSTM<hidden_size=12>(dr, w3, r3)
    y = MatMul(h, w4)
}
"""
STREAM = """
net (float[2,7,12] x, float[12,32] w1, float[32,12] w2, float[12] b2, float[12,32] w3, float[32,12] w4, float[12] b4,
     float[12,6] w5) => (float[2,7,6] y) {
    a = MatMul(x, w1)
    ar = Relu(a)
    b = MatMul(ar, w2)
    bb = Add(b, b2)
    s = Add(x, bb)
    c = MatMul(s, w3)
    cr = Relu(c)
    d = MatMul(cr, w4)
    db = Add(d, b4)
    t = Add(db, s)
    y = MatMul(t, w5)
}
"""
FEEDS = 144


def net(text: str) -> ir.Model:
    """The model with random constants for all inputs but x, ready for analysis and repair."""
    model, rng = builders.model(text), np.random.default_rng(1)
    for value in list(model.graph.inputs)[1:]:
        assert value.shape is not None
        numbers = rng.normal(size=value.shape.numpy()).astype(np.float32)
        value.const_value = ir.tensor(numbers * np.float32(max(1, numbers[0].size) ** -0.5), name=value.name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    give_biases(model)
    shapes.infer(model)
    return model


def samples(model: ir.Model, seed: int) -> list[dict[str, np.ndarray]]:
    shape = model.graph.inputs[0].shape
    assert shape is not None
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(shape.numpy()[-1],) * 2)
    return [{"x": (rng.normal(size=shape.numpy()) @ mix).astype(np.float32)} for _ in range(FEEDS)]


def outputs(model: ir.Model, feeds: list[dict[str, np.ndarray]]) -> np.ndarray:
    session = open_session(model, Options(level="basic"))
    return np.stack([session.run(feed)[0] for feed in feeds])


@pytest.mark.parametrize("text", [CONVS, TOKENS, STATES], ids=["convolutions", "matrix products", "states"])
def test_repair_brings_unseen_answers_closer_and_removed_still_equals_masked(text: str) -> None:
    base = net(text)
    feeds = samples(base, 0)
    fitting, unseen = feeds[:112], feeds[112:]
    found = []
    for mended in (False, True):
        model, masked = base.clone(), base.clone()
        axes = analyse(model)
        dropped = some_labels(axes, 0.4, seed=2)
        constants = repair(axes, dropped, base, model, fitting).constants if mended else {}
        carry_out(axes, model, masked, dropped, constants)
        assert np.allclose(outputs(model, unseen), outputs(masked, unseen), atol=1e-4)
        found.append(np.square(outputs(model, unseen) - outputs(base, unseen)).mean())
    assert found[1] < 0.6 * found[0]


def test_a_block_makes_up_for_what_those_before_it_have_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    base, errors = net(STREAM), []
    assert {name: value.name for name, value in streams(consumers(base.graph)).items()} == {"w2": "x", "w4": "s"}
    axes, feeds = analyse(base), samples(base, 0)
    for known in (streams, lambda found: {}):
        monkeypatch.setattr(forward, "streams", known)
        model, dropped = base.clone(), some_labels(axes, 0.4, seed=2)
        store_all(model.graph, repair(axes, dropped, base, base, feeds[:112]).constants)
        remove.mask(axes, dropped, model.graph)
        errors.append(np.square(outputs(model, feeds[112:]) - outputs(base, feeds[112:])).mean())
    assert errors[0] < 0.9 * errors[1]


def test_repair_where_nothing_goes_changes_nothing() -> None:
    base = net(CONVS)
    model = base.clone()
    axes = analyse(model)
    constants = repair(axes, axes.none(), base, model, samples(base, 0)[:24]).constants
    store_all(model.graph, constants)
    unseen = samples(base, 5)[:8]
    assert np.allclose(outputs(model, unseen), outputs(base, unseen), atol=1e-3)


def test_repair_leaves_weights_alone_where_there_are_hardly_any_rows() -> None:
    base = net(TOKENS)
    model = base.clone()
    axes = analyse(model)
    found = repair(axes, some_labels(axes, 0.4, 0), base, model, samples(base, 0)[:1])
    assert not found.constants and found.left == 3


def test_macs_of_a_recurrent_layer_fall_with_its_hidden_channels() -> None:
    text = "net (float[4,1,6] x, float[1,24,6] w1, float[1,24,8] w2, float[8,3] w3) => (float[4,1,1,3] y) {"
    model = net(text + " h = GRU<hidden_size=8>(x, w1, w2) y = MatMul(h, w3) }")
    axes = analyse(model)
    sizes, dropped = Sizes(axes), some_labels(axes, 0.5, seed=0)
    assert sizes.macs_of(dropped) == 4 * (3 * 4 * (6 + 4) + 4 * 3)
