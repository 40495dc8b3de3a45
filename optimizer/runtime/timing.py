"""Paired timing of models that stay loaded together.

A *round* gives every model one slot, in random order, on the same sample; the next round takes the reverse order, so
that whatever depends on the order cancels. Rounds are grouped into blocks of at least `BLOCK_SECONDS` (see `stats`).

A *slot* is one unmeasured run, which brings the model's weights back into the caches that the others emptied, then as
many measured runs as fit into `SLOT_SECONDS`; the slot counts with their median. Models above `LONG_SECONDS` stream
their weights anyway: their slot is a single measured run. With several callers at once a slot is a window in which
each of them runs the model over and over; it counts with the wall time per run, the inverse of the throughput.

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
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from optimizer.report.records import Quantiles
from optimizer.runtime import stats
from optimizer.runtime.session import Session
from optimizer.runtime.stats import Estimate, Floats, Ids

if TYPE_CHECKING:
    from optimizer.model.ports import Feed

BLOCK_SECONDS = 0.05
SLOT_SECONDS = 0.002
LONG_SECONDS = 0.02
WINDOW_SECONDS = 0.02
WARM_UP_SECONDS = 0.2
WARM_UP_RUNS = 3
CHECK_GROWTH = 1.2
"""The interval is looked at again after so many times more blocks: seldom enough to cost nothing."""


class Slot(NamedTuple):
    """One model's turn in a round: what it counts with, and its measured runs, all in seconds."""

    seconds: float
    runs: list[float]


Lane: TypeAlias = Callable[[int], Slot]
"""Runs one slot of a model on the sample of that number."""
Block: TypeAlias = list[list[Slot]]
"""Slots by round and model."""


@dataclasses.dataclass(frozen=True)
class PairedTimes:
    """What was measured: slot times and all single runs, in seconds."""

    slots: Floats
    """Shape [models, rounds]."""
    blocks: Ids
    """Block of each round, shape [rounds]."""
    processes: Ids
    """Process of each round, shape [rounds]."""
    runs: tuple[Floats, ...]
    """Per model, every measured run in order."""
    run_blocks: tuple[Ids, ...]
    """Per model, the block of every measured run."""

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
    lanes: Sequence[Lane],
    *,
    seconds: float,
    seed: int = 0,
    min_blocks: int = 10,
    target_halfwidth: float = 0.01,
    rounds: int | None = None,
) -> PairedTimes:
    """`compare` for anything that can run a slot. `rounds` asks for that many (rounded up to even) and nothing else."""
    orders = _orders(len(lanes), random.Random(seed))
    blocks: list[Block] = []
    done, check, began = 0, min_blocks, time.perf_counter()
    with _no_garbage_collection():
        while (time.perf_counter() - began < seconds or not blocks) if rounds is None else done < rounds:
            blocks.append(_block(lanes, orders, done, None if rounds is None else rounds - done))
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
    if typical > LONG_SECONDS:
        return lambda number: _slot([once(number)])
    repeats = max(1, math.ceil(SLOT_SECONDS / max(typical, 1e-6)))

    def slot(number: int) -> Slot:
        once(number)
        return _slot([once(number) for _ in range(repeats)])

    return slot


def concurrent_lane(session: Session, feeds: Sequence[Feed], callers: int) -> Lane:
    """A lane in which `callers` threads run `session` at once; a slot counts with the wall time per run."""
    once, typical = _warm(session, feeds)
    repeats = max(1, math.ceil(WINDOW_SECONDS / max(typical, 1e-6)))
    pool = ThreadPoolExecutor(callers)

    def several(number: int) -> list[float]:
        return [once(number + k) for k in range(repeats)]

    def slot(number: int) -> Slot:
        began = time.perf_counter()
        runs = list(itertools.chain.from_iterable(pool.map(several, range(number, number + callers))))
        return Slot((time.perf_counter() - began) / len(runs), runs)

    slot(0)
    return slot


def gather(blocks: Sequence[Block]) -> PairedTimes:
    """Raw times of one process."""
    rounds = [slots for block in blocks for slots in block]
    ids = np.array([number for number, block in enumerate(blocks) for _ in block], np.int64)
    lanes = list(zip(*rounds, strict=True))
    return PairedTimes(
        slots=np.array([[slot.seconds for slot in lane] for lane in lanes], np.float64),
        blocks=ids,
        processes=np.zeros(len(rounds), np.int64),
        runs=tuple(np.array([run for slot in lane for run in slot.runs], np.float64) for lane in lanes),
        run_blocks=tuple(np.repeat(ids, [len(slot.runs) for slot in lane]) for lane in lanes),
    )


def join(parts: Sequence[PairedTimes]) -> PairedTimes:
    """The measurements of several processes as one."""
    offsets = np.cumsum([0, *(int(part.blocks.max()) + 1 for part in parts[:-1])])
    shifted = list(zip(parts, offsets, strict=True))
    models = range(len(parts[0].runs))
    return PairedTimes(
        slots=np.concatenate([part.slots for part in parts], axis=1),
        blocks=np.concatenate([part.blocks + offset for part, offset in shifted]),
        processes=np.concatenate([np.full(part.rounds, number, np.int64) for number, part in enumerate(parts)]),
        runs=tuple(np.concatenate([part.runs[m] for part in parts]) for m in models),
        run_blocks=tuple(np.concatenate([part.run_blocks[m] + offset for part, offset in shifted]) for m in models),
    )


def _warm(session: Session, feeds: Sequence[Feed]) -> tuple[Callable[[int], float], float]:
    """A function that times one run, and how long a run takes after the first few."""
    samples = [dict(feed) for feed in feeds]

    def once(number: int) -> float:
        feed = samples[number % len(samples)]
        began = time.perf_counter()
        session.run(feed)
        return time.perf_counter() - began

    runs = [once(0)]
    while len(runs) < WARM_UP_RUNS and sum(runs) < WARM_UP_SECONDS:
        runs.append(once(len(runs)))
    return once, min(runs)


def _slot(runs: list[float]) -> Slot:
    return Slot(statistics.median(runs), runs)


def _block(lanes: Sequence[Lane], orders: Iterator[list[int]], number: int, most: int | None) -> Block:
    began = time.perf_counter()
    rounds: Block = []
    while len(rounds) % 2 or not rounds or time.perf_counter() - began < BLOCK_SECONDS:
        if most is not None and len(rounds) >= most and not len(rounds) % 2:
            break
        slots: dict[int, Slot] = {}
        for lane in next(orders):
            slots[lane] = lanes[lane](number + len(rounds) // 2)
        rounds.append([slots[lane] for lane in range(len(lanes))])
    return rounds


def _orders(count: int, rng: random.Random) -> Iterator[list[int]]:
    while True:
        order = rng.sample(range(count), count)
        yield order
        yield order[::-1]


def _narrow(times: PairedTimes, target: float) -> bool:
    return all(times.speedup(model).halfwidth <= target for model in range(1, len(times.slots)))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
