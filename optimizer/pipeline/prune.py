"""`optimize prune`: a choice of channels, heads and blocks; removed and masked proved equal; judged and written.

The proof comes first: both models run on the same inputs in ONNX Runtime, and if they differ nothing is written, since
a rule about some op would be wrong. Then the result is timed, compared with the original, and written.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx_ir as ir

from optimizer.calibrate import equality, metrics
from optimizer.model import io, shapes
from optimizer.model.passes.dead import remove_unused
from optimizer.pipeline import common, sparse
from optimizer.pipeline.common import Progress, Silent, Subject
from optimizer.pipeline.memory import Memory
from optimizer.pipeline.pruning import Calibration
from optimizer.pipeline.settle import Found, settle, within
from optimizer.recipe import Prune, Run
from optimizer.report.records import Accuracy, Result, to_json

_PROOFS = 2
_RACE_SECONDS = 6.0
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
    memory: Memory | None = None,
) -> Result:
    """Prune the model at `path` and write the result. Raises `UserError`, or `BoundMissed` with nothing written.

    Runs that share a `memory` measure a model once.
    """
    source, run, progress = Path(path), run or Run(), progress or Silent()
    target = Path(output) if output is not None else common.default_output(source, "pruned")
    io.check_target(target, force)
    metrics.own_function(step.metric)
    about = common.subject(source, run)
    work = (memory or Memory()).calibration(about, step, run, progress)
    with common.reporting("prune", about, run, _bound(step)):
        found = settle(work, step)
    if step.structured:
        progress.stage("proving that removal changes nothing but what masking does")
        equality.prove(found.pruned.removed, found.pruned.masked, about.samples.take(_PROOFS), run.threads)
    candidate = found.pruned.masked if step.mask_only else found.pruned.removed
    remove_unused(candidate)
    shapes.infer(candidate)
    result = describe(about, found, candidate, step, run)
    judged = judge(result, work, candidate)
    return common.write(judged, candidate, about, target, run, step, force=force)


def _bound(step: Prune) -> str:
    """The target or bound that the step sets, as the user gave it."""
    given = {"--sparsity": step.sparsity, "--macs": step.macs, "--latency": step.latency, "--max-drop": step.max_drop}
    return " ".join(f"{option} {value:g}" for option, value in given.items() if value is not None)


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
    if step.mask_only:
        return "channels set to zero"
    gone = 1 - result.params.after / max(1, result.params.before)
    return f"channels removed: {gone:.1%} of the parameters gone"


def judge(result: Result, work: Calibration, candidate: ir.Model) -> Result:
    """Timed, and compared with the original on samples that were not calibrated on. Raises `BoundMissed`."""
    about, step, run = work.about, work.step, work.run
    tick = work.progress.stage("comparing answers", len(work.judging))
    accuracy = common.accuracy(about.model, candidate, work.judging, run, step.metric, tick)
    if step.max_drop is not None and not within(accuracy, step.max_drop):
        raise common.missed(
            dataclasses.replace(result, accuracy=accuracy),
            f"--max-drop {step.max_drop:.2%}",
            f"{accuracy.metric} falls from {accuracy.before:.4f} to {accuracy.after:.4f}, "
            f"more than --max-drop {step.max_drop:.2%} allows; nothing was written",
        )
    latency = None
    if step.measure:
        work.progress.stage("timing against the original")
        latency = common.race(about.model, [candidate], about.samples, run, _RACE_SECONDS).latencies[0]
    warnings = (*result.warnings, *accuracy.doubts, *_doubts(accuracy, work))
    return dataclasses.replace(result, accuracy=accuracy, latency_ms=latency, warnings=warnings)


def _doubts(accuracy: Accuracy, work: Calibration) -> list[str]:
    """What the user must know about a model whose answers are not what they were."""
    if accuracy.drop <= _USUAL_DROP * abs(accuracy.before):
        return []
    fell = f"{accuracy.metric} falls from {accuracy.before:.4f} to {accuracy.after:.4f}"
    remedy = "repair it with --data, " if not work.mends else ""
    return [f"{fell}: {remedy}prune less, bound it with --max-drop, or train it with `optimize finetune`"]
