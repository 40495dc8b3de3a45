"""`optimize run`: the steps of a recipe one after another, through files in a temporary folder beside the output.

Each step takes the file that the one before it wrote. A `Finetune` learns from the original model; a `Bench` compares
the original with what has become of it, and where one of its gates is missed nothing is written. The result compares
the original with the final model: as the last step did, if that is a `Bench`, and by a race of its own otherwise.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optimizer.bench import compare, gates
from optimizer.calibrate import metrics
from optimizer.errors import BoundMissed, ConfigError, OptimizeError
from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Silent
from optimizer.pipeline.finetune import finetune
from optimizer.pipeline.prune import prune
from optimizer.pipeline.quantize import quantize
from optimizer.recipe import Bench, Finetune, Prune, Quantize, Recipe, Run, Step
from optimizer.recipe.toml import numbered
from optimizer.report.records import Result, to_json

_RACE_SECONDS = 6.0
_SUFFIXES = {Quantize: "int8", Prune: "pruned", Finetune: "finetuned"}


def run(
    recipe: Recipe,
    path: Path | str,
    run: Run | None = None,
    *,
    output: Path | str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Carry out `recipe` on the model at `path` and write what the last step left.

    `details["steps"]` holds each step's result. Raises `UserError`, or `common.Missed` with nothing
    written.
    """
    source, run, progress = Path(path), run or Run(), progress or Silent()
    target = Path(output) if output is not None else common.default_output(source, "optimized")
    if not any(isinstance(step, (Quantize, Prune, Finetune)) for step in recipe):
        raise ConfigError("the recipe changes nothing: give it a quantize, prune or finetune step")
    for gate in (gate for step in recipe if isinstance(step, Bench) for gate in step.fail_if):
        gates.parse(gate)
    for step in recipe:
        metrics.own_function(step.metric)
    io.check_target(target, force)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        work = _Work(source, run, Path(folder), progress)
        done = tuple(work.carry_out(recipe))
        return work.write(recipe, done, target, force=force)


def unmeasured(recipe: Recipe) -> Recipe:
    """The recipe with nothing timed, which gives the same bytes for the same input."""
    return tuple(step if isinstance(step, Finetune) else dataclasses.replace(step, measure=False) for step in recipe)


class _Work:
    """One run of a recipe; `now` is the file that the last step wrote."""

    def __init__(self, source: Path, run: Run, folder: Path, progress: Progress) -> None:
        self.source, self.run, self.folder, self.progress = source, run, folder, progress
        self.now = source

    def carry_out(self, recipe: Recipe) -> Iterator[Result]:
        for title, step in numbered(recipe):
            with self._told(title):
                result = self._step(step)
            yield dataclasses.replace(result, input=self._shown(result.input), output=self._shown(result.output or ""))
            if isinstance(step, Bench) and gates.failing(result, step.inconclusive):
                return

    @contextmanager
    def _told(self, title: str) -> Iterator[None]:
        """What a step complains of, said with the step's title and without the temporary folder."""
        try:
            yield
        except OptimizeError as error:
            error.args = (f"{title}: {self._shown(str(error))}",)
            if isinstance(error, common.Missed):
                error.result = dataclasses.replace(error.result, command="run", input=str(self.source))
            raise

    def _step(self, step: Step) -> Result:
        if isinstance(step, Bench):
            return self._bench(step)
        target = self.folder / common.default_output(self.now, _SUFFIXES[type(step)]).name
        result = self._rewritten(step, target)
        self.now = target
        return result

    def _rewritten(self, step: Quantize | Prune | Finetune, target: Path) -> Result:
        if isinstance(step, Quantize):
            return quantize(self.now, step, self.run, output=target, progress=self.progress)
        if isinstance(step, Prune):
            return prune(self.now, step, self.run, output=target, progress=self.progress)
        return finetune(self.now, self.source, step, self.run, output=target, progress=self.progress)

    def _bench(self, step: Bench) -> Result:
        (result,) = compare.bench(self.source, [self.now], step, self.run, progress=self.progress)
        return result

    def _shown(self, path: str) -> str:
        """A path, or a message with one, without the temporary folder."""
        return path.replace(f"{self.folder}/", "")

    def write(self, recipe: Recipe, done: Sequence[Result], target: Path, *, force: bool) -> Result:
        """The final model in its place, and the result of the whole. Raises `common.Missed`."""
        result = self._whole(recipe, done)
        _enforce(recipe, done, result)
        final = io.load(self.now)
        changes = tuple(step for step in recipe if not isinstance(step, Bench))
        common.stamp(final, self.source, self.run, changes, result)
        size = io.save(final, target, force=force)
        sizes = dataclasses.replace(result.size_bytes, after=size)
        return dataclasses.replace(result, output=str(target), size_bytes=sizes)

    def _whole(self, recipe: Recipe, done: Sequence[Result]) -> Result:
        found = done[-1] if done[-1].command == "bench" else self._compared(recipe)
        titles = [title for title, _ in numbered(recipe)]
        return dataclasses.replace(
            found,
            command="run",
            input=str(self.source),
            output=None,
            nodes=tuple(node for one in done for node in one.nodes),
            frozen=tuple(axis for one in done for axis in one.frozen),
            gates=tuple(gate for one in done for gate in one.gates),
            steps=tuple(f"{title}: {line}" for title, one in zip(titles, done, strict=False) for line in one.steps),
            warnings=tuple(dict.fromkeys(line for one in done for line in one.warnings)),
            details={**found.details, "steps": [to_json(one) for one in done]},
        )

    def _compared(self, recipe: Recipe) -> Result:
        """The original against the final model: answers, and speed if any step was measured."""
        self.progress.stage("comparing with the original")
        about, final = common.subject(self.source, self.run), io.load(self.now)
        metric = next((step.metric for step in reversed(recipe) if step.metric is not None), None)
        result = common.base_result("run", about, final, self.run)
        accuracy = common.accuracy(about.model, final, about.samples, self.run, metric)
        measured = any(getattr(step, "measure", False) for step in recipe)
        latencies = (
            common.race(about.model, [final], about.samples, self.run, _RACE_SECONDS).latencies if measured else ()
        )
        return dataclasses.replace(result, accuracy=accuracy, latency_ms=next(iter(latencies), None))


def _enforce(recipe: Recipe, done: Sequence[Result], result: Result) -> None:
    title, step = numbered(recipe)[len(done) - 1]
    if not isinstance(step, Bench):
        return
    try:
        gates.enforce(done[-1:], step.inconclusive)
    except BoundMissed as missed:
        raise common.Missed(f"{title}: {missed}; nothing was written", result) from missed
