"""How much of a model goes, and what: a step's target becomes a choice, carried out and repaired.

Targets are shares of parameters, of multiply-accumulates, or of the time, which a table of measured times foretells
(`latency`) and a race with the original confirms; or as much as a bound on the drop of accuracy allows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import onnx_ir as ir

from optimizer.choice import structured
from optimizer.choice.allocate import SLACK, Measure
from optimizer.choice.structured import Pruned, Target, unmended
from optimizer.choice.times import Times
from optimizer.errors import BoundMissed
from optimizer.model import shapes
from optimizer.pipeline import common, shares, sparse
from optimizer.pipeline.pruning import Calibration
from optimizer.prune import layers
from optimizer.prune.groups import Axes, analyse
from optimizer.prune.layers import Skipped
from optimizer.prune.sizes import Sizes
from optimizer.recipe import Prune
from optimizer.report.records import Accuracy, FrozenAxis

_SEARCH_SECONDS = 4.0
_NEARLY_ALL = 0.9


@dataclasses.dataclass(frozen=True)
class Found:
    """Both forms of the result, the analysis of the model before, and what was done."""

    pruned: Pruned
    frozen: tuple[FrozenAxis, ...]
    steps: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Goal:
    """`left` of `whole`, in what `measure` counts: `what`."""

    what: str
    measure: Callable[[Axes], Measure]
    whole: float
    left: float

    def size(self, model: ir.Model) -> float:
        """What `model` has."""
        axes = analyse(model)
        return self.measure(axes)(axes.none())


def settle(work: Calibration, step: Prune) -> Found:
    """The pruned model within the bound that the step sets. Raises `NothingToDo` or `BoundMissed`."""
    if step.latency is not None:
        return _in_time(work, step, step.latency)
    if step.macs is None and step.sparsity is None and not _fixed(step):
        return shares.by_drop(lambda share: _holding(work, step, share), "MACs" if step.structured else "weights")
    return carry_out(work, step)


def _fixed(step: Prune) -> bool:
    return step.pattern is not None and ":" in step.pattern


def _in_time(work: Calibration, step: Prune, wanted: float) -> Found:
    try:
        expected, measured = shares.by_latency(lambda share: _relative_time(work, step, share), wanted)
    except BoundMissed as missed:
        raise BoundMissed(f"{missed}; {_why(work, wanted)}") from missed
    found = carry_out(work, dataclasses.replace(step, latency=expected))
    note = f"{measured:.3f} of the original's time, as measured; the table of its layers said {expected:.3f}"
    return dataclasses.replace(found, steps=(*found.steps, note))


def _why(work: Calibration, wanted: float) -> str:
    """What keeps a time from being met: too little can go, or it takes less before anything does."""
    if (whole := _raced(work, work.about.clean)) < wanted:
        return f"with nothing removed, clean-up alone leaves {whole:.2f} of the time: ask for a smaller share"
    stuck = sum(float(one.times[0]) for one in work.table.values() if len(one.loads) == 1)
    return f"{stuck:.0%} of the time is in layers of which nothing can go"


def _relative_time(work: Calibration, step: Prune, share: float) -> float | None:
    """What is measured where the table says `share` of the original's time; repair does not change it."""
    if not 0 < share < 1:
        return None
    try:
        model = carry_out(work, dataclasses.replace(step, latency=share, repair=False)).pruned.removed
    except BoundMissed:
        return None
    shapes.infer(model)
    work.progress.stage(f"timing what should take {share:.0%}")
    return _raced(work, model)


def _raced(work: Calibration, model: ir.Model) -> float:
    """The share of the original's time that `model` takes."""
    about = work.about
    return 1 / common.race(about.model, [model], about.samples, work.run, _SEARCH_SECONDS).latencies[0].speedup


def _at(step: Prune, share: float) -> Prune:
    """The step with this share left: of the MACs, or of weights that are not zero."""
    if not step.structured:
        return dataclasses.replace(step, sparsity=1 - share, max_drop=None)
    return dataclasses.replace(step, macs=share, max_drop=None)


def _holding(work: Calibration, step: Prune, share: float) -> Found | None:
    try:
        found = carry_out(work, _at(step, share))
    except BoundMissed:
        return None
    accuracy = common.accuracy(work.about.model, found.pruned.removed, work.judging, work.run, step.metric)
    return found if step.max_drop is not None and within(accuracy, step.max_drop) else None


def within(accuracy: Accuracy, bound: float) -> bool:
    """Whether the drop is at most `bound` of the metric."""
    return accuracy.drop <= bound * abs(accuracy.before)


def carry_out(work: Calibration, step: Prune) -> Found:
    """Choose, remove and repair. Raises `NothingToDo`, or `BoundMissed` where the target is out of reach."""
    if not step.structured:
        model, frozen = sparse.zeroed(work, step)
        return Found(Pruned(model, model), frozen, ())
    return _carried_out(work, step)


def _carried_out(work: Calibration, step: Prune) -> Found:
    work.progress.stage("looking for what can go")
    axes = analyse(work.base, lossy=step.lossy)
    sizes, frozen = Sizes(axes), axes.frozen()
    goal = _goal(work, step, sizes)
    skipped = _skip(work, goal, step)
    kinds = tuple(kind for kind in step.granularity if kind != "layer")
    pruned, model = Pruned(skipped.removed, skipped.masked), skipped.removed
    if kinds and (goal.size(model) > goal.left or not sizes.prunable):
        work.progress.stage("choosing channels")
        target = Target(goal.left, goal.measure, kinds, step.align, work.scope, step.only, step.exclude)
        model = model.clone()
        axes = analyse(model, lossy=step.lossy)
        mend = work.mend(axes, model) if step.repair else unmended
        pruned = structured.prune(axes, model, skipped.masked.clone(), target, work.criterion(axes, model), mend)
    _check_reached(goal.size(pruned.removed), goal)
    gone = (f"skipped the block that ends in {name}" for name in skipped.names)
    return Found(pruned, frozen, (*_of_what(step, sizes), *gone))


def _of_what(step: Prune, sizes: Sizes) -> list[str]:
    """What the share is a share of, where that is not nearly the whole model."""
    if step.sparsity is None or sizes.prunable >= _NEARLY_ALL * sizes.params:
        return []
    share = f"{sizes.prunable / sizes.params:.1%} of the parameters can go"
    return [f"{share}, and --sparsity is a share of those (`optimize inspect` tells what is frozen and why)"]


def _goal(work: Calibration, step: Prune, sizes: Sizes) -> Goal:
    if step.latency is not None:
        return Goal("time", lambda axes: Times(axes, work.table).of, 1.0, step.latency)
    if step.macs is not None:
        whole = Sizes(sizes.axes, work.times).macs
        return Goal("MACs", lambda axes: Sizes(axes, work.times).macs_of, whole, whole * step.macs)
    left = sizes.params - sizes.prunable * (step.sparsity or 0)
    return Goal("prunable parameters", lambda axes: Sizes(axes).params_of, sizes.prunable, left)


def _skip(work: Calibration, goal: Goal, step: Prune) -> Skipped:
    """Blocks take all of the target, or half of it where channels can take the rest."""
    if "layer" not in step.granularity:
        return Skipped(work.base, work.base, ())
    work.progress.stage("choosing blocks")
    bar = goal.left if step.granularity == ("layer",) else (goal.size(work.base) + goal.left) / 2
    feeds = list(work.about.samples.take(layers.SAMPLES))
    return layers.skip(work.base, feeds, lambda model: goal.size(model) <= bar)


def _check_reached(left: float, goal: Goal) -> None:
    if left - goal.left > SLACK * goal.whole:
        beyond = (left - goal.left) / goal.whole
        raise BoundMissed(
            f"the target is out of reach by {beyond:.1%} of the {goal.what} "
            "(`optimize inspect` tells what is frozen and why)"
        )
