"""A fresh process that measures: `python -m optimizer.bench.worker`, one job on standard input (see `job`).

The last line on standard output is a JSON object, `{"error": ...}` for what the user can mend.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optimizer.bench.job import Contestant, Job, read_feeds, write_times
from optimizer.errors import UserError
from optimizer.runtime import memory
from optimizer.runtime.session import Options, Session, open_session
from optimizer.runtime.timing import Lane, PairedTimes, concurrent_lane, join, race, session_lane

SITTINGS = 3
SITTING_SECONDS = 0.4
"""The models of a race are loaded anew so many times within a process at least, and so often in a longer race."""
PADDING = 2**20
"""Up to so many bytes are taken between sittings, so that what was freed is not simply taken again."""
START_RUNS = 3
"""Runs of a start job: the arena of the runtime has its full size after the second at the latest."""


def main() -> int:
    job = Job.from_text(sys.stdin.readline())
    try:
        answer = _KINDS[job.kind](job)
    except UserError as error:
        print(json.dumps({"error": str(error)}))  # noqa: T201 - the answer
        return UserError.exit_code
    print(json.dumps(answer))  # noqa: T201 - the answer
    return 0


def _race(job: Job) -> dict[str, Any]:
    """All models in this process, in several sittings unless loading takes longer than measuring."""
    rng, began = random.Random(job.seed), time.perf_counter()
    lanes = _lanes(job, rng)
    quick = time.perf_counter() - began < job.seconds / SITTINGS
    sittings = max(SITTINGS, int(job.seconds / SITTING_SECONDS)) if quick and job.rounds is None else 1
    parts, padding = [_sit(job, lanes, sittings, rng)], []
    while len(parts) < sittings:
        padding.append(bytearray(rng.randrange(PADDING)))
        parts.append(_sit(job, _lanes(job, rng), sittings, rng))
    times = join(parts)
    write_times(Path(job.answer), times)
    return {}


def _lanes(job: Job, rng: random.Random) -> list[Lane]:
    """The models loaded anew, in random order, which decides where in memory they lie."""
    order = rng.sample(range(len(job.models)), len(job.models))
    lanes = {number: _lane(job, job.models[number]) for number in order}
    return [lanes[number] for number in range(len(lanes))]


def _sit(job: Job, lanes: Sequence[Lane], sittings: int, rng: random.Random) -> PairedTimes:
    seconds, seed = job.seconds / sittings, rng.randrange(2**32)
    return race(lanes, seconds=seconds, seed=seed, rounds=job.rounds, target_halfwidth=0.0)


def _serve(job: Job) -> dict[str, Any]:
    """Slots of one model: each line of standard input is a sample's number, each answer seconds and runs."""
    lane = _lane(job, job.models[0])
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201 - the answer
    for line in sys.stdin:
        print(json.dumps(lane(int(line))), flush=True)  # noqa: T201 - the answer
    return {}


def _start(job: Job) -> dict[str, Any]:
    """Load one model and run it: seconds of either, and the bytes it adds to the process at most."""
    model = job.models[0]
    feeds = read_feeds(Path(model.feeds))
    before = memory.resident()
    memory.reset_peak()
    began = time.perf_counter()
    session = _open(job, model)
    loaded = time.perf_counter()
    session.run(feeds[0])
    ran = time.perf_counter()
    for number in range(1, START_RUNS):
        session.run(feeds[number % len(feeds)])
    peak = memory.peak()
    return {"load": loaded - began, "first_run": ran - loaded, "memory": peak - before, "process": peak}


_KINDS: dict[str, Callable[[Job], dict[str, Any]]] = {"race": _race, "serve": _serve, "start": _start}


def _open(job: Job, model: Contestant) -> Session:
    return open_session(Path(model.model), Options(threads=job.threads, spin=job.spin))


def _lane(job: Job, model: Contestant) -> Lane:
    session, feeds = _open(job, model), read_feeds(Path(model.feeds))
    return session_lane(session, feeds) if job.callers == 1 else concurrent_lane(session, feeds, job.callers)


if __name__ == "__main__":
    sys.exit(main())
