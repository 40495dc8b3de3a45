"""`optimize tune`: the search from its beginning to the model that is written.

    samples -> parts; guesses and samplers -> trials (`worker`) -> front -> the best, judged once more -> written

The last step (`finals`) is the only one that sees the final part of the samples: what came near the best is raced
anew, and the first in the objective's order that keeps to the bound there is written, with its recipe beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

from optimizer.calibrate import metrics
from optimizer.errors import ConfigError, MissingExtra
from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Silent
from optimizer.recipe import Run
from optimizer.report.records import Result
from optimizer.tune import conclude, interrupts, processes
from optimizer.tune.build import Builder
from optimizer.tune.cache import Cache, usual_folder
from optimizer.tune.interrupts import Stop
from optimizer.tune.judge import Judge
from optimizer.tune.parts import fingerprint, parts
from optimizer.tune.race import host_class
from optimizer.tune.settings import HELD_BACK, Tune
from optimizer.tune.space import space
from optimizer.tune.storage import open_storage
from optimizer.tune.study import Study
from optimizer.tune.trial import Bench, carry_out
from optimizer.tune.worker import work


def tune(
    path: Path | str,
    settings: Tune | None = None,
    run: Run | None = None,
    *,
    output: Path | str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Search for the best recipe for the model at `path` and write what it gives.

    `run.data` is needed. Raises `UserError`, or `BoundMissed` with no model written; the study stays either way.
    """
    source, settings, progress = Path(path), settings or Tune(), progress or Silent()
    run = dataclasses.replace(run or Run(), held_back=0.0)
    target = Path(output) if output is not None else common.default_output(source, "tuned")
    place = settings.storage or str(study_path(target))
    check(settings, run)
    if settings.storage is None and not Path(place).exists():
        io.check_target(target, force)
    progress.stage("reading model and samples")
    bench = prepare(source, settings, run)
    study, others = open_study(bench, place)
    recipe = conclude.check_targets(study, target, settings.front, force=force)
    with interrupts.caught(Stop()) as stop:
        with processes.helpers(settings.workers - 1, source, settings, run, place) as crew:
            interrupted = work(partial(carry_out, bench), settings, study, progress, others, stop)
            crew.wait(interrupted=interrupted)
        with common.reporting("tune", bench.about, run, f"--max-drop {settings.max_drop:.2%}"):
            return conclude.conclude(bench, study, target, recipe, progress, stop, interrupted=interrupted)


def check(settings: Tune, run: Run) -> None:
    """Raise `UserError` for what cannot be searched with."""
    if run.data is None:
        raise ConfigError("a search needs real samples: give --data (labels are not needed)")
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtra("optuna", "tune")
    if settings.train and importlib.util.find_spec("torch") is None:
        raise MissingExtra("torch", "train")
    metrics.own_function(settings.metric)


def study_path(target: Path) -> Path:
    """The study's own file, beside the output."""
    return target.with_name(f"{target.name.removesuffix('.onnx')}.study")


def prepare(source: Path, settings: Tune, run: Run) -> Bench:
    """Model, samples and their parts, and what builds and judges candidates. Raises `UserError`."""
    about = common.subject(source, run)
    own = parts(about.samples, run.seed)
    judge = Judge(about.model, about.samples, run, settings.metric, settings.max_drop)
    judge.judge(about.clean, own.choosing)
    identity = f"{hashlib.sha256(source.read_bytes()).hexdigest()}:{fingerprint(about.samples)}:{run.seed}"
    cache = Cache(settings.cache or usual_folder(), settings.cache_bytes)
    steps_run = dataclasses.replace(run, held_back=HELD_BACK)
    builder = Builder(source, identity, steps_run, cache, host_class(run.threads))
    return Bench(about, settings, run, own, judge, builder)


def open_study(bench: Bench, place: str) -> tuple[Study, Any]:
    """The study of this machine's class at `place`, and a function that gives the records of the other classes'."""
    settings, storage = bench.settings, open_storage(place)
    name = settings.study or bench.about.path.stem
    timed = settings.objective == "latency"
    own = f"{name} @ {host_class(bench.run.threads)}" if timed else name
    identity = {
        "model": bench.builder.identity, "bound": settings.max_drop, "objective": settings.objective,
        "metric": settings.metric, "training": settings.train,
    }  # fmt: skip
    study = Study(storage, own, space(train=settings.train, timed=timed), bench.run.seed, 3 if timed else 2, identity)
    return study, lambda: study.elsewhere(f"{name} @ ") if timed else []


def join(source: Path, settings: Tune, run: Run, place: str, stop: Stop) -> None:
    """What a helping process does: the same trials, and no conclusion."""
    bench = prepare(source, settings, run)
    study, others = open_study(bench, place)
    work(partial(carry_out, bench), settings, study, Silent(), others, stop)
