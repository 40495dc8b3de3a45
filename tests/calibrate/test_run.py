"""The calibration run shows observers exactly what the float model computes, one feed at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.calibrate.run import observe, values, watching
from optimizer.errors import DataError
from tests.builders import model

Array = np.ndarray[Any, np.dtype[Any]]
NET = """g (float[N,3] x, float[N,3] z) => (float[N,3] y)
{ a = Add(x, z)  b = Relu(a)  c = Neg(b)  y = Mul(c, z) }"""


class Kept:
    """An observer that keeps all it is shown."""

    def __init__(self) -> None:
        self.batches: list[Array] = []

    def update(self, batch: Array, /) -> None:
        self.batches.append(batch)


def feeds(count: int = 3) -> Iterator[Mapping[str, Array]]:
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield {name: rng.standard_normal((seed + 1, 3)).astype(np.float32) for name in ("x", "z")}


def test_each_value_is_shown_as_the_model_computes_it_inputs_and_outputs_included() -> None:
    kept = {name: Kept() for name in ("x", "a", "b", "y")}
    assert observe(model(NET), feeds(), {name: [one] for name, one in kept.items()}) == 3
    for index, feed in enumerate(feeds()):
        total = feed["x"] + feed["z"]
        want = {"x": feed["x"], "a": total, "b": np.maximum(total, 0), "y": -np.maximum(total, 0) * feed["z"]}
        for name, one in kept.items():
            np.testing.assert_array_equal(one.batches[index], want[name])


def test_several_observers_may_watch_one_value() -> None:
    one, other = Kept(), Kept()
    observe(model(NET), feeds(), {"b": [one, other]})
    assert len(one.batches) == len(other.batches) == 3


def test_samples_of_different_shapes_follow_each_other() -> None:
    kept = Kept()
    observe(model(NET), feeds(), {"c": [kept]})
    assert [batch.shape for batch in kept.batches] == [(1, 3), (2, 3), (3, 3)]


def test_a_tick_follows_each_feed() -> None:
    ticks: list[int] = []
    observe(model(NET), feeds(), {"a": [Kept()]}, tick=lambda: ticks.append(1))
    assert len(ticks) == 3


def test_watching_only_graph_inputs_runs_no_node_for_nothing() -> None:
    kept = Kept()
    assert observe(model(NET), feeds(), {"x": [kept]}) == 3
    assert len(kept.batches) == 3


def test_the_model_itself_is_left_as_it_was() -> None:
    net = model(NET)
    before = ir.to_proto(net).SerializeToString()
    observe(net, feeds(), {"a": [Kept()]})
    assert ir.to_proto(net).SerializeToString() == before


def test_one_feed_at_a_time_is_asked_for() -> None:
    alive = []

    def lazily() -> Iterator[Mapping[str, Array]]:
        for index, feed in enumerate(feeds()):
            alive.append((index, len(kept.batches)))
            yield feed

    kept = Kept()
    observe(model(NET), lazily(), {"a": [kept]})
    assert alive == [(0, 0), (1, 1), (2, 2)]


def test_a_watching_session_puts_out_what_was_asked_for_behind_the_models_own() -> None:
    session = watching(model(NET), ["b", "y", "x"])
    assert session.outputs == ("y", "b")
    feed = next(feeds())
    found = dict(values(session, feed, ["b"], ["x"]))
    np.testing.assert_array_equal(found["b"], np.maximum(feed["x"] + feed["z"], 0))
    np.testing.assert_array_equal(found["x"], feed["x"])


def test_a_feed_that_does_not_fit_is_a_data_error() -> None:
    wrong = {"x": np.zeros((1, 4), np.float32), "z": np.zeros((1, 3), np.float32)}
    with pytest.raises(DataError, match="cannot run"):
        observe(model(NET), [wrong], {"a": [Kept()]})
