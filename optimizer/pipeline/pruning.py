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
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Subject
from optimizer.prune.consumers import consumers, give_biases
from optimizer.prune.groups import Axes, Bools
from optimizer.prune.importance import CRITERIA, Criterion, informed
from optimizer.prune.prepare import prepare
from optimizer.prune.remove import mask, replace
from optimizer.prune.repair import repair
from optimizer.prune.structured import Mend, unmended
from optimizer.recipe import Prune, Run

HELD_BACK = 0.25
"""Share of real samples that are judged on only."""
_WIDEST = 2304
"""Columns up to which moments are inverted for importance."""


def split(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Samples to calibrate on and to judge on; where they are synthetic or very few, one set serves both."""
    if samples.synthetic or len(samples) < 4:
        return samples, samples
    judging, calibration = samples.split(HELD_BACK, seed)
    return calibration, judging


class Calibration:
    """Criterion and repair for the channels of one model, from one split of its samples."""

    def __init__(self, about: Subject, step: Prune, run: Run, progress: Progress) -> None:
        self.about, self.step, self.run, self.progress = about, step, run, progress
        self.samples, held = split(about.samples, run.seed)
        self.mends = step.repair and not about.samples.synthetic
        self.judging = held if self.mends or self.name != "magnitude" else about.samples
        self.base = prepare(about.clean)
        if self.mends:
            give_biases(self.base)
        self._moments: dict[str, Array] | None = None

    @property
    def name(self) -> str:
        """The criterion: `auto` is obs with real data and magnitude without."""
        if self.step.criterion == "auto":
            return "magnitude" if self.samples.synthetic else "obs"
        return self.step.criterion

    def criterion(self, axes: Axes) -> Criterion:
        """The criterion that the step asks for, for a model that was made of `base`."""
        if self.name in CRITERIA:
            return CRITERIA[self.name]
        self._moments = self._measured() if self._moments is None else self._moments
        return informed(self.name, consumers(axes.graph), self._moments)

    def _measured(self) -> dict[str, Array]:
        """Covariances of what the consumers of the base read, by node name."""
        every = consumers(self.base.graph)
        found = [one for one in every if one.columns <= _WIDEST and not one.lowering.depthwise]
        grams = {one.node.name or "": Gram(one.window) for one in found}
        watched: dict[str, list[Gram]] = {}
        for one in found:
            watched.setdefault(one.given.name or "", []).append(grams[one.node.name or ""])
        tick = self.progress.stage("measuring what channels carry", len(self.samples))
        observe(self.base, self.samples, watched, threads=self.run.threads, tick=tick)
        return {key: gram.moments(centred=True) for key, gram in grams.items() if gram.count}

    def mend(self, axes: Axes, model: ir.Model) -> Mend:
        """The repair of `model` for a choice of labels."""

        def mended(dropped: Bools) -> Mapping[str, Array]:
            tick = self.progress.stage("repairing what is left")
            args = (axes, dropped, self.base, model, lambda: self.samples)
            found = repair(*args, threads=self.run.threads, tick=tick).constants
            better = self._noise(axes, dropped, model, found) < self._noise(axes, dropped, model, {})
            return found if better else {}

        return mended if self.mends else unmended

    def _noise(self, axes: Axes, dropped: Bools, model: ir.Model, constants: Mapping[str, Array]) -> float:
        """Noise of the answers to the judging samples, decibels."""
        masked = model.clone()
        replace(masked.graph, constants)
        mask(axes, dropped, masked.graph)
        return self.noise(masked)

    def noise(self, model: ir.Model) -> float:
        """Noise of a model's answers to the judging samples, decibels."""
        return -common.accuracy(self.about.model, model, self.judging, self.run).sqnr_db
