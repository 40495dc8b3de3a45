"""Recipes that people would try by hand: every search begins with these, so that it cannot end up worse.

Values that a guess leaves out are those of `BASE`. The first is what `optimize quantize` does by default, or where
nothing is to be timed the second, which is that with `--no-measure --mode static`.
"""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.tune.space import STEPS, Choice, Params, Row, Value, ask

BASE: Params = {
    STEPS: "quantize",
    "prune.macs": 0.8,
    "prune.scope": "global",
    "prune.criterion": "obs",
    "prune.granularity": "channel,head",
    "finetune.epochs": 15,
    "finetune.lr": 1e-3,
    "finetune.batch": 16,
    "finetune.optimizer": "adamw",
    "finetune.temperature": 2.0,
    "finetune.features": 2.5,
    "finetune.augment": "auto",
    "quantize.mode": "static",
    "quantize.calibration": "mse",
    "quantize.recover": "full",
    "quantize.per_tensor": False,
    "quantize.everywhere": False,
    "quantize.augment": None,
    "quantize.max_drop": None,
}

GUESSES: tuple[Params, ...] = (
    {"quantize.mode": "auto"},
    {},
    {"quantize.everywhere": True, "quantize.max_drop": 1.0},
    {"quantize.per_tensor": True},
    {STEPS: "prune,quantize", "prune.macs": 0.9},
    {"quantize.mode": "weights"},
    {STEPS: "prune,finetune,quantize", "prune.macs": 0.75},
    {STEPS: "prune,quantize", "prune.macs": 0.97},
    {STEPS: "prune,quantize", "prune.macs": 0.75},
    {STEPS: "prune,finetune,quantize", "prune.macs": 0.5},
    {STEPS: "prune,quantize", "prune.macs": 0.5},
    {"quantize.calibration": "percentile"},
    {"quantize.augment": "auto"},
    {"quantize.everywhere": True},
    {"quantize.mode": "dynamic"},
)
"""The most promising first: a search may be short."""


def guesses(rows: Sequence[Row]) -> list[dict[str, Value]]:
    """The guesses that lie within a space, each with a value for every row that applies."""
    return [complete(rows, guess) for guess in GUESSES if all(_within(row, guess) for row in rows)]


def complete(rows: Sequence[Row], guess: Params) -> dict[str, Value]:
    """`guess` with the base's values where it has none."""
    return ask(rows, lambda row: guess.get(row.name, BASE[row.name]))


def _within(row: Row, guess: Params) -> bool:
    value = guess.get(row.name, BASE[row.name])
    if isinstance(row.values, Choice):
        return value in row.values.values
    return row.values.low <= float(value or 0) <= row.values.high
