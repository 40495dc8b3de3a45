"""What a search is asked for. Fields are the options of `optimize tune`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from optimizer.errors import ConfigError

Objective = Literal["latency", "size"]

HELD_BACK = 0.4
"""The share of the samples that no step of a recipe sees: one half chooses, the other judges the choice."""
FEWEST = 10
"""With fewer samples than this there is nothing left to judge on."""


@dataclasses.dataclass(frozen=True)
class Tune:
    """A search over recipes. `max_drop` is a share (0.01 = 1%) of the metric's value on the original model."""

    max_drop: float = 0.01
    objective: Objective = "latency"
    metric: str | None = None
    trials: int | None = None
    """Trials in all, those of earlier runs and of other workers included."""
    minutes: float | None = None
    """No trial is begun that would likely end later than this."""
    train: bool = False
    """Recipes may train (with torch)."""
    storage: str | None = None
    """Where workers meet: a database's URL, or the path of a journal file."""
    study: str | None = None
    """The study's name in the storage."""
    workers: int = 1
    """Local processes."""
    front: Path | None = None
    """A folder for every model of the front."""
    cache: Path | None = None
    """Where prefixes of recipes are kept; None: the user's cache folder."""
    cache_bytes: int = 2 * 10**9

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 1:
            raise ConfigError(f"--max-drop must lie between 0% and 100%, not {self.max_drop:.0%}")
        for name in ("trials", "minutes", "workers"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"--{name} must be above 0, not {value:g}")
        if self.study is not None and self.storage is None:
            raise ConfigError("--study names a study in a storage: give --storage too")

    @property
    def total(self) -> int | None:
        """Trials in all; None: as many as the minutes allow."""
        return DEFAULT_TRIALS if self.trials is None and self.minutes is None else self.trials


DEFAULT_TRIALS = 40
