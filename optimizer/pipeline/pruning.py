"""What data tells the pruner: which channels matter, and how what reads them is mended.

Real samples are split as for quantization: one part is calibrated on, the other is judged on only. Images, sequences
and tokens to calibrate on are augmented where they are few: closed-form fits have thousands of unknowns.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.consumers import consumers, give_biases
from optimizer.calibrate.forward import HELD
from optimizer.calibrate.gram import Gram, enough
from optimizer.calibrate.lstsq import Moments
from optimizer.calibrate.outputs import Outputs
from optimizer.calibrate.run import observe
from optimizer.calibrate.sizes import seen
from optimizer.choice import response
from optimizer.choice.importance import CRITERIA, WIDEST, Criterion, Scores, curve, informed
from optimizer.choice.repair import repair
from optimizer.choice.structured import Mend, unmended
from optimizer.choice.times import Curve
from optimizer.data.augment import BLENDING, augmented, kind_of
from optimizer.data.padding import unpadded
from optimizer.data.samples import Samples
from optimizer.data.strengths import AUTO
from optimizer.model.passes.edit import store_all
from optimizer.model.ports import Array
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Subject
from optimizer.pipeline.latency import table
from optimizer.prune.groups import Axes, Bools, analyse
from optimizer.prune.prepare import prepare
from optimizer.prune.remove import mask
from optimizer.prune.sizes import Sizes
from optimizer.recipe import Prune, Run
from optimizer.sparse.shares import Costs

ENOUGH = 160
"""Samples that calibration is widened to by augmentation."""
_CHECKED = 16
"""Samples on which the answer to the loss of a group is measured."""


def widened(samples: Samples, seed: int) -> Samples:
    """`samples` with changed copies of each, up to about `ENOUGH`, where augmentation suits them."""
    times = ENOUGH // max(1, len(samples))
    kinds = sorted({kind_of(array) for array in samples[0].values()} & set(AUTO))
    how = [part for kind in kinds for part in AUTO[kind].split(",") if part.partition("=")[0] not in BLENDING]
    return augmented(samples, ",".join(how), times, seed) if times > 1 and how else samples


def apart(samples: Samples, originals: int) -> Samples:
    """`samples`, which repeat so many originals in turn, with copies of every `HELD`-th original at every `HELD`-th
    place, and of no other; those that are too many for that are left out."""
    places = np.arange(len(samples))
    last = places % originals % HELD == HELD - 1
    groups = min(int((~last).sum()) // (HELD - 1), int(last.sum()))
    fitted = places[~last][: groups * (HELD - 1)].reshape(groups, HELD - 1)
    order = np.hstack([fitted, places[last][:groups, None]]).reshape(-1)
    return samples.subset(order.tolist()) if groups else samples


class Calibration:
    """Criterion and repair for the channels of one model, from one split of its samples."""

    def __init__(self, about: Subject, step: Prune, run: Run, progress: Progress) -> None:
        self.about, self.step, self.run, self.progress = about, step, run, progress
        self.samples, held = (unpadded(part, about.model) for part in common.split(about.samples, run.seed))
        self.mends = step.repair and not about.samples.synthetic
        self.judging = held if self.mends or self.name != "magnitude" else about.samples
        self.base = prepare(about.clean)
        if self.mends:
            give_biases(self.base)
        self.prices: dict[Hashable, tuple[list[Costs], list[Array]]] = {}
        """What unstructured pruning has found out, by pattern and weights: costs, and their costs at the outputs."""
        self._scores: dict[tuple[tuple[str, int], ...], Scores] = {}

    @property
    def name(self) -> str:
        """The criterion: `auto` is obs with real data and repair, wanda without repair, magnitude without data."""
        if self.step.criterion == "auto":
            return "magnitude" if self.samples.synthetic else "obs" if self.step.repair else "wanda"
        return self.step.criterion

    @property
    def weighs(self) -> bool:
        """Whether the criterion measures what groups are worth to the outputs, on real data."""
        return self.name == "obs" and not self.samples.synthetic

    @property
    def scope(self) -> str:
        """What is ranked together: `auto` is all groups where the criterion tells their worth, else each by itself."""
        return ("global" if self.weighs else "layer") if self.step.scope == "auto" else self.step.scope

    def criterion(self, axes: Axes, model: ir.Model) -> Criterion:
        """The criterion that the step asks for, for a `model` that was made of `base`."""
        if self.name in CRITERIA:
            return CRITERIA[self.name]
        if self.name == "wanda":
            return informed(consumers(axes.graph), _covariances(self.moments))
        return lambda axes: self._remembered(axes, model)

    def _remembered(self, axes: Axes, model: ir.Model) -> Scores:
        key = tuple((group.name, len(group.labels)) for group in axes.groups)
        if key not in self._scores:
            self._scores[key] = self._costs(axes, model)
        return self._scores[key]

    def _costs(self, axes: Axes, model: ir.Model) -> Scores:
        """Per label, what it adds to the noise of the model's outputs when it goes after those before it."""
        found, moments = consumers(axes.graph), self.moments
        covariances, scores = _covariances(moments), np.zeros(len(axes.sets.root))
        outputs = Outputs(model, list(self.aside()), self.run.threads)
        tick = self.progress.stage("measuring what each group is worth", len(axes.groups))
        for group in axes.groups:
            going = curve(axes, group, found, covariances)
            pruned = response.Alone(axes, group, going, model, found if self.mends else (), moments)
            scores[group.labels[going.order]] = response.marginal(going, pruned.points(outputs))
            tick()
        return scores

    def aside(self) -> Samples:
        """The samples that groups are weighed on: a quarter, which moments are not taken of; all where few."""
        few = self.samples.subset(range(3, len(self.samples), 4)) if len(self.samples) > 4 else self.samples
        return few.take(_CHECKED)

    @functools.cached_property
    def times(self) -> dict[str | None, float]:
        """Factors for the MACs of the base's nodes, since sizes that it leaves open are not all alike."""
        sizes = Sizes(analyse(self.base))
        return sizes.times(seen(self.base, sizes.nodes, self.about.samples[0], self.run.threads))

    def feeds(self) -> Samples:
        """What repair is fitted to and, every `HELD`-th, judged by: never a changed copy of what it is fitted to."""
        return apart(widened(self.samples, self.run.seed), len(self.samples))

    @functools.cached_property
    def moments(self) -> dict[str, Moments]:
        """Moments of what the consumers of the base read, by weight, measured once; a few samples are left aside."""
        found = [one for one in consumers(self.base.graph) if one.columns <= WIDEST]
        some = [index for index in range(len(self.samples)) if index % 4 != 3 or len(self.samples) <= 4]
        samples = self.samples.subset(some)
        samples = widened(samples, self.run.seed) if self.mends else samples
        grams = {one.name: Gram(one.window, enough(one.columns, len(samples))) for one in found}
        watched: dict[str, list[Gram]] = {}
        for one in found:
            watched.setdefault(one.given.name or "", []).append(grams[one.name])
        tick = self.progress.stage("measuring what channels carry", len(samples))
        observe(self.base, samples, watched, threads=self.run.threads, tick=tick)
        return {key: _moments(gram) for key, gram in grams.items() if gram.count}

    @functools.cached_property
    def table(self) -> dict[str, Curve]:
        """What each layer of the base takes at several widths."""
        self.progress.stage("timing layers at several widths")
        return table(self.about, self.base, self.step, self.run)

    def mend(self, axes: Axes, model: ir.Model) -> Mend:
        """The repair of `model` for a choice of labels."""

        def mended(dropped: Bools) -> Mapping[str, Array]:
            tick = self.progress.stage("repairing what is left")
            args = (axes, dropped, self.base, model, self.feeds())
            found = repair(*args, threads=self.run.threads, tick=tick).constants
            better = self._noise(axes, dropped, model, found) < self._noise(axes, dropped, model, {})
            return found if better else {}

        return mended if self.mends else unmended

    def _noise(self, axes: Axes, dropped: Bools, model: ir.Model, constants: Mapping[str, Array]) -> float:
        """Noise of the answers to the judging samples, decibels."""
        masked = model.clone()
        store_all(masked.graph, constants)
        mask(axes, dropped, masked.graph)
        return self.noise(masked)

    def noise(self, model: ir.Model) -> float:
        """Noise of a model's answers to the judging samples, decibels."""
        return -common.accuracy(self.about.model, model, self.judging, self.run).sqnr_db


def _moments(gram: Gram) -> Moments:
    second = gram.moments(centred=False)
    return Moments(second, second, gram.mean, gram.mean)


def _covariances(moments: Mapping[str, Moments]) -> dict[str, Array]:
    return {name: one.centred().own for name, one in moments.items()}
