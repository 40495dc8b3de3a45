"""Who reads channels through a weight that a fit can write, and in which order they come."""

from __future__ import annotations

import numpy as np

from optimizer.calibrate.consumers import consumers, levels, streams
from tests.choice.test_repair import STATES, TOKENS, net


def test_consumers_are_found_with_their_biases() -> None:
    found = consumers(net(TOKENS).graph)
    assert [one.bias.name if one.bias else None for one in found] == ["b1", None, None]
    assert [[one.weight.name for one in level] for level in levels(found)] == [["w1"], ["w2"], ["w3"]]


def test_recurrent_layers_read_their_input_and_their_own_states() -> None:
    found = consumers(net(STATES).graph)
    assert [one.name for one in found] == ["w1", "r1", "w2", "w3", "r3", "w4"]
    assert [one.rows().shape for one in found[:2]] == [(1, 48, 12), (2, 24, 8)]
    assert [one.bias.name if one.bias else None for one in found[:2]] == ["w1_shift", None]
    assert all(np.array_equal(one.stored(one.rows()), one.weight.const_value) for one in found)


def test_the_shift_of_a_recurrent_layer_goes_to_the_bias_of_its_input() -> None:
    one = consumers(net(STATES).graph)[0]
    new = one.shifted(np.ones((1, 48)))["w1_shift"]
    assert new.shape == (2, 48) and np.all(new[:, :24] == 1) and not new[:, 24:].any()


def test_a_shared_weight_and_a_scaled_product_are_no_consumers() -> None:
    text = "net (float[3,4] x, float[4,4] w, float[4,4] v) => (float[3,4] y) { a = MatMul(x, w) b = MatMul(a, w)"
    assert not consumers(net(text + " y = Gemm<alpha=2.0>(b, v) }").graph)


def test_a_stream_that_is_known_no_sooner_than_the_consumer_is_none() -> None:
    text = "net (float[3,4] x, float[4,4] w1, float[4,4] w2) => (float[3,4] y) { a = MatMul(x, w1) b = MatMul(x, w2)"
    assert not streams(consumers(net(text + " y = Add(a, b) }").graph))
