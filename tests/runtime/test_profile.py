"""Node times: typical runs without the warm-up, bodies not counted twice, nothing left on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.runtime.optimized import optimized
from optimizer.runtime.profile import node_times, profile
from optimizer.runtime.session import Options
from tests.builders import model

CHAIN = "g (float[64,64] x) => (float[64,64] y) { a = MatMul(x, x) b = Softmax(a) y = MatMul(b, x) }"


def run(start: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": 100}


def node(name: str, start: int, duration: int, op: str = "Add") -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": start,
        "dur": duration,
        "args": {"op_name": op, "node_index": "0"},
    }


def test_typical_runs_count_and_the_first_run_does_not() -> None:
    events = [run(0), node("a", 1, 999)]
    for start, duration in ((2000, 10), (3000, 99), (4000, 20), (5000, 22)):
        events += [run(start), node("a", start + 1, duration)]
    assert [(t.name, t.op_type, t.microseconds) for t in node_times(events)] == [("a", "Add", 21)]


def test_runs_count_that_take_what_the_clock_told() -> None:
    events = [run(0), node("a", 1, 999)]
    for start, duration in ((2000, 10), (3000, 99), (4000, 20), (5000, 101)):
        events += [run(start), node("a", start + 1, duration)]
    assert [t.microseconds for t in node_times(events, 100.6)] == [101]
    assert [t.microseconds for t in node_times(events, 1)] == [10]


def test_nodes_that_read_bytes_are_int8() -> None:
    reader = node("q", 110, 5)
    reader["args"]["input_type_shape"] = [{"uint8": [1, 3]}, {"float": []}]
    found = node_times([run(0), run(100), reader, node("f", 120, 5)])
    assert {t.name: t.int8 for t in found} == {"q": True, "f": False}


def test_a_body_is_taken_from_the_node_that_holds_it() -> None:
    events = [run(0), run(100), node("inner", 110, 20), node("inner", 130, 20), node("If", 110, 50, "If")]
    assert {t.name: t.microseconds for t in node_times(events)} == {"If": 10, "inner": 40}


def test_a_body_as_long_as_its_holder_leaves_nothing_to_it() -> None:
    events = [run(0), run(100), node("inner", 110, 50), node("If", 110, 50, "If")]
    assert {t.name: t.microseconds for t in node_times(events)} == {"If": 0, "inner": 50}


def test_every_node_of_the_optimized_graph_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    feeds = [{"x": np.ones((64, 64), np.float32)}] * 5
    times = profile(model(CHAIN), feeds, Options())
    assert sorted(t.op_type for t in times) == sorted(n.op_type for n in optimized(model(CHAIN)).graph)
    assert sum(t.microseconds for t in times) > 0
    assert not list(tmp_path.iterdir())
