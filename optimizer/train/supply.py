"""The samples of each step with the teacher's answers, made ready while the student learns from those before.

Step k draws its samples from a shuffle seeded by (seed, epoch) and its augmentation from (seed, k), so what it learns
from depends neither on an interruption nor on whether it was made ready ahead. Augmentation and the teacher take about
a third of the work and need no gradients: with two threads they run beside the student.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

from optimizer.data.samples import Samples
from optimizer.train.training import Group, Trainer


class Supply:
    """The groups of a run by step; a context that ends the thread it works ahead with."""

    def __init__(self, trainer: Trainer, samples: Samples, seed: int, batch: int, ahead: bool) -> None:
        self.trainer, self.samples, self.seed, self.batch = trainer, samples, seed, batch
        self.per_epoch = max(math.ceil(len(samples) / batch), 1)
        self._pool = ThreadPoolExecutor(1) if ahead else None
        self._next: tuple[int, Future[list[Group]]] | None = None

    def __enter__(self) -> Supply:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def get(self, step: int, more: bool) -> list[Group]:
        """What step `step` learns from; `more` if the step after it is going to be asked for next."""
        if self._pool is None:
            return self._make(step)
        ready = self._next[1].result() if self._next is not None and self._next[0] == step else self._make(step)
        self._next = (step + 1, self._pool.submit(self._make, step + 1)) if more else None
        return ready

    def _make(self, step: int) -> list[Group]:
        epoch, position = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))
        chosen = [int(i) for i in order[position * self.batch : (position + 1) * self.batch]]
        return list(self.trainer.groups(self.samples, chosen, np.random.default_rng([self.seed, 1, step])))
