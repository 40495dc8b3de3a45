"""A search without models: what a trial finds is a formula of its values, known at once or after a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from optimizer import recipe as recipes
from optimizer.pipeline.common import Silent
from optimizer.tune import front, trial
from optimizer.tune.heartbeat import Pace
from optimizer.tune.settings import Tune
from optimizer.tune.space import STEPS, Params, recipe, space
from optimizer.tune.storage import close, open_storage
from optimizer.tune.study import Study
from optimizer.tune.worker import work

QUICK = Pace(beat=0.2, grace=1.5, look=0.05)
ROWS = space(train=False, timed=False)
BOUND = 0.01
PATIENCE = 120.0
IDENTITY = {"model": "m", "bound": BOUND}


def found(params: Params) -> dict[str, Any]:
    """Fewer MACs and int8 are faster and worse; the bound is a drop of 0.01."""
    macs = float(params.get("prune.macs") or 1.0)
    int8 = "quantize" in str(params[STEPS]) and params.get("quantize.mode") == "static"
    coarse = {"mse": 0.0, "entropy": 0.001, "percentile": 0.002, "minmax": 0.004}
    drop = 0.05 * (1 - macs) ** 2 + (coarse[str(params["quantize.calibration"])] if int8 else 0.0)
    size = macs * (0.25 if int8 else 1.0)
    return {
        "key": repr(sorted(params.items(), key=str)), "params": dict(params), "content": repr((macs, int8, drop)),
        "recipe": repr(recipe(params)), "steps": recipes.text(recipe(params)),
        "drop": drop, "upper": drop, "violation": (drop - BOUND) / BOUND, "holds": drop <= BOUND, "sqnr_db": 30.0,
        "rung": 3, "size": size, "time": size, "seconds": 0.01,
    }  # fmt: skip


def quality(of: Study) -> float:
    """The area of drop (up to the bound) and size (up to the original's) that the front dominates."""
    points = [trial.point(number, record) for number, record in enumerate(of.records())]
    best = front.front([point for point in points if point is not None])
    corners = sorted((point.drop, point.size) for point in best)
    ends = [*(drop for drop, _ in corners[1:]), BOUND]
    return sum((end - drop) / BOUND * (1 - size) for (drop, size), end in zip(corners, ends, strict=True))


def study(place: str, name: str = "s", seed: int = 0, pace: Pace = QUICK, values: int = 2) -> Study:
    return Study(open_storage(place), name, ROWS, seed, values, IDENTITY, pace)


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def search(place: str, total: int, seconds: float = 0.0, seed: int = 0, name: str = "s") -> None:
    """A worker that takes `seconds` of sleep for a trial; to be run in a process of its own."""

    def run(params: Params, known: list[dict[str, Any]], progress: object) -> dict[str, Any]:
        time.sleep(seconds)
        return found(params)

    own = study(place, name, seed)
    work(run, Tune(trials=total, objective="size"), own, Silent())
    close(own.storage)
