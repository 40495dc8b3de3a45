"""Fine-tuning: a student is trained to answer as its teacher does. The teacher may be any model with the same inputs
and outputs; usually it is what the student was before it was compressed.

1. The student's graph is evaluated in torch, and must answer as ONNX Runtime does (to `PARITY`).
2. Where its batch normalization is clearly better off with the statistics of the samples, it begins with those.
3. A part of the samples is held back. Weights move on the rest (`loop`), and the best step on that part counts.
4. The weights go back into their places in the graph, and the result must answer in ONNX Runtime as it did in torch.

It is refused (`BoundMissed`, nothing is returned) when nothing in the student can change, when there are too few
samples to hold any back, when a loss is not finite, and when no step was better than the start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from optimizer.data import augment
from optimizer.data.samples import Samples
from optimizer.errors import BoundMissed, ConfigError, DataError
from optimizer.model import cost, io
from optimizer.model.ports import Array, Feed
from optimizer.recipe import Finetune
from optimizer.runtime.session import Options, open_session
from optimizer.train import checkpoint, held_back, inside, matching, memory, statistics
from optimizer.train.dtypes import HALF
from optimizer.train.evaluator import Evaluator, import_torch
from optimizer.train.loop import Loop, Watch, Where
from optimizer.train.parameters import Parameters
from optimizer.train.rates import best_rate
from optimizer.train.rows import ROWS
from optimizer.train.suited import reader, suited
from optimizer.train.supply import Supply
from optimizer.train.table import key
from optimizer.train.teacher import Teacher
from optimizer.train.training import Score, Trainer

PARITY = 1e-3
"""The largest difference between torch and ONNX Runtime, in units of the largest output."""
QUANTIZED_PARITY = 0.1
"""The same where values are rounded on the way: one step more or less in few places is no error."""
HALF_PARITY = 0.02
"""The same for 16-bit floats, which are computed in 32 bits here."""
SPLIT = 1_000_000_000
"""Multiply-adds of the samples of a step, from which on its operators are computed by several threads."""
NO_LOSS = 1e-6
"""A held-back loss that is rounding."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A tuned student and how it got there."""

    model: ir.Model
    before: Score
    after: Score
    steps: int
    best_step: int
    seconds: float
    rate: float
    learnt: int
    """How many numbers were learnt."""
    parity: tuple[float, float]
    """Difference between torch and ONNX Runtime before and after."""
    history: list[list[float]]
    augment: str
    """The augmentation that was used."""
    settled: bool
    """Whether it began with the samples' statistics in its batch normalization."""


def distill(
    student: ir.Model,
    teacher: ir.Model,
    samples: Samples,
    step: Finetune,
    *,
    seed: int = 0,
    threads: int = 1,
    output: Path | None = None,
    resume: bool = False,
    watch: Watch = lambda step, steps, loss, agreement: None,
) -> Outcome:
    """A tuned clone of `student`. `samples` fit the teacher; checkpoints go beside `output`.

    Raises `BoundMissed`, `Unsupported` (an op has no gradient), `ConfigError`, `DataError`, `MissingExtra`.
    """
    ahead, threads = threads > 1, worth(student, step.batch, threads)
    with _threads(threads), memory.held():
        rest, held = held_back.split(samples, step, seed)
        trainer = prepare(student, teacher, rest, step, seed, threads)
        parity = check(student, trainer, held[0], threads)
        held = held_back.judging(held, trainer.augmentation, seed)
        start = trainer.score(held)
        if not np.isfinite(start.loss):
            raise BoundMissed("the student's loss is not finite before any training: check the model and the data")
        if start.loss < NO_LOSS:
            raise BoundMissed("the student answers as its teacher does already: there is nothing to win back")
        where = None
        if output is not None:
            where = Where(checkpoint.path_of(output), fingerprint(student, teacher, samples, step, seed), resume)
        earlier = None if where is None else where.earlier()
        settled, begin = statistics.settled(student, trainer, rest, seed), start
        if settled is not None:
            other = prepare(settled, teacher, rest, step, seed, threads)
            if (score := other.score(held)).clearly_below(start):
                student, trainer, begin = settled, other, score
        begun = time.monotonic()
        rate = earlier.rate if earlier is not None else step.lr or best_rate(trainer, rest, held, seed)
        with Supply(trainer, rest, seed, step.batch, ahead=ahead) as supply:
            loop = Loop(trainer, supply, held, rate, where, watch, time.monotonic() - begun)
            state = loop.run(begin, earlier)
        if where is not None:
            where.path.unlink(missing_ok=True)
        score = trainer.score(held)
        held_back.refuse_no_gain(state, start, score, by_labels=step.labels > 0)
        tuned = student.clone()
        trainer.parameters.write(tuned)
        after = check(tuned, trainer, held[0], threads)
    return Outcome(tuned, start, score, state.step, state.best_step, state.seconds, state.rate,
                   trainer.parameters.count, (parity, after), state.history, trainer.step.augment,
                   begin is not start)  # fmt: skip


def prepare(student: ir.Model, teacher: ir.Model, samples: Samples, step: Finetune, seed: int, threads: int) -> Trainer:
    """Student and teacher, matched and ready to be trained."""
    inputs = matching.inputs(student, teacher)
    first, second = samples[0], samples[1]
    guide = Teacher(teacher, (), threads)
    examples = guide.answer([first])
    outputs = matching.outputs(student, teacher, step.outputs, examples, step.loss)
    evaluator = Evaluator(student, [output.student for output in outputs])
    parameters = Parameters(evaluator, student)
    if not parameters.count:
        raise BoundMissed("nothing in the student can change: no weight was found that feeds an operator")
    if step.labels and (samples.labels is None or not any(output.kind in ("kl", "logits") for output in outputs)):
        raise ConfigError("the label loss needs labels in --data and an output of class scores: leave it out")
    step = dataclasses.replace(step, augment=suited(step.augment, samples, guide, outputs, seed))
    augmentation = augment.choose(step.augment, samples)
    if augmentation is not None:
        augmentation = dataclasses.replace(augmentation, read=reader(evaluator.torch))
    trainer = Trainer(evaluator, parameters, guide, inputs, outputs, {}, step, augmentation)
    _check_shapes(trainer, first, examples)
    trainer.try_joining(first, second)
    if step.features:
        inside.guide(trainer, student, teacher, samples, threads, seed)
    trainer.teacher.try_joining(first, second)
    return trainer


def _check_shapes(trainer: Trainer, feed: Feed, examples: dict[str, Array]) -> None:
    found = trainer.peek(feed, [output.student for output in trainer.outputs])
    for output in trainer.outputs:
        own, other = found[output.student].shape, examples[output.teacher].shape
        if own != other:
            raise DataError(f"output {output.teacher!r} has shape {other} in the teacher and {own} in the student")


def check(model: ir.Model, trainer: Trainer, feed: Feed, threads: int) -> float:
    """How far torch and ONNX Runtime are apart on one sample. Raises `ConfigError` beyond the tolerance."""
    session = open_session(model, Options(threads=threads))
    own = dict(zip(session.outputs, session.run(trainer.inputs.feed(feed)), strict=True))
    found = trainer.peek(feed, list(own))
    worst = max((_apart(found[name], own[name]) for name in found if own[name].dtype.kind == "f"), default=0.0)
    if not worst <= _tolerance(trainer.evaluator):
        raise ConfigError(
            f"torch and ONNX Runtime differ by {worst:.2g} of the output on this model: it cannot be trained faithfully"
        )
    return worst


def _tolerance(evaluator: Evaluator) -> float:
    nodes = evaluator.every_node()
    if any(ROWS[key(node)].rounds for node in nodes):
        return QUANTIZED_PARITY
    half = any(value is not None and value.dtype in HALF for node in nodes for value in (*node.inputs, *node.outputs))
    return HALF_PARITY if half else PARITY


def _apart(found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        return float("inf")
    expected = expected.astype(np.float64)
    live = np.isfinite(expected)
    scale = np.abs(expected[live]).max(initial=1e-6)
    return float(np.abs(found[live] - expected[live]).max(initial=0.0) / scale)


def fingerprint(student: ir.Model, teacher: ir.Model, samples: Samples, step: Finetune, seed: int) -> str:
    """What a checkpoint depends on, as one hash."""
    parts = [json.dumps(dataclasses.asdict(step), sort_keys=True), samples.source, str(len(samples)), str(seed)]
    digest = hashlib.sha256("\n".join(parts).encode())
    for model in (student, teacher):
        digest.update(hashlib.sha256(io.to_bytes(model)).digest())
    return digest.hexdigest()


def worth(model: ir.Model, batch: int, threads: int) -> int:
    """How many of so many threads a step is worth: in small operators they wait longer than they work."""
    found = cost.count(model)
    return 1 if not found.unknown and found.macs * batch < SPLIT else threads


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    torch = import_torch()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
