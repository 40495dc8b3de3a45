"""The loss of a student on samples, and how well it does on those that are held back.

    loss = mean over outputs of distance(student, teacher) + labels * cross-entropy with the labels
           + guidance * mean over tensors inside of their relative MSE

The last is a help on the way (`inside`): what is held back is judged without it.

Samples of equal shapes are joined and run at once where the student allows it (tried out, as for the teacher), so a
model whose file fixes the batch at 1 still trains in batches wherever its graph can take them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.data.augment import Augmentation
from optimizer.data.samples import Samples
from optimizer.model.ports import Array, Feed
from optimizer.recipe import Finetune
from optimizer.train.dtypes import channels_last, to_torch
from optimizer.train.evaluator import Evaluator
from optimizer.train.losses import Output, cross_entropy, distance, relative
from optimizer.train.matching import Inputs
from optimizer.train.parameters import Parameters
from optimizer.train.table import Tensor, Unsupported
from optimizer.train.teacher import Answers, Teacher, join, same, shapes


@dataclasses.dataclass(frozen=True)
class Group:
    """Samples that are run at once: the teacher's feed and answers, and the labels of the rows and their partners."""

    feed: dict[str, Array]
    answers: Answers
    count: int
    labels: tuple[Array, Array] | None
    own: Array
    """Weight of each sample itself against its mix-up partner."""

    @property
    def bytes(self) -> int:
        """What the arrays take."""
        return sum(array.nbytes for arrays in (self.feed, self.answers) for array in arrays.values())


BLOCKS = 10
"""Held-back samples are scored in at least this many parts, where there are as many, so that chance can be told."""
CLEAR, FLOOR = 1.64, 1e-8
"""Standard errors above nothing from which a gain is clear (19 times of 20); losses below the floor are alike."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How a student does on held-back samples."""

    loss: float
    parts: tuple[float, ...] = ()
    """The loss of each block of samples."""
    alike: tuple[bool, ...] = ()
    """Per answer, whether it is the teacher's, where the outputs are class scores."""

    @property
    def agreement(self) -> float | None:
        """The share of equal answers."""
        return sum(self.alike) / len(self.alike) if self.alike else None

    def clearly_below(self, other: Score) -> bool:
        """Whether the loss is lower than `other`'s by more than the blocks' ratios differ by chance. (Ratios, because
        a loss of few samples is mostly that of the hardest.)"""
        gains = np.log(np.add(other.parts, FLOOR) / np.add(self.parts, FLOOR))
        if len(gains) < 2 or not np.isfinite(gains).all():
            return self.loss < other.loss
        return bool(self.loss < other.loss and gains.mean() > CLEAR * gains.std(ddof=1) / len(gains) ** 0.5)

    def agrees_less(self, other: Score) -> bool:
        """Whether fewer answers are the teacher's than of `other`, by more than chance (a sign test, McNemar 1947)."""
        own, others = np.array(self.alike, bool), np.array(other.alike, bool)
        lost, won = int((others & ~own).sum()), int((own & ~others).sum())
        return lost - won > CLEAR * math.sqrt(lost + won)


@dataclasses.dataclass
class Trainer:
    """A student, its teacher and what they are compared on."""

    evaluator: Evaluator
    parameters: Parameters
    teacher: Teacher
    inputs: Inputs
    outputs: tuple[Output, ...]
    inside: Mapping[str, float]
    """Tensors inside both, with the variance of the teacher's values."""
    step: Finetune
    augmentation: Augmentation | None
    guidance: float = 0.0
    """Weight of the tensors inside."""
    joined: bool = False

    def try_joining(self, one: Feed, other: Feed) -> None:
        """Find out whether the student can run two samples at once."""
        if shapes(one) != shapes(other):
            return
        apart = join([self._answers(one), self._answers(other)])
        try:
            together = self._answers(join([one, other]))
        except Unsupported:
            return
        self.joined = same(apart, together)

    def loss(self, groups: Sequence[Group]) -> Tensor:
        """The mean loss over the samples of `groups`."""
        given, count = self.parameters.given(), sum(group.count for group in groups)
        total: Any = 0.0
        for group in groups:
            found, share = self._run(group.feed, given), group.count / count
            total = total + share * self._loss(group, found)
            if self.guidance:
                total = total + share * self.guidance * self._inside_error(group, found)
        return total

    def errors(self, samples: Samples) -> tuple[float, float]:
        """The loss of `samples` as they are, and the mean relative MSE of the tensors inside."""
        with self.evaluator.torch.no_grad():
            given, parts, weights = self.parameters.given(), [], []
            for group in self._parts(samples, self.step.batch):
                found = self._run(group.feed, given)
                parts.append((float(self._loss(group, found)), float(self._inside_error(group, found))))
                weights.append(group.count)
        outputs, inside = np.average(parts, axis=0, weights=weights)
        return float(outputs), float(inside)

    def score(self, samples: Samples) -> Score:
        """How the student does on samples as they are."""
        with self.evaluator.torch.no_grad():
            given = self.parameters.given()
            parts, weights, alike = [], [], []
            size = max(min(self.step.batch, len(samples) // BLOCKS), 1)
            for group in self._parts(samples, size):
                found = self._run(group.feed, given)
                parts.append(float(self._loss(group, found)))
                weights.append(group.count)
                alike.extend(self._alike_answers(group, found))
        return Score(float(np.average(parts, weights=weights)), tuple(parts), tuple(alike))

    def _parts(self, samples: Samples, size: int) -> Iterator[Group]:
        for start in range(0, len(samples), size):
            yield from self.groups(samples, range(start, min(start + size, len(samples))), None)

    def groups(self, samples: Samples, positions: Sequence[int], random: np.random.Generator | None) -> Iterator[Group]:
        """The samples at `positions` in as few groups as can be; augmented if there is a generator."""
        feeds = [samples[position] for position in positions]
        if random is not None and self.augmentation is not None:
            feeds = [self.augmentation.apply(feed, random) for feed in feeds]
        for members in self._alike(feeds):
            mine = [feeds[member] for member in members]
            where = [(id(samples.reader), samples.indices[positions[member]]) for member in members]
            labels = None if samples.labels is None else samples.labels[[positions[member] for member in members]]
            yield self._group(mine, where, labels, random)

    def _alike(self, feeds: Sequence[Feed]) -> list[list[int]]:
        if not self.joined:
            return [[position] for position in range(len(feeds))]
        alike: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = {}
        for position, feed in enumerate(feeds):
            alike.setdefault(tuple(shapes(feed).items()), []).append(position)
        return list(alike.values())

    def _group(
        self, feeds: list[Feed], where: list[tuple[int, int]], labels: Array | None, random: np.random.Generator | None
    ) -> Group:
        rows, count = join(feeds), len(feeds)
        partners, own = np.arange(count), np.ones(count, np.float32)
        if random is None or self.augmentation is None:
            answers = join([self.teacher.remembered(key, feed) for key, feed in zip(where, feeds, strict=True)])
        elif _rows(rows) == count:
            rows, partners, own = self.augmentation.blend(rows, random)
            answers = self.teacher.answer_rows(rows, count)
        else:
            answers = self.teacher.answer(feeds)
        pair = None if labels is None else (labels, labels[partners])
        return Group(rows, answers, count, pair, own)

    def peek(self, feed: Feed, names: Sequence[str]) -> dict[str, Array]:
        """The student's values of these names for one feed of the teacher, as far as they are computed."""
        with self.evaluator.torch.no_grad():
            found = self._run(feed, self.parameters.given(), names)
            return {name: found[name].numpy() for name in names if name in found}

    def _run(self, feed: Feed, given: Any, more: Sequence[str] = ()) -> dict[str, Tensor]:
        torch = self.evaluator.torch
        arrays = self.inputs.feed(feed).items()
        tensors = {name: channels_last(torch, to_torch(torch, array)) for name, array in arrays}
        keep = [*(output.student for output in self.outputs), *self.inside, *more]
        return self.evaluator.run(tensors, given, keep)

    def _answers(self, feed: Feed) -> Answers:
        return self.peek(feed, [output.student for output in self.outputs])

    def _loss(self, group: Group, found: Mapping[str, Tensor]) -> Tensor:
        torch, step, wanted = self.evaluator.torch, self.step, self._wanted(group)
        parts = [
            distance(torch, output, found[output.student], wanted[output.teacher], step.temperature)
            for output in self.outputs
        ]
        total = sum(parts) / len(parts)
        if step.labels and group.labels is not None:
            total = total + step.labels * self._labelled(group, found)
        return total

    def _inside_error(self, group: Group, found: Mapping[str, Tensor]) -> Tensor:
        torch, wanted = self.evaluator.torch, self._wanted(group)
        errors = [relative(torch, found[name], wanted[name], spread) for name, spread in self.inside.items()]
        return sum(errors) / len(errors)

    def _wanted(self, group: Group) -> dict[str, Tensor]:
        """The teacher's real answers."""
        real = {name: array for name, array in group.answers.items() if array.dtype.kind == "f"}
        return {name: self.evaluator.torch.from_numpy(np.ascontiguousarray(array)) for name, array in real.items()}

    def _labelled(self, group: Group, found: Mapping[str, Tensor]) -> Tensor:
        torch = self.evaluator.torch
        assert group.labels is not None
        scores = next(output for output in self.outputs if output.kind in ("kl", "logits"))
        own, partner = (
            cross_entropy(torch, scores, found[scores.student], torch.from_numpy(labels)) for labels in group.labels
        )
        weight = torch.from_numpy(group.own)
        if own.numel() != weight.numel():
            return own.mean()
        return (weight * own + (1 - weight) * partner).mean()

    def _alike_answers(self, group: Group, found: Mapping[str, Tensor]) -> list[bool]:
        for output in self.outputs:
            if output.kind in ("kl", "logits"):
                own = found[output.student].argmax(-1).numpy()
                return [bool(same) for same in (own == group.answers[output.teacher].argmax(-1)).ravel()]
        return []


def _rows(feed: Mapping[str, Array]) -> int:
    return min((len(array) for array in feed.values() if array.ndim), default=0)
