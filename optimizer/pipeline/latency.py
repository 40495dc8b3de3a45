"""The latency table: what each layer of a model takes at several widths, measured, as shares of the model's time.

The model is shrunk a few times, the same share of every group each time, and all of these are raced against it in
interleaved pairs: so much is left of the time. Where it goes is what the runtime's profile says of each of them.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_ir as ir

from optimizer.bench.layers import Layers
from optimizer.choice.importance import magnitude
from optimizer.choice.structured import Target, choose
from optimizer.choice.times import REST, Curve, Loads, curve
from optimizer.model import shapes
from optimizer.pipeline import common
from optimizer.pipeline.common import Subject
from optimizer.prune import remove
from optimizer.prune.groups import Axes, Bools, analyse
from optimizer.prune.sizes import Sizes
from optimizer.recipe import Prune, Run
from optimizer.runtime.profile import profile
from optimizer.runtime.session import Options

WIDTHS = (0.75, 0.5, 0.3)
"""Shares of the MACs that the trials are shrunk to."""
_RACE_SECONDS = 8.0
_PROFILE_SECONDS = 1.0


def table(about: Subject, base: ir.Model, step: Prune, run: Run) -> dict[str, Curve]:
    """The curve of every layer of `base`. Raises `NothingToDo` where no group can go."""
    axes = analyse(base, lossy=step.lossy)
    choices = [axes.none(), *(_shrunk(axes, width, step) for width in WIDTHS)]
    models = [_without(base, dropped, step) for dropped in choices]
    raced = common.race(base, models[1:], about.samples, run, _RACE_SECONDS).latencies
    parts = [1.0, *(1 / one.speedup for one in raced)]
    spent = [_spent(about, model, part, run, raced[0].before.p50) for model, part in zip(models, parts, strict=True)]
    loads = [Loads(axes).of(dropped) for dropped in choices]
    names = [name for name in loads[0] if any(name in one for one in spent)]
    return {
        name: curve(np.array([one[name] for one in loads]), np.array([one.get(name, 0.0) for one in spent]))
        for name in names
    }


def _shrunk(axes: Axes, width: float, step: Prune) -> Bools:
    kinds = tuple(kind for kind in step.granularity if kind != "layer")
    sizes = Sizes(axes)
    target = Target(width * sizes.macs, lambda _: sizes.macs_of, kinds, step.align, "layer", step.only, step.exclude)
    return choose(axes, target, magnitude)


def _without(base: ir.Model, dropped: Bools, step: Prune) -> ir.Model:
    copy = base.clone()
    remove.remove(analyse(copy, lossy=step.lossy), dropped)
    shapes.infer(copy)
    return copy


def _spent(about: Subject, model: ir.Model, part: float, run: Run, milliseconds: float) -> dict[str, float]:
    """What each layer takes, so that all together take `part`."""
    few = list(about.samples.take(common.TIMED_SAMPLES))
    count = min(max(10, round(1e3 * _PROFILE_SECONDS / milliseconds)), 200)
    timed = profile(model, [few[number % len(few)] for number in range(count)], Options(threads=run.threads))
    layers = Layers(model, common.symbols(model, {name: array.shape for name, array in few[0].items()}))
    names = {node.name for node in model.graph}
    found: dict[str, float] = defaultdict(float)
    for node in timed:
        name = layers.of(node).name
        found[name if name in names else REST] += node.microseconds
    whole = sum(found.values())
    return {name: part * own / whole for name, own in found.items()}
