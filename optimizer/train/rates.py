"""Choosing the highest learning rate by trying: a short run at each, and the one that leaves the lowest loss.

A rate that is right for a small convolutional network destroys a transformer, so there is no good constant. Every trial
starts from the student as it is and is a whole run in small: `STEPS` steps over which the rate rises and falls to
nothing, because the loss *while* the rate is high says little about what is there once it has fallen - a student that
is nearly right looks worse at any rate but the most timid. Rates are tried from the highest down, until `WORSE` in a
row did worse than the best. The winner is the largest rate within `MARGIN` of the best: it has the whole run to settle.

Where the time is bounded, trials are as short as it takes for all of them to fit into `SHARE` of it, `FEWEST` steps at
least.
"""

from __future__ import annotations

import math
import time

from optimizer.data.samples import Samples
from optimizer.errors import BoundMissed
from optimizer.train.loop import build, descend, factor
from optimizer.train.supply import Supply
from optimizer.train.training import Trainer

RATES = {"adamw": (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5), "sgd": (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)}
STEPS, BATCH = 24, 16
JUDGED = 96
FEWEST, SHARE = 4, 0.1
WARMUP = 0.1
MARGIN = 1.02
WORSE = 2


def best_rate(trainer: Trainer, train: Samples, held: Samples, seed: int) -> float:
    """The learning rate to use. The student is left as it was."""
    start = trainer.parameters.state()
    few = held.pick(JUDGED, seed)
    supply = Supply(trainer, train, seed, min(trainer.step.batch, BATCH), ahead=False)
    steps = _affordable(trainer, supply, few)
    trainer.parameters.load(start)
    losses: dict[float, float] = {}
    for rate in RATES[trainer.step.optimizer]:
        losses[rate] = _trial(trainer, supply, few, rate, steps)
        trainer.parameters.load(start)
        found = list(losses.values())
        if len(found) - 1 - found.index(min(found)) >= WORSE and math.isfinite(min(found)):
            break
    best = min(losses.values())
    return max((rate for rate, loss in losses.items() if loss <= best * MARGIN), default=min(losses))


def _affordable(trainer: Trainer, supply: Supply, held: Samples) -> int:
    """Steps per trial."""
    if trainer.step.limit is None:
        return STEPS
    rates = RATES[trainer.step.optimizer]
    begun = time.monotonic()
    descend(trainer, build(trainer), supply.get(0, more=False), min(rates))
    stepped = time.monotonic()
    trainer.score(held)
    judged = time.monotonic() - stepped
    left = 60 * trainer.step.limit * SHARE / len(rates) - judged
    return min(STEPS, max(FEWEST, int(left / (stepped - begun))))


def _trial(trainer: Trainer, supply: Supply, held: Samples, rate: float, steps: int) -> float:
    descent = build(trainer)
    try:
        for step in range(steps):
            descend(trainer, descent, supply.get(step, more=False), rate * factor(step / steps, WARMUP))
    except BoundMissed:
        return math.inf
    found = trainer.score(held).loss
    return found if math.isfinite(found) else math.inf
