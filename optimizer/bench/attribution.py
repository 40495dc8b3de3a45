"""Where time is gained and lost: layer by layer and operator by operator, baseline against candidate.

Both models are profiled, in sessions of their own, over as many runs. Times of one layer (see `layers`) are added up,
layers of both models are matched by name, and what only one side has (quantization, layout changes) stands alone.

`share of peak` is the layer's MACs per second over what the machine reached in the yardstick of the same arithmetic
(see `yardstick`): a layer far below it waits for memory or has a weak kernel, and int8 cannot gain much there.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence

from optimizer.bench.layers import Layer, Layers
from optimizer.bench.subject import Subject, dims
from optimizer.bench.yardstick import Peak
from optimizer.model.ports import Feed
from optimizer.runtime.profile import NodeTime, profile
from optimizer.runtime.session import Options

SECONDS = 2.0
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}
RUNS = (10, 200)
"""Profiled runs: as many as fit into `SECONDS`, within these bounds."""
_PROFILES = 3
_NEAR = 0.1
"""A profile whose sum is further off the clock was disturbed: it is taken again, at most `_PROFILES` times."""


@dataclasses.dataclass(frozen=True)
class Side:
    """What one model spends on a layer: microseconds, with which operators, and at which share of the peak."""

    microseconds: float
    ops: tuple[str, ...]
    peak_share: float | None


@dataclasses.dataclass(frozen=True)
class LayerTime:
    """A layer in both models; None where a model has no such layer."""

    name: str
    op_type: str
    before: Side | None
    after: Side | None


@dataclasses.dataclass(frozen=True)
class OpTime:
    """An operator of the model file: microseconds that all its layers take, and how many they are."""

    op_type: str
    before: float
    after: float
    layers: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Attribution:
    """Where the time goes. `total` are the sums over all nodes, in milliseconds."""

    ops: tuple[OpTime, ...]
    """By what they gain or lose, the most first."""
    layers: tuple[LayerTime, ...]
    """In the order of the baseline's execution."""
    total: tuple[float, float]
    peak: Peak


def attribute(
    pair: tuple[Subject, Subject], typical: tuple[float, float], peak: Peak, *, threads: int = 1, batch: int = 1
) -> Attribution:
    """Profile both models, on what was timed; `typical` are their latencies by the clock in milliseconds."""
    runs = min(max(RUNS[0], round(SECONDS * 1e3 / typical[0])), RUNS[1])
    before, after = (
        _sides(subject, subject.timed(batch), 1e3 * latency, threads, runs, peak)
        for subject, latency in zip(pair, typical, strict=True)
    )
    layers = tuple(
        LayerTime(name, op_type, _side(before, name), _side(after, name))
        for name, op_type in {name: op_type for name, (op_type, _) in {**after, **before}.items()}.items()
    )
    return Attribution(_by_op(layers), layers, (_total(before), _total(after)), peak)


def _sides(
    subject: Subject, timed: Sequence[Feed], near: float, threads: int, runs: int, peak: Peak
) -> dict[str, tuple[str, Side]]:
    """Per layer its operator and what it costs, in order of execution."""
    feeds = [timed[number % len(timed)] for number in range(runs)]
    layers = Layers(subject.model, dims(subject.model, feeds[0]))
    found: dict[str, tuple[Layer, list[NodeTime]]] = {}
    for node in explaining(lambda: profile(subject.path, feeds, Options(threads=threads), near), near):
        layer = layers.of(node)
        found.setdefault(layer.name, (layer, []))[1].append(node)
    return {name: (layer.op_type, _summed(layer, nodes, peak)) for name, (layer, nodes) in found.items()}


def explaining(profiled: Callable[[], list[NodeTime]], near: float) -> list[NodeTime]:
    """The first profile whose sum is about what the clock told, or of `_PROFILES` the nearest to it."""
    best: list[NodeTime] = []
    off = float("inf")
    for _ in range(_PROFILES):
        nodes = profiled()
        found = abs(sum(node.microseconds for node in nodes) / near - 1)
        if found < off:
            best, off = nodes, found
        if off <= _NEAR:
            break
    return best


def _summed(layer: Layer, nodes: Sequence[NodeTime], peak: Peak) -> Side:
    time = sum(node.microseconds for node in nodes)
    most = peak.int8 if any(node.int8 and node.op_type not in _CONVERSIONS for node in nodes) else peak.float32
    share = layer.macs / (time * 1e-6) / most if layer.macs and time else None
    return Side(time, tuple(dict.fromkeys(node.op_type for node in nodes)), share)


def _side(sides: dict[str, tuple[str, Side]], name: str) -> Side | None:
    return sides[name][1] if name in sides else None


def _total(sides: dict[str, tuple[str, Side]]) -> float:
    return sum(side.microseconds for _, side in sides.values()) / 1e3


def _by_op(layers: Iterable[LayerTime]) -> tuple[OpTime, ...]:
    kinds: dict[str, list[LayerTime]] = collections.defaultdict(list)
    for layer in layers:
        kinds[layer.op_type].append(layer)
    found = [
        OpTime(op, _spent([x.before for x in own]), _spent([x.after for x in own]), _counts(own))
        for op, own in kinds.items()
    ]
    return tuple(sorted(found, key=lambda op: -abs(op.after - op.before)))


def _spent(sides: Iterable[Side | None]) -> float:
    return sum(side.microseconds for side in sides if side is not None)


def _counts(layers: Sequence[LayerTime]) -> tuple[int, int]:
    return sum(x.before is not None for x in layers), sum(x.after is not None for x in layers)
