"""What a measuring process is asked and what it answers: plain records that cross the border between processes.

A job is one JSON object on the process's standard input; feeds and times travel in `.npz` files in a folder that the
asking side owns. Strings, which `.npz` holds only as fixed-width text, are turned into objects again on arrival.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optimizer.runtime.stats import Grouped
from optimizer.runtime.timing import PairedTimes

if TYPE_CHECKING:
    from optimizer.model.ports import Array, Feed


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A model file and the folder-local file that holds its feeds."""

    model: str
    feeds: str


@dataclasses.dataclass(frozen=True)
class Job:
    """One process's work. `kind` is `race` (all models against each other), `serve` (slots of the first model on
    request) or `start` (load and run each model once, and report the time and the memory that takes)."""

    kind: str
    models: tuple[Contestant, ...]
    answer: str
    threads: int = 1
    spin: bool = False
    callers: int = 1
    seconds: float = 1.0
    rounds: int | None = None
    seed: int = 0

    def to_text(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Job:
        fields = json.loads(text)
        return cls(**{**fields, "models": tuple(Contestant(**model) for model in fields["models"])})


def write_feeds(path: Path, feeds: Sequence[Feed]) -> None:
    """Write feeds so that `read_feeds` gives them back in order."""
    arrays = {f"{number}/{name}": _plain(array) for number, feed in enumerate(feeds) for name, array in feed.items()}
    np.savez(path, allow_pickle=False, **arrays)


def read_feeds(path: Path) -> list[dict[str, Array]]:
    """The feeds in `path`."""
    feeds: dict[int, dict[str, Array]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for key in stored.files:
            number, _, name = key.partition("/")
            array = stored[key]
            feeds.setdefault(int(number), {})[name] = array.astype(object) if array.dtype.kind == "U" else array
    return [feeds[number] for number in sorted(feeds)]


def write_times(path: Path, times: PairedTimes) -> None:
    """Write times so that `read_times` gives them back."""
    arrays: dict[str, Array] = {"sittings": times.sittings, "rounds": np.array(times.rounds)}
    for kind, lanes in (("counted", times.counted), ("runs", times.runs)):
        for number, lane in enumerate(lanes):
            arrays |= {f"{kind}/{number}/times": lane.times, f"{kind}/{number}/blocks": lane.blocks}
    np.savez(path, allow_pickle=False, **arrays)


def read_times(path: Path) -> PairedTimes:
    """The times in `path`."""
    with np.load(path, allow_pickle=False) as stored:
        lanes = range(sum(key.startswith("runs/") for key in stored.files) // 2)
        counted, runs = (
            tuple(Grouped(stored[f"{kind}/{lane}/times"], stored[f"{kind}/{lane}/blocks"]) for lane in lanes)
            for kind in ("counted", "runs")
        )
        return PairedTimes(counted, runs, stored["sittings"], int(stored["rounds"]))


def _plain(array: Array) -> Array:
    return array.astype(str) if array.dtype == object else array
