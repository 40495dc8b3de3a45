"""What training has left behind about activations, for calibration without data.

A batch normalization gives every channel c a mean b_c and a standard deviation g_c over the *training* data (its shift
and gain), which says more about real inputs than any synthetic ones do (Nagel et al. 2019). Folding keeps them on the
value it gives (`model.passes.affine.SPREAD`). From there values are drawn, normal and independent, and carried on
through the operators that act on each number alone:

    Conv, Gemm, ... with SPREAD      drawn: b_c + g_c * z
    Relu, Clip, Sigmoid, HardSigmoid, HardSwish, LeakyRelu, Tanh        f(x)
    Add, Mul of two such values      x + y, x * y  (x * sigmoid(x) is exact, since both go back to the same draws)
    MaxPool, Identity                x (a maximum is larger; what was observed is kept too)
    Concat of channels               both

Every other operator ends the trail; its values are only observed. What was observed counts as much as what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.observers import Histogram
from optimizer.model.passes.affine import SPREAD
from optimizer.model.ports import Array
from optimizer.ops import int8
from optimizer.quantize.groups import Group
from optimizer.quantize.statistics import Statistics

DRAWS = 1024
"""Values drawn per channel."""

Carry = Callable[[ir.Node, Sequence[Array]], "Array | None"]


def believe(seen: Statistics, groups: Iterable[Group], model: ir.Model) -> None:
    """Merge what training tells about the values that `groups` read and write into `seen`, in place."""
    drawn = draws(model)
    for group in groups:
        for name in (*group.inputs, *group.outputs):
            if name in drawn:
                _merge(seen.histograms[name], drawn.pop(name))


def _merge(seen: Histogram, drawn: Array) -> None:
    told = Histogram()
    told.update(drawn)
    told.counts *= max(seen.counts.sum(), 1.0) / told.counts.sum()
    seen.merge(told)


def draws(model: ir.Model, seed: int = 0) -> dict[str, Array]:
    """Plausible values by value name, float32 [channels, DRAWS], for those values of the main graph that training tells
    of."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for node in model.graph:
        drawn = _drawn(node, rng)
        if drawn is None and node.domain == "" and node.op_type in _CARRIED:
            drawn = _carried(node, found)
        if drawn is not None:
            found[node.outputs[0].name or ""] = drawn.astype(np.float32)
    return found


def _drawn(node: ir.Node, rng: np.random.Generator) -> Array | None:
    if SPREAD not in node.outputs[0].meta:
        return None
    mean, deviation = node.outputs[0].meta[SPREAD]
    return np.asarray(mean[:, None] + deviation[:, None] * rng.standard_normal((len(mean), DRAWS)))


def _carried(node: ir.Node, found: dict[str, Array]) -> Array | None:
    known = [found.get(value.name or "") for value in node.inputs if value is not None and int8.constant(value) is None]
    given = [array for array in known if array is not None]
    return _CARRIED[node.op_type](node, given) if given and len(given) == len(known) else None


def _clip(node: ir.Node, given: Sequence[Array]) -> Array | None:
    bounds = [int8.constant(value) for value in node.inputs[1:]]
    low = bounds[0] if bounds and bounds[0] is not None else -np.inf
    high = bounds[1] if len(bounds) > 1 and bounds[1] is not None else np.inf
    return np.clip(given[0], low, high)


def _pair(both: Callable[[Array, Array], Array]) -> Carry:
    def carry(node: ir.Node, given: Sequence[Array]) -> Array | None:
        same = len(given) == 2 and given[0].shape == given[1].shape
        return both(given[0], given[1]) if same else None

    return carry


def _hard_sigmoid(x: Array, slope: float, offset: float) -> Array:
    return np.clip(slope * x + offset, 0.0, 1.0)


def _concat(node: ir.Node, given: Sequence[Array]) -> Array | None:
    return np.concatenate(given) if int8.attribute(node, "axis", 0) == 1 else None


_CARRIED: dict[str, Carry] = {
    "Relu": lambda node, given: np.maximum(given[0], 0),
    "Clip": _clip,
    "LeakyRelu": lambda node, given: np.where(
        given[0] < 0, given[0] * node.attributes.get_float("alpha", 0.01), given[0]
    ),
    "Sigmoid": lambda node, given: 1 / (1 + np.exp(-given[0])),
    "HardSigmoid": lambda node, given: _hard_sigmoid(
        given[0], node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    ),
    "HardSwish": lambda node, given: given[0] * _hard_sigmoid(given[0], 1 / 6, 0.5),
    "Tanh": lambda node, given: np.tanh(given[0]),
    "Add": _pair(np.add),
    "Mul": _pair(np.multiply),
    "Concat": _concat,
    "Identity": lambda node, given: given[0],
    "MaxPool": lambda node, given: given[0],
}
