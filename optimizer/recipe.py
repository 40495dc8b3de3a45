"""Steps as plain frozen records: their fields are the command line's options, and the keys of a TOML recipe."""

from __future__ import annotations

import dataclasses
from typing import Literal

from optimizer.errors import ConfigError

Mode = Literal["auto", "static", "dynamic", "weights"]
Calibration = Literal["mse", "minmax", "percentile", "entropy"]
Recover = Literal["none", "bias", "full"]
Target = Literal["auto", "vnni", "avx2", "avx512", "arm64"]


@dataclasses.dataclass(frozen=True)
class Quantize:
    """int8 quantization. `max_drop` is a share (0.01 = 1%) of the metric's value on the original model."""

    mode: Mode = "auto"
    calibration: Calibration = "mse"
    recover: Recover = "full"
    target: Target = "auto"
    per_tensor: bool = False
    inputs: bool = False
    outputs: bool = False
    max_drop: float | None = None
    metric: str | None = None
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    measure: bool = True

    def __post_init__(self) -> None:
        if self.max_drop is not None and not 0 <= self.max_drop <= 1:
            raise ConfigError(f"--max-drop must lie between 0% and 100%, not {self.max_drop:.0%}")


@dataclasses.dataclass(frozen=True)
class Run:
    """What all commands have in common."""

    data: str | None = None
    samples: int | None = None
    seed: int = 0
    threads: int = 1
    dims: tuple[tuple[str, int], ...] = ()


def share(text: str) -> float:
    """`1%` or `0.01` as 0.01. Raises `ConfigError`."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"{text!r} is no share: write it as 1% or 0.01") from None
