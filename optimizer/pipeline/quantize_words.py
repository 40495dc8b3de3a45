"""What `optimize quantize` says of its result, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from optimizer.quantize.candidate import Candidate
from optimizer.report.records import Accuracy, Latency

USUAL_DROP, CHANCE = 0.01, 1.5
"""What is borne where no bound is given: share of the metric, answers."""


def missed(accuracy: Accuracy, bound: float) -> str:
    return (
        f"{accuracy.metric} falls from {accuracy.before:.4f} to {accuracy.after:.4f} at best, "
        f"more than --max-drop {bound:.2%} allows; nothing was written"
    )


def compared(before: Accuracy, after: Accuracy) -> str:
    """How close the answers are without and with a repair."""
    if not before.quantities:
        return f"agreement {before.closeness:.4f} without, {after.closeness:.4f} with it"
    return f"SQNR {before.closeness:.1f} dB without, {after.closeness:.1f} dB with it"


def summary(chosen: Candidate) -> str:
    """What became of the nodes, in one line."""
    if chosen.in_blocks:
        return f"{chosen.name} (MatMulNBits, activations rounded to int8 in each run), int8 storage for other weights"
    if chosen.half:
        return "weights kept as float16 in the file and computed with in float32: smaller, the same speed"
    if chosen.only_stored:
        return "weights kept as int8 in the file and computed with in float: smaller, the same speed"
    counted = Counter(node.action for node in chosen.nodes)
    parts = [f"{counted[action]} {words}" for action, words in _ACTIONS.items() if counted[action]]
    return f"{chosen.name}: {len(chosen.nodes)} nodes, {', '.join(parts)}"


_ACTIONS = {
    "int8": "in int8",
    "dynamic": "in int8 with ranges found at run time",
    "weights": "in float with int8 weights",
    "float": "in float",
}


def doubts(accuracy: Accuracy, latency: Latency | None) -> list[str]:
    found = []
    if accuracy.drop > USUAL_DROP * abs(accuracy.before) and accuracy.lost > CHANCE:
        found.append(f"{accuracy.metric} drops by {accuracy.drop:.4f}: bound it with --max-drop, or give more --data")
    if latency is None:
        found.append("not timed (--no-measure): whether it is faster here is not known")
    return found


def overflow(saturation: Mapping[str, Any]) -> list[str]:
    """Whether the file may be taken to a CPU whose int8 sums saturate, in at most one line."""
    found = saturation.get("products", ())
    over, every = (sum(row[key] for row in found) for key in ("could_overflow", "channels"))
    if not over:
        return []
    return [f"on x86 without VNNI {over} of {every} output channels could overflow 16 bits; --target avx2 avoids it"]
