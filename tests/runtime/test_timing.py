"""Paired timing: fair order, blocks, early end, and a difference that is there is found."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from optimizer.runtime import timing
from optimizer.runtime.session import open_session
from tests.builders import model

RELU = "g (float[64,64] x) => (float[64,64] y) { y = Relu(x) }"
MATMULS = "g (float[64,64] x) => (float[64,64] y) { a = MatMul(x, x) b = MatMul(a, x) y = MatMul(b, x) }"


def sleeper(seconds: float, log: list[str], name: str) -> timing.Lane:
    def slot(number: int) -> timing.Slot:
        log.append(name)
        time.sleep(seconds)
        return timing.Slot([seconds], [seconds])

    return slot


def test_each_order_is_followed_by_its_reverse() -> None:
    log: list[str] = []
    timing.race([sleeper(0.001, log, name) for name in "abc"], seconds=0.1, min_blocks=3)
    rounds = ["".join(log[i : i + 3]) for i in range(0, len(log), 3)]
    assert len(rounds) % 2 == 0
    assert all(there == back[::-1] for there, back in zip(rounds[::2], rounds[1::2], strict=True))
    assert len(Counter(rounds)) > 2


def test_measuring_ends_when_the_interval_is_narrow_enough() -> None:
    log: list[str] = []
    times = timing.race([sleeper(0.001, log, name) for name in "ab"], seconds=60, min_blocks=3)
    assert times.sittings.size == 3
    assert times.speedup(1).speedup == pytest.approx(1.0)


def test_measuring_ends_with_the_time_budget() -> None:
    noise = np.random.default_rng(0)
    began = time.perf_counter()

    def slot(_: int) -> timing.Slot:
        time.sleep(0.005)
        return timing.Slot([noise.uniform(1, 100)], [])

    times = timing.race([slot, slot], seconds=0.3, min_blocks=2, target_halfwidth=1e-9)
    assert time.perf_counter() - began >= 0.3
    assert times.sittings.size <= 2, "a block takes 0.2 seconds, so a third one began too late"


def test_a_slow_model_is_not_judged_by_a_block_or_two() -> None:
    log: list[str] = []
    times = timing.race([sleeper(0.02, log, name) for name in "ab"], seconds=0.01, target_halfwidth=1e-9, least=6)
    assert times.sittings.size == 6


def test_a_model_that_does_more_is_slower() -> None:
    sessions = [open_session(model(text)) for text in (RELU, MATMULS)]
    feeds = [{"x": np.ones((64, 64), np.float32)}]
    times = timing.compare(sessions, [feeds, feeds], seconds=0.5, min_blocks=4)
    found = times.speedup(1)
    assert found.hi < 1
    assert times.speedup(0, baseline=1).lo > 1
    assert times.quantiles(0).p50 < times.quantiles(1).p50
    assert all(lane.times.size >= times.rounds for lane in times.runs)


def test_samples_are_cycled() -> None:
    seen: list[float] = []

    class Spy:
        threads = 1

        def run(self, feed: dict[str, np.ndarray]) -> None:
            seen.append(float(feed["x"][0]))

    feeds = [{"x": np.array([value])} for value in (1.0, 2.0, 3.0)]
    lane = timing.session_lane(Spy(), feeds)  # type: ignore[arg-type]
    seen.clear()
    for number in range(4):
        lane(number)
    assert [value for value, before in zip(seen, [0.0, *seen], strict=False) if value != before] == [1, 2, 3, 1]


def test_sittings_join_with_blocks_of_their_own() -> None:
    def slots(*seconds: float) -> list[timing.Slot]:
        return [timing.Slot([each], [each] * (1 + number)) for number, each in enumerate(seconds)]

    one = timing.gather([[slots(1, 2)], [slots(1, 2), slots(3, 4)]])
    both = timing.join([one, one])
    assert both.sittings.tolist() == [0, 0, 1, 1]
    assert both.counted[0].times.tolist() == [1, 1, 3] * 2
    assert both.counted[0].blocks.tolist() == [0, 1, 1, 2, 3, 3]
    assert both.runs[1].times.tolist() == [2, 2, 2, 2, 4, 4] * 2
    assert both.runs[1].blocks.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3]


def test_a_number_of_rounds_is_kept() -> None:
    log: list[str] = []
    times = timing.race([sleeper(0.001, log, name) for name in "ab"], seconds=0, rounds=70)
    assert times.rounds == 70


def test_more_callers_than_one_share_a_window() -> None:
    session = open_session(model(MATMULS))
    lane = timing.concurrent_lane(session, [{"x": np.ones((64, 64), np.float32)}], callers=2)
    counted, runs = lane(0)
    assert len(counted) == 1
    assert len(runs) % 2 == 0
    assert 0 < counted[0] < sum(runs)


def test_a_single_thread_is_not_charged_for_waiting() -> None:
    class Waits:
        def __init__(self, threads: int) -> None:
            self.threads = threads

        def run(self, feed: object) -> None:
            time.sleep(0.03)

    alone, parallel = (timing.session_lane(Waits(threads), [{}])(0) for threads in (1, 2))  # type: ignore[arg-type]
    assert alone.counted[0] < 0.01 < alone.runs[0]
    assert parallel.counted[0] >= 0.03
