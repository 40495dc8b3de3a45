"""Paired timing of models that stay loaded together.

A *round* gives every model one slot, in random order; the next round takes the reverse order, so that whatever depends
on the order cancels. All rounds of a *block* run the same sample, and blocks go through the samples in turn; a block
takes at least `BLOCK_SECONDS` and is what the statistics count (see `stats`).

A *slot* is one unmeasured run, which brings the model's weights back into the caches that the others emptied, then as
many measured runs as fit into `SLOT_SECONDS`. Models above `LONG_SECONDS` stream their weights anyway: their slot is a
single measured run. With several callers at once a slot is a window in which each of them runs the model over and
over; what counts is the wall time per run, the inverse of the throughput.

What counts of a run of a single-threaded session is the CPU time of the thread that runs it, where the system tells it
to the microsecond: time in which another process held the core is none of the model's. All else is wall time.

Blocks go on until the widest interval is as narrow as asked, but for `min_blocks` at least, and none is begun after
`seconds`, whatever was reached, unless there are fewer than `least`, of which no interval would say anything. Sessions
should be opened with spinning off (the default): two live sessions that spin sabotage each other.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from optimizer.report.records import Quantiles
from optimizer.runtime import stats
from optimizer.runtime.session import Session
from optimizer.runtime.stats import Estimate, Grouped, Ids

if TYPE_CHECKING:
    from optimizer.model.ports import Feed

BLOCK_SECONDS = 0.2
SLOT_SECONDS = 0.002
LONG_SECONDS = 0.02
WINDOW_SECONDS = 0.02
WARM_UP_SECONDS = 0.2
WARM_UP_RUNS = 3
CHECK_GROWTH = 1.2
"""The interval is looked at again after so many times more blocks: seldom enough to cost nothing."""


class Slot(NamedTuple):
    """One model's turn in a round, in seconds: what is compared, and the time of each measured run."""

    counted: list[float]
    runs: list[float]


Lane: TypeAlias = Callable[[int], Slot]
"""Runs one slot of a model on the sample of that number."""
Block: TypeAlias = list[list[Slot]]
"""Slots by round and model."""


@dataclasses.dataclass(frozen=True)
class PairedTimes:
    """What was measured, in seconds, model by model."""

    counted: tuple[Grouped, ...]
    """What is compared: the runs, or with several callers the wall time per run of each window."""
    runs: tuple[Grouped, ...]
    """Every measured run, in order."""
    sittings: Ids
    """The sitting of each block, shape [blocks]: one race of models that were loaded once, in one process."""
    rounds: int

    def speedup(self, candidate: int, baseline: int = 0) -> Estimate:
        """How many times faster model `candidate` is than model `baseline`, with its 95% interval."""
        return stats.estimate(self.counted[baseline], self.counted[candidate], self.sittings)

    def quantiles(self, model: int) -> Quantiles:
        """Latency of one model in milliseconds."""
        return stats.quantiles(self.runs[model].times)


def compare(
    sessions: Sequence[Session],
    feeds: Sequence[Sequence[Feed]],
    *,
    seconds: float = 5.0,
    seed: int = 0,
    min_blocks: int = 10,
    target_halfwidth: float = 0.01,
    least: int = 1,
) -> PairedTimes:
    """Time `sessions` against each other; `feeds[i]` are the samples of `sessions[i]`, cycled, as many for each."""
    lanes = [session_lane(session, own) for session, own in zip(sessions, feeds, strict=True)]
    return race(
        lanes, seconds=seconds, seed=seed, min_blocks=min_blocks, target_halfwidth=target_halfwidth, least=least
    )


def race(
    lanes: Sequence[Lane],
    *,
    seconds: float,
    seed: int = 0,
    min_blocks: int = 10,
    target_halfwidth: float = 0.01,
    least: int = 1,
    rounds: int | None = None,
) -> PairedTimes:
    """`compare` for anything that can run a slot. `rounds` asks for that many (rounded up to even) and nothing else."""
    orders = _orders(len(lanes), random.Random(seed))
    blocks: list[Block] = []
    done, check, began = 0, min_blocks, time.perf_counter()
    with _no_garbage_collection():
        while (time.perf_counter() - began < seconds or len(blocks) < least) if rounds is None else done < rounds:
            blocks.append(_block(lanes, orders, len(blocks), None if rounds is None else rounds - done))
            done += len(blocks[-1])
            if rounds is not None or len(blocks) < check:
                continue
            if _narrow(gather(blocks), target_halfwidth):
                break
            check = math.ceil(len(blocks) * CHECK_GROWTH)
    return gather(blocks)


def session_lane(session: Session, feeds: Sequence[Feed]) -> Lane:
    """A lane that runs `session`; it is warmed up here, and the length of its slots chosen."""
    once, typical = _warm(session, feeds)
    repeats = 1 if typical > LONG_SECONDS else max(1, math.ceil(SLOT_SECONDS / max(typical, 1e-6)))

    def slot(number: int) -> Slot:
        if typical <= LONG_SECONDS:
            once(number)
        runs = [once(number) for _ in range(repeats)]
        return Slot([run.counted for run in runs], [run.wall for run in runs])

    return slot


def concurrent_lane(session: Session, feeds: Sequence[Feed], callers: int) -> Lane:
    """A lane in which `callers` threads run `session` at once; a slot counts with the wall time per run."""
    once, typical = _warm(session, feeds)
    repeats = max(1, math.ceil(WINDOW_SECONDS / max(typical, 1e-6)))
    pool = ThreadPoolExecutor(callers)

    def several(number: int) -> list[float]:
        return [once(number).wall for _ in range(repeats)]

    def slot(number: int) -> Slot:
        began = time.perf_counter()
        runs = list(itertools.chain.from_iterable(pool.map(several, [number] * callers)))
        return Slot([(time.perf_counter() - began) / len(runs)], runs)

    slot(0)
    return slot


def gather(blocks: Sequence[Block]) -> PairedTimes:
    """Raw times of one sitting."""
    lanes = range(len(blocks[0][0]))
    return PairedTimes(
        counted=tuple(_grouped([[slot[lane].counted for slot in block] for block in blocks]) for lane in lanes),
        runs=tuple(_grouped([[slot[lane].runs for slot in block] for block in blocks]) for lane in lanes),
        sittings=np.zeros(len(blocks), np.int64),
        rounds=sum(map(len, blocks)),
    )


def join(parts: Sequence[PairedTimes]) -> PairedTimes:
    """The measurements of several sittings as one."""
    blocks = np.cumsum([0, *(part.sittings.size for part in parts[:-1])])
    sittings = np.cumsum([0, *(part.sittings.max() + 1 for part in parts[:-1])])
    lanes = range(len(parts[0].runs))
    return PairedTimes(
        counted=tuple(_joined([part.counted[lane] for part in parts], blocks) for lane in lanes),
        runs=tuple(_joined([part.runs[lane] for part in parts], blocks) for lane in lanes),
        sittings=np.concatenate([part.sittings + offset for part, offset in zip(parts, sittings, strict=True)]),
        rounds=sum(part.rounds for part in parts),
    )


def _grouped(blocks: Sequence[Sequence[Sequence[float]]]) -> Grouped:
    flat = [list(itertools.chain.from_iterable(block)) for block in blocks]
    times = np.array(list(itertools.chain.from_iterable(flat)), np.float64)
    return Grouped(times, np.repeat(np.arange(len(flat)), [len(block) for block in flat]))


def _joined(parts: Sequence[Grouped], offsets: Ids) -> Grouped:
    blocks = [part.blocks + offset for part, offset in zip(parts, offsets, strict=True)]
    return Grouped(np.concatenate([part.times for part in parts]), np.concatenate(blocks))


class _Run(NamedTuple):
    counted: float
    wall: float


def _warm(session: Session, feeds: Sequence[Feed]) -> tuple[Callable[[int], _Run], float]:
    """A function that times one run, and how long a run takes after the first few."""
    samples = [dict(feed) for feed in feeds]
    clock = time.thread_time if _is_single_threaded(session) else time.perf_counter

    def once(number: int) -> _Run:
        feed = samples[number % len(samples)]
        began, clocked = time.perf_counter(), clock()
        session.run(feed)
        return _Run(clock() - clocked, time.perf_counter() - began)

    runs = [once(0).wall]
    while len(runs) < WARM_UP_RUNS and sum(runs) < WARM_UP_SECONDS:
        runs.append(once(len(runs)).wall)
    return once, min(runs)


def _is_single_threaded(session: Session) -> bool:
    """... on a system whose CPU clock is fine enough (that of Windows ticks at 64 Hz)."""
    return sys.platform != "win32" and session.threads == 1


def _block(lanes: Sequence[Lane], orders: Iterator[list[int]], number: int, most: int | None) -> Block:
    """Rounds on sample `number`, an even number of them, `most` at most (rounded up to even)."""
    began = time.perf_counter()
    rounds: Block = []
    while not rounds or (time.perf_counter() - began < BLOCK_SECONDS and (most is None or len(rounds) < most)):
        rounds += [_round(lanes, next(orders), number), _round(lanes, next(orders), number)]
    return rounds


def _round(lanes: Sequence[Lane], order: Sequence[int], number: int) -> list[Slot]:
    slots = {lane: lanes[lane](number) for lane in order}
    return [slots[lane] for lane in range(len(lanes))]


def _orders(count: int, rng: random.Random) -> Iterator[list[int]]:
    while True:
        order = rng.sample(range(count), count)
        yield order
        yield order[::-1]


def _narrow(times: PairedTimes, target: float) -> bool:
    return all(times.speedup(model).halfwidth <= target for model in range(1, len(times.runs)))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
