"""What calibration remembers for quantization: a histogram of every value that may become int8, and per-channel
moments of every value that a weight multiplies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import onnx_ir as ir

from optimizer.calibrate.observers import Channels, Histogram
from optimizer.calibrate.run import Observer, observe
from optimizer.model.ports import Feed
from optimizer.quantize.groups import Group


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Observers by value name, and the number of samples they saw."""

    histograms: dict[str, Histogram]
    channels: dict[str, Channels]
    samples: int


def gather(
    model: ir.Model,
    groups: Iterable[Group],
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> Statistics:
    """Run the float `model` over `feeds` and observe what `groups` read and write."""
    histograms: dict[str, Histogram] = {}
    channels: dict[str, Channels] = {}
    for group in groups:
        histograms |= {name: Histogram() for name in (*group.inputs, *group.outputs)}
        if group.weight is not None:
            channels[group.inputs[0]] = Channels(input_axis(group))
            channels[group.output] = Channels(input_axis(group))
    watched: dict[str, list[Observer]] = {name: [histogram] for name, histogram in histograms.items()}
    for name, moments in channels.items():
        watched[name].append(moments)
    seen = observe(model, feeds, watched, threads=threads, tick=tick)
    return Statistics(histograms, channels, seen)


def input_axis(group: Group) -> int:
    """The axis of the input that the weight contracts: channels of a Conv, the last axis otherwise."""
    return 1 if group.op == "Conv" else -1
