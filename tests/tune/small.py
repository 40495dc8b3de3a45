"""A search with real models that takes seconds, in this process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from optimizer.pipeline import placing
from optimizer.pipeline.common import Progress
from optimizer.recipe import Run
from optimizer.report.records import Result
from optimizer.tune import finals, search, trial
from optimizer.tune.settings import Tune
from tests.cli.runner import write_data, write_model

BY_SIZE = Tune(max_drop=0.5, objective="size")


def made(folder: Path, samples: int = 16, **more: Any) -> Path:
    """A folder with a model and its data."""
    write_model(folder / "m.onnx")
    write_data(folder / "d.npz", samples, **more)
    return folder


def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races so short that they decide little."""
    monkeypatch.setattr(trial, "SECONDS", 0.1)
    monkeypatch.setattr(finals, "SECONDS", 0.3)
    monkeypatch.setattr(finals, "PATIENCE", 0.1)
    monkeypatch.setattr(placing, "_HASTE", 0.1)


def searched(folder: Path, trials: int, settings: Tune = BY_SIZE, progress: Progress | None = None) -> Result:
    """What a search in `folder` finds; shared work is kept there too."""
    own = dataclasses.replace(settings, trials=trials, cache=folder / "cache")
    return search.tune(folder / "m.onnx", own, Run(data=str(folder / "d.npz")), progress=progress)
