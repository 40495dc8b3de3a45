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
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Silent, Subject
from optimizer.pipeline.pruning import Calibration, repairs
from optimizer.prune import layers, prepare, structured, verify
from optimizer.prune.consumers import give_biases
from optimizer.prune.groups import analyse
from optimizer.prune.layers import Skipped
from optimizer.prune.sizes import Sizes
from optimizer.prune.structured import Pruned, Target
from optimizer.recipe import Prune, Run
from optimizer.report.records import FrozenAxis, Result

SLACK = 0.05
"""A target counts as met within this share of the parameters or MACs."""
_PROOFS = 2
_RACE_SECONDS = 6.0


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
    found = carry_out(about, step, run, progress)
    if not step.lossy:
        progress.stage("proving that removal changes nothing but what masking does")
        verify.prove(found.pruned.removed, found.pruned.masked, about.samples.take(_PROOFS), run.threads)
    candidate = found.pruned.masked if step.mask_only else found.pruned.removed
    shapes.infer(candidate)
    result = describe(about, found, candidate, step, run)
    judged = judge(result, about, candidate, step, run, progress)
    return common.write(judged, candidate, source, target, run, step, force=force)


@dataclasses.dataclass(frozen=True)
class Found:
    """Both forms of the result, the analysis of the model before, and what was done."""

    pruned: Pruned
    frozen: tuple[FrozenAxis, ...]
    steps: tuple[str, ...]


def carry_out(about: Subject, step: Prune, run: Run, progress: Progress) -> Found:
    """Choose and remove. Raises `NothingToDo`, or `BoundMissed` where the target is out of reach."""
    progress.stage("looking for what can go")
    base = prepare.prepare(about.clean)
    if repairs(step, about):
        give_biases(base)
    axes = analyse(base, lossy=step.lossy)
    sizes, frozen = Sizes(axes), axes.frozen()
    goal = sizes.macs * step.macs if step.macs is not None else sizes.params - sizes.prunable * (step.sparsity or 0)
    skipped = _skip(base, about, sizes, goal, step, progress)
    kinds = tuple(kind for kind in step.granularity if kind != "layer")
    pruned, model = Pruned(skipped.removed, skipped.masked), skipped.removed
    if kinds and (_size(model, step) > goal or not sizes.prunable):
        progress.stage("choosing channels")
        target = Target(goal, step.macs is not None, kinds, step.align, step.scope, step.only, step.exclude)
        model = model.clone()
        axes = analyse(model, lossy=step.lossy)
        calibration = Calibration(base, about, step, run, progress)
        pruned = structured.prune(
            axes, model, skipped.masked.clone(), target, calibration.criterion(axes), calibration.mend(axes, model)
        )
    _check_reached(_size(pruned.removed, step), goal, sizes, step)
    return Found(pruned, frozen, tuple(f"skipped the block that ends in {name}" for name in skipped.names))


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
    return dataclasses.replace(base, frozen=found.frozen, steps=(*base.steps, *found.steps, _summary(base, step)))


def _summary(result: Result, step: Prune) -> str:
    what = "set to zero" if step.mask_only else "removed"
    gone = 1 - result.params.after / max(1, result.params.before)
    return f"channels {what}: {gone:.1%} of the parameters gone" if not step.mask_only else f"channels {what}"


def judge(result: Result, about: Subject, candidate: ir.Model, step: Prune, run: Run, progress: Progress) -> Result:
    """Timed and compared with the original. Raises `BoundMissed`."""
    tick = progress.stage("comparing answers", len(about.samples))
    accuracy = common.accuracy(about.model, candidate, about.samples, run, step.metric, tick)
    if step.max_drop is not None and accuracy.drop > step.max_drop * abs(accuracy.before):
        raise BoundMissed(
            f"{accuracy.metric} falls from {accuracy.before:.4f} to {accuracy.after:.4f}, "
            f"more than --max-drop {step.max_drop:.2%} allows; nothing was written"
        )
    if step.measure:
        progress.stage("timing against the original")
        timed = common.race(about.model, [candidate], about.samples, run, _RACE_SECONDS).latencies[0]
        result = dataclasses.replace(result, latency_ms=timed)
    return dataclasses.replace(result, accuracy=accuracy)
