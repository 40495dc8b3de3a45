"""Repair without labels or gradients: what reads pruned channels is fitted anew to the channels that are left.

Every consumer (Conv, Gemm, MatMul, recurrent layers) is to answer with what is left of its input in the pruned model as
it did in the original one (`calibrate.lstsq`); where its answer is added to a residual stream, also with what that has
lost on the way. Consumers are taken level by level from the inputs on: a level is fitted on the inputs that the
repaired levels before it produce, so errors do not add up (`forward`).

Of three forms, the weight as it was, the weight as it was with the lost mean in the bias, and the fitted weight (with
ridges of several sizes), each consumer gets the one with the smallest error on samples that no fit has seen, made anew
from all. Weights keep their size here; `remove` and `mask` treat repaired constants like any others, so both models get
the same repair.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.consumers import Consumer, consumers
from optimizer.calibrate.forward import LEAST_ROWS, forward
from optimizer.calibrate.lstsq import Fit, Moments, Pairs, fit, shifted
from optimizer.calibrate.pieces import Feeds
from optimizer.model.ports import Array
from optimizer.prune.groups import Axes, Bools
from optimizer.prune.remove import mask

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""Tried for every consumer: the fewer the data, the more a weight has to stay what it was."""


@dataclasses.dataclass(frozen=True)
class Repair:
    """New constants by name, and how many consumers got which form."""

    constants: Mapping[str, Array]
    fitted: int
    shifted: int
    left: int


def repair(
    axes: Axes,
    dropped: Bools,
    reference: ir.Model,
    model: ir.Model,
    feeds: Feeds,
    *,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> Repair:
    """The repair of `model`, of which `axes` was made, for a choice of labels; no model is changed.

    `reference` has the same value names and is what the answers should be like.
    """
    working, gone, forms = model.clone(), axes.gone(dropped), Counter[int]()
    mask(axes, dropped, working.graph)
    found = [one for one in consumers(axes.graph) if _known(axes, one)]
    chosen = [one for one in found if not _gone(axes, one.output, one.channel_axis, gone).all()]

    def mending(one: Consumer, fitting: Pairs, judging: Pairs) -> Mapping[str, Array]:
        constants, form = _mended(axes, one, gone, fitting, judging)
        forms[form] += 1
        return constants

    def again() -> None:
        mask(axes, dropped, working.graph)

    constants = forward(chosen, reference, working, feeds, mending, threads=threads, tick=tick, after=again)
    return Repair(constants, forms[2], forms[1], forms[0])


def _known(axes: Axes, one: Consumer) -> bool:
    return all(axes.layouts.get(value) is not None for value in (one.given, one.output))


def _gone(axes: Axes, value: ir.Value, axis: int, gone: Bools) -> Bools:
    layout = axes.layouts[value]
    assert layout is not None
    return gone[layout[axis].labels]


def _mended(axes: Axes, one: Consumer, gone: Bools, fitting: Pairs, judging: Pairs) -> tuple[dict[str, Array], int]:
    """The consumer's new constants, and which form won: 0 as it was, 1 shifted, 2 fitted."""
    if min(fitting.count, judging.count) < LEAST_ROWS:
        return {}, 0
    stays = _stays(axes, one, gone)
    weight, moments, held = one.rows() * stays[:, :, None], fitting.moments().of(stays), judging.moments().of(stays)
    channels = ~_gone(axes, one.given, one.channel_axis, gone)
    kept = one.spread(channels)
    bias = one.bias is not None
    forms: list[Callable[[Moments], Fit]] = [
        lambda moments: Fit(weight * kept[:, None, :], np.zeros(weight.shape[:2])),
        lambda moments: shifted(weight, moments, kept, bias),
        *(lambda moments, ridge=ridge: fit(weight, moments, kept, bias, ridge) for ridge in RIDGES),
    ]
    best = int(np.argmin([form(moments).error(weight, held) for form in forms]))
    if not best:
        return {}, 0
    fitting.merge(judging)
    return one.written(forms[best](fitting.moments().of(stays))), min(best, 2)


def _stays(axes: Axes, one: Consumer, gone: Bools) -> Array:
    """Which outputs are left, [G, O]; of recurrent layers all."""
    groups, outer, _ = one.rows().shape
    if one.lowering.stacked:
        return np.ones((groups, outer), np.bool_)
    return ~_gone(axes, one.output, one.channel_axis, gone).reshape(groups, outer)
