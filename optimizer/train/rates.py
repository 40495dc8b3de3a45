"""Choosing the highest learning rate by trying: a short run at each, and the one that leaves the lowest loss.

A rate that is right for a small convolutional network destroys a transformer, so there is no good constant. Every trial
starts from the student as it is and is a whole run in small: a few steps over which the rate rises and falls to
nothing, because the loss *while* the rate is high says little about what is there once it has fallen. Rates are tried
from the highest down, until `WORSE` in a row did worse than the best. There are two rounds:

1. `STEPS` steps. They tell which rates destroy a student, but no more where it is nearly right: what is new about the
   samples disturbs it at first, and the more timid the rate the less.
2. `LONGER` times as many at the rates that came within `NEAR` of the best. The winner is the largest rate within
   `MARGIN` of the best: it has the whole run to settle.

Where the time is bounded, trials are as short as it takes for all of them to fit into the round's share of it, `FEWEST`
steps at least, and there is no second round if that makes it hardly longer than the first.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

from optimizer.data.samples import Samples
from optimizer.errors import BoundMissed
from optimizer.train.loop import build, descend, factor
from optimizer.train.supply import Supply
from optimizer.train.training import Group, Trainer

RATES = {"adamw": (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4), "sgd": (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)}
STEPS, BATCH = 24, 16
JUDGED = 96
FEWEST, SHARES = 4, (0.05, 0.1)
LONGER, NEAR = 4, 2.0
WARMUP = 0.1
MARGIN = 1.05
WORSE = 2
KEPT_BYTES = 256 * 2**20
"""Samples that are kept from trial to trial, with the teacher's answers."""


@dataclasses.dataclass
class Trials:
    """Trials of a student, which is left as it was."""

    trainer: Trainer
    supply: Supply
    held: Samples

    def __post_init__(self) -> None:
        self.start = self.trainer.parameters.state()
        self.kept: dict[int, list[Group]] = {}
        self.cost = self._cost()

    def round(self, rates: Sequence[float], steps: int) -> dict[float, float]:
        """The loss that each rate leaves, for the rates that are tried."""
        losses: dict[float, float] = {}
        for rate in rates:
            losses[rate] = self.trial(rate, steps)
            self.trainer.parameters.load(self.start)
            found = list(losses.values())
            if len(found) - 1 - found.index(min(found)) >= WORSE and math.isfinite(min(found)):
                break
        return losses

    def affordable(self, most: int, share: float, trials: int) -> int:
        """Steps of each of so many trials."""
        if self.trainer.step.limit is None:
            return most
        step, judging = self.cost
        return min(most, max(FEWEST, int((60 * self.trainer.step.limit * share / trials - judging) / step)))

    def _cost(self) -> tuple[float, float]:
        """Seconds of a step, and of a judgement."""
        timid, descent = min(RATES[self.trainer.step.optimizer]), build(self.trainer)
        descend(self.trainer, descent, self._groups(0), timid)  # the first prepares what later ones need
        begun = time.monotonic()
        descend(self.trainer, descent, self.supply.get(1, more=False), timid)
        stepped = time.monotonic()
        self.trainer.score(self.held)
        self.trainer.parameters.load(self.start)
        return stepped - begun, time.monotonic() - stepped

    def trial(self, rate: float, steps: int) -> float:
        """The held-back loss that is left; infinite where the rate destroys."""
        descent = build(self.trainer)
        try:
            for step in range(steps):
                descend(self.trainer, descent, self._groups(step), rate * factor(step / steps, WARMUP))
        except BoundMissed:
            return math.inf
        found = self.trainer.score(self.held).loss
        return found if math.isfinite(found) else math.inf

    def _groups(self, step: int) -> list[Group]:
        if step not in self.kept:
            found = self.supply.get(step, more=False)
            if (step + 1) * sum(group.bytes for group in found) > KEPT_BYTES:
                return found
            self.kept[step] = found
        return self.kept[step]


def best_rate(trainer: Trainer, train: Samples, held: Samples, seed: int) -> float:
    """The learning rate to use. The student is left as it was."""
    rates = RATES[trainer.step.optimizer]
    supply = Supply(trainer, train, seed, min(trainer.step.batch, BATCH), ahead=False)
    trials = Trials(trainer, supply, held.pick(JUDGED, seed))
    steps = trials.affordable(STEPS, SHARES[0], len(rates))
    losses = trials.round(rates, steps)
    near = [rate for rate, loss in losses.items() if loss <= NEAR * min(losses.values())]
    more = trials.affordable(LONGER * STEPS, SHARES[1], max(len(near), 1))
    if len(near) > 1 and more >= 2 * steps:
        losses = trials.round(near, more)
    best = min(losses.values())
    return max((rate for rate, loss in losses.items() if loss <= best * MARGIN), default=min(losses))
