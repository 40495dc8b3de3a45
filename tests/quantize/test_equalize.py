"""Scaled channels: the same function wherever a region is found, none where there is none, a gain where it pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.calibrate.observers import Channels
from optimizer.model import io, shapes
from optimizer.pipeline import quantize as pipeline
from optimizer.quantize import equalize, groups, regions, statistics
from optimizer.quantize.equalize import Scaling
from optimizer.recipe import Quantize, Run
from optimizer.runtime.session import open_session
from optimizer.runtime.told import tell
from tests.quantize.nets import Array, build, evaluate, feeds, normal

ARRAYS = {
    "w": normal(8, 3, 3, 3), "b": normal(8), "d": normal(8, 1, 3, 3), "v": normal(4, 8, 1, 1), "slope": normal(8, 1, 1),
    "g": normal(8, 4, 1, 1), "k": normal(8), "m": normal(8, 8), "n": normal(8, 8), "flat": normal(72, 4),
    "across": normal(6, 8),
    "q": normal(8, 8), "c": normal(8), "heads": np.array([0, 0, 2, 4]), "joined": np.array([0, 0, 8]),
    "zero": np.array(0, np.float32), "minus": np.array(-1, np.float32), "six": np.array(6, np.float32),
}  # fmt: skip
IMAGE, ROWS = "float[1,3,5,5] x, float[1,8,3,3] u", "float[1,6,8] x, float[1,6,8] u"
FOUND = {
    "a convolution and a convolution": (IMAGE, "h = Conv(x, w, b)  y = Conv(h, v)"),
    "through Relu": (IMAGE, "h = Conv(x, w, b)  r = Relu(h)  y = Conv(r, v)"),
    "through PRelu and a pool": (
        IMAGE, "h = Conv(x, w)  r = PRelu(h, slope)  p = MaxPool <kernel_shape = [2, 2]> (r)  y = Conv(p, v)"
    ),
    "into a depthwise convolution": (IMAGE, "h = Conv(x, w, b)  y = Conv <group = 8> (h, d)"),
    "into a grouped convolution": (IMAGE, "h = Conv(x, w, b)  y = Conv <group = 2> (h, g)"),
    "into two readers": (IMAGE, "h = Conv(x, w, b)  o = Conv(h, v)  r = Relu(h)  p = Conv(r, v2)  y = Add(o, p)"),
    "through Flatten": (IMAGE, "h = Conv(x, w, b)  r = Relu(h)  f = Flatten(r)  y = Gemm(f, flat)"),
    "through a gate": (IMAGE, "h = Conv(x, w, b)  s = Sigmoid(u)  z = Mul(h, s)  y = Conv(z, v)"),
    "matrices with a bias": (ROWS, "h = MatMul(x, m)  a = Add(h, k)  r = Relu(a)  y = MatMul(r, n)"),
    "a layer normalization": (
        ROWS, "h = LayerNormalization(x, k, c)  one = MatMul(h, m)  two = MatMul(h, n)  y = Mul(one, two)"
    ),
    "the gain of a norm": (ROWS, "s = Tanh(x)  h = Mul(s, k)  y = MatMul(h, m)"),
    "Gemm with transB": ("float[4,8] x", "h = Gemm <transB = 1> (x, m, k)  y = Gemm <transB = 1> (h, across)"),
    "attention": (
        ROWS,
        """vv = MatMul(x, m)  va = Add(vv, k)  vr = Reshape(va, heads)  vt = Transpose <perm = [0, 2, 1, 3]> (vr)
        qq = MatMul(x, q)  qr = Reshape(qq, heads)  qt = Transpose <perm = [0, 2, 1, 3]> (qr)
        kt = Transpose <perm = [0, 2, 3, 1]> (qr)  s = MatMul(qt, kt)  p = Softmax(s)  o = MatMul(p, vt)
        ot = Transpose <perm = [0, 2, 1, 3]> (o)  oj = Reshape(ot, joined)  y = MatMul(oj, n)""",
    ),
}  # fmt: skip
NONE = {
    "another function": (IMAGE, "h = Conv(x, w, b)  r = Tanh(h)  y = Conv(r, v)"),
    "a residual": (IMAGE, "h = Conv(x, w, b)  o = Add(h, u)  y = Conv(o, v)"),
    "a reader that takes nothing up": (IMAGE, "h = Conv(x, w, b)  o = Conv(h, v)  s = ReduceMean(h)  y = Add(o, s)"),
    "a weight with another reader": (IMAGE, "h = Conv(x, w, b)  o = Conv(h, v)  p = Conv(u, v)  y = Add(o, p)"),
    "a Clip below zero": (IMAGE, "h = Conv(x, w, b)  r = Clip(h, minus, six)  y = Conv(r, v)"),
    "a square": (IMAGE, "h = Conv(x, w, b)  s = Mul(h, h)  y = Conv(s, v)"),
    "a channel that is summed": (ROWS, "h = MatMul(x, m)  t = Transpose <perm = [0, 2, 1]> (h)  y = MatMul(t, last)"),
}
CLIPPED = (IMAGE, "h = Conv(x, w, b)  r = Clip(h, zero, six)  y = Conv(r, v)")


def net(case: tuple[str, str]) -> ir.Model:
    inputs, body = case
    arrays = ARRAYS | {"v2": normal(4, 8, 1, 1, seed=2), "last": normal(6, 3)}
    used = {
        name: array
        for name, array in arrays.items()
        if name in body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    }
    return build(f"g ({inputs}) => (y) {{ {body} }}", used)


def found(model: ir.Model) -> list[regions.Region]:
    return regions.find(model, equalize.shapes(model, feeds(model, 1)[0]))


def scaled(model: ir.Model, scales: Array | None = None) -> ir.Model:
    """`model` with every region scaled, by chance unless told otherwise."""
    rng = np.random.default_rng(0)
    every = [Scaling(one, rng.uniform(0.2, 5, one.channels) if scales is None else scales, 0) for one in found(model)]
    return equalize.apply(model, every)


@pytest.mark.parametrize("case", FOUND)
def test_scaling_leaves_the_function_as_it_is(case: str) -> None:
    model = net(FOUND[case])
    assert len(found(model)) == 1
    other = scaled(model)
    assert any(
        (a.const_value.numpy() != b.const_value.numpy()).any()  # type: ignore[union-attr]
        for a, b in zip(model.graph.initializers.values(), other.graph.initializers.values(), strict=False)
        if a.const_value.shape == b.const_value.shape
    )  # type: ignore[union-attr]
    for feed in feeds(model, 2):
        np.testing.assert_allclose(evaluate(other, feed)[0], evaluate(model, feed)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", NONE)
def test_there_is_no_region_behind(case: str) -> None:
    assert not found(net(NONE[case]))


def test_the_value_a_caller_gets_is_not_scaled() -> None:
    text = "g (float[1,3,5,5] x) => (y, h) { h = Conv(x, w, b)  y = Conv(h, v) }"
    assert not found(build(text, {name: ARRAYS[name] for name in "wbv"}))


def test_every_head_of_attention_keeps_its_own_channels() -> None:
    (region,) = found(net(FOUND["attention"]))
    assert region.taken[0].ids.ravel().tolist() == list(range(8))


def test_the_values_of_attention_as_one_node_can_be_scaled() -> None:
    text = "vv = MatMul(x, m)  va = Add(vv, k)  o = com.microsoft.MultiHeadAttention <num_heads = 2> (u, x, va)"
    model = net((ROWS, f"{text}  y = MatMul(o, n)"))
    model.opset_imports["com.microsoft"] = 1
    tell(model)
    shapes.infer(model)
    assert [region.values for region in found(model)] == [("vv", "va", "o")]
    other, feed = scaled(model), feeds(model, 1)[0]
    one, two = (open_session(each).run(feed)[0] for each in (model, other))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)
    assert not found(net((ROWS, f"{text.replace('(u, x, va)', '(va, x, u)')}  y = MatMul(o, n)")))


def test_a_bound_keeps_channels_that_reach_it_and_lets_others_grow_up_to_it() -> None:
    (region,) = found(net(CLIPPED))
    assert region.clipped == (("r", 6.0),)
    seen = Channels(1)
    seen.update(np.array([6, 6, 3, 1.5, 0.6, 0.3, 0.1, 0.0], np.float32).reshape(1, 8, 1, 1))
    told = Channels(1)
    told.update(np.ones((1, 4, 1, 1), np.float32))
    (scaling,) = equalize.scalings(net(CLIPPED), {"r": seen, "y": told}, {}, {region.taken[0].node.name or "": "y"})
    assert scaling.scales[:2].tolist() == [1, 1]
    assert (scaling.scales <= 1).all()
    assert (scaling.scales * 6 >= seen.high - 1e-6).all()


def test_scales_within_the_bound_are_exact_for_what_was_seen() -> None:
    model = net(CLIPPED)
    samples = [{name: array * 0.1 for name, array in feed.items()} for feed in feeds(model, 4)]
    seen = statistics.gather(model, groups.partition(model).groups, samples)
    bounds = equalize._bounds(found(model)[0], seen.channels)
    assert bounds is not None
    other = equalize.apply(model, [Scaling(found(model)[0], np.clip(0.5, *bounds), 0)])
    for feed in samples:
        np.testing.assert_allclose(evaluate(other, feed)[0], evaluate(model, feed)[0], rtol=1e-4, atol=1e-5)


def uneven(path: Path) -> Path:
    """A net that computes the same as an even one, with channels of very different size inside."""
    text = """g (float[N,8,8,8] x) => (float[N,4] y) { a = Conv(x, w1, b1)  r = Relu(a)
      c = Conv <group = 32, pads = [1, 1, 1, 1]> (r, w2)  s = Relu(c)  p = Conv(s, w3)  q = GlobalAveragePool(p)
      f = Flatten(q)  y = Gemm(f, w4) }"""
    one, two = (np.exp(normal(32, seed=seed) * 1.5) for seed in (5, 6))
    arrays = {
        "w1": normal(32, 8, 1, 1) * one[:, None, None, None],
        "b1": normal(32) * one,
        "w2": normal(32, 1, 3, 3, seed=1) * (two / one)[:, None, None, None],
        "w3": normal(64, 32, 1, 1, seed=2) / two[:, None, None],
        "w4": normal(64, 4, seed=3),
    }
    io.save(build(text, arrays), path)
    return path


def test_a_net_with_badly_ranged_channels_is_equalized_and_says_so(tmp_path: Path) -> None:
    path = uneven(tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", normal(24, 8, 8, 8))
    given = Run(data=str(tmp_path / "x.npy"))
    plain = pipeline.quantize(path, Quantize(measure=False, recover="bias", everywhere=True), given, force=True)
    result = pipeline.quantize(path, Quantize(measure=False, everywhere=True), given, force=True)
    assert plain.accuracy is not None
    assert result.accuracy is not None
    assert result.accuracy.sqnr_db > plain.accuracy.sqnr_db + 6
    assert any(step.startswith("equalization of 3 values kept") for step in result.steps)


def test_even_channels_are_left_alone() -> None:
    model = net(FOUND["through Relu"])
    split = groups.partition(model).groups
    seen = statistics.gather(model, split, feeds(model))
    seen.channels["r"].high[:] = 3.0
    assert equalize.scalings(model, seen.channels, {}, {group.name: group.output for group in split}) == []


@pytest.mark.parametrize(("other", "tried"), [(1.0, True), (30.0, False)])
def test_a_gain_that_would_not_show_in_the_whole_is_not_tried(
    other: float, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = net(FOUND["through Relu"])
    split = groups.partition(model).groups
    seen = statistics.gather(model, split, feeds(model))
    (region,) = found(model)
    gains, even = Scaling(region, np.ones(8), 0.2, 1.0), Scaling(region, np.ones(8), 0.9, other)
    both = iter([gains, even])
    monkeypatch.setattr(equalize.regions, "find", lambda *_: [region, region])
    monkeypatch.setattr(equalize, "_best", lambda *_: next(both))
    outputs = {group.name: group.output for group in split}
    assert equalize.scalings(model, seen.channels, {}, outputs) == ([gains] if tried else [])
