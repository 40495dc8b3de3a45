"""The samples that are held back from learning: how many judge, and what they must say before anything is written."""

from __future__ import annotations

import math

from optimizer.data import augment
from optimizer.data.augment import Augmentation
from optimizer.data.samples import Samples
from optimizer.errors import BoundMissed
from optimizer.recipe import Finetune
from optimizer.train.checkpoint import State
from optimizer.train.training import Score

LEAST = 4
"""The fewest samples that can be split into some to learn from and some to judge by."""
JUDGED, COPIES = 200, 4
"""Samples that are enough to judge by, and the most augmented copies of a held-back sample that help to reach them."""


def split(samples: Samples, step: Finetune, seed: int) -> tuple[Samples, Samples]:
    """Samples to learn from, and those held back. Raises `BoundMissed` where there are too few."""
    if len(samples) < LEAST:
        raise BoundMissed(f"{len(samples)} samples are not enough to improve a model: give at least {LEAST}")
    held, rest = samples.split(step.holdout, seed)
    return rest, held


def judging(held: Samples, augmentation: Augmentation | None, seed: int) -> Samples:
    """`held`, followed by changed copies where it alone would judge too roughly: the teacher answers them too."""
    times = min(math.ceil(JUDGED / len(held)), COPIES + 1)
    return held if augmentation is None else augment.multiplied(held, augmentation, times, seed)


def refuse_no_gain(state: State, start: Score, score: Score, *, by_labels: bool = False) -> None:
    """Raise `BoundMissed` unless the held-back samples say clearly that it is better than it was.

    A student that learns from labels too may well agree less with its teacher.
    """
    remedy = "give more or other --data, or another --lr; nothing was written"
    if score.loss >= start.loss:
        raise BoundMissed(
            f"no step of {state.step} did better than the start (held-back loss {start.loss:.4g}): {remedy}"
        )
    if not score.clearly_below(start):
        raise BoundMissed(
            f"the gain may be chance on so few samples (held-back loss {start.loss:.4g} -> {score.loss:.4g}): {remedy}"
        )
    if by_labels or not score.agrees_less(start):
        return
    raise BoundMissed(
        f"the loss falls ({start.loss:.4g} -> {score.loss:.4g}), but fewer held-back answers agree with the "
        f"teacher's ({start.agreement:.1%} -> {score.agreement:.1%}): {remedy}"
    )
