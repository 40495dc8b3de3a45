"""Figures of an earlier run, in a file: `--save-baseline` writes them, `--baseline` compares with them.

Runs at different times share no disturbances, so nothing cancels as in a race. To make them comparable, a yardstick of
fixed work (see `yardstick`) races along in both: with y its time and m the model's, the speed-up from then to now is
``(y/m now) / (y/m then)``, which leaves out what slowed the whole machine down. Its interval combines both runs', and
`DRIFT` is the least noise floor: clocks and caches do not treat every model as they treat the yardstick.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimizer.bench.figures import inverse, widened
from optimizer.bench.gates import Figure
from optimizer.bench.measure import Race
from optimizer.errors import ConfigError, OutputError
from optimizer.report.records import Change, Latency, Machine, Quantiles, Result, to_json
from optimizer.runtime import stats
from optimizer.runtime.stats import Span

KIND = "optimize bench baseline"
VERSION = 1
DRIFT = 0.05
"""Log ratio below which two runs at different times are never said to differ."""

_CHANGES = {
    "size": "size_bytes",
    "params": "params",
    "macs": "macs",
    "memory": "memory_bytes",
    "load": "load_ms",
    "first_run": "first_run_ms",
}
_OPTIONAL = ("memory_bytes", "load_ms", "first_run_ms")


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What is kept of a run."""

    model: str
    machine: Machine
    size_bytes: int
    params: int
    macs: int
    latency_ms: Quantiles
    relative: Span
    """The yardstick's time over the model's."""
    batch: int
    memory_bytes: int | None = None
    load_ms: float | None = None
    first_run_ms: float | None = None


def save(path: Path, result: Result, race: Race, lane: int) -> None:
    """Write what `lane` of the race was found to be to `path`. Raises `OutputError`."""
    assert result.latency_ms is not None
    kept = Earlier(
        model=result.output or result.input,
        machine=result.machine,
        size_bytes=result.size_bytes.after,
        params=result.params.after,
        macs=result.macs.after,
        latency_ms=result.latency_ms.after,
        relative=Span(*race.against_yardstick(lane)),
        batch=result.details["batch"],
        **{name: change.after for name in _OPTIONAL if (change := getattr(result, name)) is not None},
    )
    try:
        path.write_text(json.dumps({"kind": KIND, "version": VERSION, **to_json(kept)}, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write --save-baseline {path}: {error.strerror or error}") from error


def load(path: Path) -> Earlier:
    """The run kept in `path`. Raises `ConfigError`."""
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
        if fields.pop("kind") != KIND or fields.pop("version") != VERSION:
            raise ValueError("of another kind or version")
        machine = Machine(**{**fields["machine"], "isa": tuple(fields["machine"]["isa"])})
        quantiles = Quantiles(**fields["latency_ms"])
        # JSON knows no infinity: an interval without an end was written as null.
        relative = Span(*(math.inf if value is None else float(value) for value in fields["relative"]))
        return Earlier(**{**fields, "machine": machine, "latency_ms": quantiles, "relative": relative})
    except OSError as error:
        raise ConfigError(f"--baseline {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"--baseline {path} is no file that --save-baseline wrote ({error}); write it again"
        ) from error


def compare(result: Result, earlier: Earlier, race: Race, lane: int) -> Result:
    """`result` of a model alone, with the earlier run in the place of the baseline."""
    assert result.latency_ms is not None
    found, floor = _speedup(earlier, race, lane), max(race.floor, DRIFT)
    latency = Latency(
        before=earlier.latency_ms,
        after=result.latency_ms.after,
        speedup=found.value,
        ci95=(found.lo, found.hi),
        verdict=stats.verdict(found.lo, found.hi, floor),
        pairs=result.latency_ms.pairs,
        noise_floor=floor,
    )
    optional: dict[str, Any] = {name: _change(getattr(earlier, name), getattr(result, name)) for name in _OPTIONAL}
    rate = earlier.batch * 1e3 / earlier.latency_ms.p50
    return dataclasses.replace(
        result,
        input=f"{earlier.model} (earlier run)",
        size_bytes=Change(earlier.size_bytes, result.size_bytes.after),
        params=Change(earlier.params, result.params.after),
        macs=Change(earlier.macs, result.macs.after),
        latency_ms=latency,
        throughput=Change(rate, result.throughput.after) if result.throughput else None,
        warnings=(*result.warnings, *_differences(earlier, result)),
        **optional,
    )


def figures(result: Result, measured: Mapping[str, Figure]) -> dict[str, Figure]:
    """The gates' figures of `result`, as `compare` gave it: what was `measured`, with ratios to the earlier run.

    One side was not raced, so quantiles are as uncertain as the latency, and then by what their own ratio adds.
    """
    latency = result.latency_ms
    assert latency is not None
    ratio = widened(inverse(Span(latency.speedup, *latency.ci95)), latency.noise_floor or DRIFT)
    slack = math.log(ratio.hi / ratio.value)
    ratios: dict[str, Span | None] = {"latency": ratio}
    for name in ("p50", "p90", "p99"):
        share = getattr(latency.after, name) / getattr(latency.before, name)
        ratios[name] = widened(Span(share, share, share), slack)
    ratios["throughput"] = inverse(ratio)
    for name, key in _CHANGES.items():
        change, figure = getattr(result, key), measured.get(name, Figure())
        ratios[name] = _ratio(change, figure.after)
    return {name: Figure(figure.after, ratios.get(name)) for name, figure in measured.items()}


def _speedup(earlier: Earlier, race: Race, lane: int) -> Span:
    then, now = earlier.relative, race.against_yardstick(lane)
    value = now.speedup / then.value
    half = math.hypot(now.halfwidth, math.log(then.hi / then.lo) / 2 if then.lo else math.inf)
    return Span(value, value * math.exp(-half), value * math.exp(half))


def _change(before: float | None, change: Change[Any] | None) -> Change[Any] | None:
    return None if before is None or change is None else Change(before, change.after)


def _ratio(change: Change[Any] | None, after: Span | None) -> Span | None:
    if change is None or after is None or not change.before:
        return None
    return Span(*(value / change.before for value in after))


def _differences(earlier: Earlier, result: Result) -> list[str]:
    then, now = earlier.machine, result.machine
    names = ("cpu", "isa", "cores", "threads", "onnxruntime", "system")
    found = [name for name in names if getattr(then, name) != getattr(now, name)]
    lines = [f"the earlier run's {name} was {_show(then, name)}, this one's is {_show(now, name)}" for name in found]
    lines += [
        f"the earlier run has no {name}: save it again with --memory"
        for name in _OPTIONAL
        if getattr(result, name) is not None and getattr(earlier, name) is None
    ]
    if earlier.batch != result.details["batch"]:
        lines.append(f"the earlier run's batch was {earlier.batch}, this one's is {result.details['batch']}")
    return lines


def _show(machine: Machine, name: str) -> str:
    value = getattr(machine, name)
    return " ".join(value) if isinstance(value, tuple) else str(value)
