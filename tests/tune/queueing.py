"""Workers around one database, simulated: what each trial costs the database and the worker, and so what N workers do.

A worker runs a trial for a while, then has `Load.work` seconds to do by itself and needs `Load.service` seconds of one
of the database's cores, for which workers queue. Both grow with the number of trials that are running, since a worker
reads these anew. Heartbeats need the database as well.
"""

from __future__ import annotations

import dataclasses
import heapq
import random

_EACH, _LEAST = 20, 5000
"""Trials that are simulated, for each worker and in all."""
BEAT = 15.0
"""Seconds between the heartbeats of a worker."""


@dataclasses.dataclass(frozen=True)
class Load:
    """Seconds per trial: of a database core, and of the worker's own, each with what every running trial adds."""

    service: float
    service_each: float
    work: float
    work_each: float
    beat: float
    """Of a database core, per heartbeat."""

    def database(self, workers: int, trial: float) -> float:
        """Seconds of a database core that a trial of `trial` seconds costs among so many workers."""
        return self.service + self.service_each * workers + self.beat * trial / BEAT

    def own(self, workers: int) -> float:
        return self.work + self.work_each * workers


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What so many workers do: trials per second, and the share of the database's cores that is busy."""

    workers: int
    rate: float
    busy: float


def simulate(load: Load, workers: int, trial: float, cores: int, seed: int = 0) -> Outcome:
    """Event by event. Trials last between half and one and a half times `trial` seconds."""
    rng = random.Random(seed)
    service, own = load.database(workers, trial), load.own(workers)
    free = [0.0] * cores
    waiting = [(rng.uniform(0, 1.5) * trial, worker) for worker in range(workers)]
    heapq.heapify(waiting)
    done, now, total = 0, 0.0, max(_EACH * workers, _LEAST)
    while done < total:
        now, worker = heapq.heappop(waiting)
        served = max(now, heapq.heappop(free)) + service
        heapq.heappush(free, served)
        done += 1
        heapq.heappush(waiting, (served + own + rng.uniform(0.5, 1.5) * trial, worker))
    end = max(now, *free)
    return Outcome(workers, total / end, total * service / (end * cores))
