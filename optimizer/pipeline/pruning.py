"""What data tells the pruner: which channels matter, and how what reads them is mended.

Real samples are split as for quantization: one part is calibrated on, the other is judged on only.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from optimizer.calibrate.gram import Gram
from optimizer.calibrate.run import observe
from optimizer.data.samples import Samples
from optimizer.model.ports import Array
from optimizer.pipeline.common import Progress, Subject
from optimizer.prune.consumers import consumers
from optimizer.prune.groups import Axes, Bools
from optimizer.prune.importance import CRITERIA, Criterion, informed
from optimizer.prune.repair import repair
from optimizer.prune.structured import Mend
from optimizer.recipe import Prune, Run

HELD_BACK = 0.25
"""Share of real samples that are judged on only."""
_WIDEST = 2304
"""Columns up to which moments are inverted for importance."""


def repairs(step: Prune, about: Subject) -> bool:
    """Whether there is a repair: it takes real data."""
    return step.repair and not about.samples.synthetic


def split(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Samples to calibrate on and to judge on; where they are synthetic or very few, one set serves both."""
    if samples.synthetic or len(samples) < 4:
        return samples, samples
    judging, calibration = samples.split(HELD_BACK, seed)
    return calibration, judging


class Calibration:
    """Criterion and repair for the channels of one model, from one split of its samples."""

    def __init__(self, base: ir.Model, about: Subject, step: Prune, run: Run, progress: Progress) -> None:
        self.base, self.step, self.run, self.progress = base, step, run, progress
        self.samples = split(about.samples, run.seed)[0]
        self.mends = repairs(step, about)

    def criterion(self, axes: Axes) -> Criterion:
        """The criterion that the step asks for; `auto` is obs with real data and magnitude without."""
        name = self.step.criterion
        if name == "auto":
            name = "magnitude" if self.samples.synthetic else "obs"
        return CRITERIA[name] if name in CRITERIA else self._informed(name, axes)

    def _informed(self, name: str, axes: Axes) -> Criterion:
        found = [one for one in consumers(axes.graph) if one.columns <= _WIDEST and not one.lowering.depthwise]
        grams = {one.node.name or "": Gram(one.window) for one in found}
        watched: dict[str, list[Gram]] = {}
        for one in found:
            watched.setdefault(one.given.name or "", []).append(grams[one.node.name or ""])
        tick = self.progress.stage("measuring what channels carry", len(self.samples))
        observe(self.base, self.samples, watched, threads=self.run.threads, tick=tick)
        seen = {key: gram.moments(centred=True) for key, gram in grams.items() if gram.count}
        return informed(name, found, seen)

    def mend(self, axes: Axes, model: ir.Model) -> Mend:
        """The repair of `model` for a choice of labels."""

        def mended(dropped: Bools) -> Mapping[str, Array]:
            if not self.mends:
                return {}
            tick = self.progress.stage("repairing what is left")
            args = (axes, dropped, self.base, model, lambda: self.samples)
            return repair(*args, threads=self.run.threads, tick=tick).constants

        return mended
