"""From a recipe to its model: steps run one after the other, each on the file that the one before wrote.

What a prefix of a recipe gives is kept (`cache`), so that recipes that begin alike share the work; so is what
calibration has seen of a model, for as long as the process lasts.

A step that times is *settled* first: what it decides on this kind of machine becomes a step that times nothing, and
only such steps are carried out, kept, and written into the result.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path

from optimizer.model import io
from optimizer.pipeline.common import Progress, Silent
from optimizer.pipeline.finetune import finetune
from optimizer.pipeline.memory import Memory
from optimizer.pipeline.placing import place
from optimizer.pipeline.prune import prune
from optimizer.pipeline.quantize import quantize
from optimizer.recipe import Finetune, Prune, Quantize, Recipe, Run, Step, table, toml
from optimizer.recipe.toml import name
from optimizer.tune.cache import Cache, key
from optimizer.tune.race import alone

MODEL, STEP = "model.onnx", "step.toml"
_MOST_NAMES = 3
"""Longer lists are counted."""


@dataclasses.dataclass(frozen=True)
class Built:
    """A recipe's model on disk, and what its steps had to say."""

    path: Path
    key: str
    size: int


class Builder:
    """Builds models from the original at `source`; `identity` stands for original, samples and seed, `host` for the
    kind of machine whose times count."""

    def __init__(self, source: Path, identity: str, run: Run, cache: Cache, host: str) -> None:
        self.source, self.identity, self.run, self.cache, self.host = source, identity, run, cache, host
        self.memory = Memory()

    def settle(
        self, recipe: Recipe, work: Path, progress: Progress | None = None, patience: float | None = None
    ) -> Recipe:
        """`recipe` with what it leaves to timing decided, in the folder `work`; briefly, unless `patience` says for how
        many times as long as usual. Raises what its steps raise."""
        last = recipe[-1]
        if not isinstance(last, Quantize) or not last.measure:
            return recipe
        content = key(self.key(recipe), self.host, *(() if patience is None else (patience,)))
        folder = work / content
        if not self.cache.fetch(content, folder):
            folder.mkdir()
            before = self.build(recipe[:-1], work, progress).path
            placed = place(before, last, self.run, patience, progress=progress, memory=self.memory, alone=alone())
            (folder / STEP).write_text(toml.text((placed,)), encoding="utf-8")
            self.cache.store(content, folder)
        return (*recipe[:-1], *toml.parse((folder / STEP).read_text(encoding="utf-8")))

    def key(self, recipe: Recipe) -> str:
        """The content that `recipe` gives, as a name."""
        return key(version("optimize-onnx"), self.identity, self.run.threads, toml.text(recipe))

    def build(self, recipe: Recipe, work: Path, progress: Progress | None = None) -> Built:
        """The model of `recipe`, in the folder `work`. Raises what its steps raise."""
        path = self.source
        for length in range(1, len(recipe) + 1):
            path = self._step(recipe[:length], path, work, progress or Silent())
        return Built(path, self.key(recipe), io.size(path))

    def _step(self, prefix: Recipe, before: Path, work: Path, progress: Progress) -> Path:
        content = self.key(prefix)
        folder = work / content
        if not folder.exists() and not self.cache.fetch(content, folder):
            folder.mkdir()
            self._carry_out(prefix[-1], before, folder / MODEL, progress)
            self.cache.store(content, folder)
        return folder / MODEL

    def _carry_out(self, step: Step, before: Path, output: Path, progress: Progress) -> None:
        """Run one step on the model at `before` and write what it gives to `output`."""
        if isinstance(step, Finetune):
            finetune(before, self.source, step, self.run, output=output, progress=progress)
        elif isinstance(step, Prune):
            prune(before, step, self.run, output=output, progress=progress, memory=self.memory)
        elif isinstance(step, Quantize):
            quantize(before, step, self.run, output=output, progress=progress, memory=self.memory)


def text(recipe: Recipe) -> str:
    """A recipe on one line, for people."""
    return " -> ".join(" ".join([name(step), *_given(step)]) for step in recipe)


def _given(step: Step) -> list[str]:
    given = {key: value for key, value in table.plain(step).items() if key not in ("measure", "plain")}
    return [f"{key}={_short(value)}" for key, value in given.items()]


def _short(value: object) -> object:
    return f"{len(value)} nodes" if isinstance(value, list) and len(value) > _MOST_NAMES else value
