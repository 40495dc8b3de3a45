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
from collections.abc import Iterator, Mapping, Sequence

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


_FED = ("Add", "Gemm", "LayerNormalization", "MatMul")
"""Ops that the runtime runs about as quickly, and in the same way, where their constants are not known beforehand."""


class Outputs:
    """The outputs of a model on a few feeds, to compare others with.

    To open a session takes longer than to run a few feeds: constants that others differ in are fed where they may be.
    """

    def __init__(self, model: ir.Model, feeds: Sequence[Feed], threads: int) -> None:
        self.feeds, self.options = feeds, Options(threads=threads)
        self._nodes, self._constants = len(model.graph), dict(_constants(model.graph))
        self._fed, copy = set[str](), model.clone()
        for name, value in copy.graph.initializers.items():
            if is_fed(value):
                self._fed.add(name)
                copy.graph.inputs.append(value)
        self._session = open_session(copy, self.options)
        self.answers = [self._session.run(feed) for feed in feeds]
        self.size = np.array([[_power(answer) for answer in answers] for answers in self.answers]).sum(0)

    def noise(self, model: ir.Model) -> float:
        """Power of the change of the outputs as a share of their power, the mean over the outputs.

        `model` has the same nodes and other constants, or is another one.
        """
        new = {name: one for name, one in _constants(model.graph) if self._constants.get(name) is not one}
        fed = len(model.graph) == self._nodes and self._fed.issuperset(new)
        session = self._session if fed else open_session(model, self.options)
        more = {name: one.numpy() for name, one in new.items()} if fed else {}
        runs = zip(self.answers, (session.run({**feed, **more}) for feed in self.feeds), strict=True)
        changes = [[_change(a, b) for a, b in zip(before, after, strict=True)] for before, after in runs]
        return float(np.mean(np.array(changes).sum(0) / np.maximum(self.size, 1e-30)))


def is_fed(value: ir.Value) -> bool:
    """Whether a constant may be fed to a session without making it slow."""
    real = value.dtype is not None and value.dtype.is_floating_point() and len(value.shape or ()) > 0
    plain = all(node.domain == "" and node.op_type in _FED for node, _ in value.uses())
    return real and plain and not value.is_graph_input() and not value.is_graph_output()


def _constants(graph: ir.Graph) -> Iterator[tuple[str, ir.TensorProtocol]]:
    for name, value in graph.initializers.items():
        if value.const_value is not None:
            yield name, value.const_value


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
