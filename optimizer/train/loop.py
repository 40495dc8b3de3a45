"""The optimization loop: schedule, running average, early stopping, the best step, checkpoints.

Step k draws its samples from a shuffle seeded by (seed, epoch) and its augmentation from (seed, k), so the state after
step k does not depend on whether the run was interrupted. The learning rate rises over the warm-up and falls as a
cosine, by steps or, with a limit on time, by whichever of steps and time is further along.

About `EVALUATIONS` times the averaged weights are judged on the held-back samples; the best of them, the start
included, are what the student ends with.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from optimizer.data.samples import Samples
from optimizer.errors import BoundMissed
from optimizer.model.ports import Array
from optimizer.recipe import Finetune
from optimizer.train import checkpoint
from optimizer.train.checkpoint import State
from optimizer.train.descent import Descent
from optimizer.train.training import Score, Trainer

EVALUATIONS = 40
TYPICAL_STEPS = 2500
LEAST_EPOCHS = 3
_CHECKPOINT_COST = 0.05
"""Share of the time that writing checkpoints may take."""

Watch = Callable[[int, int, float, "float | None"], None]
"""Called after each step with the step, the number of steps, and the last loss and agreement on what is held back."""


@dataclasses.dataclass(frozen=True)
class Where:
    """Where checkpoints go, and whether to go on from the one that is there."""

    path: Path
    fingerprint: str
    resume: bool


@dataclasses.dataclass
class Loop:
    """One run of training. `run` leaves the best weights in the trainer's parameters."""

    trainer: Trainer
    train: Samples
    held: Samples
    step: Finetune
    seed: int
    rate: float
    where: Where | None
    watch: Watch
    spent: float = 0.0
    """Seconds of the time limit that are gone already."""

    def __post_init__(self) -> None:
        self.descent = build(self.trainer)
        self.per_epoch = max(math.ceil(len(self.train) / self.step.batch), 1)
        epochs = self.step.epochs or max(LEAST_EPOCHS, math.ceil(TYPICAL_STEPS / self.per_epoch))
        self.steps = epochs * self.per_epoch
        self.every = max(self.steps // EVALUATIONS, 1)
        self.average = self.trainer.parameters.state()

    def run(self, start: Score) -> State:
        """Train from `start` (the score of the student as it is) and return how it went."""
        state = State(0, self.spent, 0, start.loss, 0, [_entry(0, math.nan, start)], _prefixed("best", self.average))
        if self.where is not None and self.where.resume and self.where.path.exists():
            state = checkpoint.load(self.where.path, self.where.fingerprint)
            self._restore(state)
        begun, saved, cost = time.monotonic() - state.seconds, time.monotonic(), 0.0
        recent: list[float] = []
        while state.step < self.steps and state.stale < self.step.patience and not self._late(state):
            recent.append(self._one(state))
            state.step += 1
            state.seconds = time.monotonic() - begun
            if state.step % self.every == 0 or state.step == self.steps or self._late(state):
                self._judge(state, float(np.mean(recent)))
                recent = []
            _, _, loss, agreement = state.history[-1]
            self.watch(state.step, self.steps, loss, None if agreement < 0 else agreement)
            if not recent and time.monotonic() - saved > cost / _CHECKPOINT_COST:
                saved = time.monotonic()
                self._save(state)
                cost = time.monotonic() - saved
        self.trainer.parameters.load(_part("best", state.arrays))
        return state

    def _late(self, state: State) -> bool:
        return self.step.minutes is not None and state.seconds >= 60 * self.step.minutes

    def _progress(self, state: State) -> float:
        by_time = 0.0 if self.step.minutes is None else state.seconds / (60 * self.step.minutes)
        return max(state.step / self.steps, by_time)

    def _one(self, state: State) -> float:
        epoch, position = divmod(state.step, self.per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train))
        chosen = [int(i) for i in order[position * self.step.batch : (position + 1) * self.step.batch]]
        rate = self.rate * factor(self._progress(state), self.step.warmup)
        random = np.random.default_rng([self.seed, 1, state.step])
        loss = descend(self.trainer, self.descent, self.train, chosen, rate, random)
        decay = min(self.step.ema, (1 + state.step) / (10 + state.step)) if self.step.ema else 0.0
        for name, tensor in self.trainer.parameters.tensors.items():
            self.average[name] *= decay
            self.average[name] += (1 - decay) * tensor.detach().numpy()
        return loss

    def _judge(self, state: State, training_loss: float) -> None:
        """Score the averaged weights; keep them if they are the best so far."""
        now = self.trainer.parameters.state()
        self.trainer.parameters.load(self.average)
        score = self.trainer.score(self.held)
        self.trainer.parameters.load(now)
        state.history.append(_entry(state.step, training_loss, score))
        state.stale += 1
        if score.loss < state.best_loss:
            state.best_loss, state.best_step, state.stale = score.loss, state.step, 0
            state.arrays = _prefixed("best", self.average)

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


def descend(
    trainer: Trainer, descent: Descent, samples: Samples, chosen: list[int], rate: float, random: np.random.Generator
) -> float:
    """One step on the samples at `chosen`; returns the loss. Raises `BoundMissed`."""
    loss = trainer.loss(samples, chosen, random)
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
