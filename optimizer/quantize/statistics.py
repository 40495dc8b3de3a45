"""What calibration remembers for quantization: a histogram of every value that may become int8, and per-channel
moments of every value that a weight multiplies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import onnx_ir as ir

from optimizer.calibrate.observers import Channels, Histogram
from optimizer.calibrate.run import Observer, observe
from optimizer.model.ports import Array, Feed
from optimizer.quantize import qparams
from optimizer.quantize.groups import Group
from optimizer.quantize.qparams import Method, QParams


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Observers by value name, the shapes of the first sample's values, and the number of samples seen."""

    histograms: dict[str, Histogram]
    channels: dict[str, Channels]
    shapes: dict[str, tuple[int, ...]]
    samples: int
    found: dict[tuple[str, float, float, str], QParams] = dataclasses.field(default_factory=dict)
    """Parameters found so far, by value name, bounds and method: many candidates ask for the same."""
    finest: Mapping[str, tuple[str, float]] = dataclasses.field(default_factory=dict)
    """By value name, another value and the share of its scale that this one's must have at least, whatever is int8: the
    runtime also fuses what is left in float between values in int8."""

    def params(self, name: str, method: Method, low: float = -math.inf, high: float = math.inf) -> QParams:
        """uint8 parameters of the value called `name`, clipped to [low, high]."""
        key = (name, low, high, method)
        if key not in self.found:
            own = qparams.activation(self.histograms[name], method, low, high)
            source, share = self.finest.get(name, (None, 0.0))
            least = share * self.params(source, method).scale if source is not None else 0.0
            self.found[key] = dataclasses.replace(own, scale=max(own.scale, least))
        return self.found[key]

    def know(self, params: Mapping[str, QParams]) -> None:
        """Take the whole range of these values for known."""
        self.found.update({(name, -math.inf, math.inf, "minmax"): known for name, known in params.items()})


@dataclasses.dataclass
class _Shape:
    """Remembers the shape of the first batch."""

    shape: tuple[int, ...] | None = None

    def update(self, batch: Array) -> None:
        self.shape = self.shape or batch.shape


def gather(
    model: ir.Model,
    groups: Iterable[Group],
    feeds: Iterable[Feed],
    *,
    also: Iterable[str] = (),
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> Statistics:
    """Run the float `model` over `feeds` and observe what `groups` read and write, and the values named in `also`."""
    groups = tuple(groups)
    histograms: dict[str, Histogram] = {name: Histogram() for name in also}
    channels: dict[str, Channels] = {}
    for group in groups:
        histograms |= {name: Histogram() for name in (*group.inputs, *group.outputs)}
        if group.weight is not None:
            channels[group.inputs[0]] = Channels(input_axis(group))
            channels[group.output] = Channels(input_axis(group))
    shapes = {name: _Shape() for name in histograms}
    watched: dict[str, list[Observer]] = {name: [found, shapes[name]] for name, found in histograms.items()}
    for name, moments in channels.items():
        watched[name].append(moments)
    seen = observe(model, feeds, watched, threads=threads, tick=tick)
    sizes = {name: found.shape for name, found in shapes.items() if found.shape is not None}
    return Statistics(histograms, channels, sizes, seen, finest=_finest(groups))


def _finest(groups: Iterable[Group]) -> dict[str, tuple[str, float]]:
    """What rows of `ops.int8` say of outputs, and so of views of them."""
    found: dict[str, tuple[str, float]] = {}
    for group in groups:
        if group.rule.finest:
            found[group.output] = (group.inputs[0], group.rule.finest)
        elif group.rule.role == "view" and group.inputs[0] in found:
            found |= dict.fromkeys(group.outputs, found[group.inputs[0]])
    return found


def input_axis(group: Group) -> int:
    """The axis of the input that the weight contracts: channels of a Conv, the last axis otherwise."""
    return 1 if group.op == "Conv" else -1
