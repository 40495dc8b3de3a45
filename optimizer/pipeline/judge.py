"""How the answers of a quantized candidate compare with the original's, and whether that is near enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import onnx_ir as ir

from optimizer.calibrate import selection
from optimizer.data.samples import Samples
from optimizer.pipeline import common
from optimizer.pipeline import quantize_words as words
from optimizer.pipeline.common import Progress, Subject
from optimizer.quantize.candidate import Candidate
from optimizer.recipe import Quantize, Run
from optimizer.report.records import Accuracy

_USUAL_SQNR = 14.0
"""Decibels that are asked for where no bound is given."""
_SYNTHETIC_SQNR = 20.0
"""The same in decibels on synthetic inputs: real ones come out worse, by 6 dB where it was measured."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """A candidate and how its answers compare."""

    candidate: Candidate
    accuracy: Accuracy
    notes: tuple[str, ...] = ()
    """What was done to it, one line each."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """Compares candidates with the original on the same samples."""

    about: Subject
    step: Quantize
    run: Run
    samples: Samples
    progress: Progress

    def of(self, candidate: Candidate) -> Judged:
        """`candidate` with how its answers compare."""
        tick = self.progress.stage("comparing answers", len(self.samples))
        baseline, model, samples = self.comparable(candidate.model)
        return Judged(candidate, common.accuracy(baseline, model, samples, self.run, self.step.metric, tick))

    def on(self, count: int) -> Judge:
        """The judge of choices that a part of the samples can make: `count` of them."""
        return self if count >= len(self.samples) else dataclasses.replace(self, samples=self.samples.take(count))

    def repaired(self, judged: Judged, steps: Mapping[str, Callable[[Candidate], Candidate]], count: int) -> Judged:
        """`judged` after those of `steps`, by name, that bring `count` samples' outputs closer, judged on all."""
        few = self.on(count)
        best = judged if few is self else dataclasses.replace(few.of(judged.candidate), notes=judged.notes)
        for name, make in steps.items():
            self.progress.stage(name)
            best = few.better(best, few.of(make(best.candidate)), name)
        if few is self:
            return best
        whole = judged if best.candidate is judged.candidate else self.of(best.candidate)
        if self.holds(judged) and not self.holds(whole):
            return dataclasses.replace(judged, notes=(*judged.notes, "repairs not kept: other samples lose by them"))
        return dataclasses.replace(whole, notes=best.notes)

    def better(self, judged: Judged, other: Judged, repair: str) -> Judged:
        """`judged`, or `other` where that comes closer, with a note on it."""
        before, after = judged.accuracy.closeness, other.accuracy.closeness
        kept = after > before and (self.holds(other) or not self.holds(judged))
        word = "kept" if kept else "not kept"
        note = f"{repair} {word}: {words.compared(judged.accuracy, other.accuracy)}"
        return dataclasses.replace(other if kept else judged, notes=(*judged.notes, note))

    def comparable(self, model: ir.Model) -> tuple[ir.Model, ir.Model, Samples]:
        """The original, `model`, and the samples, with outputs that can be compared one by one."""
        first = self.about.clean if self.own_metric else selection.comparable(self.about.clean)
        if first is self.about.clean:
            return self.about.model, model, self.samples
        return first, selection.comparable(model), dataclasses.replace(self.samples, labels=None)

    @property
    def own_metric(self) -> bool:
        """Whether a function of the caller's judges."""
        return ":" in (self.step.metric or "")

    def holds(self, judged: Judged) -> bool:
        """Whether the answers keep to the bound. Without one, a drop of 1% (or of a single answer) is borne, as long
        as the outputs as a whole stay close."""
        found, bound = judged.accuracy, self.step.max_drop
        if bound is not None:
            return found.drop <= bound * max(abs(found.before), 1e-9)
        near = found.drop <= words.USUAL_DROP * abs(found.before) or found.lost <= words.CHANCE
        return near and (self.own_metric or found.sqnr_db >= (_SYNTHETIC_SQNR if found.synthetic else _USUAL_SQNR))
