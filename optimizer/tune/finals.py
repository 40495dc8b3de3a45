"""The last round of a search: what came near the best is timed again, and judged on the final samples.

A trial is timed for a second or two, on a machine that other trials use too, so what measured a few percent slower may
be the faster. All within `NEAR` of the fastest run against each other, and those that the race cannot tell from its
winner once more, for longer. Where a step places int8 by timing, what a trial decided is as rough: the recipes of the
best and of the first trial are placed anew, now that nothing else runs.

Each is then judged on the final part of the samples, which nothing was chosen by: the fastest first, and of those that
the race cannot tell apart the smallest. The first that keeps to the bound there has won. With `latency` as the
objective, a model that the race shows slower than the original never does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optimizer.errors import BoundMissed
from optimizer.model import io
from optimizer.pipeline.common import Progress
from optimizer.recipe import Quantize, toml
from optimizer.report.records import Latency
from optimizer.tune import front as fronts
from optimizer.tune import trial as trials
from optimizer.tune.front import Point
from optimizer.tune.interrupts import Stop
from optimizer.tune.judge import Verdict
from optimizer.tune.race import race
from optimizer.tune.settings import Objective
from optimizer.tune.space import recipe
from optimizer.tune.trial import Bench

FINALISTS = 6
NEAR = 1.06
"""How many times the fastest trial's time another's may be for the two to be timed again."""
SECONDS = 2.0
"""Of the race, for each finalist; of the second one, twice as much."""
PATIENCE = 1.0
"""For how many times as long as `optimize quantize` does a placement is timed."""


@dataclasses.dataclass(frozen=True)
class Finalist:
    """One of the best, built again."""

    point: Point
    path: Path
    model: ir.Model
    latency: Latency


def placed_anew(
    bench: Bench, records: Sequence[dict[str, Any]], best: Point, progress: Progress, stop: Stop
) -> list[dict[str, Any]]:
    """Records of the recipes of `best` and of the first trial with placement timed once more; only those within the
    bound whose model is new, and what there is of them when `stop` ends it."""
    found: list[dict[str, Any]] = []
    first = [record["params"] for record in records[:1] if record.get("holds") and record["params"] != best.params]
    for params in (best.params, *first):
        last = recipe(params)[-1]
        if isinstance(last, Quantize) and last.measure:
            record: dict[str, Any] = {}
            with suppress(KeyboardInterrupt), stop.at_once():
                record = trials.carry_out(bench, params, [*records, *found], progress, PATIENCE)
            known = {one.get("content") for one in (*records, *found)}
            found += [record] if record.get("holds") and record["content"] not in known else []
    return found


def lots(points: Sequence[Point], best: Sequence[Point], objective: Objective) -> list[list[Point]]:
    """What runs against each other: first those near the fastest, then what else the front `best` holds."""
    ranked = fronts.ranked(best, objective)
    if objective == "size":
        return [[point] for point in ranked]
    fastest = sorted(fronts.models(points), key=_time)
    first = [point for point in fastest if _time(point) <= NEAR * _time(fastest[0])][:FINALISTS]
    known = {point.number for point in first}
    rest = [point for point in ranked if point.number not in known]
    return [first, *(rest[place : place + FINALISTS] for place in range(0, len(rest), FINALISTS))]


def _time(point: Point) -> float:
    return point.time if point.time is not None else 1.0


def best_that_holds(
    bench: Bench, entered: Sequence[Sequence[Point]], work: Path, progress: Progress
) -> tuple[Finalist, Verdict, list[Finalist]]:
    """The first that keeps to the bound on the final samples, and all that were timed. Raises `BoundMissed`."""
    missed: list[Verdict] = []
    timed: list[Finalist] = []
    for points in entered:
        progress.stage("timing the best against each other")
        finalists = _finalists(bench, points, work)
        timed += finalists
        progress.stage("judging on samples that no choice depends on")
        for one in finalists:
            verdict = bench.judge.judge(one.model, bench.parts.final)
            if verdict.holds:
                return one, verdict, timed
            missed.append(verdict)
    raise BoundMissed(_not_confirmed(bench, missed))


def retimed(points: Sequence[Point], timed: Sequence[Finalist], chosen: Finalist) -> list[Point]:
    """The front of `points` by their last times, with the one that was chosen: it may not be the fastest of those that
    the races cannot tell apart, and faster ones may have missed the bound."""
    known = {one.point.number: 1 / one.latency.speedup for one in timed}
    now = [dataclasses.replace(point, time=known.get(point.number, point.time)) for point in points]
    shown = {point.number for point in fronts.front(now)} | {chosen.point.number}
    return sorted((point for point in now if point.number in shown), key=lambda point: point.values)


def _finalists(bench: Bench, points: Sequence[Point], work: Path) -> list[Finalist]:
    """The points' models, timed, the best first."""
    paths = [bench.builder.build(toml.parse(point.steps), work).path for point in points]
    models = [io.load(path) for path in paths]
    found = [Finalist(*one) for one in zip(points, paths, models, _raced(bench, models, SECONDS), strict=True)]
    if bench.settings.objective == "size":
        return found
    able = sorted((one for one in found if one.latency.verdict != "slower"), key=_fastest)
    near = _level(able)
    far = able[len(near) :]
    if len(near) > 1:
        again = _raced(bench, [one.model for one in near], 2 * SECONDS)
        near = sorted((dataclasses.replace(a, latency=b) for a, b in zip(near, again, strict=True)), key=_fastest)
        level = _level(near)
        near = [*sorted(level, key=lambda one: round(one.point.size, 2)), *near[len(level) :]]
    return [*near, *far]


def _raced(bench: Bench, models: Sequence[ir.Model], seconds: float) -> list[Latency]:
    return race(bench.about.model, models, bench.parts.choosing, bench.run, seconds * len(models))


def _fastest(one: Finalist) -> float:
    return -one.latency.speedup


def _level(ordered: Sequence[Finalist]) -> list[Finalist]:
    """The first of those that are in order and what its race cannot tell from it, up to the next that it can."""
    count = 0
    while count < len(ordered) and ordered[count].latency.ci95[1] >= ordered[0].latency.ci95[0]:
        count += 1
    return list(ordered[:count])


def _not_confirmed(bench: Bench, missed: Sequence[Verdict]) -> str:
    if not missed:
        return "no recipe within the bound is as fast as the original here; no model was written"
    nearest = min(missed, key=lambda verdict: verdict.violation)
    return (
        f"what kept to the bound on the samples it was chosen by does not on {len(bench.parts.final)} others: "
        f"{_fall(nearest)}; no model was written (more --data makes the choice surer)"
    )


def _fall(verdict: Verdict) -> str:
    return f"{verdict.accuracy.metric} may fall by {verdict.risk.upper:.4f}, and {verdict.bound:.4f} is allowed at most"
