"""The optimization loop: schedule, running average, early stopping, the best step, checkpoints.

The state after step k does not depend on whether the run was interrupted (`supply`). The learning rate rises over the
warm-up and falls as a cosine, by steps or, where the time will not do for all of them, by the time.

About `EVALUATIONS` times the averaged weights are judged on the held-back samples; the best of them, the start
included, are what the student ends with. At its highest, the rate disturbs what it improves, and a loss that has risen
above the start's may well fall below it with the rate; but a student that is nearly right is easily led astray for
good: one that is worse than it was, and has come no nearer in `PATIENT` judgements, goes back to the start with a rate
`BACK_OFF` times as high, and so on until something is gained. Where the outputs are class scores, weights that agree
with the teacher clearly less often than the start did are not taken, whatever their loss.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from optimizer.data.samples import Samples
from optimizer.errors import BoundMissed
from optimizer.model.ports import Array
from optimizer.train import checkpoint
from optimizer.train.checkpoint import State
from optimizer.train.descent import Descent
from optimizer.train.supply import Supply
from optimizer.train.training import Group, Score, Trainer

EVALUATIONS = 20
TYPICAL_STEPS, MOST_STEPS = 2000, 8000
"""Steps where nothing is asked for, and where so many minutes are."""
LEAST_EPOCHS = 3
SLACK = 0.02
"""How far the time may be ahead of the steps before they go by the time."""
PATIENT, BACK_OFF = 2, 0.3
_CHECKPOINT_COST = 0.05
"""Share of the time that writing checkpoints may take."""

Watch = Callable[[int, int, float, "float | None"], None]
"""Called after each step with the step, how many there will be as far as one can tell, and the last loss and agreement
on what is held back."""


@dataclasses.dataclass(frozen=True)
class Where:
    """Where checkpoints go, and whether to go on from the one that is there."""

    path: Path
    fingerprint: str
    resume: bool

    def earlier(self) -> State | None:
        """The state of the run to go on with, if there is one. Raises `ConfigError`."""
        return checkpoint.load(self.path, self.fingerprint) if self.resume and self.path.exists() else None


@dataclasses.dataclass
class Loop:
    """One run of training. `run` leaves the best weights in the trainer's parameters."""

    trainer: Trainer
    supply: Supply
    held: Samples
    rate: float
    """The highest learning rate to begin with; how high it is now stands in the state."""
    where: Where | None
    watch: Watch
    spent: float = 0.0
    """Seconds of the time limit that are gone already."""

    def __post_init__(self) -> None:
        self.step = self.trainer.step
        self.descent = build(self.trainer)
        typical = TYPICAL_STEPS if self.step.minutes is None else MOST_STEPS
        epochs = self.step.epochs or max(LEAST_EPOCHS, math.ceil(typical / self.supply.per_epoch))
        self.steps = epochs * self.supply.per_epoch
        self.limit = math.inf if self.step.limit is None else 60 * self.step.limit
        self.average = self.trainer.parameters.state()
        self.reached = 0

    def run(self, start: Score, earlier: State | None = None) -> State:
        """Train from `start` (the score of the student as it is), or on from `earlier`, and return how it went."""
        first = [_entry(0, math.nan, start)]
        state = State(0, self.spent, self.rate, 0, start.loss, 0, math.inf, 0, first, _prefixed("best", self.average))
        if earlier is not None:
            state = earlier
            self._restore(state)
        self.reached = self._judgements(state)
        begun, saved, cost = time.monotonic() - state.seconds, time.monotonic(), 0.0
        recent: list[float] = []
        while state.step < self.steps and state.stale < self.step.patience and not self._late(state):
            recent.append(self._one(state))
            state.step += 1
            state.seconds = time.monotonic() - begun
            if self._due(state):
                self._judge(state, float(np.mean(recent)), start)
                recent = []
            _, _, loss, agreement = state.history[-1]
            self.watch(state.step, self._expected(state), loss, None if agreement < 0 else agreement)
            if not recent and time.monotonic() - saved > cost / _CHECKPOINT_COST:
                saved = time.monotonic()
                self._save(state)
                cost = time.monotonic() - saved
        self.trainer.parameters.load(_part("best", state.arrays))
        return state

    def _late(self, state: State) -> bool:
        return state.seconds >= self.limit

    def _progress(self, state: State) -> float:
        """The share of the run that is over: as steps go, or as time goes where it is short. (A run that has time
        enough does the same whatever the clock says.)"""
        by_steps = state.step / self.steps
        by_time = (state.seconds - self.spent) / max(self.limit - self.spent, 1e-9)
        return min(by_time, 1.0) if by_time > by_steps + SLACK else by_steps

    def _judgements(self, state: State) -> int:
        """How many there should have been by now."""
        return int(self._progress(state) * EVALUATIONS + 1e-9)

    def _due(self, state: State) -> bool:
        """Whether the weights are to be judged: `EVALUATIONS` times, evenly, and at the end."""
        reached = max(self._judgements(state), self.reached)
        due = reached > self.reached or state.step == self.steps or self._late(state)
        self.reached = reached
        return due

    def _expected(self, state: State) -> int:
        """How many steps it will have been."""
        return min(self.steps, max(state.step, round(state.step / self._progress(state))))

    def _one(self, state: State) -> float:
        groups = self.supply.get(state.step, state.step + 1 < self.steps)
        rate = state.rate * factor(self._progress(state), self.step.warmup)
        loss = descend(self.trainer, self.descent, groups, rate)
        decay = min(self.step.ema, (1 + state.step) / (10 + state.step)) if self.step.ema else 0.0
        for name, tensor in self.trainer.parameters.tensors.items():
            self.average[name] *= decay
            self.average[name] += (1 - decay) * tensor.detach().numpy()
        return loss

    def _judge(self, state: State, training_loss: float, start: Score) -> None:
        """Score the averaged weights; keep them if they are the best so far and answer no worse than the start."""
        now = self.trainer.parameters.state()
        self.trainer.parameters.load(self.average)
        score = self.trainer.score(self.held)
        self.trainer.parameters.load(now)
        state.history.append(_entry(state.step, training_loss, score))
        state.stale += 1
        if score.loss < state.best_loss and not self._astray(score, start):
            state.best_loss, state.best_step, state.stale = score.loss, state.step, 0
            state.arrays = _prefixed("best", self.average)
        state.straying += 1
        if score.loss < state.nearest:
            state.nearest, state.straying = score.loss, 0
        if state.best_step == 0 and state.straying >= PATIENT:
            self._back(state)

    def _back(self, state: State) -> None:
        """Begin again from the start, more carefully."""
        state.rate *= BACK_OFF
        state.nearest, state.straying = math.inf, 0
        self.average = {name: array.copy() for name, array in _part("best", state.arrays).items()}
        self.trainer.parameters.load(self.average)
        self.descent = build(self.trainer)

    def _astray(self, score: Score, start: Score) -> bool:
        return not self.step.labels and score.agrees_less(start)

    def _save(self, state: State) -> None:
        if self.where is None:
            return
        moments = _prefixed("moments", self.descent.state())
        best = _prefixed("best", _part("best", state.arrays))
        now, average = _prefixed("now", self.trainer.parameters.state()), _prefixed("average", self.average)
        kept = dataclasses.replace(state, arrays={**best, **now, **average, **moments})
        checkpoint.save(self.where.path, kept, self.where.fingerprint)

    def _restore(self, state: State) -> None:
        self.trainer.parameters.load(_part("now", state.arrays))
        self.average = _part("average", state.arrays)
        self.descent.load(_part("moments", state.arrays))


def build(trainer: Trainer) -> Descent:
    """The optimizer that the settings ask for."""
    parameters, step = trainer.parameters, trainer.step
    torch = trainer.evaluator.torch
    return Descent(torch, step.optimizer, parameters.tensors, parameters.decayed(), step.weight_decay)


def descend(trainer: Trainer, descent: Descent, groups: Sequence[Group], rate: float) -> float:
    """One step on `groups`; returns the loss. Raises `BoundMissed`."""
    loss = trainer.loss(groups)
    if not loss.requires_grad:
        raise BoundMissed("the outputs do not depend on any weight that can change: there is nothing to train")
    descent.clear()
    loss.backward()
    length = descent.clip(trainer.step.clip)
    if not math.isfinite(float(loss.detach())) or not math.isfinite(length):
        raise BoundMissed("the loss is not finite: lower --lr, or check the data; nothing was written")
    descent.move(rate)
    return float(loss.detach())


def factor(progress: float, warmup: float) -> float:
    """The share of the highest learning rate at `progress` in 0..1."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min((progress - warmup) / max(1 - warmup, 1e-9), 1.0)))


def _entry(step: int, loss: float, score: Score) -> list[float]:
    training = score.loss if math.isnan(loss) else loss
    return [float(step), training, score.loss, -1.0 if score.agreement is None else score.agreement]


def _prefixed(part: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{part}/{name}": array.copy() for name, array in arrays.items()}


def _part(part: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(f"{part}/"): array for name, array in arrays.items() if name.startswith(f"{part}/")}
