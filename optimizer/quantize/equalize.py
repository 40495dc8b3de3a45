"""Scaling channels so that what is rounded is evenly filled: equalization and smoothing in one.

One outlier channel makes the steps of a whole tensor coarse. Dividing channel j of a value by s_j and multiplying the
weights that read it by s_j leaves the function as it is (`regions`) and moves the difficulty from the activation, which
has one scale, to the weights, which have one per output channel. With r_j the range of channel j, d the range of the
whole tensor after scaling, and x_j its mean square, rounding costs the consumers, per output and up to 1/12,

    (d / 255)^2 * sum_oj (W_oj s_j)^2   +   sum_o (max_j |W_oj| s_j / 127)^2 * sum_j x_j / s_j^2

which is evaluated for ``s_j = r_j^a / w_j^(1 - a)`` (Xiao et al. 2023; a = 1/2 is the equalization of Nagel et al.
2019) and for ``s_j = r_j^a``, w_j being the largest weight that reads channel j; the best is taken if it at least
halves the cost. All figures are those of calibration; nothing runs here.

Behind a Clip to [0, high] s_j may not exceed 1, nor fall below ``r_j / high`` (see `regions`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.observers import Channels
from optimizer.calibrate.run import values, watching
from optimizer.model.passes.edit import Editor, array
from optimizer.model.ports import Array, Feed
from optimizer.ops import int8
from optimizer.quantize import regions, statistics
from optimizer.quantize.groups import Group
from optimizer.quantize.regions import Region, Slot
from optimizer.quantize.statistics import Statistics

_ALPHAS = np.linspace(0.0, 1.0, 11)
_WORTH = 0.5
"""Share of the cost that must be left at most."""
_SHOWS = 0.1
"""Share of the cost of all regions that must go at least: with less, answers come closer by half a decibel at most."""
_FARTHEST = 64.0
"""How far a scale may be from the middle one."""
_FLOOR = 1e-3
"""Power of an output below which, as a share of the strongest one's, it does not count for more."""
_FULL = 1 - 1e-5
"""Share of a Clip's bound from which a channel counts as cut."""
_MARGIN = 4.0
"""How many times as far as was seen a channel must be able to go before a Clip cuts it."""


@dataclasses.dataclass(frozen=True)
class Scaling:
    """A region and the scale of each of its channels, with the share of its cost that is left, and that cost."""

    region: Region
    scales: Array
    left: float
    cost: float = 1.0


def shapes(model: ir.Model, feed: Feed, threads: int = 1) -> dict[str, tuple[int, ...]]:
    """The shapes around the views of the main graph in one run."""
    views = [node for node in model.graph if node.op_type in regions.VIEWS and not node.domain]
    wanted = {
        value.name or "": None for node in views for value in (*node.inputs[:1], *node.outputs) if value is not None
    }
    session = watching(model, wanted, threads=threads)
    names = [name for name in wanted if name in session.outputs]
    return {name: found.shape for name, found in values(session, feed, names, wanted)}


def scalings(
    model: ir.Model, seen: Mapping[str, Channels], sizes: regions.Shapes, outputs: Mapping[str, str]
) -> list[Scaling]:
    """What pays: regions of `model` whose consumers, all of them among the keys of `outputs`, gain by being scaled.
    None where all of them together would hardly show in what rounding costs the model.

    `outputs` are the values that stand for what a consumer writes, by node name; `seen` has per-channel figures of
    these and of the consumers' inputs, by value name.
    """
    every = []
    for region in regions.find(model, sizes):
        inputs = [slot.node.inputs[0] for slot in region.taken]
        known = all(value is not None and value.name in seen for value in inputs)
        if known and all(slot.node.name in outputs for slot in region.taken):
            best = _best(region, seen, outputs)
            if best is not None:
                every.append(best)
    found = [one for one in every if one.left <= _WORTH]
    saved = sum(one.cost * (1 - one.left) for one in found)
    return found if saved >= _SHOWS * sum(one.cost for one in every) else []


def apply(model: ir.Model, found: Sequence[Scaling]) -> ir.Model:
    """A clone of `model` with the channels scaled; the same function up to rounding of its float32 constants."""
    copy = model.clone()
    editor, nodes = Editor(copy), {node.name: node for node in copy.graph}
    for scaling in found:
        for slot in scaling.region.given:
            _scale(editor, nodes[slot.node.name], slot, 1 / scaling.scales)
        for slot in scaling.region.taken:
            _scale(editor, nodes[slot.node.name], slot, scaling.scales)
    return copy


def observed(
    model: ir.Model,
    found: Sequence[Scaling],
    seen: Statistics,
    groups: Iterable[Group],
    feeds: Iterable[Feed],
    threads: int,
) -> Statistics:
    """What calibration sees of `model`, which `apply` made, from what it has `seen` of the original: only the scaled
    values are looked at anew, on `feeds`."""
    names = {name for scaling in found for name in scaling.region.values}
    near = [group for group in groups if names.intersection((*group.inputs, *group.outputs))]
    new = statistics.gather(model, near, feeds, threads=threads)
    histograms = {name: new.histograms[name] for name in names & new.histograms.keys()}
    channels = {name: new.channels[name] for name in names & new.channels.keys()}
    every, figures = {**seen.histograms, **histograms}, {**seen.channels, **channels}
    return Statistics(every, figures, seen.shapes, seen.samples, finest=seen.finest)


def _scale(editor: Editor, node: ir.Node, slot: Slot, factors: Array) -> None:
    content = array(node.inputs[slot.index])
    assert content is not None
    editor.overwrite(node, slot.index, np.asarray(content * factors[slot.ids], np.float32))


@dataclasses.dataclass(frozen=True)
class _Consumer:
    """A consumer by outputs and inputs [O, I], kernel positions together, and its input by channel of the region."""

    peak: Array
    """Largest weight."""
    power: Array
    """Sum of squares."""
    ids: Array
    """Channel of the region, [O or 1, I]."""
    low: Array
    high: Array
    second: Array
    """Mean square."""
    worth: Array
    """One by the mean square of each output."""
    positions: int


def _best(region: Region, seen: Mapping[str, Channels], outputs: Mapping[str, str]) -> Scaling | None:
    if not all(_told(slot, seen, outputs) for slot in region.taken):
        return None
    consumers = [_consumer(slot, region, seen, outputs) for slot in region.taken]
    reach, weight = _reach(consumers), _weight(region, consumers)
    bounds = _bounds(region, seen)
    if bounds is None or not np.isfinite(reach).all() or not reach.any():
        return None
    plain = _cost(consumers, np.ones(region.channels))
    best = min(_candidates(reach, weight, bounds), key=lambda scales: _cost(consumers, scales))
    return Scaling(region, best, _cost(consumers, best) / max(plain, 1e-30), plain)


def _candidates(reach: Array, weight: Array, bounds: tuple[Array, Array]) -> Iterator[Array]:
    for alpha in _ALPHAS:
        yield _within(reach**alpha, bounds)
        yield _within(reach**alpha / weight ** (1 - alpha), bounds)


def _within(scales: Array, bounds: tuple[Array, Array]) -> Array:
    """`scales` with the middle one at 1, or the largest where they are bounded, not too far from it, and in bounds."""
    low, high = bounds
    unit = np.exp(np.median(np.log(scales))) if np.isinf(high).all() else scales.max()
    return np.asarray(np.clip(np.clip(scales / unit, 1 / _FARTHEST, _FARTHEST), low, high))


def _bounds(region: Region, seen: Mapping[str, Channels]) -> tuple[Array, Array] | None:
    """Lowest and highest scale of each channel; None where it is not known what a Clip has cut."""
    low, high = np.zeros(region.channels), np.full(region.channels, np.inf)
    for name, bound in region.clipped:
        if name not in seen or len(seen[name].high) != region.channels or bound <= 0:
            return None
        top = np.maximum(_MARGIN * seen[name].high / bound, 0.0)
        low = np.maximum(low, np.where(top >= _FULL, 1.0, top))
        high = np.minimum(high, 1.0)
    return low, high


def _consumer(slot: Slot, region: Region, seen: Mapping[str, Channels], outputs: Mapping[str, str]) -> _Consumer:
    source, weight = slot.node.inputs[0], array(slot.node.inputs[slot.index])
    assert source is not None and weight is not None
    found, across = seen[source.name or ""], not _outputs_first(slot.node)
    weight, ids = (weight.T, slot.ids.T) if across else (weight, slot.ids)
    kernel = tuple(range(2, weight.ndim))
    shape = weight.shape[:2]
    read = _inputs(slot.node, ids.reshape(ids.shape[:2]), shape[0])
    low, high = np.full(region.channels, np.inf), np.full(region.channels, -np.inf)
    np.minimum.at(low, read, np.broadcast_to(found.low, read.shape))
    np.maximum.at(high, read, np.broadcast_to(found.high, read.shape))
    times = np.maximum(np.bincount(read, minlength=region.channels), 1)
    second = np.bincount(read, np.broadcast_to(found.second, read.shape), region.channels) / times
    result = np.broadcast_to(seen[outputs[slot.node.name or ""]].second, shape[:1])
    return _Consumer(
        np.abs(weight).max(axis=kernel),
        np.square(weight, dtype=np.float64).sum(axis=kernel),
        np.broadcast_to(ids.reshape(ids.shape[:2]), (ids.shape[0], shape[1])),
        np.minimum(low, 0.0),
        np.maximum(high, 0.0),
        second,
        1 / np.maximum(result, max(float(result.max()) * _FLOOR, 1e-30)),
        int(np.prod(weight.shape[2:])),
    )


def _told(slot: Slot, seen: Mapping[str, Channels], outputs: Mapping[str, str]) -> bool:
    """Whether calibration has looked along the axes that this consumer reads and writes."""
    source, result = slot.node.inputs[0], slot.node.outputs[0]
    assert source is not None
    along = 1 if slot.node.op_type == "Conv" else -1
    ranks = [(seen[source.name or ""], source), (seen[outputs[slot.node.name or ""]], result)]
    return all(found.axis % (int8.rank(value) or 1) == along % (int8.rank(value) or 1) for found, value in ranks)


def _outputs_first(node: ir.Node) -> bool:
    """Whether the weight's first axis holds output channels."""
    return node.op_type == "Conv" or (node.op_type == "Gemm" and bool(int8.attribute(node, "transB", 0)))


def _inputs(node: ir.Node, ids: Array, outputs: int) -> Array:
    """The region's channel of each input channel of a consumer, whose weights have the channels `ids` [O or 1, I]."""
    groups = int8.attribute(node, "group", 1) if node.op_type == "Conv" else 1
    assert isinstance(groups, int)
    return ids.reshape(-1) if groups == 1 else ids[:: outputs // groups].reshape(-1)


def _cost(consumers: Sequence[_Consumer], scales: Array) -> float:
    """The error of the products that rounding causes, up to a factor."""
    total = 0.0
    for one in consumers:
        own = scales[one.ids]
        step = ((one.high / scales).max() - (one.low / scales).min()) / 255
        steps = (one.peak * own).max(axis=1) / 127
        inputs = (one.second[one.ids] / own**2).sum(axis=1) * one.positions
        power = np.einsum("oi,oi->o", one.power, np.broadcast_to(own**2, one.power.shape))
        total += float((one.worth * (step**2 * power + steps**2 * inputs)).sum())
    return total


def _reach(consumers: Sequence[_Consumer]) -> Array:
    """The largest magnitude seen in each channel; where that is nothing, the smallest of the others."""
    found = np.max([np.maximum(-one.low, one.high) for one in consumers], axis=0)
    return _filled(found)


def _weight(region: Region, consumers: Sequence[_Consumer]) -> Array:
    """The largest weight that reads each channel."""
    found = np.zeros(region.channels)
    for one in consumers:
        np.maximum.at(found, np.broadcast_to(one.ids, one.peak.shape), one.peak)
    return _filled(found)


def _filled(figures: Array) -> Array:
    some = figures > 0
    return np.where(some, figures, figures[some].min(initial=np.inf))
