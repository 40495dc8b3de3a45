"""`optimize prune --unstructured`: zeros in weights that keep their shape, and the truth about them.

ONNX Runtime multiplies by zeros as by any other number: no time is saved, and no byte of the file. What shrinks is the
compressed file, so its size is told. N:M and block patterns are for other runtimes and for hardware that uses them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.lstsq import Moments
from optimizer.calibrate.outputs import Outputs
from optimizer.calibrate.sparsify import Pattern, parse
from optimizer.errors import NothingToDo
from optimizer.model import io
from optimizer.model.ports import Array
from optimizer.pipeline.pruning import Calibration
from optimizer.recipe import Prune
from optimizer.report.records import Change, FrozenAxis
from optimizer.sparse.shares import RIDGES, Costs, fitting, noise, plainly, priced, ranked, shares, sparse
from optimizer.sparse.weights import Weight, weights

PROBED = (0.4, 0.75)
"""The shares of a weight that go when it is measured what that does to the outputs."""
NO_FASTER = (
    "zeros make no model faster in ONNX Runtime on CPU, only its compressed file smaller: for speed, --structured"
)


def zeroed(work: Calibration, step: Prune) -> tuple[ir.Model, tuple[FrozenAxis, ...]]:
    """The model with a share of its weights zero, and the weights that were left alone. Raises `NothingToDo`."""
    pattern = parse(step.pattern) if step.pattern else Pattern()
    share = pattern.share or step.sparsity or 0.0
    found = weights(work.base.graph, step.only, step.exclude)
    fit = [one for one in found if one.suits(pattern)]
    frozen = tuple(FrozenAxis(one.name, 0, f"{step.pattern} does not fit its shape") for one in found if one not in fit)
    if not fit:
        raise NothingToDo("no float weight of this model can lose entries" + (f" as {step.pattern}" if frozen else ""))
    choice = _choice(work, fit, pattern, share)
    tick = work.progress.stage("choosing and fitting weights", len(choice))
    feeds = work.feeds() if work.mends and work.name == "obs" else None
    return sparse(work.base, choice, feeds, threads=work.run.threads, tick=tick), frozen


def _choice(work: Calibration, fit: Sequence[Weight], pattern: Pattern, share: float) -> list[tuple[Costs, float]]:
    """The costs of every weight, and the share of it that goes."""
    scope = "layer" if pattern.stay is not None else work.scope
    weighs = work.weighs and scope == "global"
    key = (pattern, weighs, tuple(one.name for one in fit))
    if key not in work.prices:
        work.prices[key] = _prices(work, fit, pattern, weighs)
    prices, worth = work.prices[key]
    return list(zip(prices, shares(prices, worth, share, scope), strict=True))


def _prices(
    work: Calibration, fit: Sequence[Weight], pattern: Pattern, weighs: bool
) -> tuple[list[Costs], list[Array]]:
    """What entries of every weight cost, and what they cost at the outputs, so that weights can be compared."""
    known = {} if work.name in ("magnitude", "random") else work.moments
    own = [known.get(one.name) for one in fit]
    prices = [priced(one, work.name, moments, pattern, work.run.seed) for one, moments in zip(fit, own, strict=True)]
    if not weighs:
        return prices, [ranked(one) for one in prices]
    outputs = Outputs(work.base, list(work.aside()), work.run.threads)
    tick = work.progress.stage("measuring what each weight is worth", len(prices))
    return prices, [_worth(work, one, moments, outputs, tick) for one, moments in zip(prices, own, strict=True)]


def _worth(work: Calibration, one: Costs, moments: Moments | None, outputs: Outputs, tick: Callable[[], None]) -> Array:
    tick()
    alone = [(share, _alone(work, one, moments, share)) for share in PROBED]
    return ranked(one, [(share, noise(work.base, outputs, constants)) for share, constants in alone])


def _alone(work: Calibration, one: Costs, moments: Moments | None, share: float) -> dict[str, Array]:
    """The constants of one weight, pruned alone."""
    if moments is None or one.weight.consumer is None or not work.mends:
        return plainly(one, share)
    return one.weight.consumer.written(fitting(one, moments, share, RIDGES[0]))


def told(before: ir.Model, after: ir.Model, step: Prune) -> tuple[str, Change[int]]:
    """How many weights are zero, and the compressed sizes, as a line and as figures."""
    found = [one.value.const_value for one in weights(after.graph, step.only, step.exclude)]
    arrays = [tensor.numpy() for tensor in found if tensor is not None]
    count, zeros = sum(a.size for a in arrays), sum(int(a.size - np.count_nonzero(a)) for a in arrays)
    sizes = Change(*(len(zlib.compress(io.to_bytes(model))) for model in (before, after)))
    part = f"{zeros / max(1, count):.1%} of {count:,} weights are zero"
    return f"{part}; compressed (zlib) {sizes.before / 1e6:.2f} MB before, {sizes.after / 1e6:.2f} MB after", sizes
