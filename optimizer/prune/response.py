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

from optimizer.calibrate.answers import is_real
from optimizer.calibrate.elimination import Curve
from optimizer.calibrate.lstsq import Moments, fit
from optimizer.model.ports import Array, Feed
from optimizer.prune.consumers import Consumer
from optimizer.prune.groups import Axes, Bools, Group
from optimizer.prune.importance import Scores
from optimizer.prune.remove import mask, replace
from optimizer.prune.repair import written
from optimizer.runtime.session import Options, open_session

PARTS = (0.125, 0.25, 0.5)
"""Shares of a group at which the noise is measured."""
_RIDGE = 1e-2


class Outputs:
    """The outputs of a model on a few feeds, to compare others with."""

    def __init__(self, model: ir.Model, feeds: Sequence[Feed], threads: int) -> None:
        self.feeds, self.options = feeds, Options(threads=threads)
        session = open_session(model, self.options)
        self.answers = [session.run(feed) for feed in feeds]
        self.size = np.array([[_power(answer) for answer in answers] for answers in self.answers]).sum(0)

    def noise(self, model: ir.Model) -> float:
        """Power of the change of the outputs as a share of their power, the mean over the outputs."""
        session = open_session(model, self.options)
        runs = zip(self.feeds, self.answers, strict=True)
        changes = [[_change(a, b) for a, b in zip(before, session.run(feed), strict=True)] for feed, before in runs]
        return float(np.mean(np.array(changes).sum(0) / np.maximum(self.size, 1e-30)))


def _power(answer: Array) -> float:
    return float(np.square(answer.astype(np.float64)).sum()) if is_real(answer) else float(answer.size)


def _change(one: Array, other: Array) -> float:
    if one.shape != other.shape:
        return float("inf")
    if not is_real(one):
        return float((one != other).sum())
    with np.errstate(invalid="ignore"):
        return float(np.square(np.nan_to_num(one.astype(np.float64) - other)).sum())


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
        constants |= written(one, fit(one.rows(), known, one.spread(~lost), one.bias is not None, _RIDGE))
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
        replace(masked.graph, fitted(self.axes, dropped, self.found, self.moments))
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


def pooled(steps: Scores) -> Scores:
    """The nearest sequence that never falls (isotonic regression by pooling neighbours that are out of order)."""
    blocks: list[tuple[float, int]] = []
    for step in steps.tolist():
        total, size = step, 1
        while blocks and blocks[-1][0] * size >= total * blocks[-1][1]:
            total, size = total + blocks[-1][0], size + blocks[-1][1]
            blocks.pop()
        blocks.append((total, size))
    return np.concatenate([np.full(size, total / size) for total, size in blocks] or [np.zeros(0)])
