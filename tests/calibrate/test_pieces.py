"""A model run in pieces gives what it gives as a whole, also where nothing may be kept, and sees new constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.calibrate import pieces
from optimizer.calibrate.pieces import Pieces, held
from optimizer.model.passes.edit import store_all
from optimizer.model.ports import Array
from optimizer.runtime.session import open_session
from tests import builders

TEXT = """
net (float[1,4] x, bool[] p) => (float[1,4] y)
<float[4,4] v = {1,2,0,0, 0,1,0,3, 1,0,1,0, 0,0,2,1}, float[4] w = {1,1,1,1}> {
    a = MatMul(x, v)
    b = Relu(a)
    c = If(p) <then_branch = t () => (float[1,4] s) { n = Neg(w)  m = Neg(n)  s = Mul(b, m) },
               else_branch = e () => (float[1,4] r) { r = Neg(x) }>
    d = Add(c, a)
    e = Sigmoid(d)
    y = Add(e, b)
}
"""
NAMES = (["x", "p"], ["b", "a"], ["d"], ["e"], ["y"])


@pytest.fixture
def model() -> ir.Model:
    found = builders.model(TEXT)
    for node in found.graph:
        for value in node.outputs:
            value.dtype = ir.DataType.FLOAT
    return found


@pytest.fixture
def feeds() -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(1, 4)).astype(np.float32), "p": np.array(i % 2 == 0)} for i in range(5)]


def whole(model: ir.Model, feed: dict[str, Array], names: list[str]) -> list[Array]:
    copy = model.clone()
    inner = [value for node in copy.graph for value in node.outputs if value.name in names]
    copy.graph.outputs.extend(value for value in inner if value.name != "y")
    session = open_session(copy)
    return [feed[name] if name in feed else session.run(feed, [name])[0] for name in names]


@pytest.mark.parametrize("budget", [pieces.BUDGET, 0])
def test_every_piece_gives_what_the_whole_gives(
    model: ir.Model, feeds: list[dict[str, Array]], budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "BUDGET", budget)
    run = Pieces(model, held(feeds))
    for names in NAMES:
        for found, feed in zip(run.run(names), feeds, strict=True):
            for name, wanted in zip(names, whole(model, feed, names), strict=True):
                assert np.allclose(found[name], wanted)


def test_what_lies_behind_is_not_run_again(model: ir.Model, feeds: list[dict[str, Array]]) -> None:
    run = Pieces(model, feeds)
    before = [found["d"] for found in run.run(["d"])]
    store_all(model.graph, {"v": np.zeros((4, 4), np.float32)})
    assert all(np.array_equal(found["d"], one) for found, one in zip(run.run(["d"]), before, strict=True))


def test_constants_ahead_may_change(model: ir.Model, feeds: list[dict[str, Array]]) -> None:
    run = Pieces(model, feeds)
    list(run.run(["b"]))
    store_all(model.graph, {"w": np.zeros(4, np.float32)})
    (found, *_), wanted = list(run.run(["d"])), whole(model, feeds[0], ["d"])
    assert np.allclose(found["d"], wanted[0])


def test_where_nothing_may_be_kept_it_is_run_again(
    model: ir.Model, feeds: list[dict[str, Array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held(feeds) is not feeds
    monkeypatch.setattr(pieces, "BUDGET", 0)
    assert held(feeds) is feeds
    run = Pieces(model, feeds)
    list(run.run(["d"]))
    store_all(model.graph, {"v": np.zeros((4, 4), np.float32)})
    (found, *_), wanted = list(run.run(["d"])), whole(model, feeds[0], ["d"])
    assert np.allclose(found["d"], wanted[0])
