"""What more workers cost and gain: measured with one and two on a PostgreSQL server of its own, simulated beyond.

``python -m tests.tune.scale [--model MODEL --data SAMPLES] [--trial SECONDS] [--cores N]``

Prints, as Markdown: trials per minute of one worker and of two, with real trials that judge accuracy only; what a trial
costs the database (statements and time, counted by the server) while so and so many others run; what follows for up to
1,000 workers; and what the trials are good for, on a made-up search whose best is known.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from optimizer.pipeline.common import Silent
from optimizer.recipe import Run
from optimizer.tune import guesses, search
from optimizer.tune import trial as trials
from optimizer.tune.heartbeat import ALIVE, Pace, owner
from optimizer.tune.sampler import suggest
from optimizer.tune.settings import Tune
from optimizer.tune.space import ask
from optimizer.tune.storage import close, open_storage
from optimizer.tune.study import Study
from optimizer.tune.worker import work
from tests.tune import fakes, server
from tests.tune.queueing import Load, Outcome, simulate

CALM = Pace(beat=1e6, grace=1e6, look=0.05)
"""No heartbeats but those that are counted on purpose."""
RUNNING = (0, 50, 200)
WORKERS = (1, 2, 10, 100, 1000)
SETTINGS = Tune(objective="size")
EVEN = tuple(
    {"quantize.calibration": method, "quantize.per_tensor": coarse, "quantize.max_drop": bound}
    for method in ("mse", "minmax", "percentile", "entropy")
    for coarse in (False, True)
    for bound in (None, 0.005, 0.02, 0.05)
)
"""Recipes that take about as long as each other."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a trial costs while `running` others run: statements, and seconds of the server, of the worker's CPU."""

    running: int
    statements: float
    server: float
    worker: float


@dataclasses.dataclass(frozen=True)
class Real:
    """Real trials by so many workers."""

    workers: int
    trials: int
    per_minute: float


def connected(url: str) -> Any:
    import psycopg

    database = psycopg.connect(url, autocommit=True)
    database.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    return database


def counted(database: Any) -> tuple[float, float]:
    """Statements and seconds of the server since the last call."""
    row = database.execute(
        "SELECT sum(calls), sum(total_exec_time + total_plan_time) FROM pg_stat_statements"
    ).fetchone()
    database.execute("SELECT pg_stat_statements_reset()")
    return float(row[0] or 0), float(row[1] or 0) / 1e3


def one_trial(study: Study) -> None:
    """All that a worker does for a trial but the trial itself."""
    taken = study.take(None)
    record = fakes.found(study.values(taken))
    study.known()
    study.finish(taken, record, trials.values(record, SETTINGS), record["violation"])


def plant(study: Study, count: int) -> None:
    """Trials that run elsewhere for ever."""
    import optuna

    study.inner.sampler = optuna.samplers.RandomSampler(seed=0)
    for _ in range(count):
        taken = study.inner.ask()
        taken.set_user_attr(ALIVE, ["elsewhere:0:1", 0])
        ask(fakes.ROWS, partial(suggest, taken))


def costs(url: str, database: Any, repeats: int = 5) -> Iterator[Cost]:
    """What a trial costs, by the number of others that run."""
    fakes.search(url, len(fakes.study(url, "planted").guesses), 0.0, 0, "planted")
    planted = 0
    for running in RUNNING:
        planter = fakes.study(url, "planted", pace=CALM)
        plant(planter, running - planted)
        planted = running
        worker = fakes.study(url, "planted", pace=CALM)
        one_trial(worker)
        counted(database)
        began = time.process_time()
        for _ in range(repeats):
            one_trial(worker)
        own = (time.process_time() - began) / repeats
        statements, seconds = counted(database)
        yield Cost(running, statements / repeats, seconds / repeats, own)
        close(planter.storage)
        close(worker.storage)


def beat(url: str, database: Any, repeats: int = 20) -> float:
    """Seconds of the server for a heartbeat."""
    study = fakes.study(url, "beating", pace=CALM)
    taken = study.take(None)
    counted(database)
    for number in range(repeats):
        taken.set_user_attr(ALIVE, [owner(), number])
    found = counted(database)[1] / repeats
    close(study.storage)
    return found


def fitted(found: Sequence[Cost], beat_: float) -> Load:
    """Straight lines through the costs."""
    running = [float(one.running) for one in found]
    service = statistics.linear_regression(running, [one.server for one in found])
    work = statistics.linear_regression(running, [one.worker for one in found])
    return Load(max(service.intercept, 0), max(service.slope, 0), max(work.intercept, 0), max(work.slope, 0), beat_)


def real(url: str, model: Path, data: str, workers: int) -> Real:
    """Accuracy-only trials of recipes that take about as long as each other, by so many processes."""
    name, spawn = f"real-{workers}", get_context("spawn")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does, for the processes that follow
    with tempfile.TemporaryDirectory() as cache:
        crew = [spawn.Process(target=work_through, args=(url, name, model, data, cache)) for _ in range(workers)]
        for member in crew:
            member.start()
        for member in crew:
            member.join()
    storage = open_storage(url)
    found = summed_up(storage, name, workers)
    close(storage)
    return found


def work_through(url: str, name: str, model: Path, data: str, cache: str) -> None:
    """What each of these processes does."""
    guesses.GUESSES = EVEN
    settings = dataclasses.replace(SETTINGS, storage=url, study=name, trials=len(EVEN), cache=Path(cache))
    bench = search.prepare(model, settings, Run(data=data))
    study, others = search.open_study(bench, url)
    work(partial(trials.carry_out, bench), settings, study, Silent(), others)
    close(study.storage)


def summed_up(storage: Any, name: str, workers: int) -> Real:
    """The rate from the moment at which every worker has begun: what comes before is start-up."""
    every = storage.get_all_trials(storage.get_study_id_from_name(name))
    done = [one for one in every if one.state.is_finished() and "record" in one.user_attrs]
    who = {one.user_attrs[ALIVE][0] for one in done}
    begun = max(min(one.datetime_start for one in done if one.user_attrs[ALIVE][0] == own) for own in who)
    late = sorted(one.datetime_complete for one in done if one.datetime_complete > begun)
    return Real(workers, len(done), 60 * len(late) / (late[-1] - begun).total_seconds())


def best_after(workers: int, total: int, seed: int) -> list[float]:
    """The least size within the bound after each of `total` trials, `workers` of them always under way."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = Study(optuna.storages.InMemoryStorage(), "s", fakes.ROWS, seed, 2, fakes.IDENTITY, CALM)
    under_way: list[tuple[Any, dict[str, Any]]] = []
    sizes: list[float] = []
    for _ in range(total):
        while len(under_way) < workers:
            taken = study.take(None)
            under_way.append((taken, fakes.found(study.values(taken))))
        taken, record = under_way.pop(0)
        study.finish(taken, record, trials.values(record, SETTINGS), record["violation"])
        sizes.append(min([record["size"] if record["holds"] else 1.0, *sizes[-1:]]))
    return sizes


def report(given: argparse.Namespace) -> Iterator[str]:
    with server.server(server.COUNTING) as url:
        database = connected(url)
        if given.model is not None:
            yield "| workers | trials | per minute | |\n|--:|--:|--:|--:|"
            alone = real(url, given.model, given.data, 1)
            for found in (alone, real(url, given.model, given.data, 2)):
                ratio = f"{found.per_minute / alone.per_minute:.2f}x"
                yield f"| {found.workers} | {found.trials} | {found.per_minute:.1f} | {ratio} |"
        yield "\n| others running | statements | database | worker's own |\n|--:|--:|--:|--:|"
        every = []
        for cost in costs(url, database):
            every.append(cost)
            yield (
                f"| {cost.running} | {cost.statements:.0f} | {1e3 * cost.server:.1f} ms | {1e3 * cost.worker:.0f} ms |"
            )
        load = fitted(every, beat(url, database))
    yield f"\nA heartbeat: {1e3 * load.beat:.2f} ms of the database.\n"
    yield f"Trials of {given.trial:.0f} s, {given.cores} cores of the database, simulated:\n"
    yield "| workers | trials an hour | | database busy | a trial's share of the worker's time |\n|--:|--:|--:|--:|--:|"
    alone_rate = simulate(load, 1, given.trial, given.cores).rate
    for workers in WORKERS:
        yield line(simulate(load, workers, given.trial, given.cores), alone_rate, given.trial)
    yield "\n| workers | trials | time, in trials | best size found (least possible 0.139) |\n|--:|--:|--:|--:|"
    for workers, total in ((1, 20), (1, 60), (2, 60), (10, 60), (10, 200), (100, 200), (1000, 1000)):
        sizes = [best_after(workers, total, seed)[-1] for seed in range(given.seeds)]
        lengths = -(-total // workers)
        yield f"| {workers} | {total} | {lengths} | {statistics.mean(sizes):.3f} |"


def line(found: Outcome, alone: float, trial: float) -> str:
    share = min(1.0, found.rate * trial / found.workers)
    return f"| {found.workers} | {3600 * found.rate:.0f} | {found.rate / alone:.1f}x | {found.busy:.1%} | {share:.1%} |"


def main() -> None:
    """Print what is found out as it becomes known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--trial", type=float, default=30.0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    if (why := server.missing()) is not None:
        sys.exit(why)
    for text in report(parser.parse_args()):
        print(text, flush=True)


if __name__ == "__main__":
    main()
