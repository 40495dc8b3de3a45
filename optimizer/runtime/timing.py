"""Paired timing of models that stay loaded together.

A *round* gives every model one slot, in random order, on the same sample; the next round takes the reverse order, so
that whatever depends on the order cancels. Rounds are grouped into blocks of at least `BLOCK_SECONDS` (see `stats`).

A *slot* is one unmeasured run, which brings the model's weights back into the caches that the others emptied, then as
many measured runs as fit into `SLOT_SECONDS`; the slot counts with their median. Models above `LONG_SECONDS` stream
their weights anyway: their slot is a single measured run.

Rounds go on until the widest interval is as narrow as asked, but for `min_blocks` blocks at least, and no new block
is begun after `seconds`, whatever was reached. Sessions should be opened with spinning off (the default): two live
sessions that spin sabotage each other.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from optimizer.model.ports import Feed
from optimizer.report.records import Quantiles
from optimizer.runtime import stats
from optimizer.runtime.session import Session
from optimizer.runtime.stats import Estimate, Floats, Ids

Lane: TypeAlias = Callable[[int], list[float]]
"""Runs one slot of a model on the sample of that number and returns the seconds of each measured run."""

BLOCK_SECONDS = 0.05
SLOT_SECONDS = 0.002
LONG_SECONDS = 0.02
WARM_UP_RUNS = 3
CHECK_GROWTH = 1.2
"""The interval is looked at again after so many times more blocks: seldom enough to cost nothing."""


@dataclasses.dataclass(frozen=True)
class PairedTimes:
    """What was measured: slot times and all single runs, in seconds."""

    slots: Floats
    """Shape [models, rounds]."""
    runs: tuple[Floats, ...]
    """Per model, every measured run in order."""
    blocks: Ids
    """Block of each round, shape [rounds]."""
    processes: Ids
    """Process of each round, shape [rounds]."""

    def speedup(self, candidate: int, baseline: int = 0) -> Estimate:
        """How many times faster model `candidate` is than model `baseline`, with its 95% interval."""
        return stats.estimate(self.slots[baseline], self.slots[candidate], self.blocks, self.processes)

    def quantiles(self, model: int) -> Quantiles:
        """Latency of one model in milliseconds."""
        return stats.quantiles(self.runs[model])

    @property
    def rounds(self) -> int:
        return int(self.blocks.size)


def compare(
    sessions: Sequence[Session],
    feeds: Sequence[Sequence[Feed]],
    *,
    seconds: float = 5.0,
    seed: int = 0,
    min_blocks: int = 10,
    target_halfwidth: float = 0.01,
) -> PairedTimes:
    """Time `sessions` against each other; `feeds[i]` are the samples of `sessions[i]`, cycled, as many for each."""
    lanes = [session_lane(session, own) for session, own in zip(sessions, feeds, strict=True)]
    return race(lanes, seconds=seconds, seed=seed, min_blocks=min_blocks, target_halfwidth=target_halfwidth)


def race(
    lanes: Sequence[Lane], *, seconds: float, seed: int = 0, min_blocks: int = 10, target_halfwidth: float = 0.01
) -> PairedTimes:
    """`compare` for anything that can run a slot."""
    orders = _orders(len(lanes), random.Random(seed))
    blocks: list[list[list[list[float]]]] = []
    check = min_blocks
    began = time.perf_counter()
    with _no_garbage_collection():
        while True:
            blocks.append(_block(lanes, orders, sum(map(len, blocks))))
            if time.perf_counter() - began >= seconds:
                break
            if len(blocks) >= check:
                if _narrow(gather(blocks), target_halfwidth):
                    break
                check = math.ceil(len(blocks) * CHECK_GROWTH)
    return gather(blocks)


def session_lane(session: Session, feeds: Sequence[Feed]) -> Lane:
    """A lane that runs `session`; it is warmed up here, and the length of its slots chosen."""
    samples = [dict(feed) for feed in feeds]

    def once(number: int) -> float:
        feed = samples[number % len(samples)]
        began = time.perf_counter()
        session.run(feed)
        return time.perf_counter() - began

    typical = sorted(once(number) for number in range(WARM_UP_RUNS))[WARM_UP_RUNS // 2]
    if typical > LONG_SECONDS:
        return lambda number: [once(number)]
    repeats = max(1, math.ceil(SLOT_SECONDS / max(typical, 1e-6)))

    def slot(number: int) -> list[float]:
        once(number)
        return [once(number) for _ in range(repeats)]

    return slot


def gather(blocks: Sequence[Sequence[Sequence[Sequence[float]]]]) -> PairedTimes:
    """Raw times, indexed block, round, model, run, as `PairedTimes` of one process."""
    rounds = [slots for block in blocks for slots in block]
    numbers = [number for number, block in enumerate(blocks) for _ in block]
    slots = np.array([[np.median(runs) for runs in slots] for slots in rounds], np.float64).T
    runs = tuple(np.array(list(itertools.chain.from_iterable(own)), np.float64) for own in zip(*rounds, strict=True))
    return PairedTimes(slots, runs, np.array(numbers, np.int64), np.zeros(len(rounds), np.int64))


def join(parts: Sequence[PairedTimes]) -> PairedTimes:
    """The measurements of several processes as one."""
    offsets = np.cumsum([0, *(int(part.blocks.max()) + 1 for part in parts[:-1])])
    return PairedTimes(
        np.concatenate([part.slots for part in parts], axis=1),
        tuple(np.concatenate(own) for own in zip(*(part.runs for part in parts), strict=True)),
        np.concatenate([part.blocks + offset for part, offset in zip(parts, offsets, strict=True)]),
        np.concatenate([np.full(part.rounds, number, np.int64) for number, part in enumerate(parts)]),
    )


def _block(lanes: Sequence[Lane], orders: Iterator[list[int]], number: int) -> list[list[list[float]]]:
    began = time.perf_counter()
    rounds: list[list[list[float]]] = []
    while len(rounds) < 2 or len(rounds) % 2 or time.perf_counter() - began < BLOCK_SECONDS:
        slots: list[list[float]] = [[] for _ in lanes]
        for lane in next(orders):
            slots[lane] = lanes[lane](number + len(rounds))
        rounds.append(slots)
    return rounds


def _orders(count: int, rng: random.Random) -> Iterator[list[int]]:
    while True:
        order = rng.sample(range(count), count)
        yield order
        yield order[::-1]


def _narrow(times: PairedTimes, target: float) -> bool:
    return all(times.speedup(model).halfwidth <= target for model in range(1, len(times.slots)))


class _no_garbage_collection:
    def __enter__(self) -> None:
        self.was = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self.was:
            gc.enable()
