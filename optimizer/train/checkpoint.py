"""Where a run was, on disk: enough to go on as if nothing had happened.

One `.npz` beside the output, replaced atomically, never pickled. It holds the step, all learnt tensors, the optimizer's
state, the running average, the best found and the history; random numbers need no state, because each step draws its
own from the seed and the number of the step. A fingerprint of student, teacher and settings keeps one run's file from
being taken for another's.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.errors import ConfigError
from optimizer.model import io
from optimizer.model.ports import Array


@dataclasses.dataclass
class State:
    """A run in progress. Arrays are keyed `part/tensor`."""

    step: int
    seconds: float
    rate: float
    """The highest learning rate, as it is now."""
    best_step: int
    best_loss: float
    stale: int
    """Evaluations since the best."""
    nearest: float
    """The lowest held-back loss since the last start, which may be above the start's."""
    straying: int
    """Evaluations since the nearest."""
    history: list[list[float]]
    """Per evaluation: step, training loss, held-back loss, agreement (-1 where there is none)."""
    arrays: dict[str, Array]


def path_of(output: Path) -> Path:
    """The checkpoint of a run that writes `output`."""
    return output.with_name(output.name + ".checkpoint.npz")


def save(path: Path, state: State, fingerprint: str) -> None:
    """Replace the checkpoint at `path`."""
    figures = {field.name: getattr(state, field.name) for field in dataclasses.fields(state) if field.name != "arrays"}
    note = np.frombuffer(json.dumps({**figures, "fingerprint": fingerprint}).encode(), np.uint8)
    arrays: dict[str, Any] = {"note": note, **state.arrays}
    with io.staged(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load(path: Path, fingerprint: str) -> State:
    """The state at `path`. Raises `ConfigError` if it is another run's or cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays: dict[str, Any] = {name: data[name] for name in data.files}
        figures = json.loads(arrays.pop("note").tobytes())
        found = figures.pop("fingerprint")
        state = State(**figures, arrays=arrays)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read ({error}): delete it and start again without --resume") from error
    if found != fingerprint:
        raise ConfigError(f"{path} belongs to another run (models, data or settings differ): start without --resume")
    return state
