"""Unstructured pruning: how many entries of which weights go, and how the others make up for them.

Costs are per entry, or per block of entries that go together, as shares of what the weight's output is worth::

    magnitude   w^2 / sum w^2                          (weights only; as LAMP, arXiv 2010.07611, without its order)
    wanda       w^2 E[x_j^2] / E|Wx|^2                 (arXiv 2306.11695)
    obs         w^2 / [(E[x x^T] + ridge)^-1]_jj / E|Wx|^2
    random      any

With scope `layer` every weight loses the same share; with `global` what costs least of all weights goes, each weight's
costs scaled by how much the outputs' noise was measured to be when shares of it alone were gone. No weight loses more
than `MOST`. With `obs` the entries that stay are fitted (`calibrate.sparsify`), level by level, on what the levels
before give; the form with the smallest error on held-back samples stays.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.calibrate.consumers import Consumer
from optimizer.calibrate.elimination import pooled
from optimizer.calibrate.forward import LEAST_ROWS, forward
from optimizer.calibrate.lstsq import Fit, Moments, Pairs, fit, fitted_to
from optimizer.calibrate.outputs import Outputs
from optimizer.calibrate.pieces import Feeds
from optimizer.calibrate.sparsify import Pattern, costs, sparsify
from optimizer.model.passes.edit import store_all
from optimizer.model.ports import Array
from optimizer.sparse.weights import Weight

MOST = 0.95
"""The largest share of one weight that goes by ranking over all."""
RIDGES = (1e-2, 1e-1, 1.0)
_HALVINGS = 50
_BINS = 256
"""Parts of a weight between which costs are told apart."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """What entries of one weight, or blocks of them, cost: [rows, columns], as `Pattern.gathered` gives them."""

    weight: Weight
    units: Array
    pattern: Pattern

    def count(self, share: float) -> int:
        """How many units are this share of all."""
        return round(share * self.units.size)

    def gone(self, share: float) -> Array:
        """Which entries of the weight go if this share of all units does, the cheapest first: [G, O, K]."""
        return self.pattern.lowest(self.units, self.count(share)).reshape(self.weight.rows().shape)


def priced(weight: Weight, criterion: str, moments: Moments | None, pattern: Pattern, seed: int = 0) -> Costs:
    """The costs of a weight, by `moments` of what it reads where the criterion wants them and there are some."""
    rows = weight.rows()
    found = np.square(rows) / max(float(np.square(rows).sum()), 1e-30)
    if criterion == "random":
        found = np.random.default_rng([seed, rows.size]).random(rows.shape)
    elif moments is not None and criterion in ("wanda", "obs"):
        centred = criterion == "obs" and weight.consumer is not None and weight.consumer.bias is not None
        second = (moments.centred() if centred else moments).own
        found = (costs if criterion == "obs" else _variances)(rows, second)
    return Costs(weight, pattern.gathered(found.reshape(-1, rows.shape[2])), pattern)


def _variances(weight: Array, second: Array) -> Array:
    whole = max(float(np.sum((weight @ second) * weight)), 1e-30)
    return np.asarray(np.square(weight) * np.einsum("gkk->gk", second)[:, None] / whole)


def ranked(one: Costs, measured: Sequence[tuple[float, float]] = ()) -> Array:
    """What a unit adds to the noise at the outputs when it goes, averages over the cheapest units, the next and so on.

    `measured` is the noise at the outputs when such a share of the units was gone; without it, what units cost in the
    weight's own output.
    """
    units = np.sort(one.units, axis=None)
    ends = np.linspace(0, units.size, 1 + min(_BINS, units.size)).round().astype(np.int64)[1:]
    lost = np.cumsum(units)[ends - 1]
    noise = lost * _factors(units, [(max(1, one.count(share)), noise) for share, noise in measured], ends)
    steps = pooled(np.diff(noise, prepend=0.0) / np.diff(ends, prepend=0))
    return np.asarray(steps * (1 + 1e-9 * np.arange(len(steps))))


def _factors(units: Array, measured: Sequence[tuple[int, float]], ends: Array) -> Array:
    """Noise at the outputs over the sum of the cheapest units' costs: a line between, and on after, what is known."""
    if not measured:
        return np.ones(len(ends))
    counts = [count for count, _ in measured]
    known = [noise / max(float(units[:count].sum()), 1e-30) for count, noise in measured]
    if len(known) > 1:
        slope = (known[-1] - known[-2]) / max(1, counts[-1] - counts[-2])
        counts, known = [*counts, units.size], [*known, known[-1] + max(0.0, slope) * (units.size - counts[-1])]
    return np.asarray(np.interp(ends, counts, known))


def shares(priced_: Sequence[Costs], worth: Sequence[Array], share: float, scope: str) -> list[float]:
    """The share of each weight that goes, so that `share` of all entries does; `worth` as `ranked` gives it."""
    if scope == "layer":
        return [share] * len(priced_)
    sizes = np.array([one.weight.rows().size for one in priced_], np.float64)

    def gone(bar: float) -> Array:
        return np.array([min(np.searchsorted(costs, bar, "right") / len(costs), MOST) for costs in worth])

    low, high = 0.0, max(float(costs[-1]) for costs in worth)
    for _ in range(_HALVINGS):
        middle = np.sqrt(max(low, high * 1e-12) * high)
        low, high = (middle, high) if float(gone(middle) @ sizes) < share * sizes.sum() else (low, middle)
    return [float(one) for one in gone(high)]


def noise(model: ir.Model, outputs: Outputs, constants: Mapping[str, Array]) -> float:
    """That of the outputs when `constants` take the place of the model's."""
    copy = model.clone()
    store_all(copy.graph, constants)
    return outputs.noise(copy)


def plainly(one: Costs, share: float) -> dict[str, Array]:
    """The weight with a share of it zero and nothing fitted."""
    return {one.weight.name: one.weight.stored(np.where(one.gone(share), 0, one.weight.rows()))}


def fitting(one: Costs, moments: Moments, share: float, ridge: float) -> Fit:
    """The consumer's weight with a share of it gone, the rest fitted to what it reads now."""
    consumer = one.weight.consumer
    assert consumer is not None
    rows, bias = consumer.rows(), consumer.bias is not None
    start = fit(rows, moments, np.ones((len(rows), rows.shape[2]), np.bool_), bias, ridge).weight
    own = (moments.centred() if bias else moments).own
    return fitted_to(rows, sparsify(start, own, one.count(share), one.pattern, ridge), moments, bias)


def mended(one: Costs, share: float, seen: Pairs, unseen: Pairs) -> dict[str, Array]:
    """New constants of a weight: of the plain form and the fitted ones, what errs least on unseen rows.

    Larger ridges are tried until they make it worse.
    """
    consumer = one.weight.consumer
    assert consumer is not None
    if min(seen.count, unseen.count) < LEAST_ROWS:
        return plainly(one, share)
    rows, held = consumer.rows(), unseen.moments()
    kept, bias = ~one.gone(share), consumer.bias is not None

    def plain(moments: Moments) -> Fit:
        return fitted_to(rows, rows * kept, moments, bias)

    some, best, least = seen.moments(), plain, np.inf
    for ridge in RIDGES:
        form = functools.partial(fitting, one, share=share, ridge=ridge)
        error = form(some).error(rows, held)
        if error >= least:
            break
        best, least = form, error
    best = plain if plain(some).error(rows, held) < least else best
    seen.merge(unseen)
    return consumer.written(best(seen.moments()))


def sparse(
    model: ir.Model,
    chosen: Sequence[tuple[Costs, float]],
    feeds: Feeds | None,
    *,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> ir.Model:
    """A copy of `model` with the share that goes of each weight gone; fitted to `feeds` where there are some."""
    working = model.clone()
    for one, share in chosen:
        if one.weight.consumer is None or feeds is None:
            store_all(working.graph, plainly(one, share))
    if feeds is not None:
        own = {one.weight.name: (one, share) for one, share in chosen if one.weight.consumer is not None}

        def mending(consumer: Consumer, seen: Pairs, unseen: Pairs) -> Mapping[str, Array]:
            one, share = own[consumer.name]
            return mended(one, share, seen, unseen)

        found = [one.weight.consumer for one, _ in chosen if one.weight.consumer is not None]
        forward(found, model, working, feeds, mending, threads=threads, tick=tick)
    return working
