"""`optimize quantize`: candidates from one calibration, the fastest of them by a paired race, judged and written.

Never slower: a candidate is written only if the race does not show it slower than the original. Where no int8 form
is faster, the form that is smaller and not slower is written instead, and the result says so.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from optimizer.data.samples import Samples
from optimizer.errors import BoundMissed, NothingToDo
from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Silent, Subject
from optimizer.quantize.build import Candidate, Static
from optimizer.quantize.existing import integer_nodes
from optimizer.recipe import Quantize, Run
from optimizer.report.records import Accuracy, Latency, Result

HELD_BACK = 0.25
"""Share of real samples that calibration never sees, for judging."""
_WORRYING, _CHANCE = 0.02, 1.5
"""A drop is worth a warning above this share, unless it is a single sample's."""
_RACE_SECONDS = 4.0
_FINAL_SECONDS = 6.0


def quantize(
    path: Path | str,
    step: Quantize | None = None,
    run: Run | None = None,
    *,
    output: Path | str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Quantize the model at `path` and write the result. Raises `UserError`, or `BoundMissed` with nothing written."""
    source, step, run, progress = Path(path), step or Quantize(), run or Run(), progress or Silent()
    target = Path(output) if output is not None else common.default_output(source, "int8")
    model = io.load(source)
    if found := integer_nodes(model):
        raise NothingToDo(
            f"{source} is quantized already ({found} integer nodes): give the float model it was made from"
        )
    io.check_target(target, force)
    about = common.prepare(source, model, run)
    calibration, judging = split(about.samples, run.seed)
    candidates = build(about, calibration, step, run, progress)
    chosen, latency = fastest(about, candidates, judging, step, run, progress)
    tick = progress.stage("comparing answers", len(judging))
    found_accuracy = common.accuracy(about.model, chosen.model, judging, run, step.metric, tick)
    result = describe(about, chosen, latency, found_accuracy, run)
    if step.max_drop is not None and found_accuracy.drop > step.max_drop * abs(found_accuracy.before):
        raise BoundMissed(
            f"{found_accuracy.metric} falls from {found_accuracy.before:.4f} to {found_accuracy.after:.4f}, "
            f"more than --max-drop {step.max_drop:.2%} allows; nothing was written"
        )
    return common.write(result, chosen.model, source, target, run, step, force=force)


def split(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Samples for calibration and for judging: real ones are kept apart, of synthetic ones one set serves both."""
    if samples.synthetic or len(samples) < 4:
        return samples, samples
    judging, calibration = samples.split(HELD_BACK, seed)
    return calibration, judging


def build(about: Subject, calibration: Samples, step: Quantize, run: Run, progress: Progress) -> list[Candidate]:
    """The candidates that the step allows, most promising last."""
    tick = progress.stage("calibrating", len(calibration))
    static = Static(about.clean, calibration, step, threads=run.threads, tick=tick)
    progress.stage("placing int8 and float")
    if step.mode == "weights":
        return [static.stored()]
    if step.mode == "dynamic":
        return [static.dynamic()]
    table = static.placed("by the cost table", static.table_costs())
    if not step.measure:
        return [table]
    everything = static.everything()
    feeds = list(calibration.take(common.TIMED_SAMPLES))
    measured = static.placed("by measured costs", static.measured_costs(everything, feeds))
    found = [everything, table, measured]
    return found if step.mode == "static" else [*found, static.dynamic(), static.stored()]


def fastest(
    about: Subject, candidates: list[Candidate], samples: Samples, step: Quantize, run: Run, progress: Progress
) -> tuple[Candidate, Latency | None]:
    """The fastest candidate and its latency against the original; failing that, the first that is not slower."""
    useful = [candidate for candidate in candidates if candidate.changed]
    if not useful:
        raise NothingToDo(f"{about.path} has nothing to quantize: no int8 kernel fits and no weight is large enough")
    if not step.measure:
        return useful[-1], None
    progress.stage(f"timing {len(useful)} candidates" if len(useful) > 1 else "timing")
    timed = common.race(about.model, [candidate.model for candidate in useful], samples, run, _RACE_SECONDS)
    ranked = sorted(zip(useful, timed.latencies, strict=True), key=lambda pair: -pair[1].speedup)
    tried = [
        ranked[0][0],
        *(candidate for candidate in useful if candidate.only_stored and candidate is not ranked[0][0]),
    ]
    for candidate in tried:
        progress.stage("timing the best against the original")
        final = common.race(about.model, [candidate.model], samples, run, _FINAL_SECONDS).latencies[0]
        if final.verdict == "faster" or (final.verdict != "slower" and candidate is tried[-1]):
            return candidate, final
    raise NothingToDo(
        f"{about.path}: no int8 form of it is as fast as the original on this machine; nothing was written"
    )


def describe(about: Subject, chosen: Candidate, latency: Latency | None, accuracy: Accuracy, run: Run) -> Result:
    """The result record of the chosen candidate."""
    base = common.base_result("quantize", about, chosen.model, run)
    placed = _summary(chosen)
    return dataclasses.replace(
        base,
        latency_ms=latency,
        accuracy=accuracy,
        nodes=chosen.nodes,
        steps=(*base.steps, placed),
        warnings=(*base.warnings, *_doubts(accuracy, latency)),
    )


def _summary(chosen: Candidate) -> str:
    """What became of the nodes, in one line."""
    if chosen.only_stored:
        return "no int8 form is faster here: weights kept as int8 in the file, computed with in float (same speed)"
    counted = Counter(node.action for node in chosen.nodes)
    words = {"int8": "in int8", "dynamic": "in int8 with ranges found at run time", "weights": "with int8 weights",
             "float": "in float"}  # fmt: skip
    return f"{len(chosen.nodes)} nodes: " + ", ".join(
        f"{counted[action]} {text}" for action, text in words.items() if counted[action]
    )


def _doubts(accuracy: Accuracy, latency: Latency | None) -> list[str]:
    found = []
    if accuracy.drop > _WORRYING * abs(accuracy.before) and accuracy.drop * accuracy.samples > _CHANCE:
        found.append(f"{accuracy.metric} drops by {accuracy.drop:.4f}: bound it with --max-drop, or give more --data")
    if latency is None:
        found.append("not timed (--no-measure): whether it is faster here is not known")
    return found
