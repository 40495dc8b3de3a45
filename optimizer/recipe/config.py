"""The configuration of a project: `optimize.toml`, or the table `[tool.optimize]` of a `pyproject.toml`.

    model = "model.onnx"            # the MODEL of commands that are given none
    output = "small.onnx"           # what `optimize run` writes, and `optimize bench` compares
    data = "samples.npz"            # like samples, seed, threads: as the options of these names
    dims = { batch = 1 }

    [images]                        # how images are prepared: mean, std, size, fit, crop, ...
    mean = [0.485, 0.456, 0.406]

    [quantize]                      # options of one command; likewise [prune], [finetune], [bench], [tune]
    max-drop = "1%"

    [run]                           # as at the top (model, output, data, ...), but for `optimize run` alone
    held-back = 0.4

    [[steps]]                       # what `optimize run` does, see `recipe.toml`
    do = "quantize"

Flags win over the file. Paths are relative to the folder of the file. Every key of the file is checked, whatever the
command, so that a wrong one is told at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimizer.errors import ConfigError
from optimizer.recipe import table, toml
from optimizer.recipe.steps import Run
from optimizer.recipe.toml import STEPS, Recipe

UNREAD = ("tune",)
"""Tables of commands that are no steps: the command itself reads its own."""
FILE, PROJECT = "optimize.toml", "pyproject.toml"


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A model, what becomes of it, and the fields of `Run` that are said."""

    model: Path | None = None
    output: Path | None = None
    common: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Config:
    """What a configuration says; nothing where there is none."""

    file: Path | None = None
    model: Path | None = None
    output: Path | None = None
    candidates: tuple[Path, ...] = ()
    """The models that `bench` compares with `model`; `output` if there are none."""
    common: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of `Run`."""
    commands: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Fields of the steps, by command."""
    unread: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """The tables of `UNREAD` as they stand."""
    run: Inputs = Inputs()
    """The table `[run]`."""
    steps: Recipe = ()

    def of(self, command: str) -> Config:
        """What `command` is told: `run` has a table that goes before the rest."""
        if command != "run":
            return self
        model, output = self.run.model or self.model, self.run.output or self.output
        return dataclasses.replace(self, model=model, output=output, common={**self.common, **self.run.common})


@dataclasses.dataclass(frozen=True)
class _Models:
    model: Path | None = None
    output: Path | None = None


@dataclasses.dataclass(frozen=True)
class _Candidates:
    candidates: tuple[Path, ...] = ()


_PLAIN = [field.name for field in (*dataclasses.fields(_Models), *dataclasses.fields(Run))]


def find(file: Path | None = None) -> Config:
    """The configuration in `file`, or in the current folder; an empty one where there is none. Raises `ConfigError`."""
    if file is not None:
        return _read(file, required=True)
    found = next((path for path in (Path(FILE), Path(PROJECT)) if path.is_file()), None)
    return _read(found, required=False) if found is not None else Config()


def _read(file: Path, required: bool) -> Config:
    try:
        document = toml.read(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as a configuration: {_reason(error)}") from error
    if file.name != PROJECT:
        return _config(document, file, str(file))
    own = document.get("tool", {}).get("optimize")
    if own is None and required:
        raise ConfigError(f"{file}: has no table [tool.optimize]")
    return _config(own, file, f"{file}: [tool.optimize]") if own is not None else Config()


def _config(document: Mapping[str, Any], file: Path, where: str) -> Config:
    table.check_keys(document, [*_PLAIN, *STEPS, *UNREAD, "run", "steps"], where)
    top = _inputs(document, file, where)
    own_run = _table(document, "run", where) if "run" in document else {}
    table.check_keys(own_run, _PLAIN, f"{where}: run")
    own = {name: dict(_table(document, name, where)) for name in STEPS if name in document}
    candidates = table.values(_Candidates, _part(own.get("bench", {}), _Candidates), f"{where}: bench")
    own.get("bench", {}).pop("candidates", None)
    return Config(
        file=file,
        model=top.model,
        output=top.output,
        candidates=tuple(file.parent / path for path in candidates.get("candidates", ())),
        common=top.common,
        commands={
            name: _placed(file, table.values(STEPS[name], given, f"{where}: {name}")) for name, given in own.items()
        },
        unread={name: _table(document, name, where) for name in UNREAD if name in document},
        run=_inputs(own_run, file, f"{where}: run"),
        steps=tuple(
            dataclasses.replace(step, **_placed(file, dataclasses.asdict(step)))
            for step in toml.steps(document.get("steps", []), where)
        ),
    )


def _inputs(found: Mapping[str, Any], file: Path, where: str) -> Inputs:
    models = table.record(_Models, _part(found, _Models), where)
    common = _placed(file, table.values(Run, _part(found, Run), where))
    return Inputs(_beside(file, models.model), _beside(file, models.output), common)


def _table(document: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found = document[name]
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where}: {name} must be a table of options, not {found!r}; steps stand under [[steps]]")
    return found


def _part(document: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {key: value for key, value in document.items() if key.replace("-", "_") in names}


def _placed(file: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with their paths beside the file; data that is no file or folder there may be `module:function`."""
    placed = {name: file.parent / value if isinstance(value, Path) else value for name, value in fields.items()}
    data = fields.get("data")
    if isinstance(data, str) and (":" not in data or (file.parent / data).exists()):
        placed["data"] = str(file.parent / data)
    return placed


def _beside(file: Path, path: Path | None) -> Path | None:
    return path if path is None else file.parent / path


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"
