"""Data-free ranges: what batch normalization was trained to give reaches the ranges of what comes behind it."""

from __future__ import annotations

import numpy as np

from optimizer.model.passes import affine
from optimizer.quantize import groups, priors, statistics
from tests.quantize.nets import build, feeds, normal

ARRAYS = {
    "w": normal(4, 3, 3, 3),
    "gain": np.array([1, 2, -3, 0.5], np.float32),
    "shift": np.array([0, 5, 0, -1], np.float32),
    "mean": normal(4),
    "var": np.ones(4, np.float32),
    "k": np.full((1, 4, 1, 1), 2, np.float32),
}
NET = """g (float[1,3,6,6] x) => (float[1,4,4,4] y) {
  c = Conv(x, w) n = BatchNormalization(c, gain, shift, mean, var) s = Mul(n, k) r = Relu(s) t = Sigmoid(s)
  m = Mul(s, t) y = Add(r, m) }"""


def test_folding_keeps_what_training_gave_and_moves_it_along() -> None:
    net = build(NET, ARRAYS)
    assert affine.fold_batch_norm(net) == 1
    assert affine.fold_scale_and_shift(net) == 1
    found = priors.draws(net.clone())
    conv = found[str(net.graph[0].outputs[0].name)]
    np.testing.assert_allclose(conv.mean(1), 2 * ARRAYS["shift"], atol=0.5)
    np.testing.assert_allclose(conv.std(1), 2 * np.abs(ARRAYS["gain"]), rtol=0.15)
    assert set(found) == {str(node.outputs[0].name) for node in net.graph}
    np.testing.assert_allclose(found["m"], conv / (1 + np.exp(-conv)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["r"], np.maximum(conv, 0))


def test_ranges_grow_to_what_training_saw() -> None:
    net = build(NET, ARRAYS)
    assert affine.fold_batch_norm(net) + affine.fold_scale_and_shift(net) == 2
    found = groups.partition(net).groups
    seen = statistics.gather(net, found, feeds(net, scale=0.01))
    before = seen.histograms["r"].high
    priors.believe(seen, found, net)
    assert seen.histograms["r"].high > max(before, 2 * (5 + 2))


def test_without_a_normalization_there_is_nothing_to_believe() -> None:
    assert priors.draws(build("g (float[1,3,6,6] x) => (y) { c = Conv(x, w) y = Relu(c) }", {"w": ARRAYS["w"]})) == {}
