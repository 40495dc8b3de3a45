"""The last round: who takes part, and in what order they are judged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from optimizer.pipeline.common import Silent
from optimizer.report.records import Latency, Quantiles
from optimizer.tune import finals
from optimizer.tune.front import Point, front
from optimizer.tune.guesses import complete
from optimizer.tune.interrupts import Stop
from optimizer.tune.space import Params, space

pytest.importorskip("optuna")
POINT = Point(0, "key", "content", "recipe", "", {}, 1.0, 0.0, 0.0, 0.25, 30.0, True)


def points(*rows: tuple[float, float, bool]) -> list[Point]:
    return [
        dataclasses.replace(POINT, number=number, content=str(number), time=time, drop=drop, holds=holds)
        for number, (time, drop, holds) in enumerate(rows)
    ]


def numbers(found: list[list[Point]]) -> list[list[int]]:
    return [[point.number for point in lot] for lot in found]


def test_what_is_nearly_as_fast_takes_part_though_another_dominates_it() -> None:
    every = points((0.66, 0.001, True), (0.65, 0.0, True), (0.60, 0.0, False), (0.90, 0.0, True))
    assert numbers(finals.lots(every, front(every), "latency")) == [[1, 0]]


def test_the_rest_of_the_front_is_kept_for_when_none_of_those_holds() -> None:
    every = points((0.5, 0.002, True), (0.9, 0.001, True), (1.0, 0.0, True))
    assert numbers(finals.lots(every, front(every), "latency")) == [[0], [1, 2]]


def test_a_model_takes_part_and_is_shown_once_as_the_trial_that_found_it() -> None:
    one, other = points((0.51, 0.0, True), (0.5, 0.0, True))
    twins = [one, dataclasses.replace(other, content=one.content)]
    assert numbers(finals.lots(twins, front(twins), "latency")) == [[0]]
    chosen = finals.Finalist(one, Path(), mock.MagicMock(), latency(2.1))
    assert [(point.number, round(1 / (point.time or 1), 1)) for point in finals.retimed(twins, [chosen], chosen)] == [
        (0, 2.1)
    ]


def test_for_size_the_front_is_taken_in_its_order() -> None:
    worse, smaller = points((1.0, -0.1, True), (1.0, 0.0, True))
    every = [dataclasses.replace(worse, size=0.5), smaller]
    assert numbers(finals.lots(every, front(every), "size")) == [[1], [0]]


def latency(speedup: float) -> Latency:
    times = Quantiles(1.0, 1.0, 1.0)
    verdict = "slower" if speedup < 1 else "faster"
    return Latency(times, times, speedup, (speedup - 0.01, speedup + 0.01), verdict, 10)


@pytest.mark.parametrize(
    ("races", "asked", "order"),
    [
        (([1.5, 1.4, 1.3],), [3], [0, 1, 2]),
        (([1.5, 1.49, 1.3], [1.45, 1.5]), [3, 2], [1, 0, 2]),
        (([1.5, 1.49, 1.3], [1.5, 1.495]), [3, 2], [1, 0, 2]),
        (([0.9, 1.2],), [2], [1]),
    ],
    ids=["clear", "too near to tell", "still too near: the smaller", "slower ones never"],
)
def test_what_a_race_cannot_tell_runs_once_more(
    monkeypatch: pytest.MonkeyPatch, races: tuple[list[float], ...], asked: list[int], order: list[int]
) -> None:
    bench, left, counts = mock.MagicMock(), iter(races), list[int]()

    def raced(bench: object, models: list[object], seconds: float) -> list[Latency]:
        counts.append(len(models))
        return [latency(speedup) for speedup in next(left)]

    bench.settings.objective = "latency"
    monkeypatch.setattr(finals, "_raced", raced)
    monkeypatch.setattr(finals.io, "load", lambda path: path)
    rows = points(*[(1.0, 0.0, True)] * len(races[0]))
    entered = [dataclasses.replace(point, size=0.5 - 0.1 * point.number) for point in rows]
    assert [one.point.number for one in finals._finalists(bench, entered, Path())] == order
    assert counts == asked


def test_the_front_goes_by_the_last_times_and_has_what_was_chosen() -> None:
    every = points((0.5, 0.0, True), (0.51, 0.0, True), (0.9, -0.1, True))
    fast, chosen = (
        finals.Finalist(point, Path(), mock.MagicMock(), latency(speedup))
        for point, speedup in zip(every, (1.9, 2.0), strict=False)
    )
    assert [point.number for point in finals.retimed(every, [fast, chosen], chosen)] == [1, 2]
    assert [point.number for point in finals.retimed(every, [fast, chosen], fast)] == [1, 0, 2]


def test_the_best_and_the_first_are_placed_anew_and_what_is_known_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, asked = space(train=False, timed=True), list[object]()
    first, best = (complete(rows, {"quantize.mode": "auto", **guess}) for guess in ({}, {"quantize.recover": "none"}))
    untimed = complete(rows, {"quantize.mode": "weights"})

    def carried_out(bench: object, params: Params, known: object, progress: object, patience: float) -> dict[str, Any]:
        asked.append((params["quantize.mode"], params.get("quantize.recover"), patience))
        return {"holds": True, "content": "new" if params == best else "old"}

    monkeypatch.setattr(finals.trials, "carry_out", carried_out)
    records = [{"params": first, "holds": True, "content": "old"}]
    given = dataclasses.replace(POINT, params=dict(best))
    found = finals.placed_anew(mock.MagicMock(), records, given, Silent(), Stop())
    assert [one["content"] for one in found] == ["new"]
    assert asked == [("auto", "none", finals.PATIENCE), ("auto", "full", finals.PATIENCE)]
    asked.clear()
    given = dataclasses.replace(POINT, params=dict(untimed))
    assert not finals.placed_anew(mock.MagicMock(), [{**records[0], "holds": False}], given, Silent(), Stop())
    assert not asked


def test_ctrl_c_ends_placing_and_not_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def carried_out(*_: object) -> dict[str, Any]:
        stop.tell()
        return {}

    stop = Stop()
    monkeypatch.setattr(finals.trials, "carry_out", carried_out)
    best = dataclasses.replace(POINT, params=dict(complete(space(train=False, timed=True), {"quantize.mode": "auto"})))
    assert not finals.placed_anew(mock.MagicMock(), [], best, Silent(), stop)
    assert stop.wanted
