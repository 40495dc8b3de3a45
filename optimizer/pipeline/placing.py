"""What `quantize` decides by timing, as a step that gives the same model with nothing timed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from optimizer.pipeline import common
from optimizer.pipeline.common import Progress, Silent
from optimizer.pipeline.memory import Memory
from optimizer.pipeline.quantizable import Timing, float_model, in_float32
from optimizer.pipeline.quantize import Work
from optimizer.recipe import Quantize, Run

_HASTE = 0.4
"""The share of the usual seconds that is timed: many recipes are tried, and nothing is written yet."""


def place(
    path: Path,
    step: Quantize,
    run: Run,
    patience: float | None = None,
    *,
    alone: AbstractContextManager[None],
    progress: Progress | None = None,
    memory: Memory | None = None,
) -> Quantize:
    """The step that does untimed what `step` decides here, timing inside `alone` for `patience` times as long as
    usual, briefly if that is None. Raises what `quantize` raises."""
    about = in_float32(common.prepare(path, float_model(path), run))
    work = Work(about, step, run, progress or Silent(), memory, Timing(alone, _HASTE if patience is None else patience))
    return work.choose()[0].candidate.decided(step)
