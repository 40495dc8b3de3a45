"""Choosing the highest learning rate by trying: a few steps at each, and the one that leaves the lowest loss.

A rate that is right for a small convolutional network destroys a transformer, so there is no good constant. Every trial
starts from the student as it is; the loss is that of the held-back samples after `STEPS` steps without a schedule.
Rates are tried from the highest down, until `WORSE` in a row did worse than the best. The winner is the largest rate
within `MARGIN` of the best, because it has the whole run to settle.
"""

from __future__ import annotations

import math

import numpy as np

from optimizer.data.samples import Samples
from optimizer.errors import BoundMissed
from optimizer.train.loop import build, descend
from optimizer.train.training import Trainer

RATES = {"adamw": (3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5), "sgd": (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)}
STEPS = 20
MARGIN = 1.05
WORSE = 2


def best_rate(trainer: Trainer, train: Samples, held: Samples, seed: int) -> float:
    """The learning rate to use. The student is left as it was."""
    start = trainer.parameters.state()
    few = held.take(4 * trainer.step.batch)
    losses: dict[float, float] = {}
    for rate in RATES[trainer.step.optimizer]:
        losses[rate] = _trial(trainer, train, few, rate, seed)
        trainer.parameters.load(start)
        found = list(losses.values())
        if len(found) - 1 - found.index(min(found)) >= WORSE and math.isfinite(min(found)):
            break
    best = min(losses.values())
    return max((rate for rate, loss in losses.items() if loss <= best * MARGIN), default=min(losses))


def _trial(trainer: Trainer, train: Samples, held: Samples, rate: float, seed: int) -> float:
    descent = build(trainer)
    try:
        for step in range(STEPS):
            random = np.random.default_rng([seed, 2, step])
            chosen = [int(i) for i in random.choice(len(train), min(trainer.step.batch, len(train)), replace=False)]
            descend(trainer, descent, train, chosen, rate, random)
    except BoundMissed:
        return math.inf
    found = trainer.score(held).loss
    return found if math.isfinite(found) else math.inf
