"""Races in fresh processes: differences are found, memory and start are right, trouble in a process is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.bench import measure, process
from optimizer.bench.job import Contestant, Job, read_feeds, read_times, write_feeds, write_times
from optimizer.errors import ModelError, UserError
from optimizer.model import io
from optimizer.model.ports import Feed
from optimizer.runtime import timing
from tests.bench.models import chain
from tests.builders import model

FEEDS: list[Feed] = [{"v0": np.ones((64, 64), np.float32)}]


def save(built: ir.Model, path: Path) -> Path:
    io.save(built, path)
    return path


def plan(folder: Path, *layers: int, **options: object) -> measure.Plan:
    models = tuple(save(chain(number), folder / f"m{i}.onnx") for i, number in enumerate(layers))
    return measure.Plan(models, (FEEDS,) * len(models), **options)  # type: ignore[arg-type]


def test_a_model_with_twice_the_layers_takes_about_twice_the_time(tmp_path: Path) -> None:
    race = measure.run(plan(tmp_path, 20, 40, budget=3.0))
    assert 0.4 < race.speedup(1).speedup < 0.65
    assert race.copy == 2
    assert race.times.quantiles(0).p50 < race.times.quantiles(1).p50


def test_a_number_of_runs_is_kept(tmp_path: Path) -> None:
    ticks: list[int] = []
    race = measure.run(plan(tmp_path, 5, 5, runs=8), lambda: ticks.append(1))
    assert 8 <= race.times.rounds <= 10
    assert len(ticks) == int(race.times.sittings.max()) + 1 == 4


def test_spinning_models_run_apart(tmp_path: Path) -> None:
    race = measure.run(plan(tmp_path, 20, 60, spin=True, runs=4))
    assert race.speedup(1).speedup < 0.6


def test_several_callers_are_counted_by_their_throughput(tmp_path: Path) -> None:
    race = measure.run(plan(tmp_path, 10, 10, callers=2, runs=2))
    assert race.times.counted[0].times.size < race.times.runs[0].times.size


def test_the_yardstick_is_the_last_but_one(tmp_path: Path) -> None:
    race = measure.run(plan(tmp_path, 5, runs=4, yardstick=True))
    assert len(race.times.runs) == 3
    assert race.against_yardstick(0).speedup > 1


def test_a_large_tensor_shows_in_the_peak(tmp_path: Path) -> None:
    text = """g (float[1] x) => (float[1] y) <int64[1] size = {100000000}, int64[1] all = {0}>
        { big = Expand(x, size) y = ReduceMax<keepdims=1>(big) }"""
    path = save(model(text), tmp_path / "big.onnx")
    feeds: list[Feed] = [{"x": np.ones(1, np.float32)}]
    found = measure.start(measure.Plan((path,), (feeds,)))[0]
    assert len(found) == measure.STARTS
    for start in found:
        assert start.memory == pytest.approx(400e6, rel=0.1)
        assert start.process > start.memory
        assert start.load > 0
        assert start.first_run > 0


def test_a_model_that_cannot_be_loaded_is_told_by_the_process(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    write_feeds(tmp_path / "f.npz", FEEDS)
    job = Job("start", (Contestant(str(tmp_path / "bad.onnx"), str(tmp_path / "f.npz")),), "")
    with pytest.raises(UserError, match="cannot load the model"):
        process.ask(job)


def test_a_process_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = ["python", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr(process, "_command", lambda: killed)
    with pytest.raises(ModelError, match=r"a\.onnx was ended by signal 9; was memory short"):
        process.ask(Job("start", (Contestant("a.onnx", "f"),), ""))


def test_feeds_travel_unchanged(tmp_path: Path) -> None:
    feeds: list[Feed] = [
        {"a/b": np.arange(3, dtype=np.uint8), "s": np.array(["x", "longer"], object)},
        {"a/b": np.zeros((), np.float16), "s": np.array([""], object)},
    ]
    write_feeds(tmp_path / "f.npz", feeds)
    found = read_feeds(tmp_path / "f.npz")
    for one, other in zip(feeds, found, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one)


def test_times_travel_unchanged(tmp_path: Path) -> None:
    times = timing.gather([[[timing.Slot([1.0], [1.0, 2.0]), timing.Slot([3.0], [3.0])]]] * 3)
    write_times(tmp_path / "t.npz", times)
    found = read_times(tmp_path / "t.npz")
    assert found.rounds == times.rounds
    assert found.sittings.tolist() == times.sittings.tolist()
    for kind in ("counted", "runs"):
        for one, other in zip(getattr(times, kind), getattr(found, kind), strict=True):
            assert one.times.tolist() == other.times.tolist()
            assert one.blocks.tolist() == other.blocks.tolist()
