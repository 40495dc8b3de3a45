"""From a recipe to its model: steps run one after the other, each on the file that the one before wrote.

What a prefix of a recipe gives is kept (`cache`), so that recipes that begin alike share the work.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path

from optimizer.model import io
from optimizer.pipeline.common import Progress, Silent
from optimizer.pipeline.finetune import finetune
from optimizer.pipeline.prune import prune
from optimizer.pipeline.quantize import quantize
from optimizer.recipe import Finetune, Prune, Quantize, Recipe, Run, Step, table, toml
from optimizer.recipe.toml import name
from optimizer.tune.cache import Cache, key

MODEL = "model.onnx"


@dataclasses.dataclass(frozen=True)
class Built:
    """A recipe's model on disk, and what its steps had to say."""

    path: Path
    key: str
    size: int


class Builder:
    """Builds models from the original at `source`; `identity` stands for original, samples and seed."""

    def __init__(self, source: Path, identity: str, run: Run, cache: Cache) -> None:
        self.source, self.identity, self.run, self.cache = source, identity, run, cache

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
            carry_out(prefix[-1], before, self.source, self.run, folder / MODEL, progress)
            self.cache.store(content, folder)
        return folder / MODEL


def carry_out(step: Step, before: Path, original: Path, run: Run, output: Path, progress: Progress) -> None:
    """Run one step on the model at `before` and write what it gives to `output`."""
    if isinstance(step, Finetune):
        finetune(before, original, step, run, output=output, progress=progress)
    elif isinstance(step, Prune):
        prune(before, step, run, output=output, progress=progress)
    elif isinstance(step, Quantize):
        quantize(before, step, run, output=output, progress=progress)


def text(recipe: Recipe) -> str:
    """A recipe on one line, for people."""
    return " -> ".join(" ".join([name(step), *_given(step)]) for step in recipe)


def _given(step: Step) -> list[str]:
    return [f"{key}={value}" for key, value in table.plain(step).items() if key != "measure"]
