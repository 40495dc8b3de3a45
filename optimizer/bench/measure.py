"""Measuring: models race each other in one fresh process after another, the baseline twice.

The second copy of the baseline is the A/A test: it races along with the others, so its interval says what this machine
makes of no difference at all, under the very conditions of the measurement. Its reach is the noise floor.

Processes are added until the interval of every candidate and of the A/A pair is as narrow as asked, or the budget is
used up. `PROCESSES` is the least number, models permitting: where a single process takes a large part of the budget
there are fewer. Within a process the models are loaded several times, if that is quick (see `worker`); each of these
sittings is one sample, or each block where there are few sittings (see `runtime.stats`).

With spinning on, each model gets a process of its own, so that no spinning thread of one takes time from another.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from optimizer.bench import process, yardstick
from optimizer.bench.job import Contestant, Job, read_times, write_feeds
from optimizer.model import io
from optimizer.model.ports import Feed
from optimizer.runtime import stats, timing
from optimizer.runtime.stats import Estimate
from optimizer.runtime.timing import PairedTimes

PROCESSES = 5
PARTS = 16
"""A process races for this part of the budget, or up to twice as long where starting one takes longer."""
STARTS = 3


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure and how. Model 0 is the baseline; `feeds[i]` are the timed samples of `models[i]`."""

    models: tuple[Path, ...]
    feeds: tuple[Sequence[Feed], ...]
    threads: int = 1
    spin: bool = False
    callers: int = 1
    budget: float = 20.0
    """Seconds after which no new process is begun."""
    runs: int | None = None
    """Measured rounds in all, instead of as many as it takes."""
    yardstick: bool = False
    """Whether work that never changes races along, to compare with runs at other times."""
    halfwidth: float = 0.01
    """How narrow the intervals shall be, as a log ratio."""
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Race:
    """The times of all models, then of the yardstick (if it was asked for), then of the baseline's second copy."""

    times: PairedTimes

    @property
    def floor(self) -> float:
        """The noise floor, as a log ratio."""
        return max(stats.FLOOR, self.same.reach)

    @property
    def same(self) -> Estimate:
        """The A/A test: the baseline against itself."""
        return self.times.speedup(self.copy)

    @property
    def copy(self) -> int:
        """The lane of the baseline's second copy."""
        return len(self.times.runs) - 1

    def speedup(self, model: int) -> Estimate:
        """How many times faster than the baseline a model is."""
        return self.times.speedup(model)

    def against_yardstick(self, model: int) -> Estimate:
        """How many times faster than the yardstick a model is."""
        return self.times.speedup(model, baseline=len(self.times.runs) - 2)


def run(plan: Plan, tick: Callable[[], None] = lambda: None) -> Race:
    """Race the models of `plan`; `tick` is called after each process."""
    parts: list[PairedTimes] = []
    began = time.perf_counter()
    with _contestants(plan) as (folder, models):
        fixed = [_yardstick(folder)] if plan.yardstick else []
        lanes = (*models, *fixed, models[0])
        part = seconds = plan.budget / PARTS
        while not parts or _goes_on(plan, parts, time.perf_counter() - began):
            started = time.perf_counter()
            parts.append(_once(plan, folder, lanes, len(parts), seconds))
            starting = time.perf_counter() - started - seconds
            seconds = min(max(part, starting), 2 * part)
            tick()
    return Race(timing.join(parts))


@dataclasses.dataclass(frozen=True)
class Start:
    """What starting a model in a fresh process costs: seconds to load, of the first run, and bytes."""

    load: float
    first_run: float
    memory: int
    """The most that loading and running added to the process."""
    process: int
    """The most that the whole process held."""


def start(plan: Plan, tick: Callable[[], None] = lambda: None) -> list[list[Start]]:
    """`STARTS` starts of every model, in turn, so that all find the same machine."""
    found: list[list[Start]] = [[] for _ in plan.models]
    with _contestants(plan) as (_, models):
        for number in range(STARTS * len(models)):
            model = models[number % len(models)]
            job = Job("start", (model,), "", threads=plan.threads, spin=plan.spin, seed=plan.seed + number)
            found[number % len(models)].append(Start(**process.ask(job)))
            tick()
    return found


@contextmanager
def _contestants(plan: Plan) -> Iterator[tuple[Path, tuple[Contestant, ...]]]:
    with tempfile.TemporaryDirectory(prefix="optimize-") as name:
        folder = Path(name)
        models = []
        for number, (model, feeds) in enumerate(zip(plan.models, plan.feeds, strict=True)):
            path = folder / f"feeds{number}.npz"
            write_feeds(path, feeds)
            models.append(Contestant(str(model.resolve()), str(path)))
        yield folder, tuple(models)


def _yardstick(folder: Path) -> Contestant:
    model, feed = yardstick.product()
    io.save(model, folder / "yardstick.onnx")
    write_feeds(folder / "yardstick.npz", [feed])
    return Contestant(str(folder / "yardstick.onnx"), str(folder / "yardstick.npz"))


def _once(plan: Plan, folder: Path, models: tuple[Contestant, ...], number: int, seconds: float) -> PairedTimes:
    """The race number `number`, of so many seconds, in one process, or in one for each model."""
    job = Job(
        "race",
        models,
        str(folder / "times.npz"),
        threads=plan.threads,
        spin=plan.spin,
        callers=plan.callers,
        seconds=seconds,
        rounds=None if plan.runs is None else math.ceil(plan.runs / PROCESSES),
        seed=plan.seed + number,
    )
    if plan.spin:
        return _apart(job)
    process.ask(job)
    return read_times(Path(job.answer))


def _apart(job: Job) -> PairedTimes:
    with ExitStack() as stack:
        lanes = [
            stack.enter_context(process.serving(dataclasses.replace(job, kind="serve", models=(model,))))
            for model in job.models
        ]
        return timing.race(lanes, seconds=job.seconds, seed=job.seed, rounds=job.rounds, target_halfwidth=0.0)


def _goes_on(plan: Plan, parts: Sequence[PairedTimes], elapsed: float) -> bool:
    if plan.runs is not None:
        return sum(part.rounds for part in parts) < plan.runs
    if elapsed + elapsed / len(parts) > plan.budget:
        return False
    times = timing.join(parts)
    widest = max(times.speedup(model).halfwidth for model in range(1, len(times.runs)))
    return len(parts) < PROCESSES or widest > plan.halfwidth
