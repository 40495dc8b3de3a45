"""The benchmark: baseline against candidates in speed, size, memory and answers, and whether the gates hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from optimizer.bench import earlier, gates, measure, yardstick
from optimizer.bench.attribution import attribute
from optimizer.bench.earlier import Earlier
from optimizer.bench.errors import by_tensor
from optimizer.bench.figures import exact, gather
from optimizer.bench.gates import Figure, Gate
from optimizer.bench.measure import Plan, Race, Start
from optimizer.bench.subject import Subject, open_all
from optimizer.bench.yardstick import Peak
from optimizer.calibrate.metrics import compare_outputs, own_function
from optimizer.errors import ConfigError
from optimizer.recipe import Bench, Run
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
    step: Bench | None = None,
    run: Run | None = None,
    *,
    progress: Progress | None = None,
) -> list[Result]:
    """Compare every candidate with the baseline: one result each, gates judged but not enforced.

    Without a candidate the baseline is measured against itself, or against the earlier run in `step.baseline`.
    Raises `UserError`.
    """
    step, run, progress = step or Bench(), run or Run(), progress or Silent()
    own_function(step.metric)
    if not step.measure:
        return [_unmeasured(baseline, candidate, step, run, progress) for candidate in candidates or [baseline]]
    wanted = tuple(gates.parse(text) for text in step.fail_if)
    if step.baseline is not None and candidates:
        raise ConfigError("--baseline FILE takes the place of the baseline: give one model only")
    kept = earlier.load(step.baseline) if step.baseline is not None else None
    measured = _measured([Path(baseline), *map(Path, candidates)], step, run, wanted, progress)
    found = []
    for lane in measured.lanes:
        result, figures = measured.result(lane, kept)
        found.append(dataclasses.replace(result, gates=tuple(gates.judge(gate, figures) for gate in wanted)))
    return found


def _unmeasured(baseline: Path | str, candidate: Path | str, step: Bench, run: Run, progress: Progress) -> Result:
    """Compare in size and answers alone: nothing is timed, and gates on what would be measured are not judged."""
    wanted = [gates.parse(text) for text in step.fail_if]
    first, second = open_all([Path(baseline), Path(candidate)], run)
    accuracy = _accuracy(first, second, step.metric, progress)
    unjudged = (f"gate not judged, since nothing is timed: {gate.text}" for gate in wanted if gate.measured)
    result = dataclasses.replace(
        _sizes(first, second, machine.describe(run.threads)),
        accuracy=accuracy,
        warnings=(*unjudged, *accuracy.doubts),
    )
    judged = tuple(gates.judge(gate, exact(result)) for gate in wanted if not gate.measured)
    return dataclasses.replace(result, gates=judged)


@dataclasses.dataclass(frozen=True)
class _Measured:
    """Everything that was measured, before it is put into words."""

    step: Bench
    subjects: Sequence[Subject]
    accuracies: Sequence[Accuracy]
    """One for each candidate."""
    where: Machine
    race: Race
    starts: Sequence[Sequence[Start]]
    peak: Peak | None
    progress: Progress

    @property
    def lanes(self) -> Sequence[int]:
        """The candidates' lanes in the race: the baseline's own second copy where there is no other."""
        return range(1, len(self.subjects)) if len(self.subjects) > 1 else [self.race.copy]

    def result(self, lane: int, kept: Earlier | None) -> tuple[Result, dict[str, Figure]]:
        """The result of the candidate on `lane`, and its figures for the gates."""
        subject = min(lane, len(self.subjects) - 1)
        pair = self.subjects[0], self.subjects[subject]
        starts = [self.starts[0], self.starts[subject]] if self.starts else []
        result = self._result(pair, lane, starts)
        figures = gather(result, self.race, lane, starts)
        if self.step.save_baseline is not None and subject == len(self.subjects) - 1:
            earlier.save(self.step.save_baseline, result, self.race, lane)
        if kept is None:
            return result, figures
        compared = earlier.compare(result, kept, self.race, lane)
        return compared, earlier.figures(compared, figures)

    def _result(self, pair: tuple[Subject, Subject], lane: int, starts: Sequence[Sequence[Start]]) -> Result:
        accuracy = self.accuracies[lane - 1] if self.accuracies else None
        return dataclasses.replace(
            _sizes(*pair, self.where),
            latency_ms=_latency(self.race, lane),
            accuracy=accuracy,
            throughput=Change(self._rate(0), self._rate(lane)),
            memory_bytes=_typical(starts, lambda start: start.memory, int),
            load_ms=_typical(starts, lambda start: start.load * 1e3, float),
            first_run_ms=_typical(starts, lambda start: start.first_run * 1e3, float),
            warnings=(*self._warnings(pair), *(accuracy.doubts if accuracy else ())),
            details=self._details(lane) | self._why(pair, lane),
        )

    def _rate(self, lane: int) -> float:
        """Samples a second: with one caller by the clock of its runs, with several by that of their windows."""
        times = self.race.times.runs if self.step.concurrency == 1 else self.race.times.counted
        return self.step.batch / float(np.median(times[lane].times))

    def _details(self, lane: int) -> dict[str, Any]:
        same = self.race.same
        return {
            "batch": self.step.batch,
            "concurrency": self.step.concurrency,
            "spin": self.step.spin,
            "inconclusive": self.step.inconclusive,
            "sittings": int(self.race.times.sittings.max()) + 1,
            "latency_quantiles_ms": {"before": _curve(self.race, 0), "after": _curve(self.race, lane)},
            "same_model_twice": {"speedup": same.speedup, "ci95": [same.lo, same.hi]},
        }

    def _why(self, pair: tuple[Subject, Subject], lane: int) -> dict[str, Any]:
        if self.peak is None:
            return {}
        self.progress.stage("profiling")
        times, threads = self.race.times, self.where.threads
        typical = times.quantiles(0).p50, times.quantiles(lane).p50
        found = {"per_op": to_json(attribute(pair, typical, self.peak, threads=threads, batch=self.step.batch))}
        if pair[0] is pair[1]:
            return found
        self.progress.stage("comparing inner tensors")
        return {**found, "error_by_tensor": to_json(by_tensor(*pair, threads))}

    def _warnings(self, pair: tuple[Subject, Subject]) -> tuple[str, ...]:
        found = [*pair[0].samples.notes, *pair[1].samples.notes]
        cores = min(self.where.cores, self.where.quota or math.inf)
        if pair[0].samples.synthetic:
            found.append("no --data given: timed and compared on synthetic inputs, which say little about real answers")
        doubts = [(subject.path.name, machine.unsuited(subject.session.metadata)) for subject in pair]
        found += [f"{name} {doubt}" for name, doubt in doubts if doubt is not None]
        if self.race.floor == math.inf:
            found.append("too few rounds to tell how noisy the machine is: give more --time-budget or --runs")
        elif self.race.floor > NOISY:
            found.append(
                f"the machine is noisy: one model against itself differed by up to {math.expm1(self.race.floor):.1%}; "
                "close what else runs, or give more --time-budget"
            )
        if self.where.threads > cores:
            found.append(f"{self.where.threads} threads are more than the {cores:g} cores there are")
        if self.step.spin:
            found.append("measured with spinning threads, each model in a process of its own (--spin)")
        return tuple(dict.fromkeys(found))


def _measured(paths: Sequence[Path], step: Bench, run: Run, wanted: Sequence[Gate], progress: Progress) -> _Measured:
    where = machine.describe(run.threads)
    subjects = open_all(paths, run)
    accuracies = [_accuracy(subjects[0], candidate, step.metric, progress) for candidate in subjects[1:]]
    plan = Plan(
        models=tuple(subject.path for subject in subjects),
        feeds=tuple(subject.timed(step.batch) for subject in subjects),
        threads=run.threads,
        spin=step.spin,
        callers=step.concurrency,
        budget=step.time_budget * max(1, len(subjects) - 1),
        runs=step.runs,
        yardstick=step.save_baseline is not None or step.baseline is not None,
        seed=run.seed,
    )
    race = measure.run(plan, progress.stage("timing"))
    needs_starts = step.memory or any(gate.metric in ("memory", "load", "first_run") for gate in wanted)
    starts = measure.start(plan, progress.stage("starting", measure.STARTS * len(paths))) if needs_starts else []
    peak = yardstick.peak(run.threads) if step.per_op else None
    return _Measured(step, subjects, accuracies, where, race, starts, peak, progress)


def _sizes(first: Subject, second: Subject, where: Machine) -> Result:
    return Result(
        command="bench",
        input=str(first.path),
        output=str(second.path),
        size_bytes=Change(first.size, second.size),
        params=Change(first.cost.params, second.cost.params),
        macs=Change(first.cost.macs, second.cost.macs),
        machine=where,
    )


def _accuracy(first: Subject, second: Subject, metric: str | None, progress: Progress) -> Accuracy:
    tick = progress.stage("comparing answers", len(first.samples))
    return compare_outputs(first.session, second.session, first.samples, second.samples, metric, tick=tick)


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


def _typical(
    starts: Sequence[Sequence[Start]], of: Callable[[Start], float], kind: Callable[[float], T]
) -> Change[T] | None:
    if not starts:
        return None
    before, after = (kind(float(np.median([of(start) for start in own]))) for own in starts)
    return Change(before, after)


def _curve(race: Race, lane: int) -> list[float]:
    """Every hundredth quantile of the latency, from 0 to 1, in milliseconds."""
    quantiles = np.quantile(race.times.runs[lane].times, np.linspace(0, 1, 101)) * 1e3
    return [float(value) for value in quantiles]
