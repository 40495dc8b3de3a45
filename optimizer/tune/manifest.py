"""The recipe of a search as `optimize.toml`, which `optimize run` turns into the same model again.

It holds back the samples that the search held back, and times nothing, so that the bytes are the same wherever the
same versions run on the same kind of CPU.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from optimizer.model import io
from optimizer.recipe import Recipe, Run, table
from optimizer.recipe import text as steps_text
from optimizer.recipe.toml import literal

FILE = "optimize.toml"
_HEAD = "# made by `optimize tune`; `optimize run` makes the model again"


def manifest(recipe: Recipe, model: Path, output: Path, run: Run) -> str:
    """The text of the file, to be kept beside `output`; paths are relative to that."""
    home = output.parent
    data = run.data if run.data is None or _is_function(run.data) else _from(home, Path(run.data))
    given = {
        "model": _from(home, model),
        "output": output.name,
        **table.plain(dataclasses.replace(run, data=data)),
    }
    images = given.pop("images", None)
    lines = [f"{key} = {literal(value)}" for key, value in given.items()]
    if isinstance(images, dict):
        lines += ["", "[images]", *(f"{key} = {literal(value)}" for key, value in images.items())]
    return "\n".join(
        ["# made by `optimize tune`; `optimize run` makes the model again", *lines, "", steps_text(recipe)]
    )


def write(path: Path, content: str) -> None:
    """Write the file, whole or not at all."""
    with io.staged(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _from(home: Path, path: Path) -> str:
    return Path(os.path.relpath(path.resolve(), home.resolve())).as_posix()


def _is_function(data: str) -> bool:
    return ":" in data and not Path(data).exists()
