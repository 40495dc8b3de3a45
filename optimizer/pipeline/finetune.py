"""`optimize finetune` and `optimize distill`: a student learns to answer as its teacher does, and is written back.

The graph stays what it was, so nothing is timed: only numbers in it change. Both models are judged on the samples that
were held back from learning: before and after are the student's figures, and the teacher's own is among the details.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from optimizer.calibrate.metrics import compare_outputs, own_function
from optimizer.data.samples import Samples
from optimizer.data.spec import open_samples
from optimizer.errors import ConfigError
from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Silent
from optimizer.recipe import Finetune, Run
from optimizer.report.records import Accuracy, Result
from optimizer.runtime.session import Options, open_session
from optimizer.train.distill import Outcome, distill
from optimizer.train.held_back import split
from optimizer.train.loop import Watch


def finetune(
    student: Path | str,
    teacher: Path | str,
    step: Finetune | None = None,
    run: Run | None = None,
    *,
    output: Path | str | None = None,
    force: bool = False,
    resume: bool = False,
    command: str = "finetune",
    progress: Progress | None = None,
) -> Result:
    """Tune the model at `student` towards the one at `teacher` and write the result.

    `run.data` is needed. Raises `UserError`, or `BoundMissed` with nothing written.
    """
    source, step, run, progress = Path(student), step or Finetune(), run or Run(), progress or Silent()
    target = Path(output) if output is not None else common.default_output(source, "finetuned")
    if run.data is None:
        raise ConfigError("fine-tuning needs real samples: give --data (labels are not needed)")
    io.check_target(target, force)
    own_function(step.metric)
    about = common.prepare(source, io.load(source), run)
    guide = io.load(teacher)
    samples = open_samples(
        run.data, guide, count=run.samples, seed=run.seed, images=run.images, dims=dict(run.dims)
    ).seen(run.held_back, run.seed)
    progress.stage("looking at student and teacher")
    with common.reporting(command, about, run, "a gain on held-back samples"):
        found = distill(about.model, guide, samples, step, seed=run.seed, threads=run.threads, output=target,
                        resume=resume, watch=_watch(progress))  # fmt: skip
    held = split(samples, step, run.seed)[1]
    own = split(about.samples, step, run.seed)[1]
    progress.stage("comparing answers")
    before, after = (_judged(guide, model, held, own, step, run) for model in (about.model, found.model))
    base = common.base_result(command, about, found.model, run)
    result = dataclasses.replace(
        base,
        warnings=(*base.warnings, *after.doubts),
        accuracy=dataclasses.replace(after, before=before.after, drop=before.after - after.after),
        steps=_steps(found),
        details=_details(found, before, Path(teacher)),
    )
    return common.write(result, found.model, about, target, run, step, force=force)


def _judged(guide: ir.Model, model: ir.Model, held: Samples, own: Samples, step: Finetune, run: Run) -> Accuracy:
    options = Options(threads=run.threads)
    return compare_outputs(open_session(guide, options), open_session(model, options), held, own, step.metric)


def _watch(progress: Progress) -> Watch:
    """A bar of steps, renewed with the figures of each evaluation."""
    shown: dict[str, Callable[[], None]] = {}

    def watch(step: int, steps: int, loss: float, agreement: float | None) -> None:
        title = f"training: loss {loss:.4g}" + ("" if agreement is None else f", agreement {agreement:.1%}")
        done = 1 if title in shown else step
        if title not in shown:
            shown.clear()
            shown[title] = progress.stage(title, steps)
        for _ in range(done):
            shown[title]()

    return watch


def _steps(found: Outcome) -> tuple[str, ...]:
    settled = ("batch normalization began with the statistics of the samples",) if found.settled else ()
    return (
        *settled,
        f"learnt {found.learnt} numbers in {found.steps} steps, {found.seconds:.0f} s, learning rate {found.rate:g}",
        f"samples changed by: {found.augment}",
        f"kept step {found.best_step}: held-back loss {found.before.loss:.4g} -> {found.after.loss:.4g}",
    )


def _details(found: Outcome, before: Accuracy, teacher: Path) -> dict[str, object]:
    return {
        "teacher": str(teacher),
        "teacher_metric": before.before,
        "loss": {"before": found.before.loss, "after": found.after.loss},
        "agreement": {"before": found.before.agreement, "after": found.after.agreement},
        "steps": found.steps,
        "best_step": found.best_step,
        "learning_rate": found.rate,
        "augment": found.augment,
        "parity": {"before": found.parity[0], "after": found.parity[1]},
        "history": found.history,
    }
