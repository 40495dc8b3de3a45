"""How the answers of a quantized candidate compare with the original's, and whether that is near enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from optimizer.calibrate import selection
from optimizer.calibrate.metrics import compare_outputs
from optimizer.data.convert import codes
from optimizer.data.samples import Samples, coded
from optimizer.pipeline import quantize_words as words
from optimizer.pipeline.common import Progress, Subject
from optimizer.quantize.candidate import Candidate
from optimizer.recipe import Quantize, Run
from optimizer.report.records import Accuracy
from optimizer.runtime.session import Options, Remembering, Session, open_session

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
    repaired: bool = False
    """Whether repairs were tried on it already."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """Compares candidates with the original on the same samples."""

    about: Subject
    step: Quantize
    run: Run
    samples: Samples
    progress: Progress
    original: Session
    selects: bool
    """Whether the data decide the size of what comes out, so that other values are compared."""

    @classmethod
    def between(cls, about: Subject, step: Quantize, run: Run, samples: Samples, progress: Progress) -> Judge:
        """The judge of candidates for the original in `about`."""
        first = about.clean if _own_metric(step) else selection.comparable(about.clean)
        selects = first is not about.clean
        opened = open_session(first if selects else about.model, Options(threads=run.threads))
        samples = dataclasses.replace(samples, labels=None) if selects else samples
        return cls(about, step, run, samples, progress, Remembering(opened.raw), selects)

    def of(self, candidate: Candidate) -> Judged:
        """`candidate` with how its answers compare."""
        tick = self.progress.stage("comparing answers", len(self.samples))
        model = selection.comparable(candidate.model) if self.selects else candidate.model
        session, own = open_session(model, Options(threads=self.run.threads)), coded(self.samples, codes(model))
        found = compare_outputs(self.original, session, self.samples, own, self.step.metric, tick=tick)
        return Judged(candidate, found)

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

    def holds(self, judged: Judged) -> bool:
        """Whether the answers keep to the bound. Without one, a drop of 1% (or of a single answer) is borne, as long
        as the outputs as a whole stay close."""
        found, bound = judged.accuracy, self.step.max_drop
        if bound is not None:
            return found.drop <= bound * max(abs(found.before), 1e-9)
        near = found.drop <= words.USUAL_DROP * abs(found.before) or found.lost <= words.CHANCE
        return near and (
            _own_metric(self.step) or found.sqnr_db >= (_SYNTHETIC_SQNR if found.synthetic else _USUAL_SQNR)
        )


def _own_metric(step: Quantize) -> bool:
    """Whether a function of the caller's judges."""
    return ":" in (step.metric or "")
