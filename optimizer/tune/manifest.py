"""The recipe of a search as a file, which `optimize run` turns into the same model again.

It holds back the samples that the search held back, and times nothing, so that the bytes are the same wherever the
same versions run on the same kind of CPU. All but the steps stands under `[run]`, so that no other command is told
anything by it. Its name is `optimize.toml`, for a bare `optimize run`, unless somebody else's configuration is there;
then it is the output's with `.toml`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from optimizer.errors import ConfigError
from optimizer.model import io
from optimizer.recipe import Recipe, Run, config, table
from optimizer.recipe import text as steps_text
from optimizer.recipe.toml import literal

_HEAD = "# made by `optimize tune`; `optimize run {}` makes the model again"


def place(output: Path, is_own: Callable[[Path], bool]) -> Path:
    """Where the recipe of the model at `output` goes; `is_own` tells files that may be replaced."""
    usual, project = output.with_name(config.FILE), output.with_name(config.PROJECT)
    if is_own(usual) or not (usual.exists() or _configures(project)):
        return usual
    return output.with_name(f"{output.name.removesuffix('.onnx')}.toml")


def is_of(path: Path, output: Path) -> bool:
    """Whether the file at `path` is the recipe that a search wrote for `output`."""
    try:
        ours = path.read_text(encoding="utf-8").startswith(_HEAD.format(path.name))
        return ours and config.find(path).run.output == path.parent / output.name
    except (OSError, UnicodeDecodeError, ConfigError):
        return False


def manifest(recipe: Recipe, model: Path, output: Path, run: Run, name: str = config.FILE) -> str:
    """The text of the file `name`, to be kept beside `output`; paths are relative to that."""
    home = output.parent
    data = run.data if run.data is None or _is_function(run.data) else _from(home, Path(run.data))
    given = {
        "model": _from(home, model),
        "output": output.name,
        **table.plain(dataclasses.replace(run, data=data)),
    }
    images = given.pop("images", None)
    lines = [_HEAD.format(name), "[run]", *(f"{key} = {literal(value)}" for key, value in given.items())]
    if isinstance(images, dict):
        lines += ["", "[run.images]", *(f"{key} = {literal(value)}" for key, value in images.items())]
    return "\n".join([*lines, "", steps_text(recipe)])


def write(path: Path, content: str) -> None:
    """Write the file, whole or not at all."""
    with io.staged(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _configures(project: Path) -> bool:
    """Whether the project file there has a table for this tool, which `optimize.toml` would hide."""
    return project.is_file() and "[tool.optimize" in project.read_text(encoding="utf-8", errors="replace")


def _from(home: Path, path: Path) -> str:
    return Path(os.path.relpath(path.resolve(), home.resolve())).as_posix()


def _is_function(data: str) -> bool:
    return ":" in data and not Path(data).exists()
