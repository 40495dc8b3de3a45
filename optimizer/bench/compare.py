"""The benchmark: baseline against candidates in speed, size, memory and answers, and whether the gates hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from optimizer.bench import gates, measure, yardstick
from optimizer.bench.attribution import attribute
from optimizer.bench.errors import by_tensor
from optimizer.bench.figures import gather
from optimizer.bench.gates import Gate
from optimizer.bench.measure import Race, Start
from optimizer.bench.settings import Bench
from optimizer.bench.subject import Subject, open_all
from optimizer.bench.yardstick import Peak
from optimizer.calibrate.metrics import compare_outputs
from optimizer.report.records import Accuracy, Change, Latency, Machine, Result, to_json
from optimizer.runtime import machine, stats

T = TypeVar("T")

NOISY = 0.05
"""Noise floor, as a log ratio, from which the user should know of it."""


class Progress(Protocol):
    """Something to show work on: `stage` begins a named piece and returns what to call after each of its steps."""

    def stage(self, name: str, steps: int | None = None) -> Callable[[], None]: ...


class Silent:
    """Progress that nobody sees."""

    def stage(self, name: str, steps: int | None = None) -> Callable[[], None]:
        return lambda: None


def bench(
    baseline: Path | str,
    candidates: Sequence[Path | str] = (),
    settings: Bench | None = None,
    *,
    progress: Progress | None = None,
) -> list[Result]:
    """Compare every candidate with the baseline: one result each, gates judged but not enforced.

    Without a candidate the baseline is measured against itself. Raises `UserError`.
    """
    settings, progress = settings or Bench(), progress or Silent()
    wanted = tuple(gates.parse(text) for text in settings.fail_if)
    where = machine.describe(settings.threads)
    subjects = open_all([Path(baseline), *map(Path, candidates)], settings)
    plan = _plan(subjects, settings)
    race = measure.run(plan, progress.stage("timing"))
    starts = _starts(plan, wanted, settings, progress)
    peak = yardstick.peak(settings.threads) if settings.per_op else None
    found = []
    for lane in range(1, max(2, len(subjects))):
        pair = (subjects[0], subjects[min(lane, len(subjects) - 1)])
        started = [starts[0], starts[min(lane, len(starts) - 1)]] if starts else []
        result = _result(pair, race, lane, started, settings, where, progress)
        if peak is not None:
            result.details.update(_why(pair, race, settings, peak, progress))
        figures = gather(result, race, lane, started)
        found.append(dataclasses.replace(result, gates=tuple(gates.judge(gate, figures) for gate in wanted)))
    return found


def _plan(subjects: Sequence[Subject], settings: Bench) -> measure.Plan:
    return measure.Plan(
        models=tuple(subject.path for subject in subjects),
        feeds=tuple(subject.timed(settings.batch) for subject in subjects),
        threads=settings.threads,
        spin=settings.spin,
        callers=settings.concurrency,
        budget=settings.time_budget * max(1, len(subjects) - 1),
        runs=settings.runs,
        seed=settings.seed,
    )


def _starts(plan: measure.Plan, wanted: Sequence[Gate], settings: Bench, progress: Progress) -> list[list[Start]]:
    if not settings.memory and not any(gate.metric in ("memory", "load", "first_run") for gate in wanted):
        return []
    return measure.start(plan, progress.stage("starting", measure.STARTS * len(plan.models)))


def _result(
    pair: tuple[Subject, Subject],
    race: Race,
    lane: int,
    starts: Sequence[Sequence[Start]],
    settings: Bench,
    where: Machine,
    progress: Progress,
) -> Result:
    first, second = pair
    return Result(
        command="bench",
        input=str(first.path),
        output=str(second.path),
        size_bytes=Change(first.size, second.size),
        params=Change(first.cost.params, second.cost.params),
        macs=Change(first.cost.macs, second.cost.macs),
        machine=where,
        latency_ms=_latency(race, lane),
        accuracy=_accuracy(first, second, settings, progress) if second is not first else None,
        throughput=Change(_rate(race, 0, settings), _rate(race, lane, settings)),
        memory_bytes=_typical(starts, lambda start: start.memory, int),
        load_ms=_typical(starts, lambda start: start.load * 1e3, float),
        first_run_ms=_typical(starts, lambda start: start.first_run * 1e3, float),
        warnings=_warnings(pair, race, where, settings),
        details=_details(race, settings),
    )


def _latency(race: Race, lane: int) -> Latency:
    found = race.speedup(lane)
    return Latency(
        before=race.times.quantiles(0),
        after=race.times.quantiles(lane),
        speedup=found.speedup,
        ci95=(found.lo, found.hi),
        verdict=stats.verdict(found.lo, found.hi, race.floor),
        pairs=race.times.rounds,
        noise_floor=race.floor,
    )


def _accuracy(first: Subject, second: Subject, settings: Bench, progress: Progress) -> Accuracy:
    tick = progress.stage("comparing answers", len(first.samples))
    return compare_outputs(
        first.session, second.session, first.samples, second.samples, settings.metric, tick=tick
    )  # fmt: skip


def _rate(race: Race, lane: int, settings: Bench) -> float:
    """Samples a second: with one caller by the clock of its runs, with several by that of their windows."""
    times = race.times.runs if settings.concurrency == 1 else race.times.counted
    return settings.batch / float(np.median(times[lane].times))


def _typical(
    starts: Sequence[Sequence[Start]], of: Callable[[Start], float], kind: Callable[[float], T]
) -> Change[T] | None:
    if not starts:
        return None
    before, after = (kind(float(np.median([of(start) for start in own]))) for own in starts)
    return Change(before, after)


def _details(race: Race, settings: Bench) -> dict[str, Any]:
    same = race.same
    return {
        "batch": settings.batch,
        "concurrency": settings.concurrency,
        "spin": settings.spin,
        "processes": int(race.times.processes.max()) + 1,
        "same_model_twice": {"speedup": same.speedup, "ci95": [same.lo, same.hi]},
    }


def _why(pair: tuple[Subject, Subject], race: Race, settings: Bench, peak: Peak, progress: Progress) -> dict[str, Any]:
    progress.stage("profiling")
    found = {"per_op": to_json(attribute(*pair, settings.threads, race.times.quantiles(0).p50, peak))}
    if pair[0] is pair[1]:
        return found
    progress.stage("comparing inner tensors")
    return {**found, "error_by_tensor": to_json(by_tensor(*pair, settings.threads))}


def _warnings(pair: tuple[Subject, Subject], race: Race, where: Machine, settings: Bench) -> tuple[str, ...]:
    first, second = pair
    found = [*first.samples.notes, *second.samples.notes]
    if first.samples.synthetic:
        found.append("no --data given: timed and compared on synthetic inputs, which say little about real answers")
    if race.floor > NOISY:
        found.append(
            f"the machine is noisy: one model against itself differed by up to {math.expm1(race.floor):.1%}; "
            "close what else runs, or give more --time-budget"
        )
    if where.threads > min(where.cores, where.quota or math.inf):
        found.append(f"{where.threads} threads are more than the {where.quota or where.cores:g} cores there are")
    if settings.spin:
        found.append("measured with spinning threads, each model in a process of its own (--spin)")
    return tuple(dict.fromkeys(found))
