"""What the user asked for: flags where there are some, else what the configuration says, else defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import typer

from optimizer.cli import options
from optimizer.errors import ConfigError
from optimizer.recipe import Prune, Run, table
from optimizer.recipe.config import Config, find

T = TypeVar("T")

_PARAMETERS = {"measure": "no_measure", "dims": "dim"}
"""Fields whose parameter has another name."""
_SECTIONS = {"distill": "finetune"}
"""Commands that share another's table."""


class Given:
    """A command's parameters and the configuration that applies to it."""

    def __init__(self, context: typer.Context, file: Path | None) -> None:
        """Raises `ConfigError`."""
        self.context = context
        self.config: Config = find(file).of(self._command)

    def model(self, given: Path | None) -> Path:
        """MODEL, or the configuration's. Raises `ConfigError` if neither is there."""
        found = given or self.config.model
        if found is None:
            where = f"{self.config.file} names none" if self.config.file else "there is no optimize.toml here"
            raise ConfigError(f"no MODEL is given, and {where}: name one, e.g. optimize {self._command} model.onnx")
        return found

    def models(self, first: Path | None, others: list[Path], *, alone: bool) -> tuple[Path, list[Path]]:
        """What `bench` compares: all as given, or all as configured; `alone` takes the last of the configured ones."""
        if first is not None:
            return first, others
        found = [self.model(None), *(self.config.candidates or filter(None, [self.config.output]))]
        return (found[-1], []) if alone else (found[0], found[1:])

    def step(self, kind: type[T], fields: dict[str, Any]) -> T:
        """The step with these fields, but for those that only the configuration sets. Raises `ConfigError`."""
        kept = self._unless_typed(self._section(kind))
        if kind is Prune and any(self._typed(name) for name in Prune.TARGETS):
            kept = {name: value for name, value in kept.items() if name not in Prune.TARGETS}
        return kind(**{**fields, **kept})

    def _section(self, kind: type[Any]) -> Mapping[str, Any]:
        name = _SECTIONS.get(self._command, self._command)
        if name in self.config.unread:
            return table.values(kind, self.config.unread[name], f"{self.config.file}: {name}")
        return self.config.commands.get(name, {})

    def run(self, data: str | None, samples: int | None, seed: int, threads: int, dim: list[str] | None = None) -> Run:
        """What all commands have in common. Raises `ConfigError`."""
        flags = {"data": data, "samples": samples, "seed": seed, "threads": threads, "dims": options.sizes(dim)}
        return Run(**{**flags, **self._unless_typed(self.config.common)})

    @property
    def _command(self) -> str:
        return self.context.info_name or ""

    def _unless_typed(self, fields: Any) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if not self._typed(name)}

    def _typed(self, field: str) -> bool:
        source = self.context.get_parameter_source(_PARAMETERS.get(field, field))
        return source is not None and source.name != "DEFAULT"
