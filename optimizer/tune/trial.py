"""One trial: a recipe is built, judged rung by rung, and timed if it keeps to the bound.

What is found goes into the study as a plain record. A recipe that is known already, or whose model is, is not judged
again, whichever worker on whatever kind of machine found out; times hold for this kind only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optimizer.errors import OptimizeError
from optimizer.model import io
from optimizer.pipeline.common import Progress, Subject
from optimizer.recipe import Run, toml
from optimizer.tune.build import Builder, text
from optimizer.tune.front import Point
from optimizer.tune.guesses import BASE
from optimizer.tune.judge import Judge, Verdict, least_sqnr
from optimizer.tune.parts import Parts
from optimizer.tune.race import race
from optimizer.tune.settings import Tune
from optimizer.tune.space import STEPS, Params, recipe

SECONDS = 1.5
"""A trial's race; the best are timed again, and longer, in the end."""
CLEARLY = 1.0
"""Bounds by which one must be missed for a recipe that prunes more to be not even built."""
_SHARE = "prune.macs"
_CARE = tuple(
    f"quantize.{field}" for field in ("mode", "calibration", "recover", "per_tensor", "everywhere", "max_drop")
)
MISHAPS = (OptimizeError, ArithmeticError, LookupError, RuntimeError, ValueError, MemoryError)
"""What one recipe may fail with without ending the search; the record says so."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a worker needs to run trials."""

    about: Subject
    settings: Tune
    run: Run
    parts: Parts
    judge: Judge
    builder: Builder


def carry_out(
    bench: Bench, params: Params, known: Sequence[dict[str, Any]], progress: Progress, patience: float | None = None
) -> dict[str, Any]:
    """The record of a trial. `known` are the records of the trials before; `patience` as `Builder.settle` takes it."""
    began = time.monotonic()
    record = {"params": dict(params), "recipe": text(recipe(params))}
    try:
        found = _found(bench, params, known, progress, patience)
    except MISHAPS as error:
        found = {"stopped": f"{type(error).__name__}: {error}"}
    return {**record, **found, "seconds": round(time.monotonic() - began, 2)}


def _found(
    bench: Bench, params: Params, known: Sequence[dict[str, Any]], progress: Progress, patience: float | None
) -> dict[str, Any]:
    """What there is to know of a recipe: what is known already, and the rest found out."""
    if (why := hopeless(params, known)) is not None:
        return {"stopped": why}
    with tempfile.TemporaryDirectory(prefix="optimize-") as work:
        steps = bench.builder.settle(recipe(params), Path(work), progress, patience)
        own = {"key": bench.builder.key(steps), "recipe": text(steps), "steps": toml.text(steps)}
        found = _same(known, "key", own["key"])
        if _whole(found, bench.settings):
            return {**found, **own}
        built = bench.builder.build(steps, Path(work), progress)
        candidate = io.load(built.path)
        found = found or _same(known, "content", content(candidate))
        if "holds" not in found:
            progress.stage("judging")
            verdict = bench.judge.climb(candidate, bench.parts.choosing, _least(known))
            found |= {**judged(verdict), "content": content(candidate), "size": built.size / io.size(bench.about.path)}
        if not _whole(found, bench.settings):
            progress.stage("timing")
            latency = race(bench.about.model, [candidate], bench.parts.choosing, bench.run, SECONDS)[0]
            found["time"] = 1 / latency.speedup
    return {**found, **own}


def hopeless(params: Params, known: Sequence[dict[str, Any]]) -> str | None:
    """Why a recipe is not worth building: it takes away what another one did and more, and untrained as that one was,
    which missed the bound clearly. None if no such recipe is known."""
    if _SHARE not in params or "finetune" in str(params[STEPS]):
        return None
    for one in known:
        clear = "holds" in one and not one["holds"] and one["violation"] > CLEARLY
        if clear and _prunes_more(params, one["params"]):
            return f"prunes more than {one['recipe']!r}, which may fall by {one['upper']:.4f}"
    return None


def _prunes_more(params: Params, other: Params) -> bool:
    """Whether `params` prune as `other` does and more, and are no finer otherwise."""
    if _SHARE not in other or "finetune" in str(other[STEPS]) or float(params[_SHARE] or 1) > float(other[_SHARE] or 1):
        return False
    if any(params[name] != other.get(name) for name in params if name.startswith("prune.") and name != _SHARE):
        return False
    # What failed quantized says nothing of what is not, or is with more care.
    if "quantize" in str(other[STEPS]) and "quantize" not in str(params[STEPS]):
        return False
    return all(other[name] in (BASE[name], params.get(name)) for name in _CARE if name in other)


def _same(known: Sequence[dict[str, Any]], name: str, value: str) -> dict[str, Any]:
    """All that records with this value tell, which is of one and the same model."""
    alike = [one for one in known if one.get(name) == value]
    return {figure: one[figure] for one in alike for figure in _FIGURES if figure in one}


def _whole(found: dict[str, Any], settings: Tune) -> bool:
    """Whether nothing is left to find out: models that miss the bound need no time."""
    return "holds" in found and (not found["holds"] or "time" in found or settings.objective == "size")


def content(model: ir.Model) -> str:
    """A hash of what a model computes, whatever its metadata say of how it was made."""
    bare = model.clone()
    bare.metadata_props.clear()
    return hashlib.sha256(io.to_bytes(bare)).hexdigest()[:40] if io.fits_protobuf(bare) else uuid.uuid4().hex


def _least(known: Sequence[dict[str, Any]]) -> float:
    judged = [one for one in known if one.get("rung") == 3]
    return least_sqnr(*([one["sqnr_db"] for one in judged if one["holds"] is held] for held in (True, False)))


_FIGURES = ("content", "drop", "upper", "violation", "holds", "sqnr_db", "rung", "size", "stopped", "time")


def judged(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain figures; an SQNR without noise is 999 dB, since JSON has no infinity."""
    found: dict[str, Any] = {
        "drop": verdict.risk.drop,
        "upper": verdict.risk.upper,
        "violation": verdict.violation,
        "holds": verdict.holds,
        "sqnr_db": min(max(verdict.accuracy.sqnr_db, -999.0), 999.0),
        "rung": verdict.rung,
    }
    return found if verdict.stopped is None else {**found, "stopped": verdict.stopped}


def values(record: dict[str, Any], settings: Tune) -> tuple[float, ...] | None:
    """What the sampler is to make small, the objective first; None where the trial did not get that far."""
    if not record.get("holds"):
        return None
    if settings.objective == "size":
        return record["size"], record["drop"]
    return record["time"], record["drop"], record["size"]


def point(number: int, record: dict[str, Any]) -> Point | None:
    """The record of a trial as a point of the front; None if it was stopped, or kept no steps."""
    if "stopped" in record or "steps" not in record:
        return None
    names = ("key", "content", "recipe", "steps", "params", "drop", "upper", "size", "sqnr_db", "holds")
    return Point(number=number, time=record.get("time"), **{name: record[name] for name in names})
