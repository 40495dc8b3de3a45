"""What a benchmark can be asked for; the fields are the command line's options."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from optimizer.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Bench:
    """How to compare models. See `optimize bench --help` for what the fields mean."""

    data: str | None = None
    samples: int | None = None
    metric: str | None = None
    fail_if: tuple[str, ...] = ()
    inconclusive: Literal["pass", "fail"] = "fail"
    per_op: bool = False
    memory: bool = False
    runs: int | None = None
    time_budget: float = 20.0
    threads: int = 1
    batch: int = 1
    dims: tuple[tuple[str, int], ...] = ()
    concurrency: int = 1
    spin: bool = False
    save_baseline: Path | None = None
    baseline: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("threads", "batch", "concurrency", "runs", "time_budget"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"--{name.replace('_', '-')} must be above 0, not {value}")
