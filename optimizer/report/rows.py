"""A result as the rows of one table: label, before, after, change. All displays and exporters show these."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from optimizer.report.records import Accuracy, Change, Latency, Machine, Result

Number = TypeVar("Number", int, float)


class Row(NamedTuple):
    """One line of the table, all cells as text."""

    label: str
    before: str
    after: str
    change: str


def rows(result: Result) -> list[Row]:
    """Speed first, then answers, then sizes."""
    found: list[Row] = []
    if result.latency_ms is not None:
        found += _latency(result.latency_ms)
    found += _change("throughput", result.throughput, lambda rate: f"{rate:.1f}/s")
    if result.accuracy is not None:
        found += _accuracy(result.accuracy)
    found += _change("size", result.size_bytes, size)
    found += _change("memory", result.memory_bytes, size)
    found += _change("load", result.load_ms, milliseconds)
    found += _change("first run", result.first_run_ms, milliseconds)
    found += _change("parameters", result.params, count)
    found += _change("MACs", result.macs, count)
    return found


def verdict(latency: Latency) -> str:
    """The verdict in one line, e.g. `1.92x faster (95% between 1.89x and 1.95x)`."""
    low, high = latency.ci95
    interval = f"95% between {low:.2f}x and {high:.2f}x, {latency.pairs} pairs"
    if latency.noise_floor is not None:
        interval += f", noise {latency.noise_floor:.1%}"
    if latency.verdict == "inconclusive":
        return f"no difference shown: {latency.speedup:.2f}x ({interval})"
    factor = latency.speedup if latency.verdict == "faster" else 1 / latency.speedup
    return f"{factor:.2f}x {latency.verdict} ({interval})"


def machine(where: Machine) -> str:
    """The machine in one line."""
    isa = " ".join(where.isa) or "no instruction sets known"
    plural = "" if where.threads == 1 else "s"
    return (
        f"{where.cpu}, {where.cores} cores ({isa}), {where.threads} thread{plural}, load {where.load:.1f}, "
        f"ONNX Runtime {where.onnxruntime}, {where.system}"
    )


def size(number: float) -> str:
    """Bytes."""
    return f"{number / 1e6:.2f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def count(number: float) -> str:
    """How many."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.2f} {unit}"
    return str(number)


def milliseconds(number: float) -> str:
    """A time, with three digits that mean something."""
    return f"{number:.3f} ms" if number < 10 else f"{number:.1f} ms"


def decibels(number: float) -> str:
    """A ratio in dB; infinite where two things are equal."""
    return "equal" if number == math.inf else f"{number:.1f} dB"


def _latency(found: Latency) -> Iterator[Row]:
    for name in ("p50", "p90", "p99"):
        before, after = getattr(found.before, name), getattr(found.after, name)
        change = f"{found.speedup:.2f}x {found.verdict}" if name == "p50" else ""
        yield Row(f"latency {name}", milliseconds(before), milliseconds(after), change)


def _accuracy(found: Accuracy) -> Iterator[Row]:
    digits = decibels if found.metric == "sqnr" else "{:.4f}".format
    change = "" if found.metric == "sqnr" else f"{found.after - found.before:+.4f}"
    yield Row(found.metric, digits(found.before), digits(found.after), change)
    if found.agreement is not None and found.metric != "agreement":
        yield Row("agreement", "", f"{found.agreement:.4f}", "")
    if found.metric != "sqnr" and found.quantities:
        yield Row("SQNR", "", decibels(found.sqnr_db), f"{found.samples} samples")


def _change(label: str, found: Change[Number] | None, spell: Callable[[float], str]) -> Iterator[Row]:
    if found is not None:
        ratio = f"{found.after / found.before:.2f}x" if found.before else ""
        yield Row(label, spell(found.before), spell(found.after), ratio)
