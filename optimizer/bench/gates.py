"""Gates: conditions under which a benchmark fails, such as `latency > 1.05x`.

    GATE   = METRIC OP VALUE          fails when the condition holds
    METRIC = latency p50 p90 p99 throughput load first_run size memory params macs
             accuracy drop agreement cosine sqnr max_error
    OP     = >  >=  <  <=
    VALUE  = a number and a unit, as below

| metrics                                   | `1.05x`        | `5%`                  | absolute                       |
|-------------------------------------------|----------------|-----------------------|--------------------------------|
| latency p50 p90 p99 load first_run        | after / before | after / before - 1    | `5ms` `300us` `0.2s`           |
| throughput                                | after / before | after / before - 1    | `100` (samples a second)       |
| size memory                               | after / before | after / before - 1    | `10MB` `800KB` `1GB` `4096B`   |
| params macs                               | after / before | after / before - 1    | `1000` `1.5M` `2G`             |
| accuracy                                  | after / before | the candidate's share | `0.9`                          |
| drop agreement cosine                     |                | a share               | `0.01`                         |
| sqnr max_error                            |                |                       | `20dB`, `20`; `0.001`          |

`latency` is the paired comparison's mean ratio, and p50 in absolute terms. A measured figure has an interval: the gate
is *missed* if the condition holds all over it, *passed* if it holds nowhere in it, and *inconclusive* between.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from optimizer.errors import BoundMissed, ConfigError
from optimizer.report.records import GateResult, Result
from optimizer.runtime.stats import Span

Side: TypeAlias = Literal["ratio", "after"]

GRAMMAR = "METRIC OP VALUE, e.g. 'latency > 1.05x', 'p99 > 5ms', 'size > 10MB', 'drop > 1%', 'agreement < 99%'"

_TIME = {"s": 1e3, "ms": 1.0, "us": 1e-3}
_BYTES = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_COUNT = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_PLAIN = {"": 1.0}
_SHARE = {"": 1.0, "%": 0.01}

_KINDS = {
    ("latency", "p50", "p90", "p99", "load", "first_run"): _TIME,
    ("throughput",): _PLAIN,
    ("size", "memory"): _BYTES,
    ("params", "macs"): _COUNT,
    ("accuracy", "drop", "agreement", "cosine"): _SHARE,
    ("sqnr",): {"": 1.0, "dB": 1.0},
    ("max_error",): _PLAIN,
}
_UNITS = {name: units for names, units in _KINDS.items() for name in names}
"""Units of the absolute figures, in the unit of the records (ms, bytes)."""

MEASURED = {"latency", "p50", "p90", "p99", "throughput", "load", "first_run", "memory"}
"""What is not the same in every run."""

_NO_RATIO = {"drop", "agreement", "cosine", "sqnr", "max_error"}

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_GATE = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([A-Za-z%]*)\s*")


@dataclasses.dataclass(frozen=True)
class Gate:
    """A parsed gate: it fails when `side` of `metric` compares so with `bound`."""

    text: str
    metric: str
    op: str
    bound: float
    side: Side

    @property
    def measured(self) -> bool:
        """Whether its figure differs from run to run."""
        return self.metric in MEASURED

    @property
    def fails(self) -> Callable[[float], bool]:
        return lambda value: _COMPARE[self.op](value, self.bound)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A metric's value of the candidate and its ratio to the baseline's, with their intervals, where there are any."""

    after: Span | None = None
    ratio: Span | None = None


def parse(text: str) -> Gate:
    """The gate written as `text`. Raises `ConfigError` with the grammar in one line."""
    match = _GATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"--fail-if {text!r} is no gate; write {GRAMMAR}")
    metric, op, number, unit = match.groups()
    if metric not in _UNITS:
        raise ConfigError(f"--fail-if {text!r}: no metric {metric!r}; there are {', '.join(_UNITS)}")
    value, units = float(number), _UNITS[metric]
    if unit in units:
        return Gate(text, metric, op, value * units[unit], "after")
    if metric not in _NO_RATIO and unit in ("x", "%"):
        return Gate(text, metric, op, value if unit == "x" else 1 + value / 100, "ratio")
    allowed = [*units, *(("x", "%") if metric not in _NO_RATIO else ())]
    spelled = ", ".join(name or "none" for name in dict.fromkeys(allowed))
    raise ConfigError(f"--fail-if {text!r}: the unit of {metric} must be one of {spelled}; write {GRAMMAR}")


def judge(gate: Gate, figures: Mapping[str, Figure]) -> GateResult:
    """How `gate` comes out on a candidate's figures. Raises `ConfigError` if its metric was not measured."""
    figure = figures.get(gate.metric, Figure())
    span = figure.ratio if gate.side == "ratio" else figure.after
    if span is None:
        raise ConfigError(f"--fail-if {gate.text!r}: there is no {gate.metric} to compare; {_remedy(gate)}")
    outcomes = {gate.fails(span.lo), gate.fails(span.hi)}
    found = f"{gate.metric} is {_spell(gate, span.value)}"
    if outcomes == {False}:
        return GateResult(gate.text, "passed", found)
    if outcomes == {True}:
        return GateResult(gate.text, "missed", f"{found}, and the gate fails at {gate.op} {_spell(gate, gate.bound)}")
    if span.lo == 0 and span.hi == math.inf:
        return GateResult(gate.text, "inconclusive", f"{found} of too few rounds: give more --time-budget or --runs")
    return GateResult(
        gate.text,
        "inconclusive",
        f"{found}, between {_spell(gate, span.lo)} and {_spell(gate, span.hi)}: the gate's "
        f"{_spell(gate, gate.bound)} lies inside; give more --time-budget or a wider gate",
    )


def failing(result: Result, inconclusive: Literal["pass", "fail"]) -> list[GateResult]:
    """The gates that were missed or, with `fail`, could not be decided."""
    bad = {"missed", "inconclusive"} if inconclusive == "fail" else {"missed"}
    return [gate for gate in result.gates if gate.status in bad]


def enforce(results: Sequence[Result], inconclusive: Literal["pass", "fail"]) -> None:
    """Raise `BoundMissed`, naming them, if there are gates that are `failing`."""
    said = [
        f"{_name(result, results)}gate {gate.status}: {gate.condition}: {gate.message}"
        for result in results
        for gate in failing(result, inconclusive)
    ]
    if said:
        raise BoundMissed("; ".join(said))


def _name(result: Result, results: Sequence[Result]) -> str:
    return f"{result.output}: " if len(results) > 1 else ""


def _remedy(gate: Gate) -> str:
    if gate.side == "ratio":
        return "a ratio needs two models, or --baseline FILE with that figure in it"
    return "it needs two models that can be compared"


def _spell(gate: Gate, value: float) -> str:
    if gate.side == "ratio":
        return f"{value:.3f}x"
    units = _UNITS[gate.metric]
    if units is _TIME:
        return f"{value:.3f} ms"
    if units is _BYTES:
        return f"{value / 1e6:.3f} MB"
    return f"{value:.2%}" if "%" in units else f"{value:.6g}"
