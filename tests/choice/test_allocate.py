"""Choosing labels: the target is met, the least important go first, counts are aligned, no axis is emptied."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.choice import allocate
from optimizer.choice.importance import magnitude
from optimizer.prune import prepare
from optimizer.prune.groups import Axes, analyse
from optimizer.prune.sizes import Sizes
from tests.prune.test_groups import model

MLP = """g (float[n,8] x, float[8,64] a, float[64,96] b, float[96,40] c, float[40,4] d) => (float[n,4] y) {
    p = MatMul (x, a)  p1 = Relu (p)  q = MatMul (p1, b)  q1 = Relu (q)
    r = MatMul (q1, c)  r1 = Relu (r)  y = MatMul (r1, d) }"""
NARROW = "g (float[n,8] x, float[8,64] a, float[64,4] b) => (float[n,4] y) { p = MatMul (x, a)  y = MatMul (p, b) }"
WEIGHTS = {"a": (8, 64), "b": (64, 96), "c": (96, 40), "d": (40, 4)}


@pytest.fixture
def axes() -> Axes:
    return analyse(prepare.prepare(model(MLP, **WEIGHTS)))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("left", [0.3, 0.5, 0.8])
def test_the_target_is_met_within_a_few_percent(axes: Axes, scope: str, left: float) -> None:
    sizes, scores = Sizes(axes), magnitude(axes)
    ways = allocate.lanes(axes, axes.groups, scores, None, sizes.params_of)
    for measure, whole in ((sizes.params_of, sizes.params), (sizes.macs_of, sizes.macs)):
        dropped = allocate.choose(axes, ways, measure, left * whole, scope, scores)
        assert measure(dropped) / whole == pytest.approx(left, abs=0.05)


@pytest.mark.parametrize("align", [1, 4, 16])
def test_kept_counts_are_multiples_of_the_alignment(axes: Axes, align: int) -> None:
    sizes, scores = Sizes(axes), magnitude(axes)
    ways = allocate.lanes(axes, axes.groups, scores, align, sizes.params_of)
    dropped = allocate.choose(axes, ways, sizes.params_of, 0.5 * sizes.params, "layer", scores)
    for group in axes.groups:
        kept = int((~dropped[group.labels]).sum())
        assert kept % align == 0 or kept == len(group.labels)


@pytest.mark.parametrize("left", [0.45, 0.6, 0.7])
def test_where_one_group_decides_its_steps_become_fine_enough(left: float) -> None:
    axes = analyse(prepare.prepare(model(NARROW, a=(8, 64), b=(64, 4))))
    sizes, scores = Sizes(axes), magnitude(axes)
    ways = allocate.lanes(axes, axes.groups, scores, None, sizes.macs_of)
    dropped = allocate.choose(axes, ways, sizes.macs_of, left * sizes.macs, "layer", scores)
    assert sizes.macs_of(dropped) / sizes.macs == pytest.approx(left, abs=allocate.SLACK)


def test_where_the_users_steps_miss_the_target_less_stays_rather_than_more() -> None:
    axes = analyse(prepare.prepare(model(NARROW, a=(8, 64), b=(64, 4))))
    sizes, scores = Sizes(axes), magnitude(axes)
    ways = allocate.lanes(axes, axes.groups, scores, 16, sizes.macs_of)
    dropped = allocate.choose(axes, ways, sizes.macs_of, 0.69 * sizes.macs, "layer", scores)
    assert sizes.macs_of(dropped) / sizes.macs == pytest.approx(0.5)


def test_the_smallest_weights_go_first(axes: Axes) -> None:
    weight = axes.graph.initializers["a"]
    scale = np.ones(64, np.float32)
    scale[::2] = 1e-4
    for name, factor in (("a", scale), ("b", scale[:, None])):
        value = axes.graph.initializers[name]
        value.const_value = ir.tensor(value.const_value.numpy() * factor, name=name)
    scores = magnitude(axes)
    layout = axes.layouts[weight]
    assert layout is not None
    labels = axes.sets.root[layout[1].labels]
    assert scores[labels[::2]].max() < scores[labels[1::2]].min()
    sizes = Sizes(axes)
    dropped = allocate.choose(
        axes,
        allocate.lanes(axes, axes.groups, scores, 1, sizes.params_of),
        sizes.params_of,
        0.4 * sizes.params,
        "layer",
        scores,
    )
    assert dropped[labels[::2]].sum() >= dropped[labels].sum() - 2


def test_an_axis_that_would_lose_everything_gets_its_best_position_back() -> None:
    text = """g (float[1,6] x, float[6,8] w, float[4,5] u, float[4,5] v) => (float[1,5] y) {
        h = MatMul (x, w)  a, b = Split <axis=1> (h)  c = MatMul (a, u)  d = MatMul (b, v)  y = Add (c, d) }"""
    found = analyse(prepare.prepare(model(text, opset=12, w=(6, 8), u=(4, 5), v=(4, 5))))
    scores = magnitude(found)
    first = found.graph.initializers["u"]
    layout = found.layouts[first]
    assert layout is not None
    scores[found.sets.root[layout[0].labels]] *= 1e-3
    sizes = Sizes(found)
    dropped = allocate.choose(
        found, allocate.lanes(found, found.groups, scores, 1, sizes.params_of), sizes.params_of, 0, "layer", scores
    )
    gone = found.gone(dropped)
    assert all(not gone[axis.labels].all() for layout in found.layouts.values() for axis in layout or ())


def test_counts_without_carrying_out_are_those_after_carrying_out(axes: Axes) -> None:
    sizes, dropped = Sizes(axes), axes.none()
    dropped[axes.groups[0].labels[:10]] = True
    assert sizes.params - sizes.params_of(dropped) == 10 * sum(
        value.const_value.size // len(axes.groups[0].labels) for value, _ in axes.groups[0].places
    )


def test_a_group_that_jumps_past_the_target_is_held_and_the_others_make_up_for_it() -> None:
    text = """g (float[n,4,6,6] x, float[8,4,1,1] w, float[8,4,3,3] g, float[64,8,3,3] u, float[4,64,1,1] v)
        => (float[n,4,2,2] y) {
        a = Conv (x, w)  b = Conv <group=2> (a, g)  c = Conv (b, u)  d = Relu (c)  y = Conv (d, v) }"""
    shapes = {"w": (8, 4, 1, 1), "g": (8, 4, 3, 3), "u": (64, 8, 3, 3), "v": (4, 64, 1, 1)}
    found = analyse(prepare.prepare(model(text, **shapes)))
    scores, sizes = magnitude(found), Sizes(found)
    ways = allocate.lanes(found, found.groups, scores, 1, sizes.params_of)
    assert 2 in [len(group.labels) for group in found.groups]
    for left in (0.4, 0.5, 0.6, 0.7):
        dropped = allocate.choose(found, ways, sizes.params_of, left * sizes.params, "layer", scores)
        assert sizes.params_of(dropped) / sizes.params == pytest.approx(left, abs=0.03)


def test_an_axis_without_positions_empties_nothing() -> None:
    """An empty region of interest, as older exports of Resize have it."""
    text = """g (float[n,8,4,4] x, float[32,8,1,1] a, float[4,32,1,1] b, float[0] roi, float[4] by)
        => (float[n,4,h,w] y) { p = Conv (x, a)  q = Resize (p, roi, by)  y = Conv (q, b) }"""
    net = model(text, a=(32, 8, 1, 1), b=(4, 32, 1, 1), roi=(0,), by=(4,))
    net.graph.initializers["by"].const_value = ir.tensor(np.float32([1, 1, 2, 2]), name="by")
    axes = analyse(prepare.prepare(net))
    sizes, scores = Sizes(axes), magnitude(axes)
    ways = allocate.lanes(axes, axes.groups, scores, None, sizes.params_of)
    dropped = allocate.choose(axes, ways, sizes.params_of, 0.5 * sizes.params, "layer", scores)
    assert sizes.params_of(dropped) == pytest.approx(0.5 * sizes.params, rel=0.1)
