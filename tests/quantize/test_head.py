"""Bytes at the input: the head of the graph is folded into the first convolution, and answers stay the same."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.quantize import head
from optimizer.quantize.head import Bytes
from tests.quantize.nets import Array, build, evaluate, normal, ops

SCALE, ZERO = np.array([1, 2, 3]) / 255 / 0.229, np.array([123.675, 116.28, 103.53])
MEAN, STD = np.array([120, 110, 100], np.float32), np.array([58, -57, 59], np.float32)
CHANNELS = {"m": MEAN.reshape(1, 3, 1, 1), "s": STD.reshape(3, 1, 1), "t": np.array(0.5, np.float32)}
CONV = {"w": normal(4, 3, 3, 3), "b": normal(4)}
NORM = {"gain": STD, "shift": MEAN, "mean": normal(3), "var": np.ones(3, np.float32)}

HEADS: dict[str, tuple[str, dict[str, Array]]] = {
    "nothing": ("y = Conv(x, w, b)", CONV),
    "no bias": ("y = Conv(x, w)", {"w": CONV["w"]}),
    "subtraction and division": ("p = Sub(x, m) q = Div(p, s) y = Conv(q, w, b)", CONV | CHANNELS),
    "the other way round": ("p = Sub(m, x) q = Mul(s, p) r = Add(t, q) y = Conv(r, w, b)", CONV | CHANNELS),
    "batch normalization": (
        "p = BatchNormalization(x, gain, shift, mean, var) y = Conv(p, w, b)",
        CONV | NORM,
    ),
    "two convolutions": ("p = Div(x, t) q = Conv(p, w, b) r = Conv(p, w) y = Add(q, r)", CONV | CHANNELS),
}
REFUSED: dict[str, tuple[str, dict[str, Array]]] = {
    "another reader": ("p = Conv(x, w) q = Relu(x) y = Concat <axis = 2> (q, p)", {"w": normal(3, 3, 1, 1)}),
    "no convolution": ("y = Relu(x)", {}),
    "groups": ("y = Conv <group = 3> (x, w)", {"w": normal(3, 1, 3, 3)}),
    "a map per pixel": ("p = Add(x, k) y = Conv(p, w)", {"w": CONV["w"], "k": normal(1, 3, 6, 6)}),
}  # fmt: skip


def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 256, (1, 3, 6, 6)).astype(np.float64)


def assert_bytes_do(body: str, arrays: dict[str, Array], code: Bytes, how: str = "absorb") -> head.Head:
    net = build(f"g (float[1,3,6,6] x) => (y) {{ {body} }}", arrays)
    changed = net.clone()
    found = head.absorb(changed, "x", code) if how == "absorb" else head.spell_out(changed, "x", code)
    assert found is not None
    real = code.decode(pixels())
    want = evaluate(net, {"x": real})[0]
    got = evaluate(changed, {"x": found.encode(real)})[0]
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())
    assert 0 <= found.params.zero_point <= 255
    np.testing.assert_allclose(found.params.quantize(found.encode(real)), pixels(), err_msg="the byte is what was sent")
    return found


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("code", [Bytes(np.array([1 / 255]), np.zeros(1)), Bytes(SCALE, ZERO)], ids=["one", "each"])
def test_the_head_is_taken_up_by_what_reads_it(name: str, code: Bytes) -> None:
    body, arrays = HEADS[name]
    assert_bytes_do(body, arrays, code)


def test_nothing_is_left_of_the_head() -> None:
    net = build(f"g (float[1,3,6,6] x) => (y) {{ {HEADS['subtraction and division'][0]} }}", CONV | CHANNELS)
    assert head.absorb(net, "x", Bytes(np.ones(1), np.zeros(1))) is not None
    assert dict(ops(net)) == {"Conv": 1}


def test_channels_last_is_followed_through_a_transpose() -> None:
    body = "p = Sub(x, m) t = Transpose <perm = [0, 3, 1, 2]> (p) y = Conv(t, w, b)"
    net = build(f"g (float[1,6,6,3] x) => (y) {{ {body} }}", CONV | {"m": MEAN})
    changed, image = net.clone(), np.moveaxis(pixels(), 1, -1)
    found = head.absorb(changed, "x", Bytes(np.ones(1), np.zeros(1)))
    assert found is not None
    want = evaluate(net, {"x": image.astype(np.float32)})[0]
    got = evaluate(changed, {"x": found.encode(image)})[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-2)


def test_padding_is_exact_where_one_byte_is_zero_in_all_channels_and_noted_elsewhere() -> None:
    body = "y = Conv <pads = [1, 1, 1, 1]> (x, w, b)"
    assert assert_bytes_do(body, CONV, Bytes(np.array([1 / 128]), np.array([127.0]))).notes == ()
    net = build(f"g (float[1,3,6,6] x) => (y) {{ {body} }}", CONV)
    found = head.absorb(net, "x", Bytes(SCALE, ZERO))
    assert found is not None and "border" in found.notes[0]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_up_leaves_the_model_alone(name: str) -> None:
    body, arrays = REFUSED[name]
    net = build(f"g (float[1,3,6,6] x) => (y) {{ {body} }}", arrays)
    before = ops(net)
    assert head.absorb(net, "x", Bytes(SCALE, ZERO)) is None
    assert ops(net) == before


def test_what_cannot_be_taken_up_is_spelled_out() -> None:
    assert_bytes_do("y = Relu(x)", {}, Bytes(SCALE, ZERO), "spell out")
