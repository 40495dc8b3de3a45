"""How much a model's outputs change when some of its constants do: the noise, on a few feeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.answers import is_real
from optimizer.model.ports import Array, Feed
from optimizer.runtime.session import Options, open_session

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
