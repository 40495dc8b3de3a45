"""`optimize quantize`: candidates from one calibration, the fastest by a paired race, repaired, judged and written.

Never slower: a candidate is written only if the race does not show it slower than the original. Where no int8 form
is faster, the form that is smaller and not slower is written instead, and the result says so.

Bounded: where the answers of the fastest candidate drop by more than `max_drop` (1% unless given), groups go back to
float, the worst bargains first (`quantize.sensitivity`), until the bound holds on samples that calibration has not
seen; the length of that list is found by bisection.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx_ir as ir

from optimizer.calibrate import metrics
from optimizer.errors import NothingToDo
from optimizer.model import io
from optimizer.pipeline import bytes as bytes_in
from optimizer.pipeline import common
from optimizer.pipeline import quantize_words as words
from optimizer.pipeline.bound import SAMPLES, Bound
from optimizer.pipeline.common import Progress, Silent, Subject
from optimizer.pipeline.judge import Judge, Judged
from optimizer.pipeline.memory import Memory
from optimizer.pipeline.quantizable import Timing, float_model, in_float32, multiplied
from optimizer.quantize import half
from optimizer.quantize.build import Static
from optimizer.quantize.candidate import Candidate
from optimizer.quantize.remembered import Remembered
from optimizer.quantize.spelled import spelled_out
from optimizer.recipe import Quantize, Run
from optimizer.report.records import Latency, Result

_RACE_SECONDS = 4.0
_FINAL_SECONDS = 6.0
_FEW = 48
_BLOCKS = (8, 32)
_NOTICED = 1.0  # decibels that scaled channels must gain: rounding wins back less than that by itself


def quantize(
    path: Path | str,
    step: Quantize | None = None,
    run: Run | None = None,
    *,
    output: Path | str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    memory: Memory | None = None,
) -> Result:
    """Quantize the model at `path` and write the result. Raises `UserError`, or `BoundMissed` with nothing written.

    Runs that share a `memory` calibrate a model once.
    """
    source, step, run = Path(path), step or Quantize(), run or Run()
    target = Path(output) if output is not None else common.default_output(source, "int8")
    metrics.own_function(step.metric)
    model = float_model(source)
    io.check_target(target, force)
    about = common.prepare(source, model, run)
    kind = half.kind(about.clean)
    result, candidate = Work(in_float32(about), step, run, progress or Silent(), memory).best()
    if kind is not None:
        half.narrow(candidate.model, kind)
    return common.write(result, candidate.model, about, target, run, step, force=force)


class Work:
    """One run of the command: calibration once, then candidates, each timed and judged against the original."""

    def __init__(
        self,
        about: Subject,
        step: Quantize,
        run: Run,
        progress: Progress,
        memory: Memory | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.timing = timing or Timing()
        taken = bytes_in.take(about, step, run)
        self.about, self.step, self.run, self.progress = taken.about, step, run, progress
        calibration, self.judging = common.split(taken.about.samples, run.seed)
        self.calibration = taken.samples(multiplied(calibration, step, run.seed))
        self.heads, self.notes = taken.heads, list[str]()
        self.judge = Judge.between(self.about, step, run, self.judging, progress)
        remembered = memory.of(about, step, run) if memory is not None else Remembered()
        self.static = self.equalized(self.calibrated(spelled_out(taken.model), remembered), remembered.scaled)
        self.costs = self.static.table_costs()

    def calibrated(self, model: ir.Model, remembered: Remembered) -> Static:
        """`model` with what calibration tells of it."""
        tick = self.progress.stage("calibrating", len(self.calibration))
        return Static(
            model,
            lambda: self.calibration,
            self.step,
            heads=self.heads,
            synthetic=self.calibration.synthetic,
            threads=self.run.threads,
            tick=tick,
            remembered=remembered,
        )

    def equalized(self, static: Static, remembered: Remembered) -> Static:
        """`static`, or the same of a model whose channels are scaled, where that brings held-back answers closer."""
        if self.step.recover != "full" or self.calibration.synthetic or (found := static.equalized()) is None:
            return static
        count, model, seen = found
        remembered.statistics(lambda: seen)
        other = self.calibrated(model, remembered)
        few = self.judge.on(_FEW)
        before, after = (few.of(one.whole).accuracy for one in (static, other))
        kept = after.closeness >= before.closeness + (_NOTICED if before.quantities else 0.0)
        figures = f"{words.compared(before, after)}, all in int8"
        self.notes.append(
            f"equalization of {count} value{'s' * (count > 1)} {'kept' if kept else 'not kept'}: {figures}"
        )
        return other if kept else static

    def best(self) -> tuple[Result, Candidate]:
        """The candidate to write and its result."""
        judged, latency = self.choose()
        repaired = self.repaired(judged)
        return self.describe(repaired, latency), repaired.candidate

    def choose(self) -> tuple[Judged, Latency | None]:
        """The best candidate, not yet repaired."""
        useful = [candidate for candidate in self.candidates() if candidate.changed]
        if not useful:
            raise NothingToDo(f"{self.about.path} has nothing to quantize: no int8 kernel fits it, no weight is large")
        finalists = self.finalists(self.ranked(useful))
        latencies = self.final(finalists)
        order = sorted(range(len(finalists)), key=lambda i: -latencies[i].speedup if latencies else 0.0)
        for i in order:
            judged, latency = finalists[i], latencies[i] if latencies else None
            if latency is None or latency.verdict == "faster" or _plain(judged, latency):
                return judged, latency
        raise NothingToDo(f"{self.about.path}: no int8 form of it is as fast as the original here; nothing was written")

    def finalists(self, ranked: list[Candidate]) -> list[Judged]:
        """From candidates by speed: the fastest, repaired or cut back until its answers hold, the fastest that holds as
        it is, and weights alone (the closest form if nothing holds). Raises `BoundMissed` if there are none within
        `max_drop`."""
        found: list[Judged] = []
        missed: list[Judged] = []
        for candidate in ranked:
            if found and not (candidate.only_stored and self.step.measure):
                continue
            judged, first = self.judge.of(candidate), not candidate.only_stored and not missed
            if first and not self.judge.holds(judged):
                judged = self.repaired(judged)
            if self.judge.holds(judged):
                found.append(judged)
                continue
            bounded = self.bound.of(judged) if first and self.step.placed is None else None
            missed.append(judged)
            if bounded is not None:
                found.append(bounded)
        if missed and self.step.mode == "auto" and self.step.measure:
            found += self.in_blocks()
        if not found and self.step.mode == "auto":
            halved = self.judge.of(self.static.halved())
            (found if self.judge.holds(halved) else missed).append(halved)
        if not found and self.step.max_drop is not None:
            raise self.missed(min(missed, key=lambda one: one.accuracy.drop), self.step.max_drop)
        plain = [judged for judged in missed if judged.candidate.only_stored] or missed[-1:]
        return found or [max(plain, key=lambda judged: judged.accuracy.closeness)]

    def in_blocks(self) -> list[Judged]:
        """The form for activations that one range does not fit, if its answers hold: weights in blocks, activations
        rounded block by block in each run. Only a race tells whether it is faster."""
        candidate = self.static.stored(_BLOCKS)
        judged = self.judge.of(candidate) if candidate.in_blocks else None
        return [judged] if judged is not None and self.judge.holds(judged) else []

    @property
    def bound(self) -> Bound:
        """What brings a candidate back within the bound."""
        return Bound(self.judge, self.static, self.costs, list(self.calibration.take(SAMPLES)), self.progress)

    def missed(self, nearest: Judged, bound: float) -> common.Missed:
        result = common.base_result("quantize", self.about, nearest.candidate.model, self.run)
        told = dataclasses.replace(result, accuracy=nearest.accuracy)
        return common.missed(told, f"--max-drop {bound:.2%}", words.missed(nearest.accuracy, bound))

    def final(self, finalists: list[Judged]) -> tuple[Latency, ...]:
        if not self.step.measure:
            return ()
        self.progress.stage("timing the best against the original")
        return self.race([judged.candidate for judged in finalists], _FINAL_SECONDS)

    def candidates(self) -> list[Candidate]:
        """What the step allows; the plainest last."""
        self.progress.stage("placing int8 and float")
        static, mode = self.static, self.step.mode
        if self.step.placed is not None:
            return [static.as_placed()]
        if mode in ("weights", "half", "dynamic"):
            plain = {
                "weights": lambda: static.stored(self.step.blocks),
                "half": static.halved,
                "dynamic": static.dynamic,
            }
            return [plain[mode]()]
        if self.step.everywhere:
            return [static.whole]
        if not self.step.measure:
            return [static.placed("placed by the cost table", self.costs), static.stored()]
        everything = static.whole
        with self.timing.alone:
            self.costs = static.measured_costs(everything, list(self.calibration.take(common.TIMED_SAMPLES)))
        found = [everything, *self.placements()]
        return found if mode == "static" else [*found, static.dynamic(), static.stored()]

    def placements(self) -> list[Candidate]:
        """Placed by the costs of the table and by those measured."""
        table = self.static.placed("placed by the cost table", self.static.table_costs())
        return [table, self.static.placed("placed by measured costs", self.costs)]

    def ranked(self, useful: list[Candidate]) -> list[Candidate]:
        """The fastest first. Those that the first race cannot tell from its winner run once more, for twice as long."""
        if not self.step.measure or len(useful) == 1:
            return useful
        self.progress.stage(f"timing {len(useful)} candidates")
        first = self.race(useful, _RACE_SECONDS)
        order = sorted(range(len(useful)), key=lambda i: -first[i].speedup)
        near = [useful[i] for i in order if first[i].ci95[1] >= first[order[0]].ci95[0]]
        far = [useful[i] for i in order if first[i].ci95[1] < first[order[0]].ci95[0]]
        if len({id(candidate.model) for candidate in near}) == 1:
            return near + far
        self.progress.stage(f"timing the best {len(near)} again")
        again = self.race(near, 2 * _RACE_SECONDS)
        return [near[i] for i in sorted(range(len(near)), key=lambda i: -again[i].speedup)] + far

    def race(self, candidates: list[Candidate], seconds: float) -> tuple[Latency, ...]:
        """Speed-ups; candidates that are the same model are timed once."""
        models = list({id(candidate.model): candidate.model for candidate in candidates}.values())
        with self.timing.alone:
            seconds *= self.timing.patience
            found = common.race(self.about.model, models, self.judging, self.run, seconds).latencies
        places = {id(model): place for place, model in enumerate(models)}
        return tuple(found[places[id(candidate.model)]] for candidate in candidates)

    def repaired(self, judged: Judged) -> Judged:
        """`judged`, or its repaired form where that brings the held-back samples' outputs closer."""
        candidate = judged.candidate
        if self.step.recover != "full" or self.judging.synthetic or judged.repaired:
            return judged
        if candidate.plan is None or not candidate.plan.weights:
            return judged
        steps = {"second-order rounding": self.static.recovered, "correction of rounded inputs": self.static.shifted}
        return dataclasses.replace(self.judge.repaired(judged, steps, _FEW), repaired=True)

    def describe(self, judged: Judged, latency: Latency | None) -> Result:
        """The result record of the chosen candidate."""
        base = common.base_result("quantize", self.about, judged.candidate.model, self.run)
        saturation = self.static.audit(judged.candidate)
        made = self.calibration.notes[len(self.judging.notes) :]
        return dataclasses.replace(
            base,
            latency_ms=latency,
            accuracy=judged.accuracy,
            nodes=judged.candidate.nodes,
            steps=(
                *base.steps,
                *made,
                *self.notes,
                *judged.notes,
                *words.overflow(saturation),
                words.summary(judged.candidate),
            ),
            warnings=(*base.warnings, *judged.accuracy.doubts, *words.doubts(judged.accuracy, latency)),
            details={"saturation": saturation},
        )


def _plain(judged: Judged, latency: Latency) -> bool:
    """Whether this is the form that need not be faster, as long as it is not slower."""
    return judged.candidate.only_stored and latency.verdict != "slower"
