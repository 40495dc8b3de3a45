"""What a group's labels cost at the model's outputs: the noise that their absence makes there, measured.

A loss at the weights that read a group says little about other groups: some layers' errors die away, others grow. So
each group is pruned alone, at a few levels, its readers fitted to what is left, and the noise of the model's outputs is
measured on samples that no fit has seen. Between the levels the loss at the readers (`elimination`) says how the noise
grows. Noise of several groups about adds up, which makes one scale for all.

Costs must not fall as more labels go, or ranking could not reach them in order: neighbouring labels that would are
averaged, which leaves the lower convex hull of the noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.consumers import Consumer
from optimizer.calibrate.elimination import Curve, pooled
from optimizer.calibrate.lstsq import Moments, fit
from optimizer.calibrate.outputs import Outputs
from optimizer.choice.importance import Scores
from optimizer.model.passes.edit import store_all
from optimizer.model.ports import Array
from optimizer.prune.groups import Axes, Bools, Group
from optimizer.prune.remove import mask

PARTS = (0.125, 0.25, 0.5)
"""Shares of a group at which the noise is measured."""
_RIDGE = 1e-2


def fitted(axes: Axes, dropped: Bools, found: Sequence[Consumer], moments: Mapping[str, Moments]) -> dict[str, Array]:
    """New constants of all that reads labels that go, by the moments of the unpruned model."""
    gone, constants = axes.gone(dropped), dict[str, Array]()
    for one in found:
        layout, known = axes.layouts.get(one.given), moments.get(one.name)
        if (
            layout is None
            or known is None
            or one.lowering.depthwise
            or not (lost := gone[layout[one.channel_axis].labels]).any()
            or lost.all()
        ):
            continue
        constants |= one.written(fit(one.rows(), known, one.spread(~lost), one.bias is not None, _RIDGE))
    return constants


@dataclasses.dataclass(frozen=True)
class Alone:
    """One group pruned alone; `found`, fitted by `moments`, make up for it."""

    axes: Axes
    group: Group
    curve: Curve
    model: ir.Model
    found: Sequence[Consumer]
    moments: Mapping[str, Moments]

    def points(self, outputs: Outputs) -> list[tuple[int, float]]:
        """The noise at the outputs for a few numbers of labels that go."""
        size = len(self.curve.order)
        counts = sorted({max(1, round(part * size)) for part in PARTS} - {size})
        return [(count, outputs.noise(self._without(count))) for count in counts]

    def _without(self, count: int) -> ir.Model:
        dropped, masked = self.axes.none(), self.model.clone()
        dropped[self.group.labels[self.curve.order[:count]]] = True
        store_all(masked.graph, fitted(self.axes, dropped, self.found, self.moments))
        mask(self.axes, dropped, masked.graph)
        return masked


def marginal(curve: Curve, measured: Sequence[tuple[int, float]]) -> Scores:
    """What each label adds to the noise when it goes, in the curve's order; always more than the one before."""
    if not measured:
        return np.ones(len(curve.order))
    counts = np.array([count for count, _ in measured])
    factors = np.array([noise / max(curve.lost[count - 1], 1e-12) for count, noise in measured])
    place = np.arange(len(curve.lost))
    noise = curve.lost * np.interp(place + 1, counts, factors)
    return np.asarray(pooled(np.diff(noise, prepend=0.0)) * (1 + 1e-9 * place) + 1e-30 * place)
