"""Where the answers of a candidate drop too far: which parts go back to float, the worst bargains first, and how their
weights are kept in the file then."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from optimizer.model.ports import Feed
from optimizer.pipeline import quantize_words as words
from optimizer.pipeline.common import Progress
from optimizer.pipeline.judge import Judge, Judged
from optimizer.quantize import sensitivity
from optimizer.quantize.build import Static
from optimizer.quantize.candidate import Candidate
from optimizer.quantize.placement import Costs
from optimizer.quantize.sensitivity import Bundle

SAMPLES = 4
"""Samples that tell what costs accuracy."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """Candidates of `static`, placed by `costs`, that keep to the bound of `judge`; `feeds` are calibration samples."""

    judge: Judge
    static: Static
    costs: Costs
    feeds: Sequence[Feed]
    progress: Progress

    def of(self, judged: Judged) -> Judged | None:
        """`judged` with as few groups back in float as its answers ask for; None if only all of them would do."""
        order = self.bargains(judged.candidate)
        low, high = 0, len(order) - 1
        found: Judged | None = None
        while low < high:
            middle = (low + high) // 2
            tried = self.judge.of(self.without(judged.candidate, order[: middle + 1]))
            found, low, high = (tried, low, middle) if self.judge.holds(tried) else (found, middle + 1, high)
        if found is None:
            return None
        note = f"{low + 1} of {len(order)} int8 parts went back to float to keep within {self.name}"
        return dataclasses.replace(self.smaller(judged.candidate, order[: low + 1], found), notes=(note,))

    def smaller(self, candidate: Candidate, given_up: list[Bundle], found: Judged) -> Judged:
        """`found`, which has the weights of all parts `given_up` as float16, with those of as many of them in int8 as
        its answers bear. They are computed with in float either way."""
        assert candidate.plan is not None
        weighted = [bundle for bundle in given_up if candidate.plan.weights.keys() & set(bundle.groups)]
        worst = sorted(weighted, key=lambda bundle: -bundle.error)
        low, high = 0, len(worst)
        while low < high:
            middle = (low + high) // 2
            tried = self.judge.of(self.without(candidate, given_up, worst[:middle]))
            found, low, high = (tried, low, middle) if self.judge.holds(tried) else (found, middle + 1, high)
        return found

    def bargains(self, candidate: Candidate) -> list[Bundle]:
        tick = self.progress.stage("finding what costs accuracy", sensitivity.BUNDLES)
        return sensitivity.bundles(self.static, candidate, self.costs.groups, self.feeds, tick)

    def without(
        self,
        candidate: Candidate,
        given_up: list[Bundle],
        near: list[Bundle] | None = None,
    ) -> Candidate:
        """`candidate` placed again with some groups held in float, the weights of `near` (all unless given) as float16,
        those of the others as int8."""
        reason = f"float, to keep within {self.name}"
        held = {name: reason for bundle in given_up for name in bundle.groups}
        plain = {name for bundle in (given_up if near is None else near) for name in bundle.groups}
        if candidate.plan is not None and candidate.plan.dynamic:
            return self.static.dynamic(held, plain)
        if self.judge.step.everywhere:
            return self.static.everything(held, plain)
        return self.static.placed(candidate.name, self.costs, held, plain)

    @property
    def name(self) -> str:
        return "--max-drop" if self.judge.step.max_drop is not None else f"a drop of {words.USUAL_DROP:.0%}"
