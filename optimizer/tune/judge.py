"""Judging a candidate in rungs, each dearer than the one before; what fails a rung goes no further.

1. A few samples, SQNR alone: stopped below `NOISE` dB, or where it is noisier by `CLEARLY` dB than `ENOUGH` models that
   missed the bound, and than every model that kept to it.
2. A few samples, the metric: stopped if even the drop itself (no margin for chance) is `FAR` times the bound.
3. All samples: whether what the drop stays below with some confidence (`risk`) is within the bound.

The original's margins on all samples are measured once a worker.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.answers import scores_output
from optimizer.data.convert import Code, codes
from optimizer.data.samples import Samples, coded
from optimizer.model.ports import Array
from optimizer.pipeline import common
from optimizer.recipe import Run
from optimizer.report.records import Accuracy
from optimizer.runtime.session import Options, Session, open_session
from optimizer.tune import risk
from optimizer.tune.risk import Risk

FEW, SOME = 4, 16
"""Samples of the first and of the second rung."""
NOISE = 0.0
CLEARLY = 3.0
ENOUGH = 3
FAR = 4.0
_PARTS = 4
_MOST_MARGINS = 512
"""Samples whose margins are measured at most."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a candidate came off; `stopped` says why it went no further than rung `rung`."""

    accuracy: Accuracy
    risk: Risk
    rung: int
    bound: float
    """The most that the metric may fall, as a difference."""
    stopped: str | None = None

    @property
    def holds(self) -> bool:
        return self.stopped is None and self.risk.upper <= self.bound

    @property
    def violation(self) -> float:
        """How far the bound is missed, in bounds; 0 or below where it is held."""
        return (self.risk.upper - self.bound) / max(self.bound, 1e-3)


class Judge:
    """Compares candidates with one original; `every` are all samples, of which the parts to judge on are taken."""

    def __init__(self, original: ir.Model, every: Samples, run: Run, metric: str | None, max_drop: float) -> None:
        self.original, self.run, self.metric, self.max_drop = original, run, metric, max_drop
        self.session = open_session(original, Options(threads=run.threads))
        whole = every.labels is not None and every.labels.dtype.kind in "iu"
        self.labelled = whole and metric != "agreement"
        self.scores = self._scores(every) if metric in (None, "top1", "agreement") else None
        self.margins = self._margins(self.session, every.take(_MOST_MARGINS), {})

    def climb(self, candidate: ir.Model, samples: Samples, least: float = NOISE) -> Verdict:
        """The verdict on `samples`, rung by rung; below an SQNR of `least` on the first it is stopped."""
        few = self._judged(candidate, samples.take(FEW), 1)
        if few.accuracy.sqnr_db < least:
            return dataclasses.replace(few, stopped=f"SQNR of {few.accuracy.sqnr_db:.1f} dB on {FEW} samples")
        if len(samples) > 2 * SOME:
            some = self._judged(candidate, samples.take(SOME), 2)
            if some.risk.drop > FAR * some.bound:
                return dataclasses.replace(some, stopped=f"a drop of {some.risk.drop:.3f} on {SOME} samples")
        return self.judge(candidate, samples)

    def judge(self, candidate: ir.Model, samples: Samples) -> Verdict:
        """The verdict on all `samples`, at once."""
        return self._judged(candidate, samples, 3)

    def _judged(self, candidate: ir.Model, samples: Samples, rung: int) -> Verdict:
        found = self._compared(candidate, samples)
        bound = self.max_drop * abs(found.before) if math.isfinite(found.before) else self.max_drop
        return Verdict(found, self._risk(candidate, samples, found), rung, bound)

    def _compared(self, candidate: ir.Model, samples: Samples) -> Accuracy:
        return common.accuracy(self.original, candidate, samples, self.run, self.metric)

    def _risk(self, candidate: ir.Model, samples: Samples, found: Accuracy) -> Risk:
        if self.margins is None or found.metric not in ("top1", "agreement"):
            parts = _parts(samples)
            return risk.spread(
                [self._compared(candidate, part).drop for part in parts] if len(parts) > 1 else [found.drop]
            )
        part = samples.take(_MOST_MARGINS)
        before = self._margins(self.session, part, {})
        after = self._margins(open_session(candidate, Options(threads=self.run.threads)), part, codes(candidate))
        assert before is not None and after is not None
        return risk.from_margins(self.margins, before, after)

    def _scores(self, samples: Samples) -> int | None:
        return scores_output(self.session.run(samples[0]), self.labelled or self.metric is not None)

    def _margins(self, session: Session, samples: Samples, coding: Mapping[str, Code]) -> Array | None:
        """Margins of all rows of the samples; None without scores. `coding` is how `session` takes its inputs."""
        if self.scores is None:
            return None
        found = []
        for number, feed in enumerate(coded(samples, coding)):
            rows = _rows(session.run(feed)[self.scores])
            found.append(risk.margins(rows, self._right(len(rows), rows.shape[-1], samples, number)))
        return np.concatenate(found)

    def _right(self, count: int, classes: int, samples: Samples, number: int) -> Array:
        """The class that is right in each of a sample's rows: its label, or what the original answers."""
        label = samples.labels[number].ravel() if self.labelled and samples.labels is not None else np.zeros(0, int)
        if label.size == count and count and label.min() >= 0 and label.max() < classes:
            return label.astype(np.intp)
        chosen: Array = _rows(self.session.run(samples[number])[self.scores or 0]).argmax(-1)
        return chosen


def least_sqnr(kept: Sequence[float], missed: Sequence[float]) -> float:
    """The SQNR below which no model is worth judging, from those of models that kept to the bound and that missed."""
    if len(missed) < ENOUGH:
        return NOISE
    hopeless = sorted(missed, reverse=True)[ENOUGH - 1] - CLEARLY
    return max(NOISE, min([hopeless, *(decibels - CLEARLY for decibels in kept)]))


def _rows(scores: Array) -> Array:
    found: Array = scores.reshape(-1, scores.shape[-1])
    return found


def _parts(samples: Samples) -> list[Samples]:
    count = min(_PARTS, len(samples))
    return [samples.subset(range(start, len(samples), count)) for start in range(count)]
