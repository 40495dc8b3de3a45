"""The end of a search: the front, the best of it (`finals`), and what is written."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimizer.errors import BoundMissed
from optimizer.model import io, shapes
from optimizer.pipeline import common
from optimizer.pipeline.common import Progress
from optimizer.recipe import config, toml
from optimizer.report.records import Change, Result, to_json
from optimizer.tune import finals, manifest
from optimizer.tune import front as fronts
from optimizer.tune import trial as trials
from optimizer.tune.finals import Finalist
from optimizer.tune.front import Point
from optimizer.tune.interrupts import Stop
from optimizer.tune.judge import Verdict
from optimizer.tune.study import Study
from optimizer.tune.trial import Bench


def conclude(
    bench: Bench, study: Study, target: Path, recipe: Path, progress: Progress, stop: Stop, *, interrupted: bool
) -> Result:
    """Write the best model found, and its recipe. Raises `BoundMissed` if there is none within the bound."""
    records = list(study.records())
    best = fronts.front(points := _points(records))
    if not best:
        raise BoundMissed(_none_holds(bench, points, records))
    if bench.settings.objective == "latency" and not interrupted:
        first = fronts.ranked(best, bench.settings.objective)[0]
        records += finals.placed_anew(bench, records, first, progress, stop)
        best = fronts.front(points := _points(records))
    with tempfile.TemporaryDirectory(prefix="optimize-") as work:
        entered = finals.lots(points, best, bench.settings.objective)
        chosen, verdict, timed = finals.best_that_holds(bench, entered, Path(work), progress)
        if bench.settings.objective == "latency":
            best = finals.retimed(points, timed, chosen)
        result = _describe(bench, chosen, verdict, best, records, recipe, interrupted)
        if bench.settings.front is not None:
            _write_front(bench, best, bench.settings.front, Path(work), result)
        size = _write(bench, chosen.point, chosen.path, target, recipe, result)
    study.wrote(target, recipe)
    return dataclasses.replace(result, output=str(target), size_bytes=Change(result.size_bytes.before, size))


def _points(records: Sequence[dict[str, Any]]) -> list[Point]:
    return [point for number, record in enumerate(records) if (point := trials.point(number, record)) is not None]


def check_targets(study: Study, target: Path, folder: Path | None, *, force: bool) -> Path:
    """Where the recipe goes. Raises `OutputError` if it or the output cannot be written; what this study wrote before
    may be replaced."""
    recipe = manifest.place(target, lambda path: study.has_written(path) or (force and manifest.is_of(path, target)))
    for path in (target, recipe):
        io.check_target(path, force or study.has_written(path))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return recipe


def _none_holds(bench: Bench, points: Sequence[Point], records: Sequence[dict[str, Any]]) -> str:
    bound, count = f"--max-drop {bench.settings.max_drop:.2%}", len(records)
    if not points:
        last = next((f" (the last: {one['stopped']})" for one in reversed(records) if "stopped" in one), "")
        return f"none of {count} trials came as far as being judged on all samples{last}; no model was written"
    near = min(points, key=lambda point: point.upper)
    return (
        f"none of {count} trials keeps to {bound}: the nearest, {near.recipe!r}, may fall by {near.upper:.4f} "
        f"(estimated at {near.drop:.4f} from {len(bench.parts.choosing)} samples); no model was written"
    )


def _write_front(bench: Bench, points: Sequence[Point], folder: Path, work: Path, result: Result) -> None:
    for place, point in enumerate(points, 1):
        path = bench.builder.build(toml.parse(point.steps), work).path
        own = folder / str(place)
        own.mkdir(exist_ok=True)
        _write(bench, point, path, own / f"{bench.about.path.stem}.onnx", own / config.FILE, result)


def _write(bench: Bench, point: Point, path: Path, target: Path, recipe: Path, result: Result) -> int:
    """The model at `path` as `optimize run` would write it, and its recipe; its size in bytes."""
    steps, source, run = toml.parse(point.steps), bench.about.path, bench.builder.run
    model = io.load(path)
    common.stamp(model, source, run, steps, dataclasses.replace(result, command="run"))
    size = io.save(model, target, force=True)
    manifest.write(recipe, manifest.manifest(steps, source, target, run, recipe.name))
    return size


def _describe(
    bench: Bench, chosen: Finalist, verdict: Verdict, best: Sequence[Point], records: Sequence[dict[str, Any]],
    recipe: Path, interrupted: bool,
) -> Result:  # fmt: skip
    shapes.infer(chosen.model)
    base = common.base_result("tune", bench.about, chosen.model, bench.run)
    stopped = sum("stopped" in record for record in records)
    steps = (
        f"{len(records)} trial{'s' * (len(records) > 1)}, {stopped} stopped early; {len(best)} on the front",
        f"the best: {chosen.point.recipe}",
        f"its recipe: optimize run {recipe} -o again.onnx makes the same model",
        *(("interrupted: run the same command to go on",) if interrupted else ()),
    )
    return dataclasses.replace(
        base, accuracy=verdict.accuracy, latency_ms=chosen.latency, steps=steps,
        details={
            "front": [to_json(point) for point in best],
            "best": chosen.point.number,
            "recipe": str(recipe),
            "trials": [dict(record) for record in records],
            "bound": {"allowed": verdict.bound, "drop": verdict.risk.drop, "upper": verdict.risk.upper},
            "interrupted": interrupted,
        },
    )  # fmt: skip
