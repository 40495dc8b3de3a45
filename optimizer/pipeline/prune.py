"""`optimize prune`: a choice of channels, heads and blocks; removed and masked proved equal; judged and written.

The proof comes first: both models run on the same inputs in ONNX Runtime, and if they differ nothing is written, since
a rule about some op would be wrong. Then the result is timed, compared with the original, and written.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx_ir as ir

from optimizer.errors import BoundMissed
from optimizer.model import io, shapes
from optimizer.pipeline import common, shares, sparse
from optimizer.pipeline.common import Progress, Silent, Subject
from optimizer.pipeline.pruning import Calibration
from optimizer.prune import layers, structured, verify
from optimizer.prune.allocate import Measure
from optimizer.prune.groups import Axes, analyse
from optimizer.prune.layers import Skipped
from optimizer.prune.sizes import Sizes
from optimizer.prune.structured import Pruned, Target, unmended
from optimizer.recipe import Prune, Run
from optimizer.report.records import Accuracy, FrozenAxis, Result, to_json

SLACK = 0.05
"""A target counts as met within this share of the parameters or MACs."""
_PROOFS = 2
_RACE_SECONDS = 6.0
_SEARCH_SECONDS = 4.0
_USUAL_DROP = 0.03
"""The drop, as a share of the metric, above which there is a warning."""


def prune(
    path: Path | str,
    step: Prune,
    run: Run | None = None,
    *,
    output: Path | str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Prune the model at `path` and write the result. Raises `UserError`, or `BoundMissed` with nothing written."""
    source, run, progress = Path(path), run or Run(), progress or Silent()
    target = Path(output) if output is not None else common.default_output(source, "pruned")
    io.check_target(target, force)
    about = common.subject(source, run)
    work = Calibration(about, step, run, progress)
    found = settle(work, step)
    if step.structured:
        progress.stage("proving that removal changes nothing but what masking does")
        verify.prove(found.pruned.removed, found.pruned.masked, about.samples.take(_PROOFS), run.threads)
    candidate = found.pruned.masked if step.mask_only else found.pruned.removed
    shapes.infer(candidate)
    result = describe(about, found, candidate, step, run)
    judged = judge(result, work, candidate)
    return common.write(judged, candidate, source, target, run, step, force=force)


@dataclasses.dataclass(frozen=True)
class Found:
    """Both forms of the result, the analysis of the model before, and what was done."""

    pruned: Pruned
    frozen: tuple[FrozenAxis, ...]
    steps: tuple[str, ...]


def settle(work: Calibration, step: Prune) -> Found:
    """The pruned model within the bound that the step sets. Raises `NothingToDo` or `BoundMissed`."""
    if step.latency is not None:
        share, measured = shares.by_latency(lambda share: _relative_time(work, step, share), step.latency)
        found = carry_out(work, _at(step, share))
        note = f"{measured:.3f} of the original's time, as measured, with {share:.1%} of the MACs"
        return dataclasses.replace(found, steps=(*found.steps, note))
    if step.macs is None and step.sparsity is None and not _fixed(step):
        return shares.by_drop(lambda share: _holding(work, step, share))
    return carry_out(work, step)


def _fixed(step: Prune) -> bool:
    return step.pattern is not None and ":" in step.pattern


def _at(step: Prune, share: float) -> Prune:
    """The step with this share left: of the MACs, or of weights that are not zero."""
    if not step.structured:
        return dataclasses.replace(step, sparsity=1 - share, max_drop=None)
    return dataclasses.replace(step, macs=share, latency=None, max_drop=None)


def _relative_time(work: Calibration, step: Prune, share: float) -> float | None:
    """The share of the original's time that is left with a share of its MACs; repair does not change it."""
    if not 0 < share < 1:
        return None
    try:
        model = carry_out(work, dataclasses.replace(_at(step, share), repair=False)).pruned.removed
    except BoundMissed:
        return None
    shapes.infer(model)
    work.progress.stage(f"timing with {share:.0%} of the MACs")
    about = work.about
    return 1 / common.race(about.model, [model], about.samples, work.run, _SEARCH_SECONDS).latencies[0].speedup


def _holding(work: Calibration, step: Prune, share: float) -> Found | None:
    try:
        found = carry_out(work, _at(step, share))
    except BoundMissed:
        return None
    accuracy = common.accuracy(work.about.model, found.pruned.removed, work.judging, work.run, step.metric)
    return found if step.max_drop is not None and _within(accuracy, step.max_drop) else None


def _within(accuracy: Accuracy, bound: float) -> bool:
    return accuracy.drop <= bound * abs(accuracy.before)


def carry_out(work: Calibration, step: Prune) -> Found:
    """Choose, remove and repair; the scope `auto` ranks over all groups where their worth is measured.

    Raises `NothingToDo`, or `BoundMissed` where the target is out of reach.
    """
    if not step.structured:
        model, frozen = sparse.zeroed(work, step)
        return Found(Pruned(model, model), frozen, ())
    scope = step.scope if step.scope != "auto" else "global" if work.weighs else "layer"
    return _carried_out(work, dataclasses.replace(step, scope=scope))


def _carried_out(work: Calibration, step: Prune) -> Found:
    work.progress.stage("looking for what can go")
    base = work.base
    axes = analyse(base, lossy=step.lossy)
    sizes, frozen = Sizes(axes), axes.frozen()
    goal = sizes.macs * step.macs if step.macs is not None else sizes.params - sizes.prunable * (step.sparsity or 0)
    skipped = _skip(base, work.about, sizes, goal, step, work.progress)
    kinds = tuple(kind for kind in step.granularity if kind != "layer")
    pruned, model = Pruned(skipped.removed, skipped.masked), skipped.removed
    if kinds and (_size(model, step) > goal or not sizes.prunable):
        work.progress.stage("choosing channels")
        measure = _macs if step.macs is not None else _params
        target = Target(goal, measure, kinds, step.align, step.scope, step.only, step.exclude)
        model = model.clone()
        axes = analyse(model, lossy=step.lossy)
        mend = work.mend(axes, model) if step.repair else unmended
        pruned = structured.prune(axes, model, skipped.masked.clone(), target, work.criterion(axes, model), mend)
    _check_reached(_size(pruned.removed, step), goal, sizes, step)
    return Found(pruned, frozen, tuple(f"skipped the block that ends in {name}" for name in skipped.names))


def _macs(axes: Axes) -> Measure:
    return Sizes(axes).macs_of


def _params(axes: Axes) -> Measure:
    return Sizes(axes).params_of


def _skip(base: ir.Model, about: Subject, sizes: Sizes, goal: float, step: Prune, progress: Progress) -> Skipped:
    """Blocks take all of the target, or half of it where channels can take the rest."""
    if "layer" not in step.granularity:
        return Skipped(base, base, ())
    progress.stage("choosing blocks")
    whole = sizes.macs if step.macs is not None else sizes.params
    bar = goal if step.granularity == ("layer",) else (whole + goal) / 2
    return layers.skip(base, list(about.samples.take(layers.SAMPLES)), lambda model: _size(model, step) <= bar)


def _size(model: ir.Model, step: Prune) -> int:
    sizes = Sizes(analyse(model))
    return sizes.macs if step.macs is not None else sizes.params


def _check_reached(left: float, goal: float, sizes: Sizes, step: Prune) -> None:
    whole = sizes.macs if step.macs is not None else sizes.prunable
    if left - goal > SLACK * whole:
        gone = f"{(sizes.params - left) / whole:.1%} of the prunable parameters can go"
        reached = f"{left / whole:.1%} of the MACs must stay" if step.macs is not None else gone
        raise BoundMissed(f"the target is out of reach: {reached} (`optimize inspect` tells what is frozen and why)")


def describe(about: Subject, found: Found, candidate: ir.Model, step: Prune, run: Run) -> Result:
    """The result record before timing and comparison."""
    base = common.base_result("prune", about, candidate, run)
    base = dataclasses.replace(base, frozen=found.frozen)
    if step.structured:
        return dataclasses.replace(base, steps=(*base.steps, *found.steps, _summary(base, step)))
    line, sizes = sparse.told(about.clean, candidate, step)
    return dataclasses.replace(
        base,
        steps=(*base.steps, *found.steps, line),
        warnings=(*base.warnings, sparse.NO_FASTER),
        details={"compressed_bytes": to_json(sizes)},
    )


def _summary(result: Result, step: Prune) -> str:
    what = "set to zero" if step.mask_only else "removed"
    gone = 1 - result.params.after / max(1, result.params.before)
    return f"channels {what}: {gone:.1%} of the parameters gone" if not step.mask_only else f"channels {what}"


def judge(result: Result, work: Calibration, candidate: ir.Model) -> Result:
    """Timed, and compared with the original on samples that were not calibrated on. Raises `BoundMissed`."""
    about, step, run = work.about, work.step, work.run
    tick = work.progress.stage("comparing answers", len(work.judging))
    accuracy = common.accuracy(about.model, candidate, work.judging, run, step.metric, tick)
    if step.max_drop is not None and not _within(accuracy, step.max_drop):
        raise BoundMissed(
            f"{accuracy.metric} falls from {accuracy.before:.4f} to {accuracy.after:.4f}, "
            f"more than --max-drop {step.max_drop:.2%} allows; nothing was written"
        )
    latency = None
    if step.measure:
        work.progress.stage("timing against the original")
        latency = common.race(about.model, [candidate], about.samples, run, _RACE_SECONDS).latencies[0]
    warnings = (*result.warnings, *_doubts(accuracy, work))
    return dataclasses.replace(result, accuracy=accuracy, latency_ms=latency, warnings=warnings)


def _doubts(accuracy: Accuracy, work: Calibration) -> list[str]:
    """What the user must know about a model whose answers are not what they were."""
    if accuracy.drop <= _USUAL_DROP * abs(accuracy.before):
        return []
    fell = f"{accuracy.metric} falls from {accuracy.before:.4f} to {accuracy.after:.4f}"
    remedy = "repair it with --data, " if not work.mends else ""
    return [f"{fell}: {remedy}prune less, bound it with --max-drop, or train it with `optimize finetune`"]
