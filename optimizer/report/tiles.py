"""The few figures that a page opens with: what a reader wants to know before anything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from optimizer.report import rows
from optimizer.report.records import Accuracy, Change, GateResult, Latency, Result

_TONES = {"faster": "good", "slower": "bad", "inconclusive": "open"}
_NEAR = 0.02
"""A ratio within this of 1 is neither good nor bad, and so is a share of the metric within it."""


class Tile(NamedTuple):
    """One figure: its name, how large it is, what else to know, and whether that is good, bad, open or neither."""

    label: str
    value: str
    note: str
    tone: str


def tiles(result: Result) -> list[Tile]:
    """Gates, speed, answers, size and memory, as far as the result has them."""
    found = [*_gates(result.gates), *_speed(result.latency_ms), *_answers(result.accuracy)]
    found += _ratio("size", result.size_bytes)
    return [*found, *_ratio("memory", result.memory_bytes)]


def _gates(gates: tuple[GateResult, ...]) -> Iterator[Tile]:
    if not gates:
        return
    counted = Counter(gate.status for gate in gates)
    worst = next(status for status in ("missed", "inconclusive", "passed") if counted[status])
    tone = {"missed": "bad", "inconclusive": "open", "passed": "good"}[worst]
    note = ", ".join(f"{number} {status}" for status, number in counted.items() if status != "passed")
    yield Tile("gates", f"{counted['passed']} of {len(gates)}", note or "all passed", tone)


def _speed(latency: Latency | None) -> Iterator[Tile]:
    if latency is None:
        return
    low, high = latency.ci95
    value = f"{latency.speedup:.2f}×" if latency.verdict != "inconclusive" else f"≈ {latency.speedup:.2f}×"
    word = "no difference shown" if latency.verdict == "inconclusive" else latency.verdict
    yield Tile("speed", value, f"{word}, 95% {low:.2f}–{high:.2f}×", _TONES[latency.verdict])


def _answers(accuracy: Accuracy | None) -> Iterator[Tile]:
    if accuracy is None:
        return
    tone = "bad" if accuracy.drop > _NEAR * abs(accuracy.before) else "good"
    kind = "synthetic " if accuracy.synthetic else ""
    if accuracy.metric == "sqnr":
        yield Tile("SQNR", rows.decibels(accuracy.after), f"{accuracy.samples} {kind}samples", "")
        return
    note = f"{accuracy.after - accuracy.before:+.4f}, {accuracy.samples} {kind}samples"
    yield Tile(accuracy.metric, f"{accuracy.after:.4f}", note, "open" if accuracy.synthetic else tone)


def _ratio(label: str, change: Change[int] | None) -> Iterator[Tile]:
    if change is None or not change.before:
        return
    ratio = change.after / change.before
    tone = "" if abs(ratio - 1) <= _NEAR else ("good" if ratio < 1 else "bad")
    yield Tile(label, f"{ratio:.2f}×", f"{rows.size(change.before)} → {rows.size(change.after)}", tone)
